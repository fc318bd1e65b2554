//! Sticky cookies with Traefik's names and values, so that clients keep their sessions when Traefik goes.
//!
//! The name that Traefik derives is `_` and five hex digits of SHA-1; a value is 16 hex digits of SHA-256 over the
//! server's URL as written, or over the child's name as written (measured on Traefik 3.7.15). It takes the values of
//! its earlier versions too, the URL itself and its FNV-1 hash, and sets the cookie anew then; so does this.

use std::fmt::Write as _;

use http::{HeaderMap, HeaderValue};
use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::cookie;
use crate::policy::{SameSite, StickyCookie};

/// Longest value that is looked at: Traefik's own have 16 bytes, old ones are URLs.
const MAX_VALUE: usize = 1024;

/// The sticky cookies of one service.
#[derive(Debug)]
pub(crate) struct Sticky {
    name: Box<str>,
    /// Hash and place of every member, by hash.
    places: Box<[(u64, usize)]>,
    /// The same by the hash of earlier versions.
    legacy: Box<[(u64, usize)]>,
    /// What sets the cookie to a member, by place.
    set: Box<[Option<HeaderValue>]>,
}

/// What the request's cookie names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    /// The place of the member.
    pub(crate) place: usize,
    /// Whether the cookie can stay as it is.
    current: bool,
}

impl Sticky {
    /// Members are given by what their cookie values are made of, in order.
    pub(crate) fn new<'m>(cookie: &StickyCookie, members: impl IntoIterator<Item = &'m str>) -> Self {
        let (mut places, mut legacy, mut set) = (Vec::new(), Vec::new(), Vec::new());
        for (place, member) in members.into_iter().enumerate() {
            let hash = hash(member.as_bytes());
            places.push((hash, place));
            legacy.push((fnv1(member.as_bytes()), place));
            set.push(HeaderValue::try_from(set_cookie(cookie, hash)).ok());
        }
        places.sort_unstable();
        legacy.sort_unstable();
        Self {
            name: cookie.name.clone(),
            places: places.into(),
            legacy: legacy.into(),
            set: set.into(),
        }
    }

    /// Members that stand for others: their cookies lead to this place too. A member's own cookie goes before.
    pub(crate) fn with_aliases<'m>(mut self, aliases: impl IntoIterator<Item = (&'m str, usize)>) -> Self {
        let mut places = Vec::from(std::mem::take(&mut self.places));
        let own = places.len();
        for (member, place) in aliases {
            let hash = hash(member.as_bytes());
            if find(places.get(..own).unwrap_or_default(), hash).is_none() {
                places.push((hash, place));
            }
        }
        places.sort_unstable();
        self.places = places.into();
        self
    }

    /// The member that the request's cookie names.
    pub(crate) fn held(&self, headers: &HeaderMap) -> Option<Held> {
        let value = cookie::value(headers, &self.name)?;
        if value.is_empty() || value.len() > MAX_VALUE {
            return None;
        }
        let number = hex(value);
        if value.len() == 16
            && let Some(place) = number.and_then(|number| find(&self.places, number))
        {
            return Some(Held { place, current: true });
        }
        let old = number.and_then(|number| find(&self.legacy, number));
        let place = old.or_else(|| find(&self.places, hash(value)))?;
        Some(Held {
            place,
            current: false,
        })
    }

    /// The value of `Set-Cookie` when the member at this place answers; `None`: the request's cookie says so already.
    pub(crate) fn set_cookie(&self, place: usize, held: Option<Held>) -> Option<HeaderValue> {
        match held {
            Some(held) if held.current && held.place == place => None,
            _ => self.set.get(place)?.clone(),
        }
    }
}

/// The name of the cookie of a service for which none is given, from its qualified name: the same as Traefik's.
pub fn derived_name(service: &str) -> Box<str> {
    let digest = Sha1::digest(format!("_TRAEFIK_BACKEND_{service}"));
    let hex = digest.iter().fold(String::new(), |mut hex, byte| {
        push_hex(&mut hex, *byte);
        hex
    });
    format!("_{}", hex.get(..5).unwrap_or_default()).into()
}

/// A cookie name as Traefik makes one of what is given: what no cookie name may contain becomes `_`.
pub fn sanitized_name(given: &str) -> Box<str> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    given.chars().map(|c| if allowed(c) { c } else { '_' }).collect()
}

fn find(places: &[(u64, usize)], hash: u64) -> Option<usize> {
    let found = places.partition_point(|(other, _)| *other < hash);
    places
        .get(found)
        .filter(|(other, _)| *other == hash)
        .map(|(_, place)| *place)
}

/// The first eight bytes of SHA-256: as hex digits, the cookie's value.
fn hash(member: &[u8]) -> u64 {
    let digest = Sha256::digest(member);
    digest
        .iter()
        .take(8)
        .fold(0, |number, byte| (number << 8) | u64::from(*byte))
}

/// FNV-1 with 64 bits, the hash of earlier versions.
fn fnv1(member: &[u8]) -> u64 {
    member.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        hash.wrapping_mul(0x0000_0100_0000_01b3) ^ u64::from(*byte)
    })
}

/// A number of up to 16 lower-case hex digits.
fn hex(digits: &[u8]) -> Option<u64> {
    if digits.len() > 16 {
        return None;
    }
    digits.iter().try_fold(0u64, |number, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some((number << 4) | u64::from(digit))
    })
}

fn push_hex(text: &mut String, byte: u8) {
    for digit in [byte >> 4, byte & 15] {
        text.extend(char::from_digit(u32::from(digit), 16));
    }
}

/// `Set-Cookie`, the attributes in Traefik's order. What would break out of an attribute is left out.
fn set_cookie(cookie: &StickyCookie, hash: u64) -> String {
    let clean = |text: &str| -> String {
        text.chars()
            .filter(|c| matches!(c, ' '..='~') && *c != ';')
            .collect()
    };
    let mut text = format!("{}={hash:016x}", sanitized_name(&cookie.name));
    let path = clean(&cookie.path);
    if !path.is_empty() {
        text.push_str("; Path=");
        text.push_str(&path);
    }
    if let Some(domain) = cookie.domain.as_deref().filter(|domain| !domain.is_empty()) {
        text.push_str("; Domain=");
        text.push_str(&clean(domain.strip_prefix('.').unwrap_or(domain)));
    }
    if cookie.max_age != 0 {
        // Writing to a string can't fail.
        let _ = write!(text, "; Max-Age={}", cookie.max_age.max(0));
    }
    for (wanted, attribute) in [(cookie.http_only, "; HttpOnly"), (cookie.secure, "; Secure")] {
        if wanted {
            text.push_str(attribute);
        }
    }
    text.push_str(match cookie.same_site {
        None => "",
        Some(SameSite::None) => "; SameSite=None",
        Some(SameSite::Lax) => "; SameSite=Lax",
        Some(SameSite::Strict) => "; SameSite=Strict",
    });
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(name: &str) -> StickyCookie {
        StickyCookie {
            name: name.into(),
            secure: false,
            http_only: false,
            same_site: None,
            max_age: 0,
            path: "/".into(),
            domain: None,
        }
    }

    fn with(cookie: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("cookie", cookie.parse().unwrap());
        headers
    }

    /// What Traefik 3.7.15 was seen to send.
    #[test]
    fn names_and_values_are_traefiks() {
        assert_eq!(&*derived_name("a@file"), "_171db");
        assert_eq!(&*derived_name("w@file"), "_c239a");
        assert_eq!(&*sanitized_name("my cookie;x"), "my_cookie_x");
        let members = [
            "http://127.0.0.1:18080",
            "http://127.0.0.1:18081/",
            "http://127.0.0.1:18082/x",
            "one",
            "two@file",
        ];
        let sticky = Sticky::new(&plain("_171db"), members);
        let values = [
            "d27399a3d529a195",
            "c679fe4c34405e94",
            "3f197c664fb7e1ac",
            "7692c3ad3540bb80",
            "63478891e41ca011",
        ];
        for (place, value) in values.iter().enumerate() {
            let want = format!("_171db={value}; Path=/");
            assert_eq!(sticky.set_cookie(place, None).unwrap(), want.as_str());
            let held = sticky.held(&with(&format!("a=b; _171db={value}"))).unwrap();
            assert_eq!(held, Held { place, current: true });
            assert_eq!(sticky.set_cookie(place, Some(held)), None);
            assert!(sticky.set_cookie((place + 1) % 5, Some(held)).is_some());
        }
    }

    #[test]
    fn attributes_are_in_traefiks_order() {
        let cookie = StickyCookie {
            name: "my cookie;x".into(),
            secure: true,
            http_only: true,
            same_site: Some(SameSite::Strict),
            max_age: 30,
            path: "/p".into(),
            domain: Some("example.test".into()),
        };
        assert_eq!(
            Sticky::new(&cookie, ["http://127.0.0.1:18080"])
                .set_cookie(0, None)
                .unwrap(),
            "my_cookie_x=d27399a3d529a195; Path=/p; Domain=example.test; Max-Age=30; HttpOnly; Secure; SameSite=Strict"
        );
        let broken = StickyCookie {
            path: "/; Secure\r\nX: y".into(),
            max_age: -1,
            ..plain("n")
        };
        assert_eq!(
            Sticky::new(&broken, ["a"]).set_cookie(0, None).unwrap(),
            "n=ca978112ca1bbdca; Path=/ SecureX: y; Max-Age=0"
        );
    }

    #[test]
    fn values_of_earlier_versions_are_taken_and_replaced() {
        let sticky = Sticky::new(&plain("n"), ["http://127.0.0.1:18080", "http://127.0.0.1:18081/"]);
        for old in ["http://127.0.0.1:18081/", "70da5fc21f35b633"] {
            let held = sticky.held(&with(&format!("n={old}"))).unwrap();
            assert_eq!(
                held,
                Held {
                    place: 1,
                    current: false
                }
            );
            assert!(sticky.set_cookie(1, Some(held)).is_some(), "the value is renewed");
        }
    }

    #[test]
    fn what_names_nobody_holds_nothing() {
        let sticky = Sticky::new(&plain("n"), ["a", "b"]);
        let long = format!("n={}", "a".repeat(MAX_VALUE + 1));
        for cookie in [
            "",
            "m=ca978112ca1bbdca",
            "n=",
            "n=nope",
            "n=CA978112CA1BBDCA",
            "n=ca978112ca1bbdc",
            &long,
        ] {
            assert_eq!(sticky.held(&with(cookie)), None, "{cookie}");
        }
        assert!(sticky.held(&with("n=ca978112ca1bbdca")).is_some());
    }
}
