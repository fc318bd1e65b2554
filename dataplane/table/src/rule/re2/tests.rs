//! What Go accepts, what it refuses and what it means by it; measured on Traefik 3.7.15.

use regex::Regex;

use super::translate;

fn compiled(pattern: &str) -> Option<Regex> {
    let translated = translate(pattern).ok()?;
    match Regex::new(&translated) {
        Ok(regex) => Some(regex),
        Err(error) => panic!("{pattern:?} became {translated:?}: {error}"),
    }
}

#[test]
fn accepted_as_in_go() {
    for pattern in [
        "a{1000}",
        r"\pL\p{Greek}\p{^Greek}\P{Greek}",
        r"\Qa.b\E",
        r"\Qa.b",
        r"\z\A",
        "(?P<a>b)(?<c>d)",
        "(?P<a>b)(?P<a>d)",
        "(?U)a+",
        r"\101",
        r"\012",
        r"\0",
        r"\<",
        "[a&&b]",
        "[[:alpha:][:^digit:]]",
        "[]a]",
        "[^]a]",
        "[a[b]",
        "[a-b-c]",
        "^*",
        "a+?",
        "{",
        "a{,2}",
        "a{x}",
        "}",
        "]",
        r"\_",
        r"\p{L}",
        r"\p{Any}",
        "(?i)",
        "(?i-s:a)",
        "(?ii)a",
        r"\b*",
        "$*",
        "(?P<1>c)",
        "a|",
        "()",
        "|",
        "",
        "[a-]",
        "[-a]",
        "(?)a",
        r"[\d\pL\W]",
        r"[\]\-\\]",
        "a{01}",
        r"\x{10FFFF}",
        r"\B",
        "[+--]",
        "[a~~b]",
        "(?:a|b)*?",
    ] {
        assert!(
            compiled(pattern).is_some(),
            "{pattern:?}: {:?}",
            translate(pattern)
        );
    }
}

#[test]
fn refused_as_in_go() {
    for pattern in [
        "(",
        ")",
        "a**",
        "a{1001}",
        r"\C",
        r"\Z",
        "(?x)a",
        "(?R)a",
        "(?u)a",
        "(?=a)",
        "(?!a)",
        "(?<=a)",
        r"\1",
        r"\u0041",
        "[[:foo:]]",
        r"[a-\d]",
        "[z-a]",
        "[]",
        "[",
        "*a",
        "(*)",
        "a|*",
        "a{2}{3}",
        "a+??",
        "a{2,1}",
        r"\é",
        r"\h",
        r"\R",
        r"\K",
        r"\e",
        r"\cA",
        r"\x{110000}",
        r"\x{41",
        r"\x4",
        r"\x{}",
        "(?i",
        "(?-)a",
        "(?i-)a",
        "(?i)*",
        "(?P<a-b>c)",
        "(?P<>c)",
        "(?P<é>c)",
        "(?#c)",
        "(?>a)",
        "\\",
        "a\\",
        r"[\b]",
        r"[\z]",
        r"[\Qa]\E]",
        r"\8",
        r"\p",
        r"\p{",
        r"\p{}",
        "(?P<a",
        "{1}",
    ] {
        assert!(
            translate(pattern).is_err(),
            "{pattern:?} became {:?}",
            translate(pattern)
        );
    }
}

#[test]
fn means_what_it_means_in_go() {
    let cases: &[(&str, &str, bool)] = &[
        (r"^\d$", "1", true),
        (r"^\d$", "\u{661}", false),
        (r"^\w$", "ü", false),
        (r"^\W$", "ü", true),
        (r"^[\w]$", "ü", false),
        (r"^[\W]$", "ü", true),
        (r"^\s$", "\u{b}", false),
        (r"^\s$", "\u{a0}", false),
        (r"^\s$", "\u{c}", true),
        (r"/a\b", "/aü", true),
        (r"/a\b", "/ab", false),
        (r"/a\B", "/ab", true),
        (r"/a\B", "/aü", false),
        (r"\bx", "üx", true),
        ("(?i)^k$", "\u{212a}", true),
        ("^{x:[a-z]+}$", "{x:a}", true),
        ("^{x:[a-z]+}$", "a", false),
        ("^[a&&b]$", "&", true),
        ("^[a&&b]$", "a", true),
        ("^[a[b]$", "[", true),
        ("^[+--]$", ",", true),
        ("^[a~~b]$", "~", true),
        ("^[a-b-c]$", "-", true),
        ("^[]a]$", "]", true),
        (r"^\<$", "<", true),
        (r"^\101\x41\x{41}$", "AAA", true),
        (r"^\Qa.b\E$", "a.b", true),
        (r"^\Qa.b\E$", "axb", false),
        ("^a{,2}$", "a{,2}", true),
        ("^a{2}$", "aa", true),
        (".", "\n", false),
        ("(?s).", "\n", true),
        ("a$", "a\n", false),
        ("(?m)a$", "a\n", true),
        (r"^\p{^Greek}$", "α", false),
        (r"^\p{Greek}$", "α", true),
        (r"^\P{^Greek}$", "α", true),
        ("a", "xay", true),
    ];
    for (pattern, text, want) in cases {
        let regex = compiled(pattern).unwrap_or_else(|| panic!("{pattern}: {:?}", translate(pattern)));
        assert_eq!(regex.is_match(text), *want, "{pattern:?} on {text:?}");
    }
}
