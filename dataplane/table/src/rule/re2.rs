//! Go's regular expressions in the words of the `regex` crate.
//!
//! Both are automata with the same core, but the same pattern can mean different things: Go's `\d`, `\w`, `\s` and `\b`
//! know ASCII only, a lone `{` is literal, classes have no set operations, and `\Q..\E` and octal escapes exist. The
//! translation spells out what Go means and refuses what Go refuses. Captures are dropped for rules, which never read
//! them, and keep their numbers for replacements; their names are told apart, as Go allows more of them.

use std::fmt::Write;
use std::str::Chars;

/// Largest count in a repetition, as in Go.
const MAX_REPEAT: u32 = 1000;

const POSIX_CLASSES: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space",
    "upper", "word", "xdigit",
];

/// Most groups that a replacement can read.
const MAX_GROUPS: usize = 100;

/// Translates a pattern; the error says what Go would not accept.
pub(super) fn translate(pattern: &str) -> Result<String, String> {
    run(pattern, None).map(|translation| translation.out)
}

/// Translates a pattern with its groups. Also gives the name of each group, the first being that of group 1; one without
/// a name has an empty one.
pub(crate) fn translate_with_groups(pattern: &str) -> Result<(String, Vec<Box<str>>), String> {
    let translation = run(pattern, Some(Vec::new()))?;
    Ok((translation.out, translation.names.unwrap_or_default()))
}

fn run(pattern: &str, names: Option<Vec<Box<str>>>) -> Result<Translation<'_>, String> {
    let mut translation = Translation {
        rest: pattern,
        out: String::with_capacity(pattern.len() + 16),
        open: 0,
        last: Last::Nothing,
        names,
    };
    while let Some(c) = translation.take() {
        translation.element(c)?;
    }
    if translation.open > 0 {
        return Err("a `(` has no closing `)`".into());
    }
    Ok(translation)
}

/// What stands before the next element: only an operand can be repeated, and only once.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    Nothing,
    Operand,
    Repetition,
}

struct Translation<'p> {
    rest: &'p str,
    out: String,
    /// Groups not closed yet.
    open: usize,
    last: Last,
    /// The names of the groups so far, where they are kept.
    names: Option<Vec<Box<str>>>,
}

impl<'p> Translation<'p> {
    fn take(&mut self) -> Option<char> {
        let mut chars: Chars<'p> = self.rest.chars();
        let c = chars.next();
        self.rest = chars.as_str();
        c
    }

    fn take_str(&mut self, text: &str) -> bool {
        match self.rest.strip_prefix(text) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn element(&mut self, c: char) -> Result<(), String> {
        match c {
            '\\' => return self.escape(),
            '[' => return self.class(),
            '(' => return self.group(),
            '*' | '+' | '?' => return self.repetition(&c.to_string()),
            '{' => {
                if let Some((counts, rest)) = counts(self.rest) {
                    self.rest = rest;
                    return self.repetition(&counts?);
                }
                self.literal(c);
            }
            ')' => {
                self.open = self.open.checked_sub(1).ok_or("a `)` has no opening `(`")?;
                self.out.push(')');
            }
            '|' => {
                self.out.push('|');
                self.last = Last::Nothing;
                return Ok(());
            }
            '.' | '^' | '$' => self.out.push(c),
            c => self.literal(c),
        }
        self.last = Last::Operand;
        Ok(())
    }

    fn literal(&mut self, c: char) {
        self.out.push_str(&regex::escape(c.encode_utf8(&mut [0; 4])));
    }

    fn repetition(&mut self, operator: &str) -> Result<(), String> {
        match self.last {
            Last::Nothing => return Err(format!("`{operator}` has nothing to repeat")),
            Last::Repetition => return Err(format!("`{operator}` repeats a repetition")),
            Last::Operand => {}
        }
        self.out.push_str(operator);
        if self.take_str("?") {
            self.out.push('?');
        }
        self.last = Last::Repetition;
        Ok(())
    }

    /// After a backslash, outside of a class.
    fn escape(&mut self) -> Result<(), String> {
        self.last = Last::Operand;
        let before = self.rest;
        match self.take() {
            Some('Q') => {
                let (text, rest) = self.rest.split_once("\\E").unwrap_or((self.rest, ""));
                self.rest = rest;
                self.out.push_str(&regex::escape(text));
            }
            Some('A') => self.out.push_str("\\A"),
            Some('z') => self.out.push_str("\\z"),
            Some('b') => self.out.push_str("(?-u:\\b)"),
            Some('B') => self.out.push_str("(?-u:\\B)"),
            _ => {
                self.rest = before;
                if !self.shared_class()? {
                    let c = self.escaped_char()?;
                    self.literal(c);
                }
            }
        }
        Ok(())
    }

    /// A class that may stand inside brackets and outside: `\d`, `\pL`, `\p{Greek}`. False when there is none.
    fn shared_class(&mut self) -> Result<bool, String> {
        let start = self.rest;
        let class = match self.take() {
            Some('d') => "[0-9]",
            Some('D') => "[^0-9]",
            Some('s') => "[\\t\\n\\f\\r ]",
            Some('S') => "[^\\t\\n\\f\\r ]",
            Some('w') => "[0-9A-Za-z_]",
            Some('W') => "[^0-9A-Za-z_]",
            Some(p @ ('p' | 'P')) => {
                let name = match self.take() {
                    Some('{') => {
                        let (name, rest) = self.rest.split_once('}').ok_or("`\\p{` has no closing `}`")?;
                        self.rest = rest;
                        name.to_owned()
                    }
                    Some(c) => c.to_string(),
                    None => return Err("`\\p` names no class".into()),
                };
                let (name, inverted) = match name.strip_prefix('^') {
                    Some(name) => (name, true),
                    None => (name.as_str(), false),
                };
                if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
                    return Err(format!("`\\{p}` names no class that exists"));
                }
                let letter = if inverted == (p == 'p') { 'P' } else { 'p' };
                self.put(format_args!("\\{letter}{{{name}}}"));
                return Ok(true);
            }
            _ => {
                self.rest = start;
                return Ok(false);
            }
        };
        self.out.push_str(class);
        Ok(true)
    }

    /// After a backslash: an escape that stands for one character.
    fn escaped_char(&mut self) -> Result<char, String> {
        let digits = |text: &str, radix, most: usize| {
            text.chars()
                .take(most)
                .take_while(|c: &char| c.is_digit(radix))
                .count()
        };
        let Some(c) = self.take() else {
            return Err("the pattern ends in a backslash".into());
        };
        let unknown = || {
            format!(
                "the escape `\\{c}` does not exist in Go's regular expressions (there are no back references either)"
            )
        };
        let (text, radix) = match c {
            'a' => return Ok('\x07'),
            'f' => return Ok('\x0c'),
            'n' => return Ok('\n'),
            'r' => return Ok('\r'),
            't' => return Ok('\t'),
            'v' => return Ok('\x0b'),
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => return Ok(c),
            'x' if self.take_str("{") => {
                let (text, rest) = self.rest.split_once('}').ok_or("`\\x{` has no closing `}`")?;
                self.rest = rest;
                (text.to_owned(), 16)
            }
            'x' if digits(self.rest, 16, 2) == 2 => (self.take_many(2), 16),
            '0' => (format!("0{}", self.take_many(digits(self.rest, 8, 2))), 8),
            '1'..='7' if digits(self.rest, 8, 1) == 1 => {
                (format!("{c}{}", self.take_many(digits(self.rest, 8, 2))), 8)
            }
            _ => return Err(unknown()),
        };
        let valid =
            !text.is_empty() && text.len() <= 8 && text.bytes().all(|b| char::from(b).is_digit(radix));
        let code = u32::from_str_radix(&text, radix).ok().filter(|_| valid);
        code.and_then(char::from_u32).ok_or_else(unknown)
    }

    /// The next `count` characters, which are known to be ASCII.
    fn take_many(&mut self, count: usize) -> String {
        let (taken, rest) = self.rest.split_at_checked(count).unwrap_or((self.rest, ""));
        self.rest = rest;
        taken.to_owned()
    }

    /// After `(`.
    fn group(&mut self) -> Result<(), String> {
        self.last = Last::Nothing;
        if !self.take_str("?") {
            return self.capture("");
        }
        if self.take_str("P<") || self.take_str("<") {
            let (name, rest) = self
                .rest
                .split_once('>')
                .ok_or("a group's name has no closing `>`")?;
            if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
                return Err(format!(
                    "`{name}` is not a group name, or the group is a look-behind, which does not exist"
                ));
            }
            self.rest = rest;
            return self.capture(name);
        }
        self.flags()
    }

    fn capture(&mut self, name: &str) -> Result<(), String> {
        self.open += 1;
        let Some(names) = &mut self.names else {
            self.out.push_str("(?:");
            return Ok(());
        };
        if !name.is_empty() && names.iter().any(|known| **known == *name) {
            return Err(format!("two groups are called `{name}`"));
        }
        if names.len() >= MAX_GROUPS {
            return Err(format!("it has more than {MAX_GROUPS} groups"));
        }
        names.push(name.into());
        self.out.push('(');
        Ok(())
    }

    /// After `(?`: flags that end in `:` (a group) or `)` (from here on).
    fn flags(&mut self) -> Result<(), String> {
        let (mut on, mut off) = (String::new(), String::new());
        let mut negative = false;
        loop {
            match self.take() {
                Some(flag @ ('i' | 'm' | 's' | 'U')) => {
                    let set = if negative { &mut off } else { &mut on };
                    if !set.contains(flag) {
                        set.push(flag);
                    }
                }
                Some('-') if !negative => negative = true,
                Some(end @ (':' | ')')) if !negative || !off.is_empty() => {
                    on.retain(|flag| !off.contains(flag));
                    let dash = if off.is_empty() { "" } else { "-" };
                    if end == ':' {
                        self.open += 1;
                    }
                    if end == ':' || !on.is_empty() || !off.is_empty() {
                        self.put(format_args!("(?{on}{dash}{off}{end}"));
                    }
                    return Ok(());
                }
                _ => {
                    return Err("after `(?` only a name, `:` or the flags i, m, s, U may stand \
                                (no look-ahead, no comments)"
                        .into());
                }
            }
        }
    }

    /// After `[`: every item spelled out, so that nothing is left to read differently.
    fn class(&mut self) -> Result<(), String> {
        self.last = Last::Operand;
        self.out.push('[');
        if self.take_str("^") {
            self.out.push('^');
        }
        let mut first = true;
        loop {
            if !first && self.take_str("]") {
                self.out.push(']');
                return Ok(());
            }
            first = false;
            if let Some(named) = self.rest.strip_prefix("[:")
                && let Some((name, rest)) = named.split_once(":]")
            {
                if !POSIX_CLASSES.contains(&name.strip_prefix('^').unwrap_or(name)) {
                    return Err(format!("there is no class `[:{name}:]`"));
                }
                self.put(format_args!("[:{name}:]"));
                self.rest = rest;
                continue;
            }
            if let Some(escape) = self.rest.strip_prefix('\\') {
                let start = std::mem::replace(&mut self.rest, escape);
                if self.shared_class()? {
                    continue;
                }
                self.rest = start;
            }
            let low = self.class_char()?;
            let high = match self.rest.strip_prefix('-') {
                Some(rest) if !rest.is_empty() && !rest.starts_with(']') => {
                    self.rest = rest;
                    self.class_char()?
                }
                _ => low,
            };
            if high < low {
                return Err(format!(
                    "the range `{low}-{high}` in a class is the wrong way round"
                ));
            }
            self.put(format_args!(
                "\\x{{{:x}}}-\\x{{{:x}}}",
                u32::from(low),
                u32::from(high)
            ));
        }
    }

    fn class_char(&mut self) -> Result<char, String> {
        match self.take() {
            Some('\\') => self.escaped_char(),
            Some(c) => Ok(c),
            None => Err("a `[` has no closing `]`".into()),
        }
    }

    fn put(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a String can't fail.
        if self.out.write_fmt(text).is_err() {
            self.out.clear();
        }
    }
}

/// After `{`: `N}`, `N,}` or `N,M}` as a repetition operator, and what follows it. `None`: the brace is literal.
fn counts(text: &str) -> Option<(Result<String, String>, &str)> {
    let (inner, rest) = text.split_once('}')?;
    let (low, high) = match inner.split_once(',') {
        None => (inner, Some(inner)),
        Some((low, "")) => (low, None),
        Some((low, high)) => (low, Some(high)),
    };
    let is_number = |text: &str| {
        !text.is_empty()
            && text.bytes().all(|b| b.is_ascii_digit())
            && (text == "0" || !text.starts_with('0'))
    };
    if !is_number(low) || !high.is_none_or(is_number) {
        return None;
    }
    let number = |text: &str| text.parse::<u32>().ok().filter(|n| *n <= MAX_REPEAT);
    let valid = match (number(low), high.map(number)) {
        (Some(_), None) => true,
        (Some(low), Some(Some(high))) => low <= high,
        _ => false,
    };
    let operator = format!("{{{inner}}}");
    let checked = if valid {
        Ok(operator)
    } else {
        Err(format!(
            "`{operator}` is not a repetition of at most {MAX_REPEAT}, smaller number first"
        ))
    };
    Some((checked, rest))
}

#[cfg(test)]
mod tests;
