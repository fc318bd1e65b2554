//! What is refused, where the error points, and what it tells the operator to write instead.

use constellation_table::Rule;

#[test]
fn refused_with_position_and_advice() {
    // (rule, byte offset, a part of the message)
    let cases: &[(&str, usize, &str)] = &[
        // Nothing there.
        ("", 0, "the rule ends here"),
        ("  ", 2, "the rule ends here"),
        ("!", 1, "the rule ends here"),
        ("()", 1, "expected a matcher"),
        ("Host(`a`) &&", 12, "the rule ends here"),
        ("|| Host(`a`)", 0, "expected a matcher"),
        // Grammar.
        ("Host", 4, "expected `(`"),
        ("true", 4, "expected `(`"),
        ("Host(`a`", 8, "expected `,` or `)`"),
        ("Host(", 5, "no closing `)`"),
        ("(Host(`a`)", 10, "expected `)` for the `(` at byte 0"),
        ("Host(`a`))", 9, "closes nothing"),
        ("Host(`a`)(`b`)", 9, "expected `&&`, `||` or the end"),
        ("Host(`a`)Path(`/`)", 9, "expected `&&`, `||` or the end"),
        ("Host(`a`) Path(`/`)", 10, "expected `&&`, `||` or the end"),
        ("Host(Host(`a`))", 5, "are strings"),
        ("Host((`a`))", 5, "expected a string"),
        ("(Host)(`a`)", 5, "expected `(`"),
        ("Host(a)", 5, "write `Host(`a`)`"),
        ("Host(true)", 5, "are strings"),
        ("Host(1)", 5, "no meaning"),
        ("Host(,)", 5, "expected a string"),
        ("Host(`a`,,)", 9, "expected a string"),
        ("Host(`a` `b`)", 9, "expected `,` or `)`"),
        ("Host(...)", 5, "expected a string"),
        ("Host(`a`..)", 8, "no meaning"),
        ("Host(`a`... `b`)", 12, "expected `,` or `)`"),
        ("Host(`a`,...)", 9, "expected a string"),
        ("Header(`a`..., `b`)", 15, "expected `)` after the `...`"),
        ("Host(`a`......)", 11, "expected `,` or `)`"),
        ("Host(`a`)...", 9, "expected `&&`, `||` or the end"),
        ("Host[`a`]", 4, "no meaning"),
        ("Host{`a`}", 4, "no meaning"),
        ("a.Host(`a`)", 1, "no meaning"),
        ("Host(`a`) == true", 10, "no meaning"),
        ("+Host(`a`)", 0, "no meaning"),
        ("Host(`a`)\u{a0}&& Path(`/`)", 9, "no meaning"),
        ("Host(`a`)\u{c}", 9, "no meaning"),
        ("Host(`a`) != Path(`/`)", 10, "put `!` in front"),
        ("Host(`a`) /* x", 10, "no closing `*/`"),
        // Other languages.
        ("Host('a')", 5, "use backticks"),
        ("Host(‘a’)", 5, "typographic quote"),
        ("Host(`a`) and Path(`/`)", 10, "write `&&`"),
        ("Host(`a`) AND Path(`/`)", 10, "write `&&`"),
        ("Host(`a`) or Path(`/`)", 10, "write `||`"),
        ("(Host(`a`) or Path(`/`))", 11, "write `||`"),
        ("not Host(`a`)", 4, "write `!`"),
        ("Host(`a`) & Path(`/`)", 10, "write `&&`"),
        ("Host(`a`) | Path(`/`)", 10, "write `||`"),
        ("Host(`a`), Path(`/`)", 9, "does not join matchers"),
        ("Host(`a`);", 9, "v1 rules; write `&&`"),
        ("Host:a", 4, "v1 rules"),
        // Strings.
        ("Host(`a)", 5, "no closing backtick"),
        ("Host(\"a)", 5, "no closing double quote"),
        ("Host(\"a\n\")", 5, "no closing double quote"),
        (r#"Path("/\q")"#, 7, "unknown escape"),
        (r#"Path("/\x4")"#, 7, "unknown escape"),
        (r#"Path("/\400")"#, 7, "unknown escape"),
        (r#"Path("/\ud800")"#, 7, "unknown escape"),
        (r#"Path("/\'")"#, 7, "unknown escape"),
        (r#"PathRegexp("\d")"#, 12, "raw string in backticks"),
        (r#"Path("/\xff")"#, 5, "valid UTF-8"),
        // Names.
        ("hOST(`a`)", 0, "write `Host`"),
        ("HostRegExp(`a`)", 0, "write `HostRegexp`"),
        ("ClientIp(`1.2.3.4`)", 0, "write `ClientIP`"),
        ("Hoſt(`a`)", 0, "unknown matcher"),
        ("Allow(`a`)", 0, "known are ClientIP, Header,"),
        ("HostHeader(`a`)", 0, "v3 calls it `Host`"),
        ("Headers(`A`, `b`)", 0, "v3 calls it `Header`"),
        ("HeadersRegexp(`A`, `b`)", 0, "v3 calls it `HeaderRegexp`"),
        ("PathPrefixStrip(`/a`)", 0, "middleware `stripPrefix`"),
        ("ReplacePath(`/a`)", 0, "middleware"),
        ("HostSNI(`a`)", 0, "TCP routers"),
        // Counts.
        ("Host()", 0, "`Host` takes one argument, found 0"),
        (
            "Host(`a`, `b`)",
            0,
            "v2 lists become alternatives in v3: Host(`a`) || Host(`b`)",
        ),
        (
            "Path(`/`) && PathPrefix(`/a`,`/b`)",
            13,
            "PathPrefix(`/a`) || PathPrefix(`/b`)",
        ),
        ("Method(`GET`,`POST`)", 0, "Method(`GET`) || Method(`POST`)"),
        ("Header(`A`)", 0, "takes 2 arguments, found 1"),
        ("Header(`A`,`b`,`c`)", 0, "takes 2 arguments, found 3"),
        ("Query(`a`,`b`,`c`)", 0, "takes 1 to 2 arguments, found 3"),
        ("Query(`a=b`,`c=d`,`e`)", 0, "takes 1 to 2 arguments"),
        (
            "ClientIP(`1.2.3.4`,`5.6.7.8`)",
            0,
            "ClientIP(`1.2.3.4`) || ClientIP(`5.6.7.8`)",
        ),
        ("Host(``)", 5, "is empty"),
        ("Header(`A`,``)", 11, "is empty"),
        ("Query(`a`, \"\")", 11, "is empty"),
        // Values.
        ("Host(`ü`)", 5, "punycode"),
        ("HostRegexp(`ü`)", 11, "punycode"),
        (r#"Host("\u00fc")"#, 5, "punycode"),
        ("Path(`a`)", 5, "does not start with `/`"),
        ("PathPrefix(`a`)", 11, "does not start with `/`"),
        ("PathRegexp(`(`)", 11, "no closing `)`"),
        ("PathRegexp(`a**`)", 11, "repeats a repetition"),
        ("PathRegexp(`(?=a)`)", 11, "no look-ahead"),
        (r"PathRegexp(`\1`)", 11, "no back references"),
        (r"PathRegexp(`\pQ`)", 11, "not a regular expression"),
        (r"PathRegexp(`(\pL{900}){900}`)", 11, "more than 1 MiB"),
        ("HeaderRegexp(`A`,`[`)", 17, "no closing `]`"),
        ("QueryRegexp(`a`,`*`)", 16, "nothing to repeat"),
        ("ClientIP(`foo`)", 9, "neither an IP address nor a network"),
        ("ClientIP(`1.2.3.4/33`)", 9, "neither"),
        ("ClientIP(` 1.2.3.4`)", 9, "neither"),
        ("ClientIP(`01.2.3.4`)", 9, "neither"),
        ("ClientIP(`[::1]`)", 9, "neither"),
        ("ClientIP(`fe80::1%eth0`)", 9, "neither"),
        ("ClientIP(`1.2.3`)", 9, "neither"),
        ("ClientIP(`1.2.3.4,5.6.7.8`)", 9, "neither"),
        // Traefik takes these literally, and then they match nothing: no host has a brace.
        ("HostRegexp(`{sub:[a-z]+}.a.test`)", 11, "v2 syntax"),
        ("Host(`{sub}.a.test`)", 5, "v2 syntax"),
    ];
    for (text, offset, part) in cases {
        match Rule::parse_http(text) {
            Ok(_) => panic!("{text:?} is accepted"),
            Err(error) => {
                assert!(
                    error.message.contains(part),
                    "{text:?}: {error} does not say {part:?}"
                );
                assert_eq!(error.offset, *offset, "{text:?}: {error}");
                assert!(text.is_char_boundary(error.offset), "{text:?}: {error}");
            }
        }
    }
}

#[test]
fn limits() {
    use constellation_table::rule::{MAX_DEPTH, MAX_MATCHERS, MAX_RULE_BYTES};

    let nested = |depth: usize| format!("{}Host(`a`){}", "(".repeat(depth), ")".repeat(depth));
    let negated = |depth: usize| format!("{}Host(`a`)", "!".repeat(depth));
    let many = |count: usize| vec!["Host(`a`)"; count].join("||");
    let long = |bytes: usize| format!("Path(`/{}`)", "a".repeat(bytes - 9));
    let cases = [
        (nested(MAX_DEPTH), true),
        (nested(MAX_DEPTH + 1), false),
        (nested(MAX_RULE_BYTES / 4), false),
        (negated(MAX_DEPTH), true),
        (negated(MAX_DEPTH + 1), false),
        (many(MAX_MATCHERS), true),
        (many(MAX_MATCHERS + 1), false),
        (long(MAX_RULE_BYTES), true),
        (long(MAX_RULE_BYTES + 1), false),
    ];
    for (text, accepted) in cases {
        let start: String = text.chars().take(20).collect();
        assert_eq!(
            Rule::parse_http(&text).is_ok(),
            accepted,
            "{start}... of {} bytes",
            text.len()
        );
    }
}
