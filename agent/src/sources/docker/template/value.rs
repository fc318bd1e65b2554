//! Values of a template and what Go does with them.

use std::collections::BTreeMap;
use std::fmt;

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// What a missing key gives.
    Nil,
    Text(String),
    Flag(bool),
    Integer(i64),
    List(Vec<Value>),
    Map(BTreeMap<String, Value>),
}

impl Value {
    /// Go's truth: not the zero value of its type.
    pub(super) fn truth(&self) -> bool {
        match self {
            Self::Nil => false,
            Self::Text(text) => !text.is_empty(),
            Self::Flag(flag) => *flag,
            Self::Integer(number) => *number != 0,
            Self::List(list) => !list.is_empty(),
            Self::Map(map) => !map.is_empty(),
        }
    }

    /// The value one field below. A key that is not there is nil.
    pub(super) fn field(&self, name: &str) -> Result<Value, String> {
        match self {
            Self::Map(map) => Ok(map.get(name).cloned().unwrap_or(Value::Nil)),
            Self::Nil => Err(format!("`.{name}` of a value that is not there")),
            other => Err(format!("`.{name}` of {}, which has no fields", other.kind())),
        }
    }

    /// What it is, for errors.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Nil => "nil",
            Self::Text(_) => "a string",
            Self::Flag(_) => "a boolean",
            Self::Integer(_) => "a number",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        }
    }
}

/// As Go prints it.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nil => f.write_str("<no value>"),
            Self::Text(text) => f.write_str(text),
            Self::Flag(flag) => write!(f, "{flag}"),
            Self::Integer(number) => write!(f, "{number}"),
            Self::List(list) => {
                let items: Vec<String> = list.iter().map(ToString::to_string).collect();
                write!(f, "[{}]", items.join(" "))
            }
            Self::Map(map) => {
                let items: Vec<String> = map.iter().map(|(key, value)| format!("{key}:{value}")).collect();
                write!(f, "map[{}]", items.join(" "))
            }
        }
    }
}
