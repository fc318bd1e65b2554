//! Words that rules and requests are made of: ordinary ones, and those at which readers of HTTP differ.

use fastrand::Rng;

/// Picks one.
pub(super) fn pick<'w, T: ?Sized>(rng: &mut Rng, words: &[&'w T]) -> &'w T {
    words[rng.usize(..words.len())]
}

/// Whether something that happens this often, of a hundred times, happens now.
pub(super) fn chance(rng: &mut Rng, percent: u8) -> bool {
    rng.u8(..100) < percent
}

/// An ordinary word, or one time of so many an odd one.
pub(super) fn either<'w>(rng: &mut Rng, odd: u8, usual: &[&'w str], strange: &[&'w str]) -> &'w str {
    if chance(rng, odd) {
        pick(rng, strange)
    } else {
        pick(rng, usual)
    }
}

/// Host names.
pub(super) const HOSTS: &[&str] = &[
    "a.test",
    "b.test",
    "app.example.test",
    "x.y.test",
    "a-b.test",
    "xn--bcher-kva.test",
    "192.0.2.7",
    "localhost",
];
/// Host names as somebody may write them in a rule.
pub(super) const ODD_HOSTS: &[&str] = &[
    "A.Test",
    "a_b.test",
    "::1",
    "[::1]",
    "*",
    "*.test",
    "*.example.test",
    "*.y.test",
    "a.test.",
    "a.test..",
    " a.test",
    ".test",
    "foo*.test",
    "a.*.test",
    "**.test",
    "a.test:8080",
    "bücher.test",
    "a..test",
    "",
    "2001:db8::1",
    "2001:DB8::1",
    "*.",
    "*.a.test",
    "http://a.test",
    "a.test/",
];

/// Paths.
pub(super) const PATHS: &[&str] = &[
    "/",
    "/api",
    "/api/",
    "/api/v1",
    "/foo",
    "/foobar",
    "/a.b",
    "/Foo",
    "/api/v1/x",
];
/// Paths with more than letters.
pub(super) const ODD_PATHS: &[&str] = &[
    "/foo bar",
    "/foo%20bar",
    "/ü",
    "/%C3%BC",
    "/%c3%bc",
    "/a%2Fb",
    "/a%2fb",
    "/a/../b",
    "/a//b",
    "//a",
    "/a/.",
    "/a;b=c",
    "/a+b",
    "/%",
    "/%41",
    "/a%25b",
    "api",
    "",
    "/a?b",
    "/a#b",
    "/~x",
    "/a,b",
    "/a=b&c",
    "/a:b@c",
    "/.well-known/x",
    "/...",
    "/a\"b",
    "/a\\b",
    "/a|b",
    "/[x]",
    "/{x}",
    "/a*",
    "/*",
    "/!$'()",
    "/a^b",
    "/%zz",
    "/a%00b",
    "/a\tb",
    "/ ",
    "/a%7Eb",
    "/%5B",
    "/a%3Bb",
    "/日本",
];

/// Header names.
pub(super) const HEADERS: &[&str] = &["X-A", "X-B", "Accept", "User-Agent", "Content-Type", "Cookie"];
/// Header names that are special.
pub(super) const ODD_HEADERS: &[&str] = &[
    "x-a",
    "X-Forwarded-Proto",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Port",
    "X-Real-Ip",
    "X-Forwarded-User",
    "Host",
    "X Y",
    "",
    "x_a",
    "Authorization",
    "Accept-Encoding",
    "Forwarded",
    "Te",
    "Upgrade",
    "Connection",
    "Content-Length",
    "Transfer-Encoding",
    "X-ü",
];
/// Values of headers.
pub(super) const VALUES: &[&str] = &["1", "one", "one two", "a,b", "text/html", "http", "k=v"];
/// Values of headers that are special.
pub(super) const ODD_VALUES: &[&str] = &[
    "",
    "One",
    " one",
    "one ",
    "a, b",
    "ä",
    "*",
    "https",
    "a\tb",
    "\"q\"",
    "a;q=0.5",
    "ws",
    "80",
    "127.0.0.1",
    "5",
    "chunked",
    "trailers",
];

/// Keys of queries.
pub(super) const KEYS: &[&str] = &["q", "page", "x"];
/// Keys of queries that are special.
pub(super) const ODD_KEYS: &[&str] = &[
    "Q", "a b", "ü", "x[]", "a+b", "", "a&b", "a=b", "%71", "a;b", "a/b",
];
/// Values in queries.
pub(super) const ARGUMENTS: &[&str] = &["1", "one", "two", "2"];
/// Values in queries that are special.
pub(super) const ODD_ARGUMENTS: &[&str] = &[
    "",
    "a b",
    "a+b",
    "ü",
    "a&b",
    "a=b",
    "%",
    "a;b",
    "%20",
    "One",
    "a/b",
    "?",
    "#",
    "a%2",
    "\u{1F600}",
];

/// Methods.
pub(super) const METHODS: &[&str] = &["GET", "POST", "HEAD", "PUT", "DELETE"];
/// Methods that are rare.
pub(super) const ODD_METHODS: &[&str] = &[
    "OPTIONS", "PATCH", "get", "Post", "PURGE", "M-SEARCH", "TRACE", "", "G T", "*", "PROPFIND",
];

/// Networks of clients, but for those that depend on the run.
pub(super) const NETWORKS: &[&str] = &[
    "127.0.0.0/8",
    "10.0.0.0/8",
    "0.0.0.0/0",
    "::1",
    "::/0",
    "127.0.0.1",
    "192.168.1.1/24",
    "fe80::/10",
];
/// What is no network of clients, or hardly.
pub(super) const ODD_NETWORKS: &[&str] = &[
    "127.0.0.1/33",
    "foo",
    "",
    "127.0.0.1/",
    "127.1",
    "::ffff:127.0.0.1",
    "::ffff:127.0.0.0/104",
    "127.0.0.001",
    " 127.0.0.1",
    "127.0.0.1/08",
    "127.0.0.1,10.0.0.1",
    "[::1]",
    "127.0.0.1:80",
    "fe80::1%lo",
    "/8",
];
