//! `digestAuth`: who proves to know a password, without sending it, passes (RFC 7616 with MD5 and `qop=auth`).
//!
//! A nonce proves by itself that it is of ours and how old it is; what is remembered is the last count of each that was
//! used with success, so that nothing is taken twice.

mod credentials;

use std::collections::HashMap;
use std::fmt;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use data_encoding::{BASE64, HEXLOWER};
use http::HeaderValue;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use md5::{Digest as _, Md5};
use pingora_http::RequestHeader;
use zeroize::Zeroizing;

use self::credentials::Credentials;
use crate::basic_auth::{realm_or_default, unauthorized};
use crate::identity::Identity;
use crate::source::{Grouping, Groups};
use crate::{Flow, Seen, Unfit, escape, target};

/// How long a nonce can be used.
const NONCE_LIFETIME: Duration = Duration::from_secs(60 * 60);
/// Bytes of a nonce before its proof: when it was made, and what makes it the only one.
const NONCE_TEXT: usize = 16;

/// Lets those pass who prove that they know a password.
pub struct DigestAuth {
    /// MD5 of name, realm and password in hexadecimal, by name and realm.
    users: HashMap<(Box<str>, Box<str>), Box<str>>,
    realm: Box<str>,
    identity: Identity,
    key: hmac::Key,
    opaque: Box<str>,
    /// When the first request came.
    begun: OnceLock<Instant>,
    grouping: Grouping,
    /// The last count of each nonce.
    counts: Groups<u64>,
}

impl fmt::Debug for DigestAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DigestAuth")
            .field("users", &self.users.len())
            .finish_non_exhaustive()
    }
}

/// Why a request does not pass.
#[derive(Debug, PartialEq, Eq)]
enum Refused {
    /// It may try again with another nonce, without asking anybody for a password.
    Stale,
    Wrong,
}

impl DigestAuth {
    /// `users` are `NAME:REALM:HASH` each; of two with one name and realm the later counts. Warnings come second.
    pub fn new<'u>(
        users: impl Iterator<Item = &'u str>,
        realm: &str,
        identity: Identity,
    ) -> Result<(Self, Vec<String>), String> {
        let mut known = HashMap::new();
        let mut warnings = Vec::new();
        for (number, user) in users.enumerate() {
            let parts: Vec<&str> = user.trim().split(':').collect();
            let [name, of, hash] = parts.as_slice() else {
                return Err(format!(
                    "users[{number}] is not NAME:REALM:HASH: write it as htdigest prints it"
                ));
            };
            let md5 = hash.len() == 32 && hash.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            if !md5 {
                warnings.push(format!(
                    "nobody can pass as {name:?}: its hash is not 32 digits of hexadecimal in lower case, as htdigest prints it"
                ));
            }
            if *of != realm_or_default(realm) {
                warnings.push(format!(
                    "nobody can pass as {name:?}: it is of the realm {of:?}, and this is {:?}",
                    realm_or_default(realm)
                ));
            }
            known.insert(((*name).into(), (*of).into()), (*hash).into());
        }
        if known.is_empty() {
            warnings.push("nobody can pass, as it has no users".to_owned());
        }
        let mut random = Zeroizing::new([0; 44]);
        aws_lc_rs::rand::fill(&mut *random).map_err(|_| "the system has no random numbers".to_owned())?;
        let (key, opaque) = random.split_at(32);
        let realm = realm_or_default(realm);
        HeaderValue::from_str(realm)
            .map_err(|_| format!("realm is {realm:?}: write one without line breaks"))?;
        let kind = Self {
            users: known,
            realm: realm.into(),
            identity,
            key: hmac::Key::new(hmac::HMAC_SHA256, key),
            opaque: BASE64.encode(opaque).into(),
            begun: OnceLock::new(),
            grouping: Grouping::default(),
            counts: Groups::default(),
        };
        Ok((kind, warnings))
    }

    pub(crate) fn enter(&self, request: &mut RequestHeader, seen: &Seen<'_>) -> Result<Flow<'_>, Unfit> {
        let credentials = request
            .headers
            .get(AUTHORIZATION)
            .and_then(|value| Credentials::read(value.as_bytes()));
        let passed = credentials.ok_or(Refused::Wrong).and_then(|credentials| {
            self.check(&credentials, request, seen)?;
            Ok(credentials.username.into_owned())
        });
        match passed {
            Ok(user) => self.identity.pass(request, &user),
            Err(refused) => self.challenge(&refused, seen),
        }
    }

    fn check(
        &self,
        credentials: &Credentials<'_>,
        request: &RequestHeader,
        seen: &Seen<'_>,
    ) -> Result<(), Refused> {
        let fits = credentials.algorithm.as_deref().unwrap_or("MD5") == "MD5"
            && credentials.qop == "auth"
            && is_for(&credentials.uri, target::path(request));
        let count = u64::from_str_radix(&credentials.nc, 16).map_err(|_| Refused::Wrong)?;
        if !fits || credentials.nc.len() > 16 {
            return Err(Refused::Wrong);
        }
        // Who is unknown is checked against a hash of nobody, so that it takes the same time.
        let user = (credentials.username.as_ref().into(), self.realm.clone());
        let hash = self.users.get(&user);
        let first = hash.map_or("00000000000000000000000000000000", AsRef::as_ref);
        let second = hex(&[request.method.as_str(), &credentials.uri]);
        let expected = hex(&[
            first,
            &credentials.nonce,
            &credentials.nc,
            &credentials.cnonce,
            &credentials.qop,
            &second,
        ]);
        let right = verify_slices_are_equal(expected.as_bytes(), credentials.response.as_bytes()).is_ok();
        if !right || hash.is_none() {
            return Err(Refused::Wrong);
        }
        // Who knows the password is not asked for it again only because the nonce is another node's, or old.
        if credentials.opaque != *self.opaque || !self.is_ours(&credentials.nonce, seen.now) {
            return Err(Refused::Stale);
        }
        let group = self.grouping.group(&*credentials.nonce);
        self.counts.with(
            group,
            || 0,
            |last| match count.cmp(last) {
                std::cmp::Ordering::Greater => {
                    *last = count;
                    Ok(())
                }
                std::cmp::Ordering::Equal => Err(Refused::Wrong),
                std::cmp::Ordering::Less => Err(Refused::Stale),
            },
        )
    }

    fn challenge(&self, refused: &Refused, seen: &Seen<'_>) -> Result<Flow<'static>, Unfit> {
        let stale = match refused {
            Refused::Stale => "stale=\"true\", ",
            Refused::Wrong => "",
        };
        let challenge = format!(
            "Digest realm=\"{}\", nonce=\"{}\", opaque=\"{}\", {stale}algorithm=\"MD5\", qop=\"auth\"",
            self.realm,
            self.nonce(seen.now)?,
            self.opaque
        );
        let challenge =
            HeaderValue::from_str(&challenge).map_err(|_| Unfit::new("a challenge that is no header"))?;
        Ok(Flow::Answer(Box::new(
            unauthorized().with(WWW_AUTHENTICATE, challenge),
        )))
    }

    fn nonce(&self, now: Instant) -> Result<String, Unfit> {
        let mut text = [0; NONCE_TEXT];
        let (age, random) = text.split_at_mut(8);
        age.copy_from_slice(&self.age(now).to_be_bytes());
        aws_lc_rs::rand::fill(random).map_err(|_| Unfit::new("the system has no random numbers"))?;
        Ok(BASE64.encode(&[&text[..], self.proof(&text).as_slice()].concat()))
    }

    /// Whether we have made a nonce, not too long ago.
    fn is_ours(&self, nonce: &str, now: Instant) -> bool {
        let Ok(decoded) = BASE64.decode(nonce.as_bytes()) else {
            return false;
        };
        let Some((text, proof)) = decoded.split_at_checked(NONCE_TEXT) else {
            return false;
        };
        let Some(Ok(made)) = text.get(..8).map(<[u8; 8]>::try_from) else {
            return false;
        };
        let made = u64::from_be_bytes(made);
        verify_slices_are_equal(&self.proof(text), proof).is_ok()
            && self.age(now).saturating_sub(made) <= NONCE_LIFETIME.as_secs()
    }

    fn proof(&self, text: &[u8]) -> [u8; 16] {
        let tag = hmac::sign(&self.key, text);
        let mut proof = [0; 16];
        proof.copy_from_slice(&tag.as_ref()[..16]);
        proof
    }

    /// Seconds since the first request.
    fn age(&self, now: Instant) -> u64 {
        now.saturating_duration_since(*self.begun.get_or_init(|| now))
            .as_secs()
    }
}

/// MD5 of parts with colons between them.
fn hex(parts: &[&str]) -> String {
    let mut hash = Md5::new();
    for (number, part) in parts.iter().enumerate() {
        if number > 0 {
            hash.update(b":");
        }
        hash.update(part.as_bytes());
    }
    HEXLOWER.encode(&hash.finalize())
}

/// Whether the target that was signed is that of the request, with or without its query.
fn is_for(uri: &str, path: &str) -> bool {
    let local = match uri.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("/", |slash| &rest[slash..]),
        None => uri,
    };
    let signed = local.split(['?', '#']).next().unwrap_or_default();
    match (escape::decode(signed), escape::decode(path)) {
        (Ok(signed), Ok(path)) => signed == path,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
