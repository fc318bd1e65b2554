//! Hashes of passwords as they stand in `htpasswd` files: `{SHA}`, `$apr1$` and `$1$` (MD5, a thousand rounds), bcrypt.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest;
use data_encoding::BASE64;
use md5::{Digest as _, Md5};

/// Highest cost of bcrypt: a second and more for one password. Every further step doubles that.
const MAX_COST: u32 = 15;

/// A hash of a password.
#[derive(Clone)]
pub(crate) enum Hash {
    /// SHA-1, without salt.
    Sha(Box<[u8]>),
    /// MD5 in the way of `crypt`, with the name of the scheme (`apr1` or `1`).
    Md5 {
        scheme: Box<str>,
        salt: Box<str>,
        hash: Box<str>,
    },
    Bcrypt {
        cost: u32,
        hash: Box<str>,
    },
}

impl Hash {
    /// Reads one; the error says what is wrong with it, without showing it.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        if let Some(encoded) = text.strip_prefix("{SHA}") {
            let hash = BASE64
                .decode(encoded.as_bytes())
                .ok()
                .filter(|hash| hash.len() == 20);
            let hash = hash.ok_or("its {SHA} hash is not 20 bytes in base64")?;
            return Ok(Self::Sha(hash.into()));
        }
        if ["$2a$", "$2b$", "$2y$"]
            .iter()
            .any(|prefix| text.starts_with(prefix))
        {
            let cost = text.get(4..6).and_then(|cost| cost.parse().ok());
            let cost: u32 = cost.ok_or("its bcrypt hash has no cost")?;
            if text.len() != 60 || !text.is_ascii() || !(4..=31).contains(&cost) {
                return Err("its bcrypt hash is cut off or broken");
            }
            if cost > MAX_COST {
                return Err(
                    "the cost of its bcrypt hash is above 15: one request would take seconds of a processor",
                );
            }
            return Ok(Self::Bcrypt {
                cost,
                hash: text.into(),
            });
        }
        let parts: Vec<&str> = text.splitn(4, '$').collect();
        match parts.as_slice() {
            ["", scheme @ ("apr1" | "1"), salt, hash] => Ok(Self::Md5 {
                scheme: (*scheme).into(),
                salt: (*salt).into(),
                hash: (*hash).into(),
            }),
            _ => Err("its hash is of a kind that is not supported: make one with htpasswd -B (bcrypt)"),
        }
    }

    /// Whether it is that of a password. This may take the processor for long, see [`Hash::effort`].
    pub(crate) fn is_of(&self, password: &[u8]) -> bool {
        match self {
            Self::Sha(hash) => {
                let found = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, password);
                verify_slices_are_equal(found.as_ref(), hash).is_ok()
            }
            Self::Md5 { scheme, salt, hash } => {
                let found = md5_crypt(password, scheme, salt);
                verify_slices_are_equal(found.as_bytes(), hash.as_bytes()).is_ok()
            }
            // Hashes with another length or alphabet were refused; a salt that is none is no hash of anything.
            Self::Bcrypt { hash, .. } => bcrypt::verify(password, hash).unwrap_or(false),
        }
    }

    /// How long [`Hash::is_of`] takes, in no unit: the greater the longer, and the same for the same.
    pub(crate) fn effort(&self) -> u32 {
        match self {
            Self::Sha(_) => 0,
            Self::Md5 { .. } => 1,
            Self::Bcrypt { cost, .. } => *cost,
        }
    }
}

/// The letters of `crypt`'s base64, in which the lowest bits come first.
const LETTERS: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// MD5 in the way of `crypt`, as letters.
fn md5_crypt(password: &[u8], scheme: &str, salt: &str) -> String {
    let salt = salt.as_bytes();
    let salt = &salt[..salt.len().min(8)];
    let inner = Md5::new()
        .chain_update(password)
        .chain_update(salt)
        .chain_update(password)
        .finalize();
    let mut outer = Md5::new()
        .chain_update(password)
        .chain_update(format!("${scheme}$"))
        .chain_update(salt);
    for part in password.chunks(16) {
        outer.update(&inner[..part.len()]);
    }
    let mut length = password.len();
    while length > 0 {
        outer.update(match (length & 1, password.first()) {
            (0, Some(first)) => std::slice::from_ref(first),
            _ => &[0],
        });
        length >>= 1;
    }
    let mut hash = outer.finalize();
    for round in 0..1000 {
        let mut next = Md5::new();
        let odd = round % 2 == 1;
        next.update(if odd { password } else { &hash[..] });
        if round % 3 != 0 {
            next.update(salt);
        }
        if round % 7 != 0 {
            next.update(password);
        }
        next.update(if odd { &hash[..] } else { password });
        hash = next.finalize();
    }
    let mut letters = String::with_capacity(22);
    let mut write = |bytes: [u8; 3], count: usize| {
        let mut bits = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]);
        for _ in 0..count {
            letters.push(char::from(LETTERS[(bits & 63) as usize]));
            bits >>= 6;
        }
    };
    for (first, second, third) in [(0, 6, 12), (1, 7, 13), (2, 8, 14), (3, 9, 15), (4, 10, 5)] {
        write([hash[first], hash[second], hash[third]], 4);
    }
    write([0, 0, hash[11]], 2);
    letters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_and_their_hashes() {
        let long = "x".repeat(80);
        // Made with htpasswd and openssl.
        for (hash, password, right) in [
            ("{SHA}qUqP5cyxm6YcTAhz05Hph5gvu9M=", "test", true),
            ("{SHA}qUqP5cyxm6YcTAhz05Hph5gvu9M=", "Test", false),
            ("$apr1$H6uskkkW$IgXLP6ewTrSuBkTrqE8wj/", "test", true),
            ("$apr1$H6uskkkW$IgXLP6ewTrSuBkTrqE8wj/", "test2", false),
            ("$apr1$abcdefgh$/cesMUEGhga5MgaTGywaW0", "test", true),
            ("$1$abcdefgh$irWbblnpmw.5z7wgBnprh0", "test", true),
            ("$1$abcdefgh$irWbblnpmw.5z7wgBnprh0", "", false),
            ("$apr1$ab$S8K6Sgp3W8c9Jb6LxgywZ.", "", true),
            ("$apr1$ab$vv77ghmKwCAoaGfFCKWSr/", "p", true),
            ("$apr1$ab$Yt1tqyulCkHQuduX6V.ga.", "ppppppppppppp", true),
            ("$apr1$ab$naKyAbFrVgtiAo8/kjBxx1", "ppppppppppppppppp", true),
            (
                "$apr1$ab$i7YGeiAXYOxBIKJCGIGaP/",
                "pppppppppppppppppppppppppppppppppppppppp",
                true,
            ),
            (
                "$2b$04$abcdefghijklmnopqrstuuoD8yw7MmybLKVooaTGGZAt3HXugv2.a",
                "test",
                true,
            ),
            (
                "$2b$04$abcdefghijklmnopqrstuuoD8yw7MmybLKVooaTGGZAt3HXugv2.a",
                "tes",
                false,
            ),
            // Bcrypt looks at 72 bytes.
            (
                "$2y$04$abcdefghijklmnopqrstuubzadhGtS2zEF.gu0yd0opP6cVzb.e0i",
                &long,
                true,
            ),
            (
                "$2a$04$abcdefghijklmnopqrstuubzadhGtS2zEF.gu0yd0opP6cVzb.e0i",
                &long[..72],
                true,
            ),
            (
                "$2a$04$abcdefghijklmnopqrstuubzadhGtS2zEF.gu0yd0opP6cVzb.e0i",
                &long[..71],
                false,
            ),
            (
                "$2a$04$abcdefghijklmnopqrstuubzadhGtS2zEF.gu0yd0opP6cVzb.e0i",
                "a\0b",
                false,
            ),
        ] {
            assert_eq!(
                Hash::parse(hash).unwrap().is_of(password.as_bytes()),
                right,
                "{hash} {password}"
            );
        }
    }

    #[test]
    fn what_is_no_hash_is_not_shown() {
        for (text, expected) in [
            ("test", "not supported"),
            ("", "not supported"),
            ("abJnggxhB/yWI", "not supported"),
            ("$5$abc$def", "not supported"),
            ("$6$abc$def", "not supported"),
            ("{SHA}abc", "20 bytes"),
            ("$2a$04$badhash", "cut off"),
            ("$2y$", "no cost"),
            ("$2y$xx$", "no cost"),
            (
                "$2y$16$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC",
                "above 15",
            ),
        ] {
            let error = Hash::parse(text).err().unwrap();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
