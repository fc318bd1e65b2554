//! TCP rules: what each matcher says, what is refused, priorities. Verdicts are those of Traefik 3.7.15 as measured.

use constellation_table::TcpRule;

use crate::stream_built::Opened;

fn matches(rule: &str, line: &str) -> bool {
    let rule = TcpRule::parse(rule).unwrap_or_else(|error| panic!("{rule}: {error}"));
    Opened::parse(line).with(|connection| rule.matches(connection))
}

#[test]
fn matchers() {
    // (rule, matching connections, others)
    let cases: &[(&str, &[&str], &[&str])] = &[
        (
            "HostSNI(`*`)",
            &["plain", "tls -", "tls a.test", "tls a.test h2 @10.0.0.1"],
            &[],
        ),
        (
            "HostSNI(`a.test`)",
            &["tls a.test"],
            &["tls b.test", "tls x.a.test", "tls -", "plain"],
        ),
        ("HostSNI(`A.Test.`)", &["tls a.test"], &["tls b.test"]),
        ("HostSNI(`a.test..`)", &[], &["tls a.test"]),
        ("HostSNI(`.`)", &[], &["tls -", "plain"]),
        ("HostSNI(`a_b.test`)", &["tls a_b.test"], &[]),
        ("HostSNI(`a.test:443`)", &[], &["tls a.test"]),
        (
            "HostSNI(`*.w.test`)",
            &["tls a.w.test", "tls .w.test"],
            &["tls w.test", "tls a.b.w.test", "tls -"],
        ),
        ("HostSNI(`*.W.test.`)", &["tls a.w.test"], &["tls w.test"]),
        (
            "!HostSNI(`a.test`)",
            &["tls b.test", "tls -", "plain"],
            &["tls a.test"],
        ),
        ("!HostSNI(`*`)", &[], &["tls a.test", "plain"]),
        (
            r"HostSNIRegexp(`^[a-z]+\.w\.test$`)",
            &["tls a.w.test"],
            &["tls a.b.w.test", "tls -"],
        ),
        (
            "HostSNIRegexp(`w`)",
            &["tls a.w.test"],
            &["tls x.test", "tls -", "plain"],
        ),
        ("HostSNIRegexp(`^A`)", &[], &["tls a.test"]),
        ("HostSNIRegexp(`(?i)^A`)", &["tls a.test"], &["tls b.test"]),
        ("HostSNIRegexp(`.*`)", &["tls a.test", "tls -", "plain"], &[]),
        (
            "ALPN(`h2`)",
            &["tls - h2", "tls a http/1.1 h2"],
            &["tls a", "tls a H2", "tls a h2c", "plain"],
        ),
        ("!ALPN(`h2`)", &["tls a", "plain"], &["tls a h2"]),
        (
            "ClientIP(`127.0.0.1`)",
            &["plain", "tls a", "plain @::ffff:127.0.0.1"],
            &["plain @127.0.0.2"],
        ),
        (
            "ClientIP(`127.0.0.1/8`)",
            &["plain @127.9.9.9"],
            &["plain @128.0.0.1"],
        ),
        (
            "ClientIP(`::ffff:127.0.0.0/104`)",
            &["plain"],
            &["plain @128.0.0.1"],
        ),
        ("ClientIP(`fe80::/10`)", &["plain @fe80::1"], &["plain"]),
        ("!ClientIP(`10.0.0.0/8`)", &["plain"], &["plain @10.1.2.3"]),
        // Operators: `!` before `&&` before `||`.
        (
            "HostSNI(`a`) || HostSNI(`b`) && ALPN(`h2`)",
            &["tls a", "tls b h2"],
            &["tls b", "tls c h2"],
        ),
        (
            "(HostSNI(`a`) || HostSNI(`b`)) && ALPN(`h2`)",
            &["tls a h2", "tls b h2"],
            &["tls a", "tls b"],
        ),
        (
            "!HostSNI(`a`) && ALPN(`h2`)",
            &["tls b h2"],
            &["tls a h2", "tls b"],
        ),
        (
            "!(HostSNI(`a`) && ALPN(`h2`))",
            &["tls a", "tls b h2"],
            &["tls a h2"],
        ),
        ("!!HostSNI(`a`)", &["tls a"], &["tls b"]),
        // Spelling.
        ("hostsni(\"a\")\n&&\talpn(`h2`,)", &["tls a h2"], &["tls a"]),
        ("HOSTSNI(`a`) && HOSTSNIREGEXP(`a`)", &["tls a"], &["tls b"]),
        (
            "Hostsni(`a`) && Hostsniregexp(`a`) && Clientip(`127.0.0.1`)",
            &["tls a"],
            &["tls b"],
        ),
        (
            "clientip(`127.0.0.1`) && CLIENTIP(`127.0.0.0/8`) && Alpn(`x`)",
            &["tls a x"],
            &["tls a"],
        ),
    ];
    for (rule, yes, no) in cases {
        for line in *yes {
            assert!(matches(rule, line), "{rule} does not match {line}");
        }
        for line in *no {
            assert!(!matches(rule, line), "{rule} matches {line}");
        }
    }
}

#[test]
fn refused_with_position_and_advice() {
    // (rule, byte offset, a part of the message)
    let cases: &[(&str, usize, &str)] = &[
        ("", 0, "the rule ends here"),
        ("HostSNI(`a`) &&", 15, "the rule ends here"),
        ("HostSNI(a)", 8, "write `HostSNI(`a`)`"),
        ("HostSNI('a')", 8, "use backticks"),
        ("hostSNI(`a`)", 0, "write `HostSNI`"),
        ("ClientIp(`1.2.3.4`)", 0, "write `ClientIP`"),
        ("HostSniRegexp(`a`)", 0, "write `HostSNIRegexp`"),
        ("Host(`a.test`)", 0, "TCP rules use `HostSNI`"),
        ("HostRegexp(`a`)", 0, "TCP rules use `HostSNIRegexp`"),
        ("HostSNI(`*`) && PathPrefix(`/`)", 16, "HTTP routers"),
        ("Method(`GET`)", 0, "HTTP routers"),
        ("SNI(`a`)", 0, "known are ALPN, ClientIP, HostSNI, HostSNIRegexp"),
        ("HostSNI()", 0, "takes one argument, found 0"),
        ("HostSNI(`a`,`b`)", 0, "HostSNI(`a`) || HostSNI(`b`)"),
        ("ALPN(`a`,`b`)", 0, "ALPN(`a`) || ALPN(`b`)"),
        ("ClientIP(`1.2.3.4`,`5.6.7.8`)", 0, "takes one argument, found 2"),
        ("HostSNIRegexp()", 0, "takes one argument, found 0"),
        ("HostSNI(``)", 8, "is empty"),
        ("HostSNIRegexp(``)", 14, "is empty"),
        ("ALPN(``)", 5, "is empty"),
        ("ClientIP(``)", 9, "is empty"),
        ("HostSNI(`ü.test`)", 8, "punycode"),
        ("HostSNIRegexp(`ü`)", 14, "punycode"),
        ("HostSNI(` a.test`)", 8, "not a server name"),
        ("HostSNI(`a test`)", 8, "not a server name"),
        ("HostSNI(`https://a.test`)", 8, "not a server name"),
        ("HostSNI(`a.*.test`)", 8, "whole first label"),
        ("HostSNI(`*a.test`)", 8, "whole first label"),
        ("HostSNI(`**`)", 8, "whole first label"),
        ("HostSNI(`*.`)", 8, "whole first label"),
        ("HostSNI(`*.*.test`)", 8, "whole first label"),
        ("HostSNI(`{sub}.a.test`)", 8, "as in HostSNIRegexp("),
        ("HostSNIRegexp(`{sub:[a-z]+}.a.test`)", 14, "v2 syntax"),
        ("HostSNIRegexp(`(`)", 14, "no closing `)`"),
        ("ALPN(`acme-tls/1`)", 5, "certificate challenges"),
        (
            "HostSNI(`a`) && !ALPN(`acme-tls/1`)",
            22,
            "certificate challenges",
        ),
        ("ClientIP(`nope`)", 9, "neither an IP address nor a network"),
        ("ClientIP(`1.2.3.4/33`)", 9, "neither"),
    ];
    for (text, offset, part) in cases {
        match TcpRule::parse(text) {
            Ok(_) => panic!("{text:?} is accepted"),
            Err(error) => {
                assert!(
                    error.message.contains(part),
                    "{text:?}: {error} does not say {part:?}"
                );
                assert_eq!(error.offset, *offset, "{text:?}: {error}");
            }
        }
    }
}

#[test]
fn default_priorities_and_catch_alls() {
    for (text, priority) in [
        ("HostSNI(`*`)", -1),
        ("(HostSNI(`*`))", -1),
        ("hostsni(\"*\")  ", -1),
        ("HostSNI(`*`)||HostSNI(`*`)", 26),
        ("HostSNI(`*`) && ClientIP(`127.0.0.1`)", 37),
        ("HostSNI(`a`)", 12),
        ("ClientIP(`127.0.0.1`)", 21),
        ("HostSNIRegexp(`.*`)", 19),
    ] {
        let rule = TcpRule::parse(text).unwrap();
        assert_eq!(rule.default_priority(), priority, "{text}");
        assert_eq!(rule.is_catch_all(), priority == -1, "{text}");
    }
}

#[test]
fn who_needs_tls() {
    // Traefik disables exactly these on a router without `tls`.
    for (text, needs) in [
        ("HostSNI(`*`)", false),
        ("HostSNI(`a.test`)", true),
        ("HostSNI(`*.a.test`)", true),
        ("HostSNI(`*`) || HostSNI(`a.test`)", false),
        ("HostSNI(`a.test`) || HostSNI(`*`)", true),
        ("ClientIP(`1.2.3.4`) && HostSNI(`a`)", true),
        ("!HostSNI(`a`)", false),
        ("!HostSNI(`a`) && HostSNI(`b`)", true),
        ("!(HostSNI(`a`) || ALPN(`h2`))", false),
        ("HostSNI(`*`) && ALPN(`h2`)", false),
        ("ALPN(`h2`)", false),
        ("HostSNIRegexp(`.*`)", false),
        ("ClientIP(`1.2.3.4`)", false),
    ] {
        assert_eq!(TcpRule::parse(text).unwrap().needs_tls(), needs, "{text}");
    }
}
