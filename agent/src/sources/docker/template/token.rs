//! Template text to tokens: text between actions, and what stands inside them.

use super::TemplateError;

/// A token and where it starts, in characters from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: TokenKind,
    pub(super) position: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TokenKind {
    /// Outside of actions, trimmed as the markers say.
    Text(String),
    /// `{{`.
    Open,
    /// `}}`.
    Close,
    /// A keyword or a function.
    Word(String),
    /// `.name`; empty for the dot alone. `attached`: it follows a token without space, so it is a field of that.
    Field {
        name: String,
        attached: bool,
    },
    /// `$name`, without the dollar; empty for `$`.
    Variable(String),
    /// A quoted string, decoded.
    Quoted(String),
    Integer(i64),
    LeftParen,
    RightParen,
    Pipe,
    Comma,
    /// `:=`.
    Declare,
    /// `=`.
    Assign,
}

struct Lexer {
    chars: Vec<char>,
    at: usize,
    tokens: Vec<Token>,
}

/// All tokens of a template.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, TemplateError> {
    let mut lexer = Lexer {
        chars: text.chars().collect(),
        at: 0,
        tokens: Vec::new(),
    };
    lexer.run()?;
    Ok(lexer.tokens)
}

impl Lexer {
    fn run(&mut self) -> Result<(), TemplateError> {
        let mut trim_start = false;
        while self.at < self.chars.len() {
            let start = self.at;
            let end = self.find("{{").unwrap_or(self.chars.len());
            let trim_end = self.looking_at(end, "{{-") && self.space_at(end + 3);
            let mut text: String = self.chars[start..end].iter().collect();
            if trim_start {
                text = text.trim_start().to_owned();
            }
            if trim_end {
                text = text.trim_end().to_owned();
            }
            if !text.is_empty() {
                self.push(start, TokenKind::Text(text));
            }
            if end == self.chars.len() {
                break;
            }
            self.at = end + if trim_end { 3 } else { 2 };
            trim_start = self.action(end)?;
        }
        Ok(())
    }

    /// An action or a comment, from behind `{{` to behind `}}`; whether the text after it is trimmed.
    fn action(&mut self, open: usize) -> Result<bool, TemplateError> {
        let mut look = self.at;
        while self.space_at(look) {
            look += 1;
        }
        if self.looking_at(look, "/*") {
            return self.comment(look, open);
        }
        self.push(open, TokenKind::Open);
        loop {
            let spaced = self.space_at(self.at);
            while self.space_at(self.at) {
                self.at += 1;
            }
            if self.at >= self.chars.len() {
                return Err(error(open, "`{{` is not closed; write `}}` after the action"));
            }
            if spaced && self.looking_at(self.at, "-}}") {
                self.push(self.at, TokenKind::Close);
                self.at += 3;
                return Ok(true);
            }
            if self.looking_at(self.at, "}}") {
                self.push(self.at, TokenKind::Close);
                self.at += 2;
                return Ok(false);
            }
            self.inside(spaced)?;
        }
    }

    fn comment(&mut self, start: usize, open: usize) -> Result<bool, TemplateError> {
        self.at = start;
        let Some(end) = self.find("*/") else {
            return Err(error(open, "the comment is not closed; write `*/}}`"));
        };
        self.at = end + 2;
        if self.looking_at(self.at, " -}}") {
            self.at += 4;
            return Ok(true);
        }
        if self.looking_at(self.at, "}}") {
            self.at += 2;
            return Ok(false);
        }
        Err(error(end, "a comment must end with `*/}}` or `*/ -}}`"))
    }

    fn inside(&mut self, spaced: bool) -> Result<(), TemplateError> {
        let start = self.at;
        let first = self.chars[start];
        let kind = match first {
            '(' => self.single(TokenKind::LeftParen),
            ')' => self.single(TokenKind::RightParen),
            '|' => self.single(TokenKind::Pipe),
            ',' => self.single(TokenKind::Comma),
            '=' => self.single(TokenKind::Assign),
            ':' if self.looking_at(start, ":=") => {
                self.at += 2;
                TokenKind::Declare
            }
            '"' => TokenKind::Quoted(self.quoted()?),
            '`' => TokenKind::Quoted(self.raw()?),
            '.' => {
                self.at += 1;
                let name = self.word();
                TokenKind::Field {
                    name,
                    attached: !spaced && matches!(self.tokens.last(), Some(token) if token.kind.has_fields()),
                }
            }
            '$' => {
                self.at += 1;
                TokenKind::Variable(self.word())
            }
            '-' | '+' | '0'..='9' => self.integer()?,
            c if c.is_alphabetic() || c == '_' => TokenKind::Word(self.word()),
            c => return Err(error(start, &format!("`{c}` has no meaning inside an action"))),
        };
        self.push(start, kind);
        Ok(())
    }

    fn single(&mut self, kind: TokenKind) -> TokenKind {
        self.at += 1;
        kind
    }

    fn word(&mut self) -> String {
        let start = self.at;
        while self
            .chars
            .get(self.at)
            .is_some_and(|c| c.is_alphanumeric() || *c == '_')
        {
            self.at += 1;
        }
        self.chars[start..self.at].iter().collect()
    }

    fn integer(&mut self) -> Result<TokenKind, TemplateError> {
        let start = self.at;
        self.at += 1;
        let mut text = self.chars[start].to_string();
        text.push_str(&self.word());
        if self.looking_at(self.at, ".") {
            return Err(error(start, "decimal numbers are not supported here"));
        }
        match text.parse() {
            Ok(number) => Ok(TokenKind::Integer(number)),
            Err(_) => Err(error(start, &format!("`{text}` is not a whole number"))),
        }
    }

    fn raw(&mut self) -> Result<String, TemplateError> {
        let start = self.at;
        self.at += 1;
        let Some(end) = self.find("`") else {
            return Err(error(
                start,
                "the string is not closed; write a second back quote",
            ));
        };
        let text = self.chars[start + 1..end].iter().collect();
        self.at = end + 1;
        Ok(text)
    }

    fn quoted(&mut self) -> Result<String, TemplateError> {
        let start = self.at;
        self.at += 1;
        let mut text = String::new();
        while let Some(&c) = self.chars.get(self.at) {
            self.at += 1;
            match c {
                '"' => return Ok(text),
                '\n' => break,
                '\\' => text.push(self.escape()?),
                c => text.push(c),
            }
        }
        Err(error(
            start,
            "the string is not closed; write a second double quote on the same line",
        ))
    }

    fn escape(&mut self) -> Result<char, TemplateError> {
        let at = self.at;
        self.at += 1;
        let digits = match self.chars.get(at) {
            Some('n') => return Ok('\n'),
            Some('t') => return Ok('\t'),
            Some('r') => return Ok('\r'),
            Some(c @ ('\\' | '"')) => return Ok(*c),
            Some('x') => 2,
            Some('u') => 4,
            Some('U') => 8,
            _ => 0,
        };
        let hex: String = self.chars.iter().skip(self.at).take(digits).collect();
        self.at += digits;
        let code = if hex.len() == digits {
            u32::from_str_radix(&hex, 16).ok()
        } else {
            None
        };
        code.and_then(char::from_u32).ok_or_else(|| {
            error(
                at - 1,
                "unknown escape in a string; use back quotes for text as it is",
            )
        })
    }

    fn push(&mut self, position: usize, kind: TokenKind) {
        self.tokens.push(Token {
            kind,
            position: position + 1,
        });
    }

    fn find(&self, pattern: &str) -> Option<usize> {
        (self.at..self.chars.len()).find(|at| self.looking_at(*at, pattern))
    }

    fn looking_at(&self, at: usize, pattern: &str) -> bool {
        let found = self.chars.iter().skip(at).take(pattern.len());
        found.copied().eq(pattern.chars())
    }

    fn space_at(&self, at: usize) -> bool {
        self.chars.get(at).is_some_and(|c| c.is_ascii_whitespace())
    }
}

impl TokenKind {
    /// Whether `.name` right behind it is a field of it.
    fn has_fields(&self) -> bool {
        matches!(self, Self::Field { .. } | Self::Variable(_) | Self::RightParen)
    }
}

fn error(at: usize, message: &str) -> TemplateError {
    TemplateError {
        position: at + 1,
        message: message.to_owned(),
    }
}
