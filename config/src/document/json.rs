//! JSON (RFC 8259), strict: no comments, no trailing commas. A reader of our own, because the errors of later steps
//! need the place of every value.

use super::position::Lines;
use super::{Entry, MAX_DEPTH, MAX_NODES, Node, Report, ScalarKind, Value, too_deep};
use crate::Origin;

/// Why reading stops; the report says the rest.
struct Stop;

type Step<T> = Result<T, Stop>;

pub(super) fn parse(text: &str, report: &mut Report) -> Option<Node> {
    let mut reader = Reader {
        text,
        at: 0,
        lines: Lines::of(text),
        report,
        nodes: 0,
    };
    reader.document().ok()
}

struct Reader<'t, 'r> {
    text: &'t str,
    at: usize,
    lines: Lines<'t>,
    report: &'r mut Report,
    nodes: usize,
}

impl Reader<'_, '_> {
    fn document(&mut self) -> Step<Node> {
        self.space();
        if self.peek().is_none() {
            return Ok(Node::null(self.origin(0)));
        }
        let node = self.value(0)?;
        self.space();
        match self.peek() {
            None => Ok(node),
            Some(_) => Err(self.refuse(self.at, "text after the end of the document")),
        }
    }

    fn value(&mut self, depth: usize) -> Step<Node> {
        self.space();
        let start = self.at;
        let origin = self.origin(start);
        self.nodes += 1;
        if depth > MAX_DEPTH {
            self.report.syntax(origin, too_deep());
            return Err(Stop);
        }
        if self.nodes > MAX_NODES {
            self.report
                .syntax(origin, format!("holds more than {MAX_NODES} values"));
            return Err(Stop);
        }
        match self.peek() {
            Some(b'{') => self.map(origin, depth),
            Some(b'[') => {
                let value = Value::List(self.list(depth)?);
                Ok(Node { origin, value })
            }
            Some(b'"') => Ok(Node::text(origin, self.string()?)),
            Some(b'-' | b'0'..=b'9') => self.number(origin),
            Some(b'a'..=b'z' | b'A'..=b'Z') => {
                let word = self.take_while(|byte| byte.is_ascii_alphanumeric());
                let kind = match word {
                    "null" => ScalarKind::Null,
                    "true" | "false" => ScalarKind::Bool,
                    _ => return Err(self.refuse(start, "a text needs double quotes")),
                };
                Ok(Node::scalar(origin, kind, word))
            }
            Some(_) => Err(self.refuse(start, "expected a value")),
            None => Err(self.refuse(start, "the text ends where a value was expected")),
        }
    }

    fn map(&mut self, origin: Origin, depth: usize) -> Step<Node> {
        let mut entries = Vec::new();
        self.at += 1;
        self.space();
        if self.eat(b'}') {
            return Ok(Node::map(origin, entries));
        }
        loop {
            self.space();
            let key_origin = self.origin(self.at);
            if self.peek() != Some(b'"') {
                return Err(self.refuse(self.at, "expected a key in double quotes"));
            }
            let key = self.string()?;
            self.space();
            if !self.eat(b':') {
                return Err(self.refuse(self.at, "expected `:` after the key"));
            }
            let node = self.value(depth + 1)?;
            entries.push(Entry {
                key,
                origin: key_origin,
                node,
            });
            if self.ends(b'}')? {
                return Ok(Node::map(origin, entries));
            }
        }
    }

    fn list(&mut self, depth: usize) -> Step<Vec<Node>> {
        let mut items = Vec::new();
        self.at += 1;
        self.space();
        if self.eat(b']') {
            return Ok(items);
        }
        loop {
            items.push(self.value(depth + 1)?);
            if self.ends(b']')? {
                return Ok(items);
            }
        }
    }

    /// After an item: whether the closing bracket follows rather than a comma.
    fn ends(&mut self, close: u8) -> Step<bool> {
        self.space();
        if self.eat(close) {
            return Ok(true);
        }
        if self.eat(b',') {
            return Ok(false);
        }
        let message = format!("expected `,` or `{}`", char::from(close));
        Err(self.refuse(self.at, &message))
    }

    fn number(&mut self, origin: Origin) -> Step<Node> {
        let start = self.at;
        let text = self.take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.'));
        let digits = text.strip_prefix('-').unwrap_or(text);
        let leading_zero =
            digits.len() > 1 && digits.starts_with('0') && digits.as_bytes()[1].is_ascii_digit();
        let ends_well = text.ends_with(|c: char| c.is_ascii_digit());
        let dot_well = !text.contains(".e") && !text.contains(".E");
        if leading_zero || !ends_well || !dot_well || !digits.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(self.refuse(start, "not a number"));
        }
        let kind = if digits.bytes().all(|byte| byte.is_ascii_digit()) {
            ScalarKind::Integer
        } else if text.parse::<f64>().is_ok() {
            ScalarKind::Float
        } else {
            return Err(self.refuse(start, "not a number"));
        };
        Ok(Node::scalar(origin, kind, text))
    }

    fn string(&mut self) -> Step<String> {
        let start = self.at;
        self.at += 1;
        let mut out = String::new();
        loop {
            let plain = self.take_while(|byte| byte != b'"' && byte != b'\\' && byte >= 0x20);
            out.push_str(plain);
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(out);
                }
                Some(b'\\') => out.push(self.escape()?),
                Some(_) => return Err(self.refuse(self.at, "a control character must be escaped")),
                None => return Err(self.refuse(start, "the closing quote is missing")),
            }
        }
    }

    fn escape(&mut self) -> Step<char> {
        let start = self.at;
        let letter = self.text.as_bytes().get(self.at + 1).copied();
        self.at += 2;
        Ok(match letter {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode(start),
            _ => return Err(self.refuse(start, "unknown escape")),
        })
    }

    /// The four digits after `\u`, and the second half of a surrogate pair.
    fn unicode(&mut self, start: usize) -> Step<char> {
        let first = self.hex(start)?;
        let code = match first {
            0xd800..=0xdbff if self.text[self.at..].starts_with("\\u") => {
                self.at += 2;
                let second = self.hex(start)?;
                if !(0xdc00..=0xdfff).contains(&second) {
                    return Err(self.refuse(start, "half a surrogate pair"));
                }
                0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)
            }
            code => code,
        };
        char::from_u32(code).ok_or_else(|| self.refuse(start, "half a surrogate pair"))
    }

    fn hex(&mut self, start: usize) -> Step<u32> {
        let digits = self.text.get(self.at..self.at + 4);
        let code = digits
            .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .and_then(|digits| u32::from_str_radix(digits, 16).ok());
        match code {
            Some(code) => {
                self.at += 4;
                Ok(code)
            }
            None => Err(self.refuse(start, "expected four hexadecimal digits after \\u")),
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn space(&mut self) {
        self.take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
    }

    /// Takes bytes as long as they please; `accept` must not split a character.
    fn take_while(&mut self, accept: impl Fn(u8) -> bool) -> &str {
        let start = self.at;
        while self.peek().is_some_and(&accept) {
            self.at += 1;
        }
        &self.text[start..self.at]
    }

    fn refuse(&mut self, at: usize, message: &str) -> Stop {
        let origin = self.origin(at);
        self.report.syntax(origin, format!("not valid JSON: {message}"));
        Stop
    }

    fn origin(&self, at: usize) -> Origin {
        let (line, column) = self.lines.place(at);
        self.report.origin(line, column)
    }
}
