//! What people write instead of v3 syntax, and what to tell them.

use std::ops::RangeInclusive;

use super::RuleError;
use super::lexer::Token;
use super::parser::{Argument, Call};

/// For a character no token starts with.
pub(super) fn stray(found: char) -> String {
    match found {
        '\'' => "single quotes do not make a string; use backticks, as in Host(`example.com`)".into(),
        '&' => "a single `&` is not an operator; write `&&`".into(),
        '|' => "a single `|` is not an operator; write `||`".into(),
        ';' => "`;` separated matchers in v1 rules; write `&&`".into(),
        ':' => "`:` followed the matcher in v1 rules; write the argument in parentheses, as in Host(`example.com`)".into(),
        '“' | '”' | '‘' | '’' | '´' => {
            format!("`{found}` is a typographic quote; use backticks, as in Host(`example.com`)")
        }
        '!' => "`!=` is not an operator; put `!` in front of the matcher, as in !Host(`example.com`)".into(),
        other => format!("{other:?} has no meaning in a rule outside of a string"),
    }
}

/// For a token where the rule should end or an operator should stand.
pub(super) fn after_matcher(found: &Token<'_>) -> String {
    match found {
        Token::Name(word) if word.eq_ignore_ascii_case("and") => {
            format!("`{word}` is not an operator; write `&&`")
        }
        Token::Name(word) if word.eq_ignore_ascii_case("or") => {
            format!("`{word}` is not an operator; write `||`")
        }
        Token::Comma => "`,` does not join matchers; write `&&` (v1 `;`) or `||` (v1 `,`)".into(),
        Token::Close => "this `)` closes nothing; remove it, or add the missing `(`".into(),
        Token::End => "the rule ends too early".into(),
        other => format!(
            "expected `&&`, `||` or the end of the rule, found {}",
            other.describe()
        ),
    }
}

/// For a token where a matcher should start.
pub(super) fn no_matcher(found: &Token<'_>) -> String {
    match found {
        Token::End => "expected a matcher such as Host(`example.com`), but the rule ends here".into(),
        other => format!(
            "expected a matcher such as Host(`example.com`), found {}",
            other.describe()
        ),
    }
}

/// For a name without an opening parenthesis after it.
pub(super) fn no_arguments(name: &str, found: &Token<'_>) -> String {
    match name.to_ascii_lowercase().as_str() {
        "and" => format!("`{name}` is not an operator; write `&&`"),
        "or" => format!("`{name}` is not an operator; write `||`"),
        "not" => format!("`{name}` is not an operator; write `!`"),
        _ => format!(
            "expected `(` with the arguments of `{name}`, found {}; write them as in Host(`example.com`)",
            found.describe()
        ),
    }
}

/// For an argument that is not a string.
pub(super) fn no_string(name: &str, found: &Token<'_>) -> String {
    match found {
        Token::Name(word) => {
            format!("the arguments of `{name}` are strings; write `{name}(`{word}`)` with backticks")
        }
        Token::End => format!("the arguments of `{name}` have no closing `)`"),
        other => format!(
            "expected a string in backticks as argument of `{name}`, found {}",
            other.describe()
        ),
    }
}

/// Finds the matcher a rule means. Accepted spellings are the documented one, all lower, all upper, and the first
/// letter alone in upper case, as in Traefik.
pub(super) fn resolve(written: &str, names: &[&'static str]) -> Result<&'static str, String> {
    resolve_known(written, names)?.ok_or_else(|| unknown_in_http(written, names))
}

/// The same for the rule of a TCP router.
pub(super) fn resolve_tcp(written: &str, names: &[&'static str]) -> Result<&'static str, String> {
    resolve_known(written, names)?.ok_or_else(|| {
        let instead = match written.to_ascii_lowercase().as_str() {
            "host" => "TCP rules use `HostSNI`, as in HostSNI(`example.com`)",
            "hostregexp" => "TCP rules use `HostSNIRegexp`",
            "path" | "pathprefix" | "pathregexp" | "method" | "header" | "headerregexp" | "query"
            | "queryregexp" => "it belongs to HTTP routers",
            _ => return format!("unknown matcher `{written}`; known are {}", names.join(", ")),
        };
        format!("unknown matcher `{written}`; {instead}")
    })
}

/// The matcher, when there is one of that name in any case; the error says how it is written.
fn resolve_known(written: &str, names: &[&'static str]) -> Result<Option<&'static str>, String> {
    let lower = written.to_ascii_lowercase();
    if let Some(name) = names.iter().find(|name| name.eq_ignore_ascii_case(&lower)) {
        let mut title = lower.clone();
        if let Some(first) = title.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        let accepted = [*name, &lower, &title, &written.to_ascii_uppercase()].contains(&written);
        return if accepted {
            Ok(Some(*name))
        } else {
            Err(format!("unknown matcher `{written}`; write `{name}`"))
        };
    }
    Ok(None)
}

fn unknown_in_http(written: &str, names: &[&'static str]) -> String {
    let instead = match written.to_ascii_lowercase().as_str() {
        "hostheader" => "v3 calls it `Host`, as in Host(`example.com`)",
        "headers" => "v3 calls it `Header`, as in Header(`X-Name`, `value`)",
        "headersregexp" => "v3 calls it `HeaderRegexp`, as in HeaderRegexp(`X-Name`, `^v`)",
        "pathstrip" | "pathprefixstrip" | "pathstripregex" | "pathprefixstripregex" => {
            "write `PathPrefix` in the rule and strip the prefix with the middleware `stripPrefix`"
        }
        "replacepath" | "replacepathregex" | "addprefix" => "it became the middleware of that name",
        "hostsni" | "hostsniregexp" | "alpn" => "it belongs to TCP routers; HTTP rules use `Host`",
        _ => return format!("unknown matcher `{written}`; known are {}", names.join(", ")),
    };
    format!("unknown matcher `{written}`; {instead}")
}

/// For a wrong number of arguments.
pub(super) fn arity(name: &str, wanted: &RangeInclusive<usize>, call: &Call<'_>) -> String {
    let found = call.args.len();
    let wants = match (wanted.start(), wanted.end()) {
        (1, 1) => "one argument".to_owned(),
        (low, high) if low == high => format!("{low} arguments"),
        (low, high) => format!("{low} to {high} arguments"),
    };
    let mut message = format!("`{name}` takes {wants}, found {found}");
    if *wanted.end() == 1 && found > 1 {
        let each: Vec<_> = call
            .args
            .iter()
            .map(|argument| format!("{name}(`{}`)", argument.value))
            .collect();
        message.push_str("; v2 lists become alternatives in v3: ");
        message.push_str(&each.join(" || "));
    }
    message
}

/// Refuses v2's `{name:pattern}` where it could never match: no host contains a brace. `instead` is the matcher to use.
pub(super) fn braces(instead: &str, argument: &Argument) -> Result<(), RuleError> {
    let named = argument.value.match_indices('{').find(|(at, _)| {
        let before = argument.value.get(..*at).unwrap_or_default();
        let inner = argument.value.get(at + 1..).unwrap_or_default();
        // `\p{Greek}` and `\x{e9}` are what a plain regular expression may have.
        let escape = [r"\p", r"\P", r"\x"]
            .iter()
            .any(|escape| before.ends_with(escape));
        let name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let after = inner.trim_start_matches(name);
        !escape
            && inner.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && (after.starts_with('}') || after.starts_with(':') && after.contains('}'))
    });
    match named {
        None => Ok(()),
        Some(_) => Err(RuleError::new(
            argument.offset,
            format!(
                "`{{name:pattern}}` in {:?} is v2 syntax; v3 takes a plain regular expression, \
                 as in {instead}(`^[a-z]+\\.example\\.com$`)",
                argument.value
            ),
        )),
    }
}
