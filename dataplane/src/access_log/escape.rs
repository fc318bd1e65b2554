//! Text from the network, written so that it can't end a line, a string or an object.

use std::io::Write as _;

/// Appends `text` as a JSON string with its quotes. All control characters are escaped, those beyond ASCII too:
/// terminals obey them.
pub(super) fn json(line: &mut Vec<u8>, text: &str) {
    line.push(b'"');
    for character in text.chars() {
        match character {
            '"' => line.extend_from_slice(b"\\\""),
            '\\' => line.extend_from_slice(b"\\\\"),
            '\u{2028}' | '\u{2029}' => unicode(line, character),
            other if other.is_control() => unicode(line, other),
            other => plain(line, other),
        }
    }
    line.push(b'"');
}

/// Appends `text` for a quoted field of the common log format, without the quotes.
pub(super) fn quoted(line: &mut Vec<u8>, text: &str) {
    for character in text.chars() {
        match character {
            '"' => line.extend_from_slice(b"\\\""),
            '\\' => line.extend_from_slice(b"\\\\"),
            '\u{2028}' | '\u{2029}' => unicode(line, character),
            other if other.is_control() => unicode(line, other),
            other => plain(line, other),
        }
    }
}

/// Appends `text` for a field that ends at a space.
pub(super) fn bare(line: &mut Vec<u8>, text: &str) {
    for character in text.chars() {
        if character.is_whitespace() {
            unicode(line, character);
        } else {
            quoted(line, character.encode_utf8(&mut [0; 4]));
        }
    }
}

fn plain(line: &mut Vec<u8>, character: char) {
    line.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
}

fn unicode(line: &mut Vec<u8>, character: char) {
    for unit in character.encode_utf16(&mut [0; 2]) {
        // Writing into memory can't fail.
        write!(line, "\\u{unit:04x}").unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Escape = fn(&mut Vec<u8>, &str);

    fn with(escape: Escape, text: &str) -> String {
        let mut line = Vec::new();
        escape(&mut line, text);
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn escapes() {
        let cases: [(Escape, &str, &str); 8] = [
            (json, "plain ü", "\"plain ü\""),
            (json, "a\"b\\c", r#""a\"b\\c""#),
            (
                json,
                "a\r\nb\0\u{7f}\u{9b}\u{2028}",
                r#""a\u000d\u000ab\u0000\u007f\u009b\u2028""#,
            ),
            (quoted, "/x\" 200 0\n10.0.0.1", r#"/x\" 200 0\u000a10.0.0.1"#),
            (quoted, "\x1b[31m", r"\u001b[31m"),
            (bare, "a b", r"a\u0020b"),
            (bare, "a\u{a0}b\"", "a\\u00a0b\\\""),
            (quoted, "", ""),
        ];
        for (escape, text, expected) in cases {
            assert_eq!(with(escape, text), expected, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn json_gives_the_text_back_on_one_line(text in any::<String>()) {
            let line = with(json, &text);
            prop_assert!(!line.chars().any(char::is_control));
            prop_assert_eq!(serde_json::from_str::<String>(&line).unwrap(), text);
        }
    }
}
