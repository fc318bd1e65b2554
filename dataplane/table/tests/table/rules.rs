//! Rules against requests: what each matcher and operator means. Every row was measured on Traefik 3.7.15 unless a
//! comment says where this router differs on purpose.

use crate::asked::Asked;
use constellation_table::Rule;

fn check(cases: &[(&str, &[&str], &[&str])]) {
    for (text, yes, no) in cases {
        let rule = Rule::parse_http(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        for (lines, want) in [(yes, true), (no, false)] {
            for line in *lines {
                let asked = Asked::parse(line).unwrap_or_else(|| panic!("{line} is refused"));
                assert_eq!(rule.matches(&asked.meta()), want, "{text} on {line:?}");
            }
        }
    }
}

#[test]
fn host() {
    check(&[
        (
            "Host(`a.test`)",
            &[
                "GET a.test /",
                "GET A.Test /",
                "GET a.test:80 /",
                "GET a.test. /",
                "GET a.test: /",
                "GET a.test.:80 /",
            ],
            &[
                "GET a.test.. /",
                "GET b.test /",
                "GET xa.test /",
                "GET a.test.x /",
            ],
        ),
        ("Host(`A.TEST`)", &["GET a.test /"], &[]),
        (
            "Host(`a.test.`)",
            &["GET a.test /", "GET a.test. /", "GET a.test.. /"],
            &[],
        ),
        (
            "Host(`a.test..`)",
            &["GET a.test. /", "GET a.test.. /"],
            &["GET a.test /"],
        ),
        ("Host(`a.test:80`)", &[], &["GET a.test /", "GET a.test:80 /"]),
        (
            "Host(`*`)",
            &["GET a.test /", "GET a /", "GET [::1] /", "GET a.test. /"],
            &[],
        ),
        (
            "Host(`*.x.y`)",
            &[
                "GET a.x.y /",
                "GET .x.y /",
                "GET A.X.Y /",
                "GET a.x.y. /",
                "GET a.x.y:80 /",
            ],
            &[
                "GET x.y /",
                "GET a.b.x.y /",
                "GET ax.y /",
                "GET a.x.y.. /",
                "GET a.x.z /",
            ],
        ),
        (
            "Host(`*.x.y.`)",
            &["GET a.x.y /", "GET a.x.y. /", "GET a.x.y.. /"],
            &[],
        ),
        ("Host(`*.X.Y`)", &["GET a.x.y /"], &[]),
        // Behind the dot there is nothing, as behind a name without a dot.
        (
            "Host(`*.`)",
            &["GET a /", "GET a. /", "GET * /"],
            &["GET a.b /", "GET a.b. /"],
        ),
        (
            "Host(`**.x.y`)",
            &[],
            &["GET **.x.y /", "GET a.x.y /", "GET *.x.y /"],
        ),
        (
            "Host(`*foo.x.y`)",
            &[],
            &["GET *foo.x.y /", "GET a.foo.x.y /", "GET xfoo.x.y /"],
        ),
        ("Host(`*.*.y`)", &["GET a.*.y /"], &["GET a.x.y /"]),
        ("Host(`foo*.x.y`)", &["GET foo*.x.y /"], &["GET foobar.x.y /"]),
        ("Host(`a.*.y`)", &["GET a.*.y /"], &["GET a.b.y /"]),
        (
            "Host(`::1`)",
            &["GET [::1] /", "GET [::1]:80 /"],
            &["GET [0:0::1] /"],
        ),
        ("Host(`[::1]`)", &[], &["GET [::1] /", "GET [::1]:80 /"]),
        ("Host(` a.test`)", &[], &["GET a.test /"]),
        ("Host(`xn--bcher-kva.test`)", &["GET XN--BCHER-KVA.test /"], &[]),
        (
            "Host(`127.0.0.1`)",
            &["GET 127.0.0.1:8080 /"],
            &["GET 127.0.0.2 /"],
        ),
    ]);
}

#[test]
fn host_regexp() {
    check(&[
        (
            r"HostRegexp(`^a\.test$`)",
            &["GET a.test /", "GET A.test /", "GET a.test:80 /"],
            &["GET a.test. /"],
        ),
        // Braces of escapes are no v2 syntax.
        (
            r"HostRegexp(`^a\p{L}\x{62}.test`)",
            &["GET axb.test /"],
            &["GET a1b.test /"],
        ),
        // Nor are those that nothing closes.
        ("HostRegexp(`^a$|{x`)", &["GET a /"], &["GET x /"]),
        ("HostRegexp(`A`)", &[], &["GET a.test /", "GET A.test /"]),
        ("HostRegexp(`(?i)A`)", &["GET a.test /"], &[]),
        ("HostRegexp(`^::1$`)", &["GET [::1]:80 /"], &[]),
        ("HostRegexp(`.*`)", &["GET a /", "GET 1.2.3.4 /"], &[]),
        (
            r"HostRegexp(`^.+\.x$`)",
            &["GET a.x /", "GET a.b.x /"],
            &["GET x /", "GET .x.y /"],
        ),
        (r"HostRegexp(`^[a-z]{2}\.x$`)", &["GET ab.x /"], &["GET abc.x /"]),
        ("HostRegexp(`test`)", &["GET a.test.x /"], &["GET a.tes.x /"]),
    ]);
}

#[test]
fn path() {
    check(&[
        (
            "Path(`/a`)",
            &[
                "GET h /a",
                "GET h /a?x",
                "GET h /%61",
                "GET h //a",
                "GET h /./a",
                "GET h /x/../a",
                "GET h /a/.",
                "GET h /a/b/..",
            ],
            &[
                "GET h /a/",
                "GET h /A",
                "GET h /a%2F",
                "GET h /a//",
                "GET h /ab",
                "GET h *",
            ],
        ),
        (
            "Path(`/`)",
            &["GET h /", "GET h //", "GET h /.", "GET h /..", "GET h /../"],
            &["GET h *", "GET h /a"],
        ),
        ("Path(`/foo bar`)", &["GET h /foo%20bar"], &["GET h /foo+bar"]),
        (
            "Path(`/foo%20bar`)",
            &[],
            &["GET h /foo%20bar", "GET h /foo%2520bar"],
        ),
        (
            "Path(`/foo%2Fbar`)",
            &["GET h /foo%2Fbar", "GET h /foo%2fbar"],
            &["GET h /foo/bar"],
        ),
        ("Path(`/foo%2fbar`)", &[], &["GET h /foo%2Fbar"]),
        ("Path(`/ü`)", &["GET h /%C3%BC", "GET h /%c3%bc", "GET h /ü"], &[]),
        ("Path(`/{x}`)", &["GET h /{x}", "GET h /%7Bx%7D"], &["GET h /a"]),
        (
            "Path(`/.well-known/x`)",
            &["GET h /.well-known/x", "GET h /%2ewell-known/x"],
            &[],
        ),
        ("Path(`/a\nb`)", &["GET h /a%0Ab"], &["GET h /a%0D%0Ab"]),
        ("Path(`/a\r\nb`)", &["GET h /a%0Ab"], &["GET h /a%0D%0Ab"]),
        (
            "Path(`/admin`)",
            &["GET h /public/%2e%2e/admin"],
            &["GET h /public/..%2Fadmin"],
        ),
        ("Path(`/public/..%2Fadmin`)", &["GET h /public/..%2fadmin"], &[]),
        (
            "PathPrefix(`/foo`)",
            &[
                "GET h /foo",
                "GET h /foobar",
                "GET h /foo/",
                "GET h /x/../foo",
                "GET h /%66oo",
            ],
            &["GET h /fo", "GET h /Foo", "GET h /x/foo"],
        ),
        (
            "PathPrefix(`/`)",
            &["GET h /", "GET h /x"],
            &["OPTIONS h *", "GET h *"],
        ),
        ("PathPrefix(`/a/`)", &["GET h /a/", "GET h /a/b"], &["GET h /a"]),
        (
            "PathPrefix(`/e`)",
            &[
                "GET h /e%FF",
                "GET h /e%5C",
                "GET h /e{}",
                "GET h /e%2e%2e",
                "GET h /e/..%2fx",
                "GET h /e;x",
                "GET h /e%00",
                "GET h /e/%2e",
            ],
            &["GET h /e/%2e%2e"],
        ),
        (
            "PathPrefix(`/foo%2F`)",
            &["GET h /foo%2fbar"],
            &["GET h /foo/bar"],
        ),
    ]);
}

#[test]
fn path_regexp() {
    check(&[
        (
            "PathRegexp(`^/.$`)",
            &[
                "GET h /a",
                "GET h /%FF",
                "GET h /%C3%BC",
                "GET h /%20",
                "GET h /%00",
            ],
            &["GET h /%25", "GET h /%0A", "GET h /ab"],
        ),
        (
            r"PathRegexp(`^/[a-z]+/\d+$`)",
            &["GET h /a/1", "GET h /a/1?q"],
            &["GET h /a/%D9%A1", "GET h /a/1/"],
        ),
        (r"PathRegexp(`^/\w$`)", &["GET h /a"], &["GET h /%C3%BC"]),
        (r"PathRegexp(`^/\W$`)", &["GET h /%C3%BC"], &["GET h /a"]),
        (
            r"PathRegexp(`/a\b`)",
            &["GET h /a", "GET h /a%C3%BC", "GET h /a-"],
            &["GET h /ab"],
        ),
        (
            r"PathRegexp(`/a\B`)",
            &["GET h /ab"],
            &["GET h /a", "GET h /a%C3%BC", "GET h /a-"],
        ),
        ("PathRegexp(`(?i)^/k$`)", &["GET h /K", "GET h /%E2%84%AA"], &[]),
        (
            r"PathRegexp(`^/\s$`)",
            &["GET h /%20", "GET h /%0C"],
            &["GET h /%0B", "GET h /%C2%A0"],
        ),
        (
            "PathRegexp(`^/{x:[a-z]+}$`)",
            &["GET h /%7Bx:a%7D", "GET h /{x:a}"],
            &["GET h /a"],
        ),
        ("PathRegexp(`^/[a&&b]$`)", &["GET h /a", "GET h /&"], &[]),
        (
            r"PathRegexp(`\bx`)",
            &["GET h /x", "GET h /%C3%BCx"],
            &["GET h /ax"],
        ),
        (
            r"PathRegexp(`\.(css|js)$`)",
            &["GET h /a.css", "GET h /x/b.js?v=1"],
            &["GET h /a.css.map"],
        ),
        (r#"PathRegexp("^/\\d$")"#, &["GET h /1"], &["GET h /d"]),
    ]);
}

#[test]
fn method() {
    check(&[
        (
            "Method(`get`)",
            &["GET h /"],
            &["HEAD h /", "get h /", "POST h /"],
        ),
        ("Method(`GET`)", &["GET h /"], &["HEAD h /"]),
        ("Method(`FOO`)", &["FOO h /"], &["foo h /"]),
        ("Method(`OPTIONS`)", &["OPTIONS h /", "OPTIONS h *"], &[]),
        ("!Method(`POST`)", &["GET h /", "post h /"], &["POST h /"]),
    ]);
}

#[test]
fn header() {
    check(&[
        (
            "Header(`X-A`, `b`)",
            &[
                "GET h / | X-A: b",
                "GET h / | x-a: b",
                "GET h / | X-A: a | X-A: b",
            ],
            &[
                "GET h / | X-A: B",
                "GET h / | X-A: a, b",
                "GET h / | X-A: b c",
                "GET h /",
                "GET h / | X-A: \"b\"",
            ],
        ),
        ("Header(`x-a`, `b`)", &["GET h / | X-A: b"], &[]),
        (
            "Header(`X-A`, `b, c`)",
            &["GET h / | X-A: b, c"],
            &["GET h / | X-A: b | X-A: c"],
        ),
        (
            "Header(`Host`, `a.test`)",
            &[],
            &["GET a.test /", "GET a.test / | Host: a.test"],
        ),
        (
            "HeaderRegexp(`host`, `.*`)",
            &[],
            &["GET a.test / | Host: a.test"],
        ),
        (
            "HeaderRegexp(`Transfer-Encoding`, `.*`)",
            &[],
            &["POST h / | Transfer-Encoding: chunked"],
        ),
        (
            "HeaderRegexp(`Content-Length`, `.*`)",
            &["POST h / | Content-Length: 0"],
            &["POST h /"],
        ),
        ("HeaderRegexp(`Te`, `.*`)", &["GET h / | TE: trailers"], &[]),
        (
            "HeaderRegexp(`Upgrade`, `.*`)",
            &["GET h / | Upgrade: websocket"],
            &[],
        ),
        (
            "HeaderRegexp(`X-A`, `^.$`)",
            &[
                "GET h / | X-A: \u{ff}",
                "GET h / | X-A: \u{c3}\u{bc}",
                "GET h / | X-A: a | X-A: bb",
            ],
            &[
                "GET h / | X-A: ",
                "GET h / | X-A: bb",
                "GET h / | X-A: \u{ff}\u{ff}",
            ],
        ),
        ("HeaderRegexp(`X-A`, `^$`)", &["GET h / | X-A: "], &["GET h /"]),
        (
            "HeaderRegexp(`X-A`, `b`)",
            &["GET h / | X-A: abc"],
            &["GET h / | X-A: ABC"],
        ),
        // A name that no request can carry is accepted and never matches.
        ("Header(`A b`, `c`)", &[], &["GET h /"]),
    ]);
}

#[test]
fn query() {
    check(&[
        (
            "Query(`q`)",
            &[
                "GET h /?q",
                "GET h /?q=",
                "GET h /?q=1&q",
                "GET h /?q;",
                "GET h /?q;r",
                "GET h /?a&q",
                "GET h /?q=1;q",
            ],
            &["GET h /?q=1", "GET h /", "GET h /?Q", "GET h /?qq"],
        ),
        (
            "Query(`q`, `1`)",
            &[
                "GET h /?q=1",
                "GET h /?q=2&q=1",
                "GET h /?q=1;r=2",
                "GET h /?r=2;q=1",
                "GET h /?q=%31",
                "GET h /?%71=1",
                "GET h /?q=1&a=%zz",
                "GET h /?a=%zz&q=1",
                "GET h /?q=1&",
            ],
            &[
                "GET h /?q=+1",
                "GET h /?q=1=",
                "GET h /?q=1%00",
                "GET h /?q=",
                "GET h /?q=%zz",
            ],
        ),
        (
            "Query(`q`, `a b`)",
            &["GET h /?q=a+b", "GET h /?q=a%20b"],
            &["GET h /?q=ab"],
        ),
        ("Query(`q`, `2;r`)", &["GET h /?q=2%3Br"], &["GET h /?q=2;r"]),
        ("Query(`q`, `*`)", &["GET h /?q=*"], &["GET h /?q=x"]),
        ("Query(`a=b`)", &["GET h /?a%3Db"], &["GET h /?a=b"]),
        (
            r"QueryRegexp(`q`, `^\d+$`)",
            &["GET h /?q=12", "GET h /?q=a&q=3"],
            &["GET h /?q=a", "GET h /?q"],
        ),
        ("QueryRegexp(`q`)", &["GET h /?q"], &["GET h /?q=1"]),
        (
            "QueryRegexp(`q`, `^.$`)",
            &["GET h /?q=%FF", "GET h /?q=%C3%BC"],
            &["GET h /?q=ab"],
        ),
    ]);
}

#[test]
fn client_ip() {
    check(&[
        (
            "ClientIP(`127.0.0.1`)",
            &["GET h /", "GET h / | X-Forwarded-For: 1.2.3.4"],
            &["GET h / | @127.0.0.2"],
        ),
        ("ClientIP(`127.0.0.0/8`)", &["GET h /"], &["GET h / | @128.0.0.1"]),
        ("ClientIP(`127.9.9.9/8`)", &["GET h /"], &[]),
        ("ClientIP(`::ffff:127.0.0.1`)", &["GET h /"], &[]),
        (
            "ClientIP(`::ffff:127.0.0.0/104`)",
            &["GET h /"],
            &["GET h / | @10.0.0.1"],
        ),
        ("ClientIP(`::/0`)", &["GET h / | @2001:db8::1"], &["GET h /"]),
        (
            "ClientIP(`0.0.0.0/0`)",
            &["GET h /", "GET h / | @::ffff:10.0.0.1"],
            &["GET h / | @::1"],
        ),
        (
            "ClientIP(`10.0.0.0/8`)",
            &["GET h / | @10.1.2.3"],
            &["GET h /", "GET h / | X-Real-Ip: 10.0.0.1"],
        ),
        ("ClientIP(`::1`)", &["GET h / | @::1"], &["GET h / | @::2"]),
        (
            "ClientIP(`fe80::/64`)",
            &["GET h / | @fe80::1"],
            &["GET h / | @fe81::1"],
        ),
    ]);
}

#[test]
fn operators() {
    check(&[
        ("!Host(`a.test`)", &["GET b.test /"], &["GET a.test /"]),
        ("!!Path(`/x`)", &["GET h /x"], &["GET h /z"]),
        ("! Path(`/x`)", &["GET h /z"], &["GET h /x"]),
        (
            "!(Path(`/x`) || Path(`/y`))",
            &["GET h /z"],
            &["GET h /x", "GET h /y"],
        ),
        ("!Path(`/x`) && Path(`/x`)", &[], &["GET h /x", "GET h /z"]),
        (
            "Path(`/x`) || Path(`/y`) && Method(`POST`)",
            &["GET h /x", "POST h /y", "POST h /x"],
            &["GET h /y", "POST h /z"],
        ),
        (
            "Method(`POST`) && Path(`/y`) || Path(`/x`)",
            &["GET h /x", "POST h /y"],
            &["GET h /y"],
        ),
        (
            "(Path(`/x`) || Path(`/y`)) && Method(`POST`)",
            &["POST h /x", "POST h /y"],
            &["GET h /x"],
        ),
        (
            "Host(`a.test`) && (Path(`/x`) || Path(`/y`)) && !Method(`POST`)",
            &["GET a.test /x", "GET a.test /y"],
            &["GET a.test /z", "POST a.test /y", "GET b.test /x"],
        ),
        (
            "Host(`a`)&&Path(`/`)||!Host(`b`)",
            &["GET a /", "GET c /"],
            &["GET b /"],
        ),
        ("((Host(`a`)))", &["GET a /"], &["GET b /"]),
        (
            "!(!Host(`a`) || !Path(`/`))",
            &["GET a /"],
            &["GET a /x", "GET b /"],
        ),
    ]);
}

#[test]
fn spelling() {
    check(&[
        ("HOST(`a`)", &["GET a /"], &[]),
        ("host(`a`)", &["GET a /"], &[]),
        ("Hostregexp(`a`)", &["GET a /"], &[]),
        ("HOSTREGEXP(`a`)", &["GET a /"], &[]),
        ("hostregexp(`a`)", &["GET a /"], &[]),
        ("Pathprefix(`/`)", &["GET a /"], &[]),
        ("PATHPREFIX(`/`) && pathprefix(`/`)", &["GET a /"], &[]),
        (
            "clientip(`127.0.0.1`) && Clientip(`127.0.0.1`) && CLIENTIP(`127.0.0.1`)",
            &["GET a /"],
            &[],
        ),
        ("Host(\"a\") &&\n Path(\"/\")", &["GET a /"], &[]),
        ("\n\n\t Host(\"a\")\r\n", &["GET a /"], &[]),
        ("Host (`a`)", &["GET a /"], &[]),
        ("!\nHost(`a`)", &["GET b /"], &[]),
        ("Host(\n`a`,\n)", &["GET a /"], &[]),
        ("Header(`A`,`b`,)", &["GET a / | A: b"], &[]),
        ("Host(`a`...)", &["GET a /"], &["GET b /"]),
        ("Header(`A`, `b` ... ,)", &["GET a / | A: b"], &["GET a / | A: c"]),
        ("Host(`a`) // the apex", &["GET a /"], &[]),
        ("Host(`a`) /* and */ && Path(`/`)", &["GET a /"], &[]),
        ("\u{feff}Host(`a`)", &["GET a /"], &[]),
        (r#"Path("/\x41\101\u0041\U00000041")"#, &["GET a /AAAA"], &[]),
        (r#"Path("/a\"b\\c")"#, &["GET a /a%22b%5Cc"], &[]),
        (r#"Path("/\u00fc\t")"#, &["GET a /ü%09"], &[]),
        // Go ends an expression at a line end after an operand; here a rule may be broken before an operator too.
        ("Host(`a`)\n && Path(`/`)", &["GET a /"], &["GET b /"]),
        ("(Host(`a`)\n || Host(`b`)\n)", &["GET a /", "GET b /"], &[]),
        ("Host(`a`\n)", &["GET a /"], &[]),
    ]);
}

#[test]
fn what_tests_call_a_refused_request_is_refused() {
    for line in [
        "GET a b /",
        "GET {x}.test /",
        "GET h a",
        "GET h /a#b",
        "GET h /%zz",
        "GET h /%",
        "GET a:x /",
    ] {
        assert!(Asked::parse(line).is_none(), "{line}");
    }
}

#[test]
fn hosts_of_a_rule() {
    let cases: &[(&str, &[&str])] = &[
        ("Host(`A.test`)", &["a.test"]),
        ("Host(`a.`) || Host(`b`) && Path(`/`) || Host(`a`)", &["a", "b"]),
        ("!Host(`a`) && Host(`b`)", &["b"]),
        ("!(!Host(`a`))", &["a"]),
        ("Host(`*`) || Host(`*.a`) || HostRegexp(`b`) || Path(`/`)", &[]),
    ];
    for (text, want) in cases {
        assert_eq!(Rule::parse_http(text).unwrap().hosts(), *want, "{text}");
    }
}
