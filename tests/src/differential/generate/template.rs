//! Default rules: templates of a container's names and labels, and which hosts and paths they make of them.

use fastrand::Rng;

use super::vocabulary::{chance, pick};

/// What a template sees of a container.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    /// `.Name`.
    pub(super) name: String,
    /// `.ContainerName`.
    pub(super) container_name: String,
    /// `.Labels`.
    pub(super) labels: Vec<(String, String)>,
}

impl Facts {
    fn label(&self, key: &str) -> Option<&str> {
        let found = self.labels.iter().find(|(name, _)| name == key);
        found.map(|(_, value)| value.as_str())
    }
}

/// A word of a rule.
#[derive(Clone, Debug)]
struct Word {
    from: usize,
    steps: Vec<usize>,
}

/// A default rule.
#[derive(Clone, Debug)]
pub(super) struct Template {
    /// As the static configuration has it.
    pub(super) text: String,
    word: Word,
}

impl Default for Template {
    /// The one that both have without any.
    fn default() -> Self {
        Self {
            text: "Host(`{{ normalize .Name }}`)".to_owned(),
            word: Word {
                from: 0,
                steps: vec![0],
            },
        }
    }
}

type Source = (&'static str, fn(&Facts) -> String);

/// Where a word begins.
const SOURCES: &[Source] = &[
    (".Name", |facts| facts.name.clone()),
    (".ContainerName", |facts| facts.container_name.clone()),
    (r#"(index .Labels "site")"#, |facts| {
        facts.label("site").unwrap_or_default().to_owned()
    }),
    (r#"(index .Labels "com.docker.compose.service")"#, |facts| {
        let service = facts.label("com.docker.compose.service");
        service.unwrap_or_default().to_owned()
    }),
    (r#"(coalesce (index .Labels "site") .Name)"#, |facts| {
        let site = facts.label("site").filter(|site| !site.is_empty());
        site.unwrap_or(&facts.name).to_owned()
    }),
    (".Labels.site", |facts| {
        facts.label("site").unwrap_or_default().to_owned()
    }),
    (r#"(printf "%s.%s" .ContainerName .Name)"#, |facts| {
        format!("{}.{}", facts.container_name, facts.name)
    }),
    (r#"(index .Labels "site" | default .Name)"#, |facts| {
        let site = facts.label("site").filter(|site| !site.is_empty());
        site.unwrap_or(&facts.name).to_owned()
    }),
];

type Step = (&'static str, fn(&str) -> String);

/// What is done to it.
const STEPS: &[Step] = &[
    ("normalize", normalize),
    ("lower", str::to_lowercase),
    ("upper", str::to_uppercase),
    ("trim", |word| word.trim().to_owned()),
    ("nospace", |word| word.replace(' ', "")),
    (r#"trimPrefix "c""#, |word| {
        word.strip_prefix('c').unwrap_or(word).to_owned()
    }),
    (r#"trimSuffix "0""#, |word| {
        word.strip_suffix('0').unwrap_or(word).to_owned()
    }),
    (r#"trimAll "-_""#, |word| word.trim_matches(['-', '_']).to_owned()),
    (r#"replace "_" "-""#, |word| word.replace('_', "-")),
    ("trunc 12", |word| word.chars().take(12).collect()),
    ("title", |word| word.to_owned()),
    ("untitle", |word| word.to_owned()),
    ("toString", |word| word.to_owned()),
    (r#"printf "x%s""#, |word| format!("x{word}")),
    (r#"printf "%s-%d" "y" 7 | print"#, |_| String::new()),
    (r#"default "none""#, |word| {
        if word.is_empty() {
            "none".to_owned()
        } else {
            word.to_owned()
        }
    }),
    ("substr 0 12", |word| word.chars().take(12).collect()),
    (r#"splitList "_" | join ".""#, |word| word.replace('_', ".")),
    (r#"splitList "." | first"#, |word| {
        word.split('.').next().unwrap_or_default().to_owned()
    }),
    (r#"splitList "-" | last"#, |word| {
        word.split('-').next_back().unwrap_or_default().to_owned()
    }),
    (r#"regexReplaceAll "[0-9]+$" "-n""#, |_| "-n".to_owned()),
    ("repeat 2", |word| word.repeat(2)),
    ("quote", |word| format!("\"{word}\"")),
    ("len", |word| word.len().to_string()),
    ("print", |word| word.to_owned()),
    (r#"print "z""#, |word| format!("z{word}")),
];

/// Steps from this one on are rare: they mostly end in no rule at all.
const ODD_STEPS: usize = 19;

/// `W` is a word that is made of the container.
const SHAPES: &[&str] = &[
    "Host(`{{ W }}.test`)",
    "Host(`{{ W }}`)",
    "Host(`{{W}}.test`)&&PathPrefix(`/api`)",
    "Host(`{{ W }}.test`) || Host(`{{ .ContainerName | normalize }}.alt.test`)",
    "PathPrefix(`/{{ W }}`)",
    "Host(\"{{ W }}.test\")",
    r#"Host(`{{ if index .Labels "zone" }}{{ index .Labels "zone" }}.{{ end }}{{ W }}.test`)"#,
    r#"{{ if index .Labels "zone" }}Host(`{{ W }}.test`){{ else }}Host(`{{ normalize .Name }}.else.test`){{ end }}"#,
    r#"{{ with index .Labels "site" }}Host(`{{ . }}.test`){{ else }}Host(`{{ W }}.test`){{ end }}"#,
    r#"{{ $n := W }}Host(`{{ $n }}.test`)"#,
    r#"  {{- /* a comment */ -}}  Host(`{{- W -}}  .test`)  "#,
    r#"{{ if and (index .Labels "site") (ne .Name "x") }}Host(`{{ W }}.test`){{ end }}"#,
    r#"{{ if or (hasPrefix "c1" .Name) (contains "web" .Name) }}Host(`{{ W }}.test`){{ else if eq 1 2 }}x{{ else }}Host(`{{ .Name }}.else.test`){{ end }}"#,
    r#"{{ range $i, $e := splitList "-" (W) }}{{ if $i }} || {{ end }}Host(`{{ $e }}.{{ normalize $.Name }}.test`){{ end }}"#,
    r#"Host(`{{ W }}.test`) && !Header(`x-a`, `{{ index .Labels "zone" }}`)"#,
    r#"{{ if gt (len .Name) 7 }}Host(`{{ W }}.test`){{ end }}"#,
    r#"Host(`{{ W }}.{{ ternary "yes" "no" (ne "" (index .Labels "site")) }}.test`)"#,
    "Host(`{{ W }}.test`",
    "Host({{ W | squote }})",
    r#"{{ range $key, $value := .Labels }}{{ if eq $key "site" }}Host(`{{ $value }}.test`){{ end }}{{ end }}"#,
    r#"Host(`{{ regexReplaceAll "[^a-z0-9]+" (W) "-" }}.test`)"#,
    r#"Host(`{{ if regexMatch "^c[0-9]+-" .Name }}m.{{ end }}{{ W }}.test`)"#,
];

/// What may stand before the words above, or between them, or at the end.
const ENDS: &[&str] = &["", ".test", ".alt.test", ".else.test", ".yes.test", ".no.test"];

impl Template {
    /// Some template.
    pub(super) fn some(rng: &mut Rng) -> Self {
        let from = if chance(rng, 60) {
            rng.usize(..2)
        } else {
            rng.usize(..SOURCES.len())
        };
        let mut steps = Vec::new();
        for _ in 0..rng.usize(0..4) {
            let last = match rng.u8(..12) {
                0 => ODD_STEPS..STEPS.len(),
                _ => 0..ODD_STEPS,
            };
            steps.push(rng.usize(last));
        }
        let word = Word { from, steps };
        let shape = if chance(rng, 60) {
            pick(rng, &SHAPES[..6])
        } else {
            pick(rng, SHAPES)
        };
        Self {
            text: shape.replace('W', &word.text()),
            word,
        }
    }

    /// Hosts and paths that the rule may be about.
    pub(super) fn wishes(&self, rng: &mut Rng, facts: &Facts) -> (String, String) {
        let word = self.word.of(facts);
        let end = if self.text.contains(".test") || chance(rng, 5) {
            ".test"
        } else {
            ""
        };
        let end = if chance(rng, 10) { pick(rng, ENDS) } else { end };
        let mut host = format!("{word}{end}");
        match rng.u8(..40) {
            0 => host = format!("{}{end}", normalize(&facts.container_name)),
            1 => host = format!("{}{end}", normalize(&facts.name)),
            2 => host = format!("{}{end}", facts.label("site").unwrap_or("site")),
            3 => host = format!("{}.{host}", facts.label("zone").unwrap_or("zone")),
            4 => host = word.clone(),
            5 => host = format!("m.{host}"),
            6 => {
                let piece = word.split('-').next_back().unwrap_or_default();
                host = format!("{piece}.{}{end}", normalize(&facts.name));
            }
            _ => {}
        }
        if self.text.contains("index .Labels \"zone\" }}.") && chance(rng, 90) {
            host = facts
                .label("zone")
                .filter(|zone| !zone.is_empty())
                .map_or(host.clone(), |zone| format!("{zone}.{host}"));
        }
        // Names that many cases have belong to none of them.
        if !host
            .trim_start_matches(['x', 'z', '"'])
            .starts_with(|letter: char| "cC-".contains(letter) || letter.is_ascii_digit())
        {
            host = format!("{}.test", normalize(&facts.name));
        }
        let path = if self.text.contains("PathPrefix(`/{{") && chance(rng, 80) {
            format!("/{word}")
        } else {
            pick(rng, &["/", "/api", "/api", "/x"]).to_owned()
        };
        (host, path)
    }
}

impl Word {
    fn text(&self) -> String {
        let steps = self.steps.iter().map(|step| STEPS[*step].0);
        steps.fold(SOURCES[self.from].0.to_owned(), |all, step| {
            format!("{all} | {step}")
        })
    }

    fn of(&self, facts: &Facts) -> String {
        let start = SOURCES[self.from].1(facts);
        self.steps.iter().fold(start, |word, step| STEPS[*step].1(&word))
    }
}

/// As `normalize` does.
pub(super) fn normalize(name: &str) -> String {
    let words = name.split(|letter: char| !letter.is_alphanumeric());
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    words.join("-")
}
