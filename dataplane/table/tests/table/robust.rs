//! Whatever comes from outside is parsed or refused, never a panic; and what is normalised is final.

use constellation_table::{Rule, TcpRule, host, path};
use proptest::prelude::*;

/// Text made of the pieces that rules are made of, so that more than the first token is reached.
fn rule_like() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "Host",
        "HostSNI",
        "HostSNIRegexp",
        "ALPN",
        "PathRegexp",
        "Query",
        "ClientIP",
        "(",
        ")",
        "`",
        "\"",
        "\\",
        "!",
        "&&",
        "||",
        ",",
        " ",
        "\n",
        "a.test",
        "*.",
        "/",
        "[a-",
        "]",
        "{2}",
        "{",
        "}",
        "(?i",
        "\\d",
        "\\Q",
        "\\x{",
        "127.0.0.1/",
        "ü",
        "\u{feff}",
        "//",
        "/*",
        "*/",
    ]);
    prop::collection::vec(pieces, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn rules(text in prop_oneof![any::<String>(), rule_like()]) {
        for error in [Rule::parse_http(&text).err(), TcpRule::parse(&text).err()].into_iter().flatten() {
            prop_assert!(text.is_char_boundary(error.offset), "{error}");
        }
    }

    #[test]
    fn patterns(pattern in "[a-c\\[\\](){}|*+?^$\\\\.,:<>=!\\-0-9PQEdwspbLix&~]{0,16}") {
        // A pattern without a backtick is a whole raw string; either it compiles or it is refused in words.
        if let Err(error) = Rule::parse_http(&format!("PathRegexp(`/{pattern}`)")) {
            prop_assert!(error.message.contains("is not a regular expression: "), "{error}");
        }
    }

    #[test]
    fn hosts(authority in prop_oneof![any::<String>(), "[a-zA-Z0-9.:\\[\\]%*_-]{0,20}"]) {
        if let Ok(name) = host::canonical(&authority) {
            prop_assert!(!name.is_empty());
            prop_assert!(!name.bytes().any(|b| b.is_ascii_uppercase() || b == b'/' || b == b'@' || b >= 0x80));
            if !name.contains(':') {
                let again = host::canonical(&name).map(|again| again.into_owned());
                prop_assert_eq!(again.as_deref(), Ok(&*name));
            }
        }
    }

    #[test]
    fn paths(path in prop_oneof![any::<String>(), "/[a-c./%2eEfF\\\\ ü*]{0,24}"]) {
        if let Ok(normal) = path::normalise(&path) {
            prop_assert!(normal.clean == "*" || normal.clean.starts_with('/'));
            prop_assert!(normal.clean.is_ascii());
            let segments: Vec<_> = normal.clean.split('/').skip(1).collect();
            let inner = segments.len().saturating_sub(1);
            prop_assert!(!segments.iter().any(|segment| matches!(*segment, "." | "..")), "{}", normal.clean);
            prop_assert!(!segments.iter().take(inner).any(|segment| segment.is_empty()), "{}", normal.clean);
            let again = path::normalise(&normal.clean).map(|again| (again.clean.into_owned(), again.routing.into_owned()));
            prop_assert_eq!(again, Ok((normal.clean.to_string(), normal.routing.to_string())));
        }
    }
}
