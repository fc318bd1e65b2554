//! Regular expressions, each with a text that it matches, unless it is none.

use fastrand::Rng;

use super::vocabulary::{chance, pick};

/// An expression and a text that it matches, most of the time.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    pub(super) expression: String,
    pub(super) sample: String,
}

/// Pieces that say more than their text: the expression, and what it matches.
const PIECES: &[(&str, &str)] = &[
    ("[a-z]+", "abc"),
    ("[^/]+", "x1"),
    ("\\d{1,3}", "42"),
    ("\\d", "7"),
    ("\\w*", "w_1"),
    (".", "z"),
    (".*", ""),
    (".+?", "q"),
    ("(a|b)", "b"),
    ("(?:v1|v2)", "v2"),
    ("(?i)Foo", "fOO"),
    ("(?i:bar)", "BAR"),
    ("x?", ""),
    ("x{2,}", "xx"),
    ("\\.", "."),
    ("[[:alpha:]]", "k"),
    ("[[:^alpha:]]", "9"),
    ("\\pL", "ü"),
    ("\\p{Greek}", "λ"),
    ("\\PN", "n"),
    ("\\Qa.b\\E", "a.b"),
    ("\\bfoo\\b", "foo"),
    ("(?P<name>y)", "y"),
    ("(?<other>y)", "y"),
    ("(?s:.)", "\u{e9}"),
    ("\\x41", "A"),
    ("\\x{e9}", "é"),
    ("\\101", "A"),
    ("[\\w-]+", "a-b"),
    ("[a\\]]", "]"),
    ("[]a]", "]"),
    ("[^]a]", "b"),
    ("\\/", "/"),
    ("\\-", "-"),
    ("[a-c&&b]", "b"),
    ("[a--b]", "-"),
    ("[\\d\\s]", "3"),
    ("\\S", "s"),
    ("\\D", "d"),
    ("\\W", "-"),
    ("(?U)a+", "a"),
    ("(?m)^a$", "a"),
    ("()", ""),
    ("(|a)", "a"),
    ("a**", "a"),
    ("a{0}", ""),
    ("a{,2}", "a{,2}"),
    ("{", "{"),
    ("}", "}"),
    ("]", "]"),
    ("\\a", "\u{7}"),
    ("\\_", "_"),
    ("\\%", "%"),
    ("[é-ü]", "ö"),
    ("\\C", "c"),
    ("(?i)ſ", "S"),
    ("(?i)k", "\u{212a}"),
    ("\\s", " "),
    ("a{2}{3}", "aaaaaa"),
    ("(?:a?){1,2}", "a"),
    ("#", "#"),
    ("(?-i)z", "z"),
    ("\\z", ""),
    ("[[:word:]]", "_"),
    ("[a-\\d]", "5"),
    ("\\t", "\t"),
    ("~", "~"),
    ("&&", "&&"),
];

/// What no reader of expressions takes, or not every one.
const BROKEN: &[&str] = &[
    "(",
    "[",
    "*a",
    "a{1001}",
    "(?=x)",
    "(?!x)",
    "\\1",
    "(?<=x)",
    "\\pX",
    "a{2,1}",
    "\\8",
    "[z-a]",
    "\\Z",
    "(?x) a",
    "a++",
    "\\",
    "[a",
    "(?P<n>a)(?P<n>b)",
    "(?P<1a>x)",
    "x{1000}{1000}",
    "[[:nope:]]",
    "(?z)",
    "\\h",
    "\\R",
    "\\K",
    "(?>a)",
    "\\u00e9",
    "\\p{Foo}",
    "\\G",
    ")",
    "a)",
    "(?R)",
    "\\x{110000}",
    "\\e",
    "\\N",
    "\\X",
    "(?i",
    "[\\b]",
    "+",
];

/// Makes one around some of these words.
pub(super) fn pattern(rng: &mut Rng, words: &[&str]) -> Pattern {
    if chance(rng, 4) {
        let expression = format!("{}{}", pick(rng, words), pick(rng, BROKEN));
        return Pattern {
            sample: pick(rng, words).to_owned(),
            expression,
        };
    }
    let mut made = Pattern {
        expression: String::new(),
        sample: String::new(),
    };
    let word = pick(rng, words);
    let escape = chance(rng, 70);
    if chance(rng, 50) {
        made.expression.push('^');
    }
    made.push(&if escape { escaped(word) } else { word.to_owned() }, word);
    for _ in 0..rng.usize(..3) {
        let (expression, sample) = PIECES[rng.usize(..PIECES.len())];
        made.push(expression, sample);
        if chance(rng, 40) {
            let word = pick(rng, &["/", "x", "-1", ".", "end"]);
            made.push(&escaped(word), word);
        }
    }
    if chance(rng, 30) {
        made.expression += pick(rng, &["$", "\\z"]);
    }
    if chance(rng, 8) {
        made.expression = format!("({})|{}", made.expression, escaped(pick(rng, words)));
    }
    made
}

impl Pattern {
    fn push(&mut self, expression: &str, sample: &str) {
        self.expression += expression;
        self.sample += sample;
    }
}

fn escaped(word: &str) -> String {
    let mut out = String::new();
    for letter in word.chars() {
        if "\\.+*?()|[]{}^$".contains(letter) {
            out.push('\\');
        }
        out.push(letter);
    }
    out
}
