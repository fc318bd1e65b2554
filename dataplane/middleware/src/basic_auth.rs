//! `basicAuth`: who knows a name and its password passes.
//!
//! A hash that was made to be slow is slow here as well. So passwords are not checked where requests are served: a request
//! with credentials that are not known to be right asks for that work to be done elsewhere ([`Verify`]). What was right is
//! remembered, as a keyed hash and for no longer than the definition lasts; what was wrong is not. Whether there is a user
//! of that name does not show in the time that a refusal takes.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::hmac;
use data_encoding::BASE64;
use http::HeaderValue;
use http::header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use pingora_http::RequestHeader;
use zeroize::Zeroizing;

use crate::identity::Identity;
use crate::password::Hash;
use crate::{Answer, Ask, Flow, Unfit};

/// Most credentials that are remembered as right, for each definition.
const MAX_REMEMBERED: usize = 4096;
/// Longest header that is looked at.
const MAX_HEADER: usize = 8192;

/// Lets those pass who know a password.
pub struct BasicAuth {
    users: Arc<Users>,
    identity: Identity,
    refusal: Answer,
}

impl fmt::Debug for BasicAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BasicAuth")
            .field("users", &self.users.by_name.len())
            .finish_non_exhaustive()
    }
}

struct Users {
    by_name: HashMap<Box<str>, Hash>,
    /// The hash that takes longest.
    slowest: Option<Hash>,
    key: hmac::Key,
    right: Mutex<Remembered>,
}

/// Credentials that were right, the oldest first.
#[derive(Default)]
struct Remembered {
    known: HashSet<Mark>,
    order: VecDeque<Mark>,
}

/// A keyed hash of a name and a password.
type Mark = [u8; 32];

/// A name and a password.
struct Credentials {
    text: Zeroizing<String>,
    colon: usize,
}

impl Credentials {
    /// Reads `Authorization`.
    fn read(request: &RequestHeader) -> Option<Self> {
        let value = request.headers.get(AUTHORIZATION)?.as_bytes();
        let (scheme, encoded) = value.split_at_checked(6)?;
        if !scheme.eq_ignore_ascii_case(b"basic ") || encoded.len() > MAX_HEADER {
            return None;
        }
        let text = Zeroizing::new(String::from_utf8(BASE64.decode(encoded).ok()?).ok()?);
        let colon = text.find(':')?;
        Some(Self { text, colon })
    }

    fn name(&self) -> &str {
        &self.text[..self.colon]
    }

    fn password(&self) -> &str {
        &self.text[self.colon + 1..]
    }
}

impl Users {
    fn mark(&self, credentials: &Credentials) -> Mark {
        // The name has no colon, so that no two pairs make the same text.
        let tag = hmac::sign(&self.key, credentials.text.as_bytes());
        let mut mark = [0; 32];
        mark.copy_from_slice(tag.as_ref());
        mark
    }

    /// Whether the password is right. Slow, and as slow when there is no such user.
    fn check(&self, credentials: &Credentials) -> bool {
        let password = credentials.password().as_bytes();
        let hash = self.by_name.get(credentials.name());
        let right = hash.is_some_and(|hash| hash.is_of(password));
        let effort = hash.map(Hash::effort);
        if let Some(slowest) = &self.slowest
            && !right
            && effort != Some(slowest.effort())
        {
            // What it says doesn't matter.
            std::hint::black_box(slowest.is_of(password));
        }
        right
    }
}

impl Remembered {
    fn add(&mut self, mark: Mark) {
        if !self.known.insert(mark) {
            return;
        }
        self.order.push_back(mark);
        if self.order.len() > MAX_REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

impl BasicAuth {
    /// `users` are `NAME:HASH` each; of two with one name the later counts. A user whose hash can't be used is a warning,
    /// as nobody passes by that name; warnings come second. `identity` is what becomes of the request that passes.
    pub fn new<'u>(
        users: impl Iterator<Item = &'u str>,
        realm: &str,
        identity: Identity,
    ) -> Result<(Self, Vec<String>), String> {
        let mut by_name = HashMap::new();
        let mut warnings = Vec::new();
        let mut none = true;
        for (number, user) in users.enumerate() {
            none = false;
            let (name, hash) = user
                .trim()
                .split_once(':')
                .filter(|(_, hash)| !hash.contains(':'))
                .ok_or_else(|| format!("users[{number}] is not NAME:HASH: write it as htpasswd prints it"))?;
            match Hash::parse(hash) {
                Ok(hash) => {
                    by_name.insert(name.into(), hash);
                }
                Err(why) => {
                    by_name.remove(name);
                    warnings.push(format!("nobody can pass as {name:?}: {why}"));
                }
            }
        }
        if none {
            return Err(
                "it has no users: list some under users or in usersFile, as htpasswd prints them".to_owned(),
            );
        }
        let slowest = by_name.values().max_by_key(|hash| hash.effort()).cloned();
        let mut key = Zeroizing::new([0; 32]);
        aws_lc_rs::rand::fill(&mut *key).map_err(|_| "the system has no random numbers".to_owned())?;
        let challenge = format!("Basic realm=\"{}\"", realm_or_default(realm));
        let challenge = HeaderValue::from_str(&challenge)
            .map_err(|_| format!("realm is {realm:?}: write one without line breaks"))?;
        Ok((
            Self {
                users: Arc::new(Users {
                    by_name,
                    slowest,
                    key: hmac::Key::new(hmac::HMAC_SHA256, &*key),
                    right: Mutex::default(),
                }),
                identity,
                refusal: unauthorized().with(WWW_AUTHENTICATE, challenge),
            },
            warnings,
        ))
    }

    pub(crate) fn enter(&self, request: &mut RequestHeader) -> Result<Flow<'_>, Unfit> {
        let Some(credentials) = Credentials::read(request) else {
            return Ok(self.refuse());
        };
        let mark = self.users.mark(&credentials);
        let right = self
            .users
            .right
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .known
            .contains(&mark);
        if right {
            return self.identity.pass(request, credentials.name());
        }
        Ok(Flow::Ask(Ask::Verify(Verify {
            of: self,
            credentials: Arc::new(credentials),
            mark,
        })))
    }

    fn refuse(&self) -> Flow<'static> {
        Flow::Answer(Box::new(self.refusal.clone()))
    }
}

/// Credentials that are to be checked.
pub struct Verify<'m> {
    of: &'m BasicAuth,
    credentials: Arc<Credentials>,
    mark: Mark,
}

impl fmt::Debug for Verify<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verify").finish_non_exhaustive()
    }
}

impl<'m> Verify<'m> {
    /// The work, which takes the processor for up to seconds: not for a thread that serves. It says whether they are right.
    pub fn work(&self) -> impl FnOnce() -> bool + Send + 'static + use<> {
        let (users, credentials) = (self.of.users.clone(), self.credentials.clone());
        move || users.check(&credentials)
    }

    /// What follows for the request, now that it is known whether they are right.
    pub fn finish(self, right: bool, request: &mut RequestHeader) -> Result<Flow<'m>, Unfit> {
        if !right {
            return Ok(self.of.refuse());
        }
        self.of
            .users
            .right
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .add(self.mark);
        self.of.identity.pass(request, self.credentials.name())
    }
}

/// The realm where none is named.
pub(crate) fn realm_or_default(realm: &str) -> &str {
    if realm.is_empty() { "traefik" } else { realm }
}

/// The answer to who has not shown who they are.
pub(crate) fn unauthorized() -> Answer {
    Answer::plain(401, "401 Unauthorized\n").with(CONTENT_TYPE, HeaderValue::from_static("text/plain"))
}

#[cfg(test)]
mod tests;
