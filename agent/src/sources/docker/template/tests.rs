//! Tables of templates: what they render, what is refused at start and what fails for one container.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn render(text: &str) -> Result<String, String> {
    let labels = BTreeMap::from([
        ("host".to_owned(), "Shop.Example".to_owned()),
        ("com.docker.compose.service".to_owned(), "web_1".to_owned()),
        ("empty".to_owned(), String::new()),
    ]);
    let template = Template::parse(text).map_err(|error| error.to_string())?;
    let model = Model {
        name: "web-shop",
        container_name: "shop_web_1",
        labels: &labels,
    };
    template.render(&model).map_err(|error| error.to_string())
}

#[test]
fn renders_as_go() {
    for (template, expected) in [
        ("Host(`{{ normalize .Name }}`)", "Host(`web-shop`)"),
        (
            "Host(`{{normalize .ContainerName}}.test`)",
            "Host(`shop-web-1.test`)",
        ),
        ("{{ .ContainerName | normalize | upper }}", "SHOP-WEB-1"),
        ("{{ index .Labels \"com.docker.compose.service\" }}", "web_1"),
        ("{{ index .Labels `absent` }}|", "|"),
        ("{{ .Labels.host | lower }}", "shop.example"),
        ("{{ .Labels.absent }}", "<no value>"),
        ("{{ .Labels.absent | default \"d\" }}", "d"),
        ("{{ default .Name .Labels.empty }}", "web-shop"),
        ("{{ if .Labels.host }}a{{ else }}b{{ end }}", "a"),
        (
            "{{ if .Labels.empty }}a{{ else if eq .Name \"web-shop\" }}b{{ else }}c{{ end }}",
            "b",
        ),
        ("{{ if and .Name (not .Labels.empty) }}a{{ end }}", "a"),
        ("{{ if or .Labels.empty .Labels.absent }}a{{ end }}|", "|"),
        (
            "{{ with .Labels.host }}[{{ . }}]{{ else }}none{{ end }}",
            "[Shop.Example]",
        ),
        (
            "{{ with .Labels.absent }}[{{ . }}]{{ else }}none{{ end }}",
            "none",
        ),
        (
            "{{ with .Labels }}{{ .host }}/{{ $.Name }}{{ end }}",
            "Shop.Example/web-shop",
        ),
        ("{{ $n := .Name }}{{ $n }}-{{ $n | upper }}", "web-shop-WEB-SHOP"),
        (
            "{{ $n := \"a\" }}{{ if true }}{{ $n = \"b\" }}{{ end }}{{ $n }}",
            "b",
        ),
        (
            "{{ $n := \"a\" }}{{ if true }}{{ $n := \"b\" }}{{ end }}{{ $n }}",
            "a",
        ),
        ("a {{- .Name -}} b", "aweb-shopb"),
        ("a {{/* said */}} b {{- /* trimmed */ -}} c", "a  bc"),
        ("{{ trimPrefix \"web-\" .Name }}", "shop"),
        ("{{ trimSuffix \"-shop\" .Name }}", "web"),
        ("{{ replace \"-\" \".\" .Name }}", "web.shop"),
        ("{{ .Name | replace \"-\" \"\\u002e\" }}", "web.shop"),
        ("{{ trim \"  x \" }}{{ trimAll \"-w\" \"-wxw-\" }}", "xx"),
        (
            "{{ contains \"shop\" .Name }} {{ hasPrefix \"x\" .Name }} {{ hasSuffix \"op\" .Name }}",
            "true false true",
        ),
        (
            "{{ printf \"%s.%d%% %q %v\" .Name 7 \"a\" true }}",
            "web-shop.7% \"a\" true",
        ),
        ("{{ print .Name 1 }}", "web-shop1"),
        ("{{ (splitList \"-\" .Name) | first }}", "web"),
        ("{{ index (splitList \"-\" .Name) 1 }}", "shop"),
        ("{{ (split \"-\" .Name)._1 }}", "shop"),
        ("{{ join \".\" (splitList \"-\" .Name) }}", "web.shop"),
        (
            "{{ ternary \"a\" \"b\" (eq 1 1) }}{{ ternary \"a\" \"b\" (gt 1 2) }}",
            "ab",
        ),
        ("{{ coalesce .Labels.absent .Labels.empty \"c\" }}", "c"),
        (
            "{{ regexReplaceAll \"-(.)\" .Name \"_$1\" }} {{ regexMatch \"^web\" .Name }}",
            "web_shop true",
        ),
        (
            "{{ substr 0 3 .Name }}{{ trunc 3 .Name }}{{ substr 4 -1 .Name }}",
            "webwebshop",
        ),
        (
            "{{ title \"a bc\" }} {{ untitle \"AB\" }} {{ nospace \"a b\" }} {{ repeat 3 \"x\" }}",
            "A Bc aB ab xxx",
        ),
        ("{{ quote .Name }} {{ squote .Name }}", "\"web-shop\" 'web-shop'"),
        (
            "{{ len .Name }} {{ int \"12\" }} {{ lt 1 2 }} {{ ne \"a\" \"b\" }} {{ len .Labels }}",
            "8 12 true true 3",
        ),
        (
            "{{ hasKey .Labels \"host\" }} {{ get .Labels \"none\" }}|",
            "true |",
        ),
        ("{{ list 1 \"a\" true }}", "[1 a true]"),
        (
            "{{ range $i, $word := splitList \"-\" .Name }}{{ if $i }} || {{ end }}{{ $word }}{{ . }}{{ end }}",
            "webweb || shopshop",
        ),
        (
            "{{ range $word := splitList \"-\" .Name }}{{ $word }}.{{ $.Name }} {{ end }}",
            "web.web-shop shop.web-shop ",
        ),
        (
            "{{ range $key, $value := .Labels }}{{ if eq $key \"host\" }}{{ $value }}{{ end }}{{ end }}",
            "Shop.Example",
        ),
        (
            "{{ range list }}x{{ else }}none{{ end }}{{ range .Labels.absent }}x{{ end }}",
            "none",
        ),
        ("}} is text", "}} is text"),
        ("", ""),
    ] {
        assert_eq!(render(template), Ok(expected.to_owned()), "{template}");
    }
}

#[test]
fn refuses_at_start_by_name_and_place() {
    for (template, expected) in [
        (
            "{{ if .Name }}{{ break }}{{ end }}",
            "at character 18: `break` is not supported in rules",
        ),
        ("{{ range .Labels }}x", "`range` is not closed; write `{{ end }}`"),
        (
            "{{ range $item := .Labels }}{{ end }}{{ $item }}",
            "variable `$item` is not declared",
        ),
        ("{{ define \"x\" }}{{ end }}", "`define` is not supported"),
        ("{{ template \"x\" }}", "`template` is not supported"),
        ("{{ block \"x\" . }}{{ end }}", "`block` is not supported"),
        (
            "Host(`{{ env \"HOME\" }}`)",
            "at character 10: function `env` is not supported; there are and, atoi,",
        ),
        (
            "{{ .Nme }}",
            "a container has no `.Nme`; there are .Name, .ContainerName and .Labels",
        ),
        ("{{ .Name", "at character 1: `{{` is not closed"),
        ("{{ if .Name }}x", "`if` is not closed; write `{{ end }}`"),
        ("x{{ end }}", "`end` without `if`, `with` or `range`"),
        ("x{{ else }}", "`else` without `if`, `with` or `range`"),
        (
            "{{ if .Name }}a{{ else }}b{{ else }}c{{ end }}",
            "expected `{{ end }}` after `else`",
        ),
        (
            "{{ if .Name }}a{{ else with .Name }}c{{ end }}",
            "goes on with another word",
        ),
        ("{{ lower }}", "function `lower` takes 1 arguments, 0 given"),
        (
            "{{ .Name | replace \"a\" }}",
            "function `replace` takes 3 arguments, 2 given",
        ),
        ("{{ .Name lower }}", "only a function takes arguments"),
        ("{{ lower .Name | .Name }}", "only a function can stand after `|`"),
        ("{{ (lower .Name }}", "expected `)`"),
        ("{{ $x }}", "variable `$x` is not declared"),
        (
            "{{ $x = 1 }}",
            "variable `$x` is not declared; write `$x := ...` first",
        ),
        (
            "{{ if true }}{{ $x := 1 }}{{ end }}{{ $x }}",
            "variable `$x` is not declared",
        ),
        ("{{ printf \"%05d\" 1 }}", "printf: `%0` is not supported"),
        ("{{ \"a }}", "the string is not closed"),
        ("{{ `a }}", "the string is not closed"),
        ("{{ \"\\q\" }}", "unknown escape"),
        ("{{ 1.5 }}", "decimal numbers are not supported here"),
        ("{{ 'a' }}", "`'` has no meaning inside an action"),
        ("{{ }}", "expected a value or a function"),
        ("{{/* x", "the comment is not closed"),
    ] {
        let error = render(template).unwrap_err();
        assert!(error.contains(expected), "{template}: {error}");
    }
    assert!(
        render(&format!("{{{{ {}1{} }}}}", "(".repeat(500), ")".repeat(500)))
            .unwrap_err()
            .contains("nested")
    );
    assert!(
        render(&"{{ if true }}".repeat(500))
            .unwrap_err()
            .contains("nested")
    );
}

#[test]
fn what_depends_on_the_container_fails_for_the_container() {
    for (template, expected) in [
        ("{{ lower .Labels.absent }}", "lower: expected a string, got nil"),
        ("{{ range .Name }}x{{ end }}", "`range` over a string"),
        (
            "{{ range splitList \"\" (repeat 999 \"x\") }}{{ range splitList \"\" (repeat 999 \"x\") }}{{ end }}{{ end }}",
            "`range` makes more than 65536 turns",
        ),
        ("{{ .Labels.absent.x }}", "`.x` of a value that is not there"),
        (
            "{{ index (splitList \"-\" .Name) 9 }}",
            "index: index 9 of a list of 2",
        ),
        (
            "{{ repeat 99999999 .Name }}",
            "repeat: the text is longer than 65536 bytes",
        ),
        (
            "{{ regexMatch (index .Labels \"host\" | print \"(\") .Name }}",
            "regexMatch: ",
        ),
    ] {
        let error = render(template).unwrap_err();
        assert!(error.starts_with(expected), "{template}: {error}");
    }
}

proptest! {
    #[test]
    fn no_template_panics(pieces in proptest::collection::vec(piece(), 0..12)) {
        let template = pieces.concat();
        match render(&template) {
            Ok(text) => prop_assert!(text.len() <= 64 * 1024),
            Err(error) => prop_assert!(!error.is_empty()),
        }
    }
}

/// Bits that make and nearly make templates.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "{{",
            "}}",
            "{{-",
            "-}}",
            " ",
            "if",
            "else",
            "end",
            "with",
            ".Name",
            ".Labels",
            ".",
            "$",
            "$x",
            ":=",
            "=",
            "|",
            "(",
            ")",
            "\"a\"",
            "`b`",
            "1",
            "-1",
            "lower",
            "index",
            "printf",
            "default",
            "/*",
            "*/",
            "true",
            "é",
            "{{ end }}",
            "{{ range .Labels }}",
            "{{ range $x, $y := .Labels }}",
            ",",
            "range",
            "{{ if .Name }}",
            "{{ .Name }}",
        ])
        .prop_map(str::to_owned),
        ".{0,3}",
    ]
}
