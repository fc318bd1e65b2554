use super::*;

/// `test` as password of both.
const USERS: [&str; 2] = [
    "test:$apr1$H6uskkkW$IgXLP6ewTrSuBkTrqE8wj/",
    "sha:{SHA}qUqP5cyxm6YcTAhz05Hph5gvu9M=",
];

fn auth(users: &[&str], identity: Identity) -> BasicAuth {
    BasicAuth::new(users.iter().copied(), "", identity).unwrap().0
}

fn request(authorization: &str) -> RequestHeader {
    let mut request = RequestHeader::build("GET", b"/", None).unwrap();
    request.append_header(AUTHORIZATION, authorization).unwrap();
    request
}

fn basic(credentials: &str) -> String {
    format!("Basic {}", BASE64.encode(credentials.as_bytes()))
}

/// Whether a request passes, and whether its password had to be checked for that.
fn enter(auth: &BasicAuth, request: &mut RequestHeader) -> (bool, bool) {
    let (flow, checked) = match auth.enter(request).unwrap() {
        Flow::Ask(Ask::Verify(verify)) => {
            let right = verify.work()();
            (verify.finish(right, request).unwrap(), true)
        }
        flow => (flow, false),
    };
    match flow {
        Flow::User(_, None) => (true, checked),
        Flow::Answer(answer) => {
            assert_eq!(
                (answer.status, &answer.body[..]),
                (401, &b"401 Unauthorized\n"[..])
            );
            assert_eq!(answer.headers[WWW_AUTHENTICATE], "Basic realm=\"traefik\"");
            assert_eq!(answer.headers[CONTENT_TYPE], "text/plain");
            (false, checked)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_knows_the_password_passes() {
    let auth = auth(&USERS, Identity::default());
    for (authorization, passes) in [
        (basic("test:test"), true),
        (basic("sha:test"), true),
        (basic("test:nope"), false),
        (basic("nobody:test"), false),
        (basic("test:test:test"), false),
        (basic(":test"), false),
        (basic("test"), false),
        (basic("test:test").replace("Basic", "bAsIc"), true),
        (basic("test:test").replace(' ', "  "), false),
        (format!("{}==", basic("test:test")), false),
        (basic("sha:test").replace('=', ""), false),
        ("Basic".to_owned(), false),
        ("Basic !!!".to_owned(), false),
        ("Bearer x".to_owned(), false),
        (basic(&format!("test:{}", "x".repeat(9000))), false),
    ] {
        let (passed, _) = enter(&auth, &mut request(&authorization));
        assert_eq!(passed, passes, "{authorization}");
    }
    let mut none = RequestHeader::build("GET", b"/", None).unwrap();
    assert_eq!(enter(&auth, &mut none), (false, false));
}

#[test]
fn what_was_right_is_remembered_and_what_was_wrong_is_not() {
    let auth = auth(&USERS, Identity::default());
    for (credentials, expected) in [
        ("test:nope", (false, true)),
        ("test:nope", (false, true)),
        ("test:test", (true, true)),
        ("test:test", (true, false)),
        ("sha:test", (true, true)),
        ("test:nope", (false, true)),
    ] {
        let found = enter(&auth, &mut request(&basic(credentials)));
        assert_eq!(found, expected, "{credentials}");
    }
    let mut remembered = Remembered::default();
    for number in 0..MAX_REMEMBERED + 10 {
        let mut mark = [0; 32];
        mark[..8].copy_from_slice(&number.to_be_bytes());
        remembered.add(mark);
        remembered.add(mark);
    }
    assert_eq!(remembered.known.len(), MAX_REMEMBERED);
    assert_eq!(remembered.order.len(), MAX_REMEMBERED);
}

#[test]
fn an_unknown_user_is_checked_as_long_as_a_known_one() {
    let slow = "slow:$2b$04$abcdefghijklmnopqrstuuoD8yw7MmybLKVooaTGGZAt3HXugv2.a";
    let auth = auth(&[USERS[0], slow, USERS[1]], Identity::default());
    assert_eq!(auth.users.slowest.as_ref().map(Hash::effort), Some(4));
    for credentials in ["nobody:test", "slow:nope"] {
        assert_eq!(
            enter(&auth, &mut request(&basic(credentials))),
            (false, true),
            "{credentials}"
        );
    }
    assert_eq!(enter(&auth, &mut request(&basic("slow:test"))), (true, true));
}

#[test]
fn the_service_gets_the_name_and_nobody_can_forge_it() {
    let identity = Identity::new(true, "X-User").unwrap();
    let auth = auth(&USERS, identity);
    let mut request = request(&basic("test:test"));
    for forged in ["X-User", "x_user", "X.User"] {
        request.append_header(forged, "evil").unwrap();
    }
    for _ in 0..2 {
        assert!(enter(&auth, &mut request.clone()).0);
    }
    assert!(enter(&auth, &mut request).0);
    let left: Vec<_> = request
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
        .collect();
    assert_eq!(left, [("x-user", "test")]);
}

#[test]
fn users_that_cannot_be_used() {
    let build =
        |users: &[&str], realm: &str| BasicAuth::new(users.iter().copied(), realm, Identity::default());
    assert!(build(&[], "").unwrap_err().contains("no users"));
    for bad in ["abc", "a:b:c"] {
        let error = build(&["x:{SHA}qUqP5cyxm6YcTAhz05Hph5gvu9M=", bad], "").unwrap_err();
        assert!(error.contains("users[1]") && !error.contains(bad), "{error}");
    }
    let (auth, warnings) = build(&["a:secret", "b:"], "").unwrap();
    assert_eq!(warnings.len(), 2);
    assert!(warnings[0].starts_with("nobody can pass as \"a\"") && !warnings.concat().contains("secret"));
    assert_eq!(enter(&auth, &mut request(&basic("a:secret"))), (false, true));
    assert_eq!(enter(&auth, &mut request(&basic("b:"))), (false, true));
    assert!(!format!("{auth:?}").contains("secret"));
    // The later of two counts.
    let (auth, _) = build(&["test:{SHA}xx", USERS[0]], "").unwrap();
    assert!(enter(&auth, &mut request(&basic("test:test"))).0);
    let (auth, _) = build(&[USERS[0], "test:{SHA}xx"], "").unwrap();
    assert!(!enter(&auth, &mut request(&basic("test:test"))).0);
    assert!(build(&USERS, "a\nb").is_err() && build(&USERS, "my \"realm\"").is_ok());
    assert!(Identity::new(false, "a b").unwrap_err().contains("headerField"));
}

proptest::proptest! {
    #[test]
    fn no_header_panics(value in "(Basic )?[ -~]{0,60}", text in ".{0,40}") {
        let auth = auth(&USERS, Identity::default());
        let coded = basic(&text);
        for value in [value, coded] {
            let (passed, _) = enter(&auth, &mut request(&value));
            proptest::prop_assert!(!passed);
        }
    }
}
