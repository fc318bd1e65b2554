//! `encodedCharacters`: paths in which certain characters are percent-encoded are refused.
//!
//! Services differ in whether they take such a character for itself or for what it would mean unencoded.

use pingora_http::RequestHeader;

use crate::{Answer, Flow, target};

/// Refuses paths with certain characters in encoded form.
#[derive(Debug)]
pub struct EncodedCharacters {
    refused: Vec<u8>,
}

/// Which characters may be encoded.
#[derive(Clone, Copy, Debug, Default)]
pub struct Encodable {
    /// `\`.
    pub back_slash: bool,
    /// `#`.
    pub hash: bool,
    /// The character of code 0.
    pub null: bool,
    /// `%`.
    pub percent: bool,
    /// `?`.
    pub question_mark: bool,
    /// `;`.
    pub semicolon: bool,
    /// `/`.
    pub slash: bool,
}

impl EncodedCharacters {
    /// Refuses what is not allowed.
    pub fn new(allowed: Encodable) -> Self {
        let all = [
            (b'\\', allowed.back_slash),
            (b'#', allowed.hash),
            (0, allowed.null),
            (b'%', allowed.percent),
            (b'?', allowed.question_mark),
            (b';', allowed.semicolon),
            (b'/', allowed.slash),
        ];
        let refused = all.into_iter().filter(|(_, allowed)| !allowed);
        Self {
            refused: refused.map(|(character, _)| character).collect(),
        }
    }

    pub(crate) fn enter(&self, request: &RequestHeader) -> Flow<'static> {
        let path = target::path(request).as_bytes();
        let digit = |byte: u8| {
            char::from(byte)
                .to_digit(16)
                .and_then(|digit| u8::try_from(digit).ok())
        };
        let is_refused = |three: &[u8]| match three {
            [b'%', high, low] => {
                let character = digit(*high).zip(digit(*low)).map(|(high, low)| high << 4 | low);
                character.is_some_and(|character| self.refused.contains(&character))
            }
            _ => false,
        };
        if path.windows(3).any(is_refused) {
            return Flow::Answer(Box::new(Answer::empty(400)));
        }
        Flow::Next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_allowed_is_refused() {
        let none = EncodedCharacters::new(Encodable::default());
        let some = EncodedCharacters::new(Encodable {
            slash: true,
            percent: true,
            ..Encodable::default()
        });
        // path, whether it passes where nothing is allowed, where slash and percent are
        for (path, expected) in [
            ("/a%2Fb", [false, true]),
            ("/a%2fb", [false, true]),
            ("/a%5Cb", [false, false]),
            ("/a%5cb", [false, false]),
            ("/a%00b", [false, false]),
            ("/a%3Bb", [false, false]),
            ("/a%25b", [false, true]),
            ("/a%3Fb", [false, false]),
            ("/a%23b", [false, false]),
            ("/a%20b", [true, true]),
            ("/a?x=%2F", [true, true]),
            ("/a%2F%23", [false, false]),
            ("/a%3D%26%7F", [true, true]),
        ] {
            let request = RequestHeader::build("GET", path.as_bytes(), None).unwrap();
            let passed = [&none, &some].map(|kind| match kind.enter(&request) {
                Flow::Next => true,
                Flow::Answer(answer) => {
                    assert_eq!(*answer, Answer::empty(400));
                    false
                }
                other => panic!("{other:?}"),
            });
            assert_eq!(passed, expected, "{path}");
        }
    }
}
