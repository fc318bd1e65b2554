//! TOML 1.1. The parser goes on after an error, so all of them are reported.

use std::collections::HashSet;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::position::Lines;
use super::{Entry, MAX_NODES, Node, Report, ScalarKind, Value};
use crate::{ConfigError, Origin};

pub(super) fn parse(text: &str, report: &mut Report) -> Option<Node> {
    let lines = Lines::of(text);
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut said = HashSet::new();
    for error in &errors {
        let span = error.span().unwrap_or_default();
        // Brackets that are never closed are all missed at the end: once is enough.
        if !said.insert((span.start, error.message())) {
            continue;
        }
        let (line, column) = lines.place(span.start);
        let origin = report.origin(line, column);
        // The parser keeps the first one, so the rest of the tree can be judged.
        if error.message() == "duplicate key" {
            let key = text.get(span).unwrap_or_default().trim();
            let error = ConfigError::new(origin, key, "the key stands here again");
            report.errors.push(error.hint("keep one of them"));
        } else {
            report.syntax(
                origin,
                format!("not valid TOML: {}", error.message().replace('\n', ", ")),
            );
        }
    }
    let mut reader = Reader {
        text,
        lines,
        report,
        nodes: 0,
    };
    // The parser bounds the depth (80) itself.
    let entries = reader.entries(table.into_inner());
    if reader.nodes > MAX_NODES {
        let origin = reader.report.origin(1, 1);
        reader
            .report
            .syntax(origin, format!("holds more than {MAX_NODES} values"));
    }
    Some(Node::map(report.origin(1, 1), entries))
}

struct Reader<'t, 'r> {
    text: &'t str,
    lines: Lines<'t>,
    report: &'r mut Report,
    nodes: usize,
}

impl Reader<'_, '_> {
    fn entries(&mut self, table: DeTable<'_>) -> Vec<Entry> {
        let mut entries: Vec<(usize, Entry)> = Vec::new();
        for (key, value) in table {
            let at = key.span().start;
            let entry = Entry {
                origin: self.origin(key.span()),
                key: key.into_inner().into_owned(),
                node: self.node(value),
            };
            entries.push((at, entry));
        }
        // The table sorts by name; errors and lists of names read better in the order of the text.
        entries.sort_by_key(|(at, _)| *at);
        entries.into_iter().map(|(_, entry)| entry).collect()
    }

    fn node(&mut self, value: Spanned<DeValue<'_>>) -> Node {
        self.nodes += 1;
        let span = value.span();
        let origin = self.origin(span.clone());
        // As written, so that a number can still become a string; without the separators TOML allows in numbers.
        let written = || {
            self.text
                .get(span.clone())
                .unwrap_or_default()
                .trim_start_matches('+')
                .replace('_', "")
        };
        match value.into_inner() {
            DeValue::String(text) => Node::text(origin, text),
            DeValue::Integer(_) => Node::scalar(origin, ScalarKind::Integer, written()),
            DeValue::Float(_) => Node::scalar(origin, ScalarKind::Float, written()),
            DeValue::Boolean(flag) => Node::scalar(origin, ScalarKind::Bool, flag.to_string()),
            DeValue::Datetime(date) => Node::text(origin, date.to_string()),
            DeValue::Array(items) => {
                let items = items.into_iter().map(|item| self.node(item)).collect();
                let value = Value::List(items);
                Node { origin, value }
            }
            DeValue::Table(table) => {
                let entries = self.entries(table);
                Node::map(origin, entries)
            }
        }
    }

    fn origin(&self, span: Range<usize>) -> Origin {
        let (line, column) = self.lines.place(span.start);
        self.report.origin(line, column)
    }
}
