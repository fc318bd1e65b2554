//! Tokens of a rule: the part of Go's expression syntax that rules use.

use std::borrow::Cow;

use super::RuleError;
use super::hint;

/// One token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token<'t> {
    Name(&'t str),
    Text(Cow<'t, str>),
    Open,
    Close,
    Comma,
    /// `...`, which Go takes after the last argument.
    Ellipsis,
    And,
    Or,
    Not,
    End,
}

impl Token<'_> {
    /// How an error names the token.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Name(name) => format!("`{name}`"),
            Self::Text(text) => format!("the string {text:?}"),
            Self::Open => "`(`".into(),
            Self::Close => "`)`".into(),
            Self::Comma => "`,`".into(),
            Self::Ellipsis => "`...`".into(),
            Self::And => "`&&`".into(),
            Self::Or => "`||`".into(),
            Self::Not => "`!`".into(),
            Self::End => "the end of the rule".into(),
        }
    }
}

/// Cuts a rule into tokens, one at a time.
#[derive(Clone)]
pub(super) struct Lexer<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Lexer<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        // Go ignores a byte order mark, and only there.
        Self {
            text,
            at: if text.starts_with('\u{feff}') {
                '\u{feff}'.len_utf8()
            } else {
                0
            },
        }
    }

    /// The next token and its byte offset; at the end [`Token::End`], again and again.
    pub(super) fn next(&mut self) -> Result<(usize, Token<'t>), RuleError> {
        self.skip_blanks()?;
        let start = self.at;
        let Some(first) = self.rest().chars().next() else {
            return Ok((start, Token::End));
        };
        let token = match first {
            '(' => self.take(1, Token::Open),
            ')' => self.take(1, Token::Close),
            ',' => self.take(1, Token::Comma),
            '.' if self.rest().starts_with("...") => self.take(3, Token::Ellipsis),
            '!' if !self.rest().starts_with("!=") => self.take(1, Token::Not),
            '&' if self.rest().starts_with("&&") => self.take(2, Token::And),
            '|' if self.rest().starts_with("||") => self.take(2, Token::Or),
            '`' => self.raw()?,
            '"' => self.quoted()?,
            c if c == '_' || c.is_alphabetic() => self.name(),
            other => return Err(RuleError::new(start, hint::stray(other))),
        };
        Ok((start, token))
    }

    /// Skips blanks, line ends and Go's comments. Go itself ends an expression at a line end that follows an operand;
    /// here a rule may be broken anywhere, also before an operator.
    fn skip_blanks(&mut self) -> Result<(), RuleError> {
        loop {
            let rest = self.rest().trim_start_matches([' ', '\t', '\n', '\r']);
            self.at = self.text.len() - rest.len();
            self.at += match rest.get(..2) {
                Some("//") => rest.find('\n').unwrap_or(rest.len()),
                Some("/*") => match rest.find("*/") {
                    Some(end) => end + 2,
                    None => {
                        return Err(RuleError::new(
                            self.at,
                            "the comment that starts here has no closing `*/`",
                        ));
                    }
                },
                _ => return Ok(()),
            };
        }
    }

    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn take(&mut self, bytes: usize, token: Token<'t>) -> Token<'t> {
        self.at += bytes;
        token
    }

    fn name(&mut self) -> Token<'t> {
        let rest = self.rest();
        let end = rest
            .find(|c: char| c != '_' && !c.is_alphanumeric())
            .unwrap_or(rest.len());
        self.take(end, Token::Name(rest.get(..end).unwrap_or_default()))
    }

    /// A raw string: everything up to the next backtick; carriage returns are dropped, as in Go.
    fn raw(&mut self) -> Result<Token<'t>, RuleError> {
        let start = self.at;
        let body = self.rest().get(1..).unwrap_or_default();
        let Some(end) = body.find('`') else {
            return Err(RuleError::new(
                start,
                "the string that starts here has no closing backtick",
            ));
        };
        let body = body.get(..end).unwrap_or_default();
        self.at += end + 2;
        Ok(Token::Text(if body.contains('\r') {
            Cow::Owned(body.replace('\r', ""))
        } else {
            Cow::Borrowed(body)
        }))
    }

    /// A double-quoted string with Go's escapes.
    fn quoted(&mut self) -> Result<Token<'t>, RuleError> {
        let start = self.at;
        let mut value = Vec::new();
        self.at += 1;
        loop {
            let at = self.at;
            let Some(c) = self.rest().chars().next().filter(|c| *c != '\n') else {
                return Err(RuleError::new(
                    start,
                    "the string that starts here has no closing double quote on its line",
                ));
            };
            self.at += c.len_utf8();
            match c {
                '"' => break,
                '\\' => self.escape(at, &mut value)?,
                c => push(&mut value, c),
            }
        }
        match String::from_utf8(value) {
            Ok(value) => Ok(Token::Text(Cow::Owned(value))),
            Err(_) => Err(RuleError::new(
                start,
                "the escapes in this string do not make valid UTF-8",
            )),
        }
    }

    /// What follows a backslash at byte `at`.
    fn escape(&mut self, at: usize, value: &mut Vec<u8>) -> Result<(), RuleError> {
        let wrong = || {
            RuleError::new(
                at,
                "unknown escape in a double-quoted string; write a raw string in backticks, or double the backslash",
            )
        };
        let kind = self.rest().chars().next().ok_or_else(wrong)?;
        let (digits, radix) = match kind {
            'x' => (2, 16),
            'u' => (4, 16),
            'U' => (8, 16),
            '0'..='7' => (3, 8),
            _ => {
                let plain = match kind {
                    'a' => 0x07,
                    'b' => 0x08,
                    'f' => 0x0c,
                    'n' => b'\n',
                    'r' => b'\r',
                    't' => b'\t',
                    'v' => 0x0b,
                    '\\' => b'\\',
                    '"' => b'"',
                    _ => return Err(wrong()),
                };
                self.at += 1;
                value.push(plain);
                return Ok(());
            }
        };
        if radix == 16 {
            self.at += 1;
        }
        let code = self
            .rest()
            .get(..digits)
            .filter(|d| d.bytes().all(|b| char::from(b).is_digit(radix)));
        let code = code
            .and_then(|d| u32::from_str_radix(d, radix).ok())
            .ok_or_else(wrong)?;
        self.at += digits;
        if digits <= 3 {
            value.push(u8::try_from(code).map_err(|_| wrong())?);
        } else {
            push(value, char::from_u32(code).ok_or_else(wrong)?);
        }
        Ok(())
    }
}

fn push(value: &mut Vec<u8>, c: char) {
    value.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}
