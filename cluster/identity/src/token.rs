//! Join tokens: what an operator carries from one machine to the other, and what the cluster remembers of it.
//!
//! The text holds the secret; the cluster keeps its hash only. The secret has 160 random bits, so that a plain hash is
//! enough: there is nothing to guess that a slow one would protect.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand;
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::certificate::PublicKeyDigest;
use crate::join::{Admission, Refusal};
use crate::name::{ClusterId, NodeName, base32};
use crate::time::UnixSeconds;
use crate::trust::AuthorityPin;

/// What a token begins with: the kind of secret for people and scanners, and the version of what follows.
pub const TOKEN_PREFIX: &str = "constellation-join-1-";

const SECRET: usize = 20;
/// Cluster, pin, id, secret, checksum.
const LENGTH: usize = 16 + 32 + 8 + SECRET + 4;
/// The most characters that are looked at: the text is 149, people add blanks.
const TEXT_LIMIT: usize = 512;

/// Why a text is no token. None of them repeats the text: it is a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TokenError {
    /// Something else was given.
    #[error(
        "this is no join token: expected the text that begins with `{TOKEN_PREFIX}`, from `constellation token create`"
    )]
    Prefix,
    /// Cut off, or more than it.
    #[error("the join token is incomplete or has something added: copy the whole of it")]
    Length,
    /// A character changed.
    #[error("the join token has a wrong character in it (its checksum does not match): copy it again")]
    Checksum,
    /// Not the id of one.
    #[error(
        "this is no id of a join token: expected 16 characters of 0-9 and a-f, as `constellation token list` shows"
    )]
    Id,
    /// No randomness.
    #[error("the operating system gave no randomness, no token was made")]
    Randomness,
}

/// Which token; not secret.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TokenId(pub [u8; 8]);

/// As text: it is the key of a map, which some formats want to be a string.
impl From<TokenId> for String {
    fn from(id: TokenId) -> Self {
        id.to_string()
    }
}

impl FromStr for TokenId {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let bytes = HEXLOWER.decode(text.as_bytes()).ok();
        bytes
            .and_then(|bytes| bytes.try_into().ok())
            .map(Self)
            .ok_or(TokenError::Id)
    }
}

impl TryFrom<String> for TokenId {
    type Error = TokenError;

    fn try_from(text: String) -> Result<Self, TokenError> {
        text.parse()
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenId({self})")
    }
}

/// The secret of a token. Never shown; overwritten when it is dropped.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop, Serialize, Deserialize)]
pub struct TokenSecret([u8; SECRET]);

impl TokenSecret {
    fn hash(&self) -> [u8; 32] {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, &self.0).as_ref());
        hash
    }
}

impl fmt::Debug for TokenSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSecret(not shown)")
    }
}

/// A token as the joiner has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// The cluster to join.
    pub cluster: ClusterId,
    /// Whom to believe that it is that cluster.
    pub authority: AuthorityPin,
    /// Which token.
    pub id: TokenId,
    pub(crate) secret: TokenSecret,
}

impl JoinToken {
    /// A new one and what the cluster keeps of it.
    pub fn generate(
        cluster: ClusterId,
        authority: AuthorityPin,
        now: UnixSeconds,
        lifetime: Duration,
    ) -> Result<(Self, TokenRecord), TokenError> {
        let (mut id, mut secret) = ([0; 8], Zeroizing::new([0; SECRET]));
        rand::fill(&mut id).map_err(|_| TokenError::Randomness)?;
        rand::fill(secret.as_mut_slice()).map_err(|_| TokenError::Randomness)?;
        let token = Self {
            cluster,
            authority,
            id: TokenId(id),
            secret: TokenSecret(*secret),
        };
        let record = TokenRecord {
            id: token.id,
            hash: token.secret.hash(),
            created: now,
            expires: now.plus(lifetime),
            used: None,
        };
        Ok((token, record))
    }

    /// The text to carry over: one word, whose checksum finds slips of the hand.
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(LENGTH));
        bytes.extend_from_slice(self.cluster.as_bytes());
        bytes.extend_from_slice(&self.authority.0);
        bytes.extend_from_slice(&self.id.0);
        bytes.extend_from_slice(&self.secret.0);
        let sum = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&sum.to_be_bytes());
        let body = Zeroizing::new(base32().encode(&bytes));
        Zeroizing::new(format!("{TOKEN_PREFIX}{}", *body))
    }
}

impl FromStr for JoinToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let body = text.trim().strip_prefix(TOKEN_PREFIX).ok_or(TokenError::Prefix)?;
        if body.len() > TEXT_LIMIT {
            return Err(TokenError::Length);
        }
        let bytes = base32()
            .decode(body.as_bytes())
            .map_err(|error| match error.kind {
                data_encoding::DecodeKind::Length | data_encoding::DecodeKind::Trailing => TokenError::Length,
                data_encoding::DecodeKind::Symbol | data_encoding::DecodeKind::Padding => {
                    TokenError::Checksum
                }
            });
        let bytes = Zeroizing::new(bytes?);
        let (content, sum) = bytes.split_last_chunk::<4>().ok_or(TokenError::Length)?;
        let (cluster, rest) = content.split_first_chunk::<16>().ok_or(TokenError::Length)?;
        let (authority, rest) = rest.split_first_chunk::<32>().ok_or(TokenError::Length)?;
        let (id, rest) = rest.split_first_chunk::<8>().ok_or(TokenError::Length)?;
        let secret = <[u8; SECRET]>::try_from(rest).map_err(|_| TokenError::Length)?;
        let secret = TokenSecret(secret);
        if crc32fast::hash(content) != u32::from_be_bytes(*sum) {
            return Err(TokenError::Checksum);
        }
        Ok(Self {
            cluster: ClusterId::from_bytes(*cluster),
            authority: AuthorityPin(*authority),
            id: TokenId(*id),
            secret,
        })
    }
}

/// Who used a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Use {
    /// As which node.
    pub node: NodeName,
    /// With which key.
    pub public_key: PublicKeyDigest,
    /// When.
    pub at: UnixSeconds,
}

/// What the cluster remembers of a token. Nobody can join with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// Which.
    pub id: TokenId,
    hash: [u8; 32],
    /// When it was made.
    pub created: UnixSeconds,
    /// The first second in which it is no longer good.
    pub expires: UnixSeconds,
    /// Whether it was used. At most once.
    pub used: Option<Use>,
}

impl TokenRecord {
    pub(crate) fn matches(&self, secret: &TokenSecret) -> bool {
        verify_slices_are_equal(&self.hash, &secret.hash()).is_ok()
    }
}

/// All tokens that the cluster remembers: part of its replicated state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tokens(BTreeMap<TokenId, TokenRecord>);

impl Tokens {
    /// Adds one.
    pub fn insert(&mut self, record: TokenRecord) {
        self.0.insert(record.id, record);
    }

    /// Takes one back; true if it was there.
    pub fn revoke(&mut self, id: TokenId) -> bool {
        self.0.remove(&id).is_some()
    }

    /// One of them.
    pub fn get(&self, id: TokenId) -> Option<&TokenRecord> {
        self.0.get(&id)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &TokenRecord> {
        self.0.values()
    }

    /// Forgets those that expired before `before`. Give used and expired ones a day or two: they explain refusals.
    pub fn forget(&mut self, before: UnixSeconds) {
        self.0.retain(|_, record| record.expires >= before);
    }

    pub(crate) fn mark(&mut self, admission: &Admission, now: UnixSeconds) {
        if let Some(record) = self.0.get_mut(&admission.token) {
            let node = admission.node.clone();
            record.used.get_or_insert(Use {
                node,
                public_key: admission.public_key,
                at: now,
            });
        }
    }
}

/// Whether `node` with this key may use the token: fresh, or used by the very same before.
pub(crate) fn usable(
    record: &TokenRecord,
    node: &NodeName,
    key: PublicKeyDigest,
    now: UnixSeconds,
) -> Result<(), Refusal> {
    if now >= record.expires {
        return Err(Refusal::ExpiredToken {
            token: record.id,
            expired: record.expires,
            now,
        });
    }
    match &record.used {
        Some(used) if (&used.node, used.public_key) != (node, key) => Err(Refusal::UsedToken {
            token: record.id,
            node: used.node.clone(),
            at: used.at,
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token() -> (JoinToken, TokenRecord) {
        JoinToken::generate(
            ClusterId::from_bytes([3; 16]),
            AuthorityPin([9; 32]),
            UnixSeconds(1000),
            Duration::from_secs(60),
        )
        .unwrap()
    }

    #[test]
    fn the_text_survives_people() {
        let (token, _) = token();
        let text = token.to_text();
        assert_eq!(text.len(), TOKEN_PREFIX.len() + 128);
        assert_eq!(text.parse::<JoinToken>(), Ok(token.clone()));
        let (head, tail) = text.split_at(60);
        let people = format!("  {head}\n {}-{} \n", tail[..9].to_uppercase(), &tail[9..]);
        assert_eq!(people.parse::<JoinToken>(), Ok(token));
    }

    #[test]
    fn slips_are_found_and_named() {
        let (token, _) = token();
        let text = token.to_text().to_string();
        assert_eq!("".parse::<JoinToken>(), Err(TokenError::Prefix));
        assert_eq!(
            "constellation-join-2-aaaa".parse::<JoinToken>(),
            Err(TokenError::Prefix)
        );
        assert_eq!(
            text[..text.len() - 8].parse::<JoinToken>(),
            Err(TokenError::Length)
        );
        assert_eq!(
            format!("{text}{text}").parse::<JoinToken>(),
            Err(TokenError::Checksum)
        );
        assert_eq!(
            format!("{text}{}", "a".repeat(600)).parse::<JoinToken>(),
            Err(TokenError::Length)
        );
        for at in TOKEN_PREFIX.len()..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] = if bytes[at] == b'a' { b'b' } else { b'a' };
            assert_eq!(
                String::from_utf8(bytes).unwrap().parse::<JoinToken>(),
                Err(TokenError::Checksum),
                "{at}"
            );
        }
    }

    #[test]
    fn the_secret_is_in_the_text_only() {
        let (token, record) = token();
        let secret = HEXLOWER.encode(&token.secret.0);
        let body = token.to_text()[TOKEN_PREFIX.len()..].to_owned();
        let debug = format!("{:?}", token.secret.0);
        for shown in [
            format!("{token:?}"),
            format!("{record:?}"),
            serde_json::to_string(&record).unwrap(),
        ] {
            assert!(
                !shown.contains(&secret) && !shown.contains(&body) && !shown.contains(&debug[1..40]),
                "{shown}"
            );
        }
        assert!(record.matches(&token.secret));
        assert!(!record.matches(&TokenSecret([0; SECRET])));
    }

    #[test]
    fn old_ones_are_forgotten() {
        let (_, record) = token();
        let mut tokens = Tokens::default();
        tokens.insert(record.clone());
        tokens.forget(record.expires);
        assert_eq!(tokens.get(record.id), Some(&record));
        tokens.forget(record.expires.plus(Duration::from_secs(1)));
        assert_eq!(tokens.iter().count(), 0);
        assert!(!tokens.revoke(record.id));
    }

    proptest! {
        #[test]
        fn whatever_is_pasted_ends_in_a_token_or_an_error(text in "(constellation-join-1-)?[a-z2-7 -]{0,200}") {
            if let Ok(token) = text.parse::<JoinToken>() {
                prop_assert_eq!(token.to_text().parse::<JoinToken>(), Ok(token));
            }
        }
    }
}
