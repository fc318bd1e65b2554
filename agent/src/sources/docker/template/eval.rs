//! Pieces to text.

use super::parse::{Base, Command, Operand, Piece, Pipeline};
use super::value::Value;

/// The text that a template may grow to; no rule is near it.
const MAX_OUTPUT: usize = 64 * 1024;

/// Turns that all its `range` may make together.
const MAX_TURNS: usize = 64 * 1024;

struct Frame<'a> {
    root: &'a Value,
    /// Inner last.
    variables: Vec<(String, Value)>,
    output: String,
    /// Of `range`, so far.
    turns: usize,
}

/// Renders with `root` as the dot.
pub(super) fn render(pieces: &[Piece], root: &Value) -> Result<String, String> {
    let mut frame = Frame {
        root,
        variables: Vec::new(),
        output: String::new(),
        turns: 0,
    };
    frame.pieces(pieces, root)?;
    Ok(frame.output)
}

/// What `range` goes through, each with what it is known by.
fn items(over: Value) -> Result<Vec<(Value, Value)>, String> {
    match over {
        Value::List(list) => Ok((0..).map(Value::Integer).zip(list).collect()),
        Value::Map(map) => Ok(map
            .into_iter()
            .map(|(key, value)| (Value::Text(key), value))
            .collect()),
        Value::Nil => Ok(Vec::new()),
        other => Err(format!("`range` over {}, which holds no items", other.kind())),
    }
}

impl Frame<'_> {
    fn pieces(&mut self, pieces: &[Piece], dot: &Value) -> Result<(), String> {
        for piece in pieces {
            match piece {
                Piece::Text(text) => self.write(text)?,
                Piece::Print(pipeline) => {
                    let value = self.pipeline(pipeline, dot)?;
                    if pipeline.variable.is_none() {
                        self.write(&value.to_string())?;
                    }
                }
                Piece::Branch {
                    with,
                    branches,
                    otherwise,
                } => {
                    let scope = self.variables.len();
                    self.branch(*with, branches, otherwise, dot)?;
                    self.variables.truncate(scope);
                }
                Piece::Range {
                    variables,
                    over,
                    pieces,
                    otherwise,
                } => {
                    let items = items(self.pipeline(over, dot)?)?;
                    if items.is_empty() {
                        self.pieces(otherwise, dot)?;
                    }
                    let scope = self.variables.len();
                    for (key, item) in items {
                        self.turns += 1;
                        if self.turns > MAX_TURNS {
                            return Err(format!("`range` makes more than {MAX_TURNS} turns"));
                        }
                        let values = match &variables[..] {
                            [name] => vec![(name.clone(), item.clone())],
                            [first, second, ..] => vec![(first.clone(), key), (second.clone(), item.clone())],
                            [] => Vec::new(),
                        };
                        self.variables.extend(values);
                        self.pieces(pieces, &item)?;
                        self.variables.truncate(scope);
                    }
                }
            }
        }
        Ok(())
    }

    fn branch(
        &mut self,
        with: bool,
        branches: &[(Pipeline, Vec<Piece>)],
        otherwise: &[Piece],
        dot: &Value,
    ) -> Result<(), String> {
        for (condition, pieces) in branches {
            let value = self.pipeline(condition, dot)?;
            if value.truth() {
                return self.pieces(pieces, if with { &value } else { dot });
            }
        }
        self.pieces(otherwise, dot)
    }

    fn pipeline(&mut self, pipeline: &Pipeline, dot: &Value) -> Result<Value, String> {
        let mut value = None;
        for command in &pipeline.commands {
            value = Some(match command {
                Command::Value(operand) => self.operand(operand, dot)?,
                Command::Call { function, arguments } => {
                    let mut values = Vec::with_capacity(arguments.len() + 1);
                    for argument in arguments {
                        values.push(self.operand(argument, dot)?);
                    }
                    values.extend(value.take());
                    (function.call)(&values).map_err(|error| format!("{}: {error}", function.name))?
                }
            });
        }
        let value = value.unwrap_or(Value::Nil);
        match &pipeline.variable {
            Some((name, true)) => self.variables.push((name.clone(), value.clone())),
            Some((name, false)) => {
                if let Some(variable) = self.variables.iter_mut().rev().find(|(known, _)| known == name) {
                    variable.1 = value.clone();
                }
            }
            None => {}
        }
        Ok(value)
    }

    fn operand(&mut self, operand: &Operand, dot: &Value) -> Result<Value, String> {
        let mut value = match &operand.base {
            Base::Dot => dot.clone(),
            Base::Variable(name) if name.is_empty() => self.root.clone(),
            Base::Variable(name) => {
                let known = self.variables.iter().rev().find(|(known, _)| known == name);
                known.map_or(Value::Nil, |(_, value)| value.clone())
            }
            Base::Literal(value) => value.clone(),
            Base::Pipeline(pipeline) => self.pipeline(pipeline, dot)?,
            Base::Call(function) => {
                (function.call)(&[]).map_err(|error| format!("{}: {error}", function.name))?
            }
        };
        for field in &operand.fields {
            value = value.field(field)?;
        }
        Ok(value)
    }

    fn write(&mut self, text: &str) -> Result<(), String> {
        if self.output.len() + text.len() > MAX_OUTPUT {
            return Err(format!("the text is longer than {MAX_OUTPUT} bytes"));
        }
        self.output.push_str(text);
        Ok(())
    }
}
