//! Requests for a case: what its rules ask for, and what almost is that.

use fastrand::Rng;

use super::rule::{Node, Wish};
use super::vocabulary::{
    ARGUMENTS, HEADERS, HOSTS, KEYS, METHODS, ODD_ARGUMENTS, ODD_HEADERS, ODD_KEYS, ODD_METHODS, ODD_VALUES,
    PATHS, VALUES, chance, either, pick,
};
use crate::differential::case::{Body, Request};

/// A request before it has its bytes.
#[derive(Clone, Debug)]
struct Draft {
    host: String,
    path: String,
    method: String,
    headers: Vec<(String, String)>,
    query: Vec<(String, String)>,
    client: u8,
}

/// One request for one of these rules, or near one.
pub(super) fn request(rng: &mut Rng, rules: &[Node]) -> Request {
    let mut draft = Draft {
        host: pick(rng, HOSTS).to_owned(),
        path: pick(rng, PATHS).to_owned(),
        method: either(rng, 3, &["GET"], METHODS).to_owned(),
        headers: Vec::new(),
        query: Vec::new(),
        client: rng.u8(..2),
    };
    if !rules.is_empty() {
        let rule = &rules[rng.usize(..rules.len())];
        let mut wishes = Vec::new();
        let want = !chance(rng, 5);
        rule.wishes(rng, want, &mut wishes);
        for wish in wishes {
            draft.grant(wish);
        }
    }
    // Half fit as they are.
    for _ in 0..rng.usize(..3) {
        draft.mutate(rng);
    }
    draft.finish(rng)
}

impl Draft {
    fn grant(&mut self, wish: &Wish) {
        match wish {
            Wish::Host(host) => self.host.clone_from(host),
            Wish::Path(path) => self.path.clone_from(path),
            Wish::Method(method) => self.method.clone_from(method),
            Wish::Header(name, value) => self.headers.push((name.clone(), value.clone())),
            Wish::Query(key, value) => self.query.push((key.clone(), value.clone())),
            Wish::Client(client) => self.client = *client,
        }
    }

    fn mutate(&mut self, rng: &mut Rng) {
        match rng.u8(..24) {
            0 => self.host = self.host.to_ascii_uppercase(),
            1 => self.host.push('.'),
            2 => self.host += pick(rng, &[":80", ":8080", ":", ":443", ":0", ":99999", ":x"]),
            3 => self.host = format!("sub.{}", self.host),
            4 => self.host = pick(rng, HOSTS).to_owned(),
            5 => self.path = pick(rng, PATHS).to_owned(),
            6 => {
                self.path += pick(
                    rng,
                    &["/", "x", "/x", "%2F", "//", "/.", "/..", "/../", "%20", ";v=1"],
                )
            }
            7 => {
                let at = rng.usize(..=self.path.len());
                if self.path.is_char_boundary(at) {
                    let piece = pick(
                        rng,
                        &[
                            "/./", "//", "/../", "%2e", "/%2e%2e/", "%2F", "%41", "%7e", "%", "+",
                        ],
                    );
                    self.path.insert_str(at, piece);
                }
            }
            8 => self.path = self.path.to_ascii_uppercase(),
            9 => self.path = escape_one(rng, &self.path),
            10 => self.method = either(rng, 50, METHODS, ODD_METHODS).to_owned(),
            11 => self.method = self.method.to_ascii_lowercase(),
            12 => self.client ^= 1,
            13 => {
                let name = either(rng, 40, HEADERS, ODD_HEADERS);
                let value = either(rng, 30, VALUES, ODD_VALUES);
                self.headers.push((name.into(), value.into()));
            }
            14 if !self.headers.is_empty() => {
                let at = rng.usize(..self.headers.len());
                self.headers[at].0 = match rng.bool() {
                    true => self.headers[at].0.to_ascii_lowercase(),
                    false => self.headers[at].0.to_ascii_uppercase(),
                };
            }
            15 if !self.headers.is_empty() => {
                // The same header twice, in either order.
                let at = rng.usize(..self.headers.len());
                let name = self.headers[at].0.clone();
                let value = either(rng, 30, VALUES, ODD_VALUES).to_owned();
                let at = at + usize::from(rng.bool());
                self.headers.insert(at, (name, value));
            }
            16 if !self.headers.is_empty() => {
                let at = rng.usize(..self.headers.len());
                let value = &mut self.headers[at].1;
                *value = match rng.u8(..4) {
                    0 => value.to_ascii_uppercase(),
                    1 => format!("  {value}\t"),
                    2 => format!("{value}, more"),
                    _ => format!("x{value}"),
                };
            }
            17 if !self.headers.is_empty() => {
                let at = rng.usize(..self.headers.len());
                self.headers.remove(at);
            }
            18 | 19 => {
                let key = either(rng, 30, KEYS, ODD_KEYS);
                let value = either(rng, 40, ARGUMENTS, ODD_ARGUMENTS);
                let at = rng.usize(..=self.query.len());
                self.query.insert(at, (key.into(), value.into()));
            }
            20 if !self.query.is_empty() => {
                let at = rng.usize(..self.query.len());
                self.query[at].1 = either(rng, 40, ARGUMENTS, ODD_ARGUMENTS).to_owned();
            }
            21 if !self.query.is_empty() => {
                let at = rng.usize(..self.query.len());
                self.query.remove(at);
            }
            _ => {}
        }
    }

    fn finish(self, rng: &mut Rng) -> Request {
        let mut headers = Vec::new();
        let host = visible(&self.host);
        if !chance(rng, 1) {
            headers.push(("Host".to_owned(), host.clone()));
        }
        if chance(rng, 1) {
            headers.push(("Host".to_owned(), pick(rng, HOSTS).to_owned()));
        }
        for (name, value) in &self.headers {
            // Headers that frame the body are written with it.
            if ["content-length", "transfer-encoding"].contains(&&*name.to_ascii_lowercase()) {
                continue;
            }
            // A name that is no token makes a bad request of any rule, which is worth seeing only now and then.
            let token = name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
            if (token && !name.is_empty()) || chance(rng, 10) {
                headers.push((name.clone(), visible(value)));
            }
        }
        let mut target = encode_path(rng, &self.path);
        for (number, (key, value)) in self.query.iter().enumerate() {
            target.push(if number == 0 { '?' } else { '&' });
            target += &encode_query(rng, key);
            if !value.is_empty() || rng.bool() {
                target.push('=');
                target += &encode_query(rng, value);
            }
        }
        if self.query.is_empty() && chance(rng, 2) {
            target += pick(rng, &["?", "?&", "?=", "??", "?a=b;c=d", "?%zz", "#x", "?q=1#x"]);
        }
        if chance(rng, 2) {
            target = match rng.u8(..6) {
                0 => format!("http://{host}{target}"),
                1 => format!("https://{host}{target}"),
                2 => format!("http://{}{target}", pick(rng, HOSTS)),
                3 => "*".to_owned(),
                4 => target.trim_start_matches('/').to_owned(),
                _ => host,
            };
        }
        let body = match &*self.method {
            "GET" | "HEAD" | "OPTIONS" | "TRACE" if !chance(rng, 4) => Body::None,
            _ => match rng.u8(..5) {
                0 => Body::Chunked("some chunked body".into()),
                1 => Body::None,
                2 => Body::Sized(String::new()),
                _ => Body::Sized("a body".into()),
            },
        };
        Request {
            client: self.client,
            method: self.method,
            target,
            version: if chance(rng, 1) { "HTTP/1.0" } else { "HTTP/1.1" },
            headers,
            body,
            ..Request::default()
        }
    }
}

/// Without what would end a header line; control characters stay.
fn visible(text: &str) -> String {
    text.replace(['\r', '\n'], "")
}

/// Escapes what has to be, and now and then what has not.
fn encode_path(rng: &mut Rng, path: &str) -> String {
    // A rule that is no path.
    let raw = chance(rng, 4);
    let mut out = String::new();
    for letter in path.chars() {
        let safe = letter.is_ascii_alphanumeric() || "-._~/%!$&'()*+,;=:@".contains(letter);
        if (safe && !chance(rng, 2)) || (raw && letter.is_ascii_graphic()) {
            out.push(letter);
        } else {
            push_escaped(rng, &mut out, letter);
        }
    }
    if out.is_empty() && !raw {
        out.push('/');
    }
    out
}

fn encode_query(rng: &mut Rng, text: &str) -> String {
    let raw = chance(rng, 20);
    let mut out = String::new();
    for letter in text.chars() {
        match letter {
            ' ' if chance(rng, 60) => out.push('+'),
            letter if letter.is_ascii_alphanumeric() && !chance(rng, 3) => out.push(letter),
            letter if raw && letter.is_ascii_graphic() && !"#\"<>`".contains(letter) => out.push(letter),
            letter => push_escaped(rng, &mut out, letter),
        }
    }
    out
}

fn push_escaped(rng: &mut Rng, out: &mut String, letter: char) {
    let lower = rng.bool();
    let mut buffer = [0; 4];
    for byte in letter.encode_utf8(&mut buffer).bytes() {
        *out += &if lower {
            format!("%{byte:02x}")
        } else {
            format!("%{byte:02X}")
        };
    }
}

fn escape_one(rng: &mut Rng, path: &str) -> String {
    let letters: Vec<char> = path.chars().collect();
    if letters.is_empty() {
        return String::new();
    }
    let chosen = rng.usize(..letters.len());
    let mut out = String::new();
    for (at, letter) in letters.into_iter().enumerate() {
        if at == chosen {
            push_escaped(rng, &mut out, letter);
        } else {
            out.push(letter);
        }
    }
    out
}

/// The server name of a connection for this host; empty where it can have none.
pub(super) fn server_name(host: &str) -> String {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let address = name.parse::<std::net::IpAddr>().is_ok();
    let labels = name
        .split('.')
        .all(|label| !label.is_empty() && !label.starts_with('-'));
    if name.bytes().all(plain) && labels && !address {
        name
    } else {
        String::new()
    }
}
