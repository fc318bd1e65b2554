//! YAML 1.2 by its core schema, with the merge key `<<` that Compose and Traefik users know from 1.1.

use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span, StrInput, Tag};

use super::{Entry, MAX_DEPTH, MAX_NODES, Node, Report, ScalarKind, Value, too_deep};
use crate::{ConfigError, Origin};

/// Why reading stops; the report says the rest.
struct Stop;

type Step<T> = Result<T, Stop>;

pub(super) fn parse(text: &str, report: &mut Report) -> Option<Node> {
    let mut reader = Reader {
        parser: Parser::new_from_str(text),
        report,
        anchors: HashMap::new(),
        nodes: 0,
    };
    reader.document().ok()
}

struct Reader<'t, 'r> {
    parser: Parser<'t, StrInput<'t>>,
    report: &'r mut Report,
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

impl<'t> Reader<'t, '_> {
    fn document(&mut self) -> Step<Node> {
        let mut root = None;
        loop {
            let (event, span) = self.event()?;
            match event {
                Event::StreamEnd => break,
                Event::Nothing | Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd => {}
                event => {
                    let origin = self.origin(span.start);
                    let node = self.node(event, span, 0)?;
                    match &root {
                        None => root = Some(node),
                        // `---` at the end opens a document without content.
                        Some(_) if node.is_null() => {}
                        Some(_) => {
                            let message = "a second YAML document starts here; only one is read";
                            let error = ConfigError::new(origin, "", message);
                            self.report
                                .errors
                                .push(error.hint("put it into a file of its own"));
                            return Err(Stop);
                        }
                    }
                }
            }
        }
        Ok(root.unwrap_or_else(|| Node::null(self.report.origin(1, 1))))
    }

    fn node(&mut self, event: Event<'t>, span: Span, depth: usize) -> Step<Node> {
        let origin = self.origin(span.start);
        self.count(1, &origin)?;
        if depth > MAX_DEPTH {
            self.report.syntax(origin, too_deep());
            return Err(Stop);
        }
        let (anchor, node) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let kind = self.kind(&text, style, tag.as_deref(), &origin);
                (anchor, Node::scalar(origin, kind, text))
            }
            Event::SequenceStart(anchor, _) => {
                let mut items = Vec::new();
                loop {
                    let (event, span) = self.event()?;
                    if event == Event::SequenceEnd {
                        break;
                    }
                    items.push(self.node(event, span, depth + 1)?);
                }
                // Most lists and maps hold one or two values and would keep the room for four.
                items.shrink_to_fit();
                let value = Value::List(items);
                (anchor, Node { origin, value })
            }
            Event::MappingStart(anchor, _) => (anchor, self.map(origin, depth)?),
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor) else {
                    let message = "the alias stands inside the value it names";
                    self.report.syntax(origin, message);
                    return Err(Stop);
                };
                let node = node.clone();
                self.count(node.size(), &origin)?;
                return Ok(node);
            }
            // The parser sends nothing else inside a document.
            _ => return Ok(Node::null(origin)),
        };
        if anchor > 0 {
            self.count(node.size(), &node.origin)?;
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn map(&mut self, origin: Origin, depth: usize) -> Step<Node> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut merged = Vec::new();
        loop {
            let (event, span) = self.event()?;
            let key_origin = self.origin(span.start);
            let key = match event {
                Event::MappingEnd => break,
                Event::Scalar(text, style, _, _) => {
                    if text == "<<" && style == ScalarStyle::Plain {
                        let (event, span) = self.event()?;
                        merged.push(self.node(event, span, depth + 1)?);
                        continue;
                    }
                    text.into_owned()
                }
                other => {
                    let mut error = ConfigError::new(key_origin, "", "a key must be a plain value")
                        .expected("a name followed by a colon");
                    if matches!(other, Event::MappingStart(..)) {
                        error = error.hint("a value that starts with `{` needs quotes around it");
                    }
                    self.report.errors.push(error);
                    return Err(Stop);
                }
            };
            let (event, span) = self.event()?;
            let node = self.node(event, span, depth + 1)?;
            entries.push(Entry {
                key,
                origin: key_origin,
                node,
            });
        }
        for node in merged {
            self.merge(&mut entries, node);
        }
        entries.shrink_to_fit();
        Ok(Node::map(origin, entries))
    }

    /// Adds what `<<` brings: keys of the map itself win, then those of the first map merged.
    fn merge(&mut self, entries: &mut Vec<Entry>, node: Node) {
        let maps = match node.value {
            Value::Map(_) => vec![node],
            Value::List(items) if items.iter().all(|item| matches!(item.value, Value::Map(_))) => items,
            _ => {
                let error = ConfigError::new(node.origin.clone(), "<<", "cannot be merged")
                    .value(node.shown())
                    .expected("an alias of a map, or a list of such aliases");
                self.report.errors.push(error);
                return;
            }
        };
        let mut known: HashSet<String> = entries.iter().map(|entry| entry.key.clone()).collect();
        for map in maps {
            let Value::Map(more) = map.value else { continue };
            for entry in more {
                if known.insert(entry.key.clone()) {
                    entries.push(entry);
                }
            }
        }
    }

    fn kind(&mut self, text: &str, style: ScalarStyle, tag: Option<&Tag>, origin: &Origin) -> ScalarKind {
        match tag {
            None if style == ScalarStyle::Plain => core_schema(text),
            None => ScalarKind::Text,
            Some(tag) if tag.is_yaml_core_schema() && tag.suffix == "str" => ScalarKind::Text,
            Some(tag)
                if tag.is_yaml_core_schema()
                    && matches!(tag.suffix.as_str(), "int" | "float" | "bool" | "null") =>
            {
                core_schema(text)
            }
            Some(tag) => {
                let error =
                    ConfigError::new(origin.clone(), "", format!("the YAML tag {tag} is not supported"))
                        .hint("write the value without a tag");
                self.report.errors.push(error);
                ScalarKind::Text
            }
        }
    }

    fn event(&mut self) -> Step<(Event<'t>, Span)> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => {
                self.refused(&error);
                Err(Stop)
            }
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn refused(&mut self, error: &ScanError) {
        let origin = self.origin(*error.marker());
        // The scanner reads ahead of the nodes and has a limit of its own.
        if error.info().contains("recursion limit") {
            self.report.syntax(origin, too_deep());
            return;
        }
        let mut found = ConfigError::new(origin, "", format!("not valid YAML: {}", error.info()));
        if error.info().contains("tab") {
            found = found.hint("indent with spaces");
        }
        self.report.errors.push(found);
    }

    fn count(&mut self, more: usize, origin: &Origin) -> Step<()> {
        self.nodes += more;
        if self.nodes <= MAX_NODES {
            return Ok(());
        }
        let message = format!("holds more than {MAX_NODES} values, uses of aliases counted");
        self.report.syntax(origin.clone(), message);
        Err(Stop)
    }

    fn origin(&self, marker: Marker) -> Origin {
        self.report.origin(marker.line(), marker.col() + 1)
    }
}

/// YAML 1.2.2, section 10.3.2. `yes` and `on` are texts.
fn core_schema(text: &str) -> ScalarKind {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => ScalarKind::Null,
        "true" | "True" | "TRUE" | "false" | "False" | "FALSE" => ScalarKind::Bool,
        ".nan" | ".NaN" | ".NAN" => ScalarKind::Float,
        _ => number(text),
    }
}

fn number(text: &str) -> ScalarKind {
    let radix = |prefix: &str, radix: u32| {
        text.strip_prefix(prefix)
            .is_some_and(|digits| !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix)))
    };
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if radix("0x", 16) || radix("0o", 8) {
        return ScalarKind::Integer;
    }
    if !unsigned.is_empty() && unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
        return ScalarKind::Integer;
    }
    let starts = unsigned.starts_with(|c: char| c.is_ascii_digit())
        || unsigned
            .strip_prefix('.')
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || (starts && unsigned.parse::<f64>().is_ok()) {
        return ScalarKind::Float;
    }
    ScalarKind::Text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_have_the_kind_of_the_core_schema() {
        let table = [
            ("", ScalarKind::Null),
            ("~", ScalarKind::Null),
            ("true", ScalarKind::Bool),
            ("yes", ScalarKind::Text),
            ("off", ScalarKind::Text),
            ("12", ScalarKind::Integer),
            ("-12", ScalarKind::Integer),
            ("0x1F", ScalarKind::Integer),
            ("0xg", ScalarKind::Text),
            ("1.5", ScalarKind::Float),
            (".5", ScalarKind::Float),
            ("1e3", ScalarKind::Float),
            ("-.inf", ScalarKind::Float),
            ("inf", ScalarKind::Text),
            ("1.2.3", ScalarKind::Text),
            (":80", ScalarKind::Text),
            ("10s", ScalarKind::Text),
            ("-", ScalarKind::Text),
        ];
        for (text, kind) in table {
            assert_eq!(core_schema(text), kind, "{text:?}");
        }
    }
}
