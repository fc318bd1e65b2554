//! The functions of rules: Go's own, sprig's for strings, and `normalize`. Arguments stand in sprig's order, with the
//! string last, so that it can come through a pipe.

use regex::Regex;

use super::value::Value;
use crate::sources::docker::name::normalize;

/// What `repeat` and the like may make.
const MAX_TEXT: usize = 64 * 1024;

/// A function and how many arguments it takes.
pub(super) struct Function {
    pub(super) name: &'static str,
    pub(super) least: usize,
    pub(super) most: usize,
    pub(super) call: Call,
}

type Call = fn(&[Value]) -> Result<Value, String>;

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// The function of that name.
pub(super) fn find(name: &str) -> Option<&'static Function> {
    FUNCTIONS.iter().find(|function| function.name == name)
}

/// All names, for errors.
pub(super) fn names() -> String {
    let names: Vec<&str> = FUNCTIONS.iter().map(|function| function.name).collect();
    names.join(", ")
}

const ANY: usize = usize::MAX;

const fn function(name: &'static str, least: usize, most: usize, call: Call) -> Function {
    Function {
        name,
        least,
        most,
        call,
    }
}

static FUNCTIONS: [Function; 51] = [
    function("and", 1, ANY, |values| choose(values, |value| !value.truth())),
    function("atoi", 1, 1, |values| Ok(integer_of(&values[0]))),
    function("coalesce", 0, ANY, |values| {
        Ok(values
            .iter()
            .find(|value| value.truth())
            .cloned()
            .unwrap_or(Value::Nil))
    }),
    function("contains", 2, 2, |values| {
        test(values, |part, text| text.contains(part))
    }),
    function("default", 1, 2, |values| {
        Ok(values
            .get(1)
            .filter(|value| value.truth())
            .unwrap_or(&values[0])
            .clone())
    }),
    function("empty", 1, 1, |values| Ok(Value::Flag(!values[0].truth()))),
    function("eq", 2, ANY, |values| {
        Ok(Value::Flag(values[1..].iter().any(|value| *value == values[0])))
    }),
    function("first", 1, 1, |values| {
        Ok(list(&values[0])?.first().cloned().unwrap_or(Value::Nil))
    }),
    function("ge", 2, 2, |values| Ok(Value::Flag(order(values)?.is_ge()))),
    function("get", 2, 2, |values| {
        let value = values[0].field(text(&values[1])?)?;
        Ok(if value == Value::Nil {
            Value::Text(String::new())
        } else {
            value
        })
    }),
    function("gt", 2, 2, |values| Ok(Value::Flag(order(values)?.is_gt()))),
    function("hasKey", 2, 2, |values| {
        Ok(Value::Flag(values[0].field(text(&values[1])?)? != Value::Nil))
    }),
    function("hasPrefix", 2, 2, |values| {
        test(values, |part, text| text.starts_with(part))
    }),
    function("hasSuffix", 2, 2, |values| {
        test(values, |part, text| text.ends_with(part))
    }),
    function("index", 1, ANY, index),
    function("int", 1, 1, |values| Ok(integer_of(&values[0]))),
    function("join", 2, 2, |values| {
        let words: Vec<String> = list(&values[1])?.iter().map(ToString::to_string).collect();
        Ok(Value::Text(words.join(text(&values[0])?)))
    }),
    function("last", 1, 1, |values| {
        Ok(list(&values[0])?.last().cloned().unwrap_or(Value::Nil))
    }),
    function("le", 2, 2, |values| Ok(Value::Flag(order(values)?.is_le()))),
    function("len", 1, 1, length),
    function("list", 0, ANY, |values| Ok(Value::List(values.to_vec()))),
    function("lower", 1, 1, |values| map(values, str::to_lowercase)),
    function("lt", 2, 2, |values| Ok(Value::Flag(order(values)?.is_lt()))),
    function("ne", 2, 2, |values| Ok(Value::Flag(values[0] != values[1]))),
    function("normalize", 1, 1, |values| map(values, normalize)),
    function("nospace", 1, 1, |values| {
        map(values, |text| {
            text.chars().filter(|c| !c.is_whitespace()).collect()
        })
    }),
    function("not", 1, 1, |values| Ok(Value::Flag(!values[0].truth()))),
    function("or", 1, ANY, |values| choose(values, Value::truth)),
    function("print", 0, ANY, |values| {
        Ok(Value::Text(values.iter().map(ToString::to_string).collect()))
    }),
    function("printf", 1, ANY, |values| {
        format(text(&values[0])?, &values[1..]).map(Value::Text)
    }),
    function("quote", 0, ANY, |values| {
        Ok(Value::Text(enclose(values, |text| format!("{text:?}"))))
    }),
    function("regexFind", 2, 2, |values| {
        let found = pattern(&values[0])?.find(text(&values[1])?);
        Ok(Value::Text(found.map_or("", |found| found.as_str()).to_owned()))
    }),
    function("regexMatch", 2, 2, |values| {
        Ok(Value::Flag(pattern(&values[0])?.is_match(text(&values[1])?)))
    }),
    function("regexReplaceAll", 3, 3, |values| {
        let replaced = pattern(&values[0])?
            .replace_all(text(&values[1])?, text(&values[2])?)
            .into_owned();
        Ok(Value::Text(replaced))
    }),
    function("regexReplaceAllLiteral", 3, 3, |values| {
        let replacement = regex::NoExpand(text(&values[2])?);
        let replaced = pattern(&values[0])?
            .replace_all(text(&values[1])?, replacement)
            .into_owned();
        Ok(Value::Text(replaced))
    }),
    function("repeat", 2, 2, |values| {
        let (count, text) = (size(&values[0])?, text(&values[1])?);
        if text.len().saturating_mul(count) > MAX_TEXT {
            return Err(format!("the text is longer than {MAX_TEXT} bytes"));
        }
        Ok(Value::Text(text.repeat(count)))
    }),
    function("replace", 3, 3, |values| {
        let (old, new) = (text(&values[0])?, text(&values[1])?);
        Ok(Value::Text(text(&values[2])?.replace(old, new)))
    }),
    function("split", 2, 2, |values| {
        let parts = text(&values[1])?.split(text(&values[0])?).enumerate();
        Ok(Value::Map(
            parts
                .map(|(at, part)| (format!("_{at}"), Value::Text(part.to_owned())))
                .collect(),
        ))
    }),
    function("splitList", 2, 2, |values| {
        let parts = text(&values[1])?.split(text(&values[0])?);
        Ok(Value::List(
            parts.map(|part| Value::Text(part.to_owned())).collect(),
        ))
    }),
    function("squote", 0, ANY, |values| {
        Ok(Value::Text(enclose(values, |text| format!("'{text}'"))))
    }),
    function("substr", 3, 3, substring),
    function("ternary", 3, 3, |values| match &values[2] {
        Value::Flag(true) => Ok(values[0].clone()),
        Value::Flag(false) => Ok(values[1].clone()),
        other => Err(format!("expected a boolean, got {}", other.kind())),
    }),
    function("title", 1, 1, |values| map(values, title)),
    function("toString", 1, 1, |values| Ok(Value::Text(values[0].to_string()))),
    function("trim", 1, 1, |values| map(values, |text| text.trim().to_owned())),
    function("trimAll", 2, 2, |values| {
        let unwanted: Vec<char> = text(&values[0])?.chars().collect();
        Ok(Value::Text(
            text(&values[1])?.trim_matches(unwanted.as_slice()).to_owned(),
        ))
    }),
    function("trimPrefix", 2, 2, |values| {
        let (part, text) = (text(&values[0])?, text(&values[1])?);
        Ok(Value::Text(text.strip_prefix(part).unwrap_or(text).to_owned()))
    }),
    function("trimSuffix", 2, 2, |values| {
        let (part, text) = (text(&values[0])?, text(&values[1])?);
        Ok(Value::Text(text.strip_suffix(part).unwrap_or(text).to_owned()))
    }),
    function("trunc", 2, 2, |values| {
        let (count, text) = (size(&values[0])?, text(&values[1])?);
        Ok(Value::Text(text.chars().take(count).collect()))
    }),
    function("untitle", 1, 1, |values| map(values, untitle)),
    function("upper", 1, 1, |values| map(values, str::to_uppercase)),
];

/// Whether `printf` can do what `format` asks.
pub(super) fn check_format(format: &str) -> Result<(), String> {
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            continue;
        }
        match chars.next() {
            Some('s' | 'v' | 'd' | 'q' | 't' | '%') => {}
            Some(other) => {
                return Err(format!(
                    "printf: `%{other}` is not supported; there are %s %v %d %q %t %%"
                ));
            }
            None => return Err("printf: `%` at the end; write `%%`".to_owned()),
        }
    }
    Ok(())
}

fn format(format: &str, values: &[Value]) -> Result<String, String> {
    check_format(format)?;
    let mut output = String::new();
    let mut values = values.iter();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            output.push(c);
            continue;
        }
        let verb = chars.next();
        if verb == Some('%') {
            output.push('%');
            continue;
        }
        let value = values.next().ok_or("more verbs than values")?;
        match (verb, value) {
            (Some('q'), value) => output.push_str(&format!("{:?}", value.to_string())),
            (Some('d'), Value::Integer(number)) => output.push_str(&number.to_string()),
            (Some('d'), other) => return Err(format!("%d expects a number, got {}", other.kind())),
            (_, value) => output.push_str(&value.to_string()),
        }
    }
    if values.next().is_some() {
        return Err("more values than verbs".to_owned());
    }
    Ok(output)
}

fn text(value: &Value) -> Result<&str, String> {
    match value {
        Value::Text(text) => Ok(text),
        other => Err(format!("expected a string, got {}", other.kind())),
    }
}

fn list(value: &Value) -> Result<&[Value], String> {
    match value {
        Value::List(list) => Ok(list),
        other => Err(format!("expected a list, got {}", other.kind())),
    }
}

fn size(value: &Value) -> Result<usize, String> {
    match value {
        Value::Integer(number) => usize::try_from(*number).map_err(|_| format!("{number} is negative")),
        other => Err(format!("expected a number, got {}", other.kind())),
    }
}

fn pattern(value: &Value) -> Result<Regex, String> {
    Regex::new(text(value)?).map_err(|error| error.to_string())
}

fn map(values: &[Value], change: impl Fn(&str) -> String) -> Result<Value, String> {
    Ok(Value::Text(change(text(&values[0])?)))
}

fn test(values: &[Value], test: impl Fn(&str, &str) -> bool) -> Result<Value, String> {
    Ok(Value::Flag(test(text(&values[0])?, text(&values[1])?)))
}

/// The first value that ends the search, else the last.
fn choose(values: &[Value], ends: impl Fn(&Value) -> bool) -> Result<Value, String> {
    let chosen = values.iter().find(|value| ends(value)).or(values.last());
    Ok(chosen.cloned().unwrap_or(Value::Nil))
}

/// As sprig: what isn't a number is 0.
fn integer_of(value: &Value) -> Value {
    Value::Integer(match value {
        Value::Integer(number) => *number,
        Value::Text(text) => text.parse().unwrap_or(0),
        Value::Flag(flag) => i64::from(*flag),
        _ => 0,
    })
}

fn index(values: &[Value]) -> Result<Value, String> {
    let mut value = values[0].clone();
    for key in &values[1..] {
        value = match (&value, key) {
            // Go gives the zero value of the map's elements, which are strings.
            (Value::Map(map), Value::Text(key)) => map
                .get(key)
                .cloned()
                .unwrap_or_else(|| Value::Text(String::new())),
            (Value::List(list), key) => {
                let at = size(key)?;
                let found = list.get(at).cloned();
                found.ok_or_else(|| format!("index {at} of a list of {}", list.len()))?
            }
            (value, key) => return Err(format!("{} has no index that is {}", value.kind(), key.kind())),
        };
    }
    Ok(value)
}

fn length(values: &[Value]) -> Result<Value, String> {
    let length = match &values[0] {
        Value::Text(text) => text.len(),
        Value::List(list) => list.len(),
        Value::Map(map) => map.len(),
        other => return Err(format!("{} has no length", other.kind())),
    };
    i64::try_from(length)
        .map(Value::Integer)
        .map_err(|error| error.to_string())
}

fn order(values: &[Value]) -> Result<std::cmp::Ordering, String> {
    match (&values[0], &values[1]) {
        (Value::Integer(a), Value::Integer(b)) => Ok(a.cmp(b)),
        (Value::Text(a), Value::Text(b)) => Ok(a.cmp(b)),
        (a, b) => Err(format!("{} and {} have no order", a.kind(), b.kind())),
    }
}

/// Characters rather than bytes, so that no letter is cut; the same for ASCII.
fn substring(values: &[Value]) -> Result<Value, String> {
    let text = text(&values[2])?;
    let start = match &values[0] {
        Value::Integer(start) if *start < 0 => 0,
        value => size(value)?,
    };
    let rest = text.chars().skip(start);
    Ok(Value::Text(match &values[1] {
        Value::Integer(end) if *end < 0 => rest.collect(),
        value => rest.take(size(value)?.saturating_sub(start)).collect(),
    }))
}

fn title(text: &str) -> String {
    let mut start = true;
    let mut titled = String::with_capacity(text.len());
    for c in text.chars() {
        if start {
            titled.extend(c.to_uppercase());
        } else {
            titled.push(c);
        }
        start = !c.is_alphanumeric() && c != '_' && c != '\'';
    }
    titled
}

fn untitle(text: &str) -> String {
    let mut start = true;
    let mut untitled = String::with_capacity(text.len());
    for c in text.chars() {
        if start {
            untitled.extend(c.to_lowercase());
        } else {
            untitled.push(c);
        }
        start = c.is_whitespace();
    }
    untitled
}

fn enclose(values: &[Value], quote: impl Fn(&str) -> String) -> String {
    let values = values.iter().filter(|value| **value != Value::Nil);
    let quoted: Vec<String> = values.map(|value| quote(&value.to_string())).collect();
    quoted.join(" ")
}
