use super::*;
use crate::seen::seen_from;

/// What a client sends; empty: what is right.
#[derive(Clone, Copy)]
struct Sent<'s> {
    user: &'s str,
    password: &'s str,
    realm: &'s str,
    uri: &'s str,
    nc: &'s str,
    qop: &'s str,
    algorithm: &'s str,
    opaque: &'s str,
    nonce: &'s str,
}

const RIGHT: Sent<'_> = Sent {
    user: "test",
    password: "test",
    realm: "traefik",
    uri: "/",
    nc: "00000001",
    qop: "auth",
    algorithm: "MD5",
    opaque: "",
    nonce: "",
};

struct Client {
    auth: DigestAuth,
    nonce: String,
    begun: Instant,
}

impl Client {
    fn new(users: &[&str], realm: &str, identity: Identity) -> Self {
        let begun = Instant::now();
        let (auth, _) = DigestAuth::new(users.iter().copied(), realm, identity).unwrap();
        let mut client = Self {
            auth,
            nonce: String::new(),
            begun,
        };
        client.renew();
        client
    }

    /// Takes a nonce.
    fn renew(&mut self) {
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        let challenge = self.enter(&mut request, 0).unwrap_err();
        let nonce = challenge
            .split("nonce=\"")
            .nth(1)
            .unwrap()
            .split('"')
            .next()
            .unwrap();
        self.nonce = nonce.to_owned();
    }

    fn header(&self, sent: Sent<'_>) -> String {
        let or = |given: &str, own: &str| {
            if given.is_empty() {
                own.to_owned()
            } else {
                given.to_owned()
            }
        };
        let (nonce, opaque) = (or(sent.nonce, &self.nonce), or(sent.opaque, &self.auth.opaque));
        let first = hex(&[sent.user, sent.realm, sent.password]);
        let second = hex(&["GET", sent.uri]);
        let response = hex(&[&first, &nonce, sent.nc, "abc", sent.qop, &second]);
        let Sent {
            user,
            realm,
            uri,
            nc,
            qop,
            algorithm,
            ..
        } = sent;
        format!(
            "Digest username=\"{user}\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{uri}\", algorithm={algorithm}, \
             qop={qop}, nc={nc}, cnonce=\"abc\", response=\"{response}\", opaque=\"{opaque}\""
        )
    }

    /// The user who passes, or the challenge.
    fn enter(&self, request: &mut RequestHeader, after: u64) -> Result<String, String> {
        let seen = Seen {
            now: self.begun + Duration::from_secs(after),
            ..seen_from("1.1.1.1:1")
        };
        match self.auth.enter(request, &seen).unwrap() {
            Flow::User(user, None) => Ok(user.into()),
            Flow::Answer(answer) => {
                assert_eq!(
                    (answer.status, &answer.body[..]),
                    (401, &b"401 Unauthorized\n"[..])
                );
                Err(answer.headers[WWW_AUTHENTICATE].to_str().unwrap().to_owned())
            }
            other => panic!("{other:?}"),
        }
    }

    /// `passes`, `stale` or `no`.
    fn send(&self, target: &str, header: &str, after: u64) -> &'static str {
        let mut request = RequestHeader::build("GET", target.as_bytes(), None).unwrap();
        request.append_header(AUTHORIZATION, header).unwrap();
        match self.enter(&mut request, after) {
            Ok(_) => "passes",
            Err(challenge) if challenge.contains("stale=\"true\"") => "stale",
            Err(_) => "no",
        }
    }
}

fn user() -> String {
    format!("test:traefik:{}", hex(&["test", "traefik", "test"]))
}

#[test]
fn the_challenge() {
    let client = Client::new(&[&user()], "", Identity::default());
    let mut request = RequestHeader::build("GET", b"/", None).unwrap();
    let challenge = client.enter(&mut request, 0).unwrap_err();
    let opaque = &client.auth.opaque;
    let (before, after) = challenge.split_once("nonce=\"").unwrap();
    assert_eq!(before, "Digest realm=\"traefik\", ");
    let after = after.split_once('"').unwrap().1;
    assert_eq!(
        after,
        format!(", opaque=\"{opaque}\", algorithm=\"MD5\", qop=\"auth\"")
    );
}

#[test]
fn who_proves_to_know_the_password_passes() {
    // target, what is sent, what becomes of it
    let cases = [
        ("/", RIGHT, "passes"),
        (
            "/",
            Sent {
                password: "nope",
                ..RIGHT
            },
            "no",
        ),
        (
            "/",
            Sent {
                user: "nobody",
                ..RIGHT
            },
            "no",
        ),
        (
            "/",
            Sent {
                realm: "other",
                ..RIGHT
            },
            "no",
        ),
        ("/", Sent { uri: "/x", ..RIGHT }, "no"),
        ("/x/y", Sent { uri: "/x", ..RIGHT }, "no"),
        (
            "/?a=b",
            Sent {
                uri: "/?a=b",
                ..RIGHT
            },
            "passes",
        ),
        ("/?a=b", RIGHT, "passes"),
        (
            "/p",
            Sent {
                uri: "http://d.test/p",
                ..RIGHT
            },
            "passes",
        ),
        (
            "/a%20b",
            Sent {
                uri: "/a%20b",
                ..RIGHT
            },
            "passes",
        ),
        (
            "/",
            Sent {
                qop: "auth-int",
                ..RIGHT
            },
            "no",
        ),
        (
            "/",
            Sent {
                algorithm: "md5",
                ..RIGHT
            },
            "no",
        ),
        (
            "/",
            Sent {
                algorithm: "\"MD5\"",
                ..RIGHT
            },
            "passes",
        ),
        (
            "/",
            Sent {
                algorithm: "SHA-256",
                ..RIGHT
            },
            "no",
        ),
        ("/", Sent { nc: "zz", ..RIGHT }, "no"),
        ("/", Sent { nc: "10", ..RIGHT }, "passes"),
        // Another node's, or that of a process before.
        (
            "/",
            Sent {
                opaque: "xx",
                ..RIGHT
            },
            "stale",
        ),
        (
            "/",
            Sent {
                nonce: "abc",
                ..RIGHT
            },
            "stale",
        ),
        (
            "/",
            Sent {
                nonce: "abc",
                password: "nope",
                ..RIGHT
            },
            "no",
        ),
    ];
    for (number, (target, sent, expected)) in cases.into_iter().enumerate() {
        let client = Client::new(&[&user()], "", Identity::default());
        assert_eq!(client.send(target, &client.header(sent), 0), expected, "{number}");
    }
    let client = Client::new(&[&user()], "", Identity::default());
    let header = client.header(RIGHT);
    for (from, to, expected) in [
        ("Digest", "digest", "no"),
        (", opaque=", ", other=", "stale"),
        ("qop=auth, ", "", "no"),
        ("algorithm=MD5, ", "", "passes"),
    ] {
        assert_eq!(client.send("/", &header.replace(from, to), 0), expected, "{from}");
    }
}

#[test]
fn nothing_is_taken_twice() {
    let mut client = Client::new(&[&user()], "", Identity::default());
    let counted = |client: &Client, nc| client.send("/", &client.header(Sent { nc, ..RIGHT }), 0);
    for (nc, expected) in [
        ("00000001", "passes"),
        ("00000001", "no"),
        ("00000002", "passes"),
        ("00000005", "passes"),
        ("00000004", "stale"),
        ("00000006", "passes"),
    ] {
        assert_eq!(counted(&client, nc), expected, "{nc}");
    }
    client.renew();
    assert_eq!(counted(&client, "00000001"), "passes");
    client.renew();
    let late = NONCE_LIFETIME.as_secs() + 1;
    assert_eq!(client.send("/", &client.header(RIGHT), late), "stale");
}

#[test]
fn the_service_gets_the_name() {
    let client = Client::new(&[&user()], "", Identity::new(true, "X-User").unwrap());
    let mut request = RequestHeader::build("GET", b"/", None).unwrap();
    request
        .append_header(AUTHORIZATION, client.header(RIGHT))
        .unwrap();
    request.append_header("X_User", "evil").unwrap();
    assert_eq!(client.enter(&mut request, 0), Ok("test".to_owned()));
    assert_eq!(request.headers.len(), 1);
    assert_eq!(request.headers["x-user"], "test");
}

#[test]
fn users_that_cannot_be_used() {
    let build = |users: &[&str], realm: &str| {
        let made = DigestAuth::new(users.iter().copied(), realm, Identity::default());
        made.map(|(_, warnings)| warnings)
    };
    for bad in ["a:b", "a:b:c:d"] {
        assert!(build(&[bad], "").unwrap_err().contains("users[0]"));
    }
    assert_eq!(build(&[&user()], "").unwrap(), [""; 0]);
    assert!(build(&[], "").unwrap()[0].contains("no users"));
    assert!(build(&["a:traefik:SECRET"], "").unwrap()[0].starts_with("nobody can pass as \"a\""));
    assert!(build(&[&user()], "other").unwrap()[0].contains("realm"));
    assert!(build(&[], "a\nb").is_err());
}
