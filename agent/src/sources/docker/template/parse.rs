//! Tokens to pieces. Everything that can be refused is refused here: unknown functions, unknown fields, wrong numbers
//! of arguments, constructs that are not supported.

use super::TemplateError;
use super::function::{self, Function};
use super::token::{Token, TokenKind, tokens};
use super::value::Value;

/// Nesting of blocks and parentheses, so that a hostile template can't exhaust the stack.
const MAX_DEPTH: usize = 32;

/// The constructs of Go's language that are left out.
const UNSUPPORTED: [&str; 5] = ["define", "template", "block", "break", "continue"];

/// What a container offers; the same as in [`super::Model`].
const FIELDS: [&str; 3] = ["Name", "ContainerName", "Labels"];

/// A part of a template.
#[derive(Clone, Debug)]
pub(super) enum Piece {
    Text(String),
    /// Prints its value, unless it declares a variable.
    Print(Pipeline),
    /// The first branch whose condition holds; `with` makes the condition the dot.
    Branch {
        with: bool,
        branches: Vec<(Pipeline, Vec<Piece>)>,
        otherwise: Vec<Piece>,
    },
    /// Its pieces once for each item of a list or a map, which is the dot.
    Range {
        /// Variables for what items are known by, and for items; the latter alone where there is one.
        variables: Vec<String>,
        over: Pipeline,
        pieces: Vec<Piece>,
        /// Without any item.
        otherwise: Vec<Piece>,
    },
}

/// Commands, each given the result of the one before as its last argument.
#[derive(Clone, Debug)]
pub(super) struct Pipeline {
    /// The variable that takes the value, and whether it is new.
    pub(super) variable: Option<(String, bool)>,
    pub(super) commands: Vec<Command>,
}

#[derive(Clone, Debug)]
pub(super) enum Command {
    Call {
        function: &'static Function,
        arguments: Vec<Operand>,
    },
    Value(Operand),
}

#[derive(Clone, Debug)]
pub(super) struct Operand {
    pub(super) base: Base,
    pub(super) fields: Vec<String>,
}

#[derive(Clone, Debug)]
pub(super) enum Base {
    Dot,
    Variable(String),
    Literal(Value),
    Pipeline(Box<Pipeline>),
    /// A function without arguments.
    Call(&'static Function),
}

/// Why a list of pieces ended.
enum Closing {
    Text,
    Else,
    /// `else if` or `else with`, whose condition follows.
    ElseIf,
    End,
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
    /// How many blocks of `with` and `range` are open: inside, the dot may be anything.
    withs: usize,
    /// Variables in scope, inner last.
    variables: Vec<String>,
}

pub(super) fn parse(text: &str) -> Result<Vec<Piece>, TemplateError> {
    let mut parser = Parser {
        tokens: tokens(text)?,
        at: 0,
        depth: 0,
        withs: 0,
        variables: vec![String::new()],
    };
    let (pieces, end) = parser.pieces()?;
    match end {
        Closing::Text => Ok(pieces),
        Closing::End => Err(parser.error("`end` without `if`, `with` or `range`")),
        Closing::Else | Closing::ElseIf => Err(parser.error("`else` without `if`, `with` or `range`")),
    }
}

impl Parser {
    fn pieces(&mut self) -> Result<(Vec<Piece>, Closing), TemplateError> {
        self.deeper()?;
        let mut pieces = Vec::new();
        let end = loop {
            match self.next() {
                None => break Closing::Text,
                Some(TokenKind::Text(text)) => pieces.push(Piece::Text(text)),
                // Nothing but text and `{{` stands outside of actions.
                Some(_) => match self.action()? {
                    Ok(piece) => pieces.push(piece),
                    Err(end) => break end,
                },
            }
        };
        self.depth -= 1;
        Ok((pieces, end))
    }

    /// An action, from behind `{{` to behind `}}`: a piece, or the end of the list it stands in.
    fn action(&mut self) -> Result<Result<Piece, Closing>, TemplateError> {
        let Some(TokenKind::Word(word)) = self.peek() else {
            return self.print();
        };
        match word.as_str() {
            "if" => self.branch(false),
            "with" => self.branch(true),
            "range" => self.range(),
            "else" => {
                self.at += 1;
                match self.peek() {
                    Some(TokenKind::Word(word)) if word == "if" || word == "with" => Ok(Err(Closing::ElseIf)),
                    _ => self.close().map(|()| Err(Closing::Else)),
                }
            }
            "end" => {
                self.at += 1;
                self.close().map(|()| Err(Closing::End))
            }
            word if UNSUPPORTED.contains(&word) => {
                let message = format!(
                    "`{word}` is not supported in rules; there are pipelines, variables, `if`, `with` and `range`"
                );
                Err(self.error_here(&message))
            }
            _ => self.print(),
        }
    }

    fn print(&mut self) -> Result<Result<Piece, Closing>, TemplateError> {
        let pipeline = self.pipeline()?;
        self.close()?;
        Ok(Ok(Piece::Print(pipeline)))
    }

    fn branch(&mut self, with: bool) -> Result<Result<Piece, Closing>, TemplateError> {
        let scope = self.variables.len();
        let keyword = if with { "with" } else { "if" };
        let mut branches = Vec::new();
        let mut otherwise = Vec::new();
        loop {
            if !matches!(self.next(), Some(TokenKind::Word(word)) if word == keyword) {
                return Err(self.error(&format!(
                    "`else` of `{keyword}` goes on with another word; write `end`"
                )));
            }
            let condition = self.pipeline()?;
            self.close()?;
            self.withs += usize::from(with);
            let (pieces, end) = self.pieces()?;
            self.withs -= usize::from(with);
            branches.push((condition, pieces));
            match end {
                Closing::ElseIf => {}
                Closing::End => break,
                Closing::Else => {
                    let (pieces, end) = self.pieces()?;
                    otherwise = pieces;
                    if !matches!(end, Closing::End) {
                        return Err(self.error("expected `{{ end }}` after `else`"));
                    }
                    break;
                }
                Closing::Text => {
                    return Err(self.error(&format!("`{keyword}` is not closed; write `{{{{ end }}}}`")));
                }
            }
        }
        self.variables.truncate(scope);
        Ok(Ok(Piece::Branch {
            with,
            branches,
            otherwise,
        }))
    }

    fn range(&mut self) -> Result<Result<Piece, Closing>, TemplateError> {
        self.at += 1;
        let scope = self.variables.len();
        let variables = self.range_variables();
        let over = self.pipeline()?;
        self.close()?;
        self.variables.extend(variables.iter().cloned());
        self.withs += 1;
        let (pieces, mut end) = self.pieces()?;
        self.withs -= 1;
        let mut otherwise = Vec::new();
        if matches!(end, Closing::Else) {
            (otherwise, end) = self.pieces()?;
        }
        if !matches!(end, Closing::End) {
            return Err(self.error("`range` is not closed; write `{{ end }}`"));
        }
        self.variables.truncate(scope);
        Ok(Ok(Piece::Range {
            variables,
            over,
            pieces,
            otherwise,
        }))
    }

    /// `$item :=` or `$key, $item :=`, where one of them stands here.
    fn range_variables(&mut self) -> Vec<String> {
        let kinds = self.tokens[self.at..].iter().map(|token| &token.kind);
        let first: Vec<&TokenKind> = kinds.take(4).collect();
        let names = match first[..] {
            [TokenKind::Variable(item), TokenKind::Declare, ..] => vec![item.clone()],
            [
                TokenKind::Variable(key),
                TokenKind::Comma,
                TokenKind::Variable(item),
                TokenKind::Declare,
            ] => vec![key.clone(), item.clone()],
            _ => Vec::new(),
        };
        // The commas and the sign.
        self.at += names.len() * 2;
        names
    }

    fn pipeline(&mut self) -> Result<Pipeline, TemplateError> {
        self.deeper()?;
        let variable = self.declaration()?;
        let mut commands = Vec::new();
        loop {
            commands.push(self.command(!commands.is_empty())?);
            if !self.take(&TokenKind::Pipe) {
                break;
            }
        }
        if let Some((name, true)) = &variable {
            self.variables.push(name.clone());
        }
        self.depth -= 1;
        Ok(Pipeline { variable, commands })
    }

    fn declaration(&mut self) -> Result<Option<(String, bool)>, TemplateError> {
        let Some(TokenKind::Variable(name)) = self.peek().cloned() else {
            return Ok(None);
        };
        let new = match self.tokens.get(self.at + 1).map(|token| &token.kind) {
            Some(TokenKind::Declare) => true,
            Some(TokenKind::Assign) => false,
            _ => return Ok(None),
        };
        if !new && !self.variables.contains(&name) {
            return Err(self.error_here(&format!(
                "variable `${name}` is not declared; write `${name} := ...` first"
            )));
        }
        self.at += 2;
        Ok(Some((name, new)))
    }

    fn command(&mut self, piped: bool) -> Result<Command, TemplateError> {
        let start = self.at;
        if let Some(TokenKind::Word(word)) = self.peek()
            && !is_literal(word)
        {
            let function = self.function()?;
            let mut arguments = Vec::new();
            while let Some(operand) = self.operand()? {
                arguments.push(operand);
            }
            self.check_call(start, function, &arguments, piped)?;
            return Ok(Command::Call { function, arguments });
        }
        let Some(operand) = self.operand()? else {
            return Err(self.error_here("expected a value or a function"));
        };
        if piped {
            return Err(self.error_at(start, "only a function can stand after `|`"));
        }
        if !matches!(
            self.peek(),
            Some(TokenKind::Pipe | TokenKind::Close | TokenKind::RightParen)
        ) {
            return Err(self.error_here("only a function takes arguments"));
        }
        Ok(Command::Value(operand))
    }

    fn check_call(
        &self,
        start: usize,
        function: &Function,
        arguments: &[Operand],
        piped: bool,
    ) -> Result<(), TemplateError> {
        let count = arguments.len() + usize::from(piped);
        if count < function.least || count > function.most {
            let expected = match (function.least, function.most) {
                (least, most) if least == most => least.to_string(),
                (least, usize::MAX) => format!("{least} or more"),
                (least, most) => format!("{least} to {most}"),
            };
            let message = format!(
                "function `{}` takes {expected} arguments, {count} given",
                function.name
            );
            return Err(self.error_at(start, &message));
        }
        if function.name == "printf"
            && let Some(Operand {
                base: Base::Literal(Value::Text(format)),
                ..
            }) = arguments.first()
        {
            function::check_format(format).map_err(|message| self.error_at(start, &message))?;
        }
        Ok(())
    }

    fn function(&mut self) -> Result<&'static Function, TemplateError> {
        let Some(TokenKind::Word(word)) = self.peek() else {
            return Err(self.error_here("expected a function"));
        };
        let Some(function) = function::find(word) else {
            let message = format!(
                "function `{word}` is not supported; there are {}",
                function::names()
            );
            return Err(self.error_here(&message));
        };
        self.at += 1;
        Ok(function)
    }

    fn operand(&mut self) -> Result<Option<Operand>, TemplateError> {
        let mut fields = Vec::new();
        let base = match self.peek().cloned() {
            Some(TokenKind::Quoted(text)) => self.step(Base::Literal(Value::Text(text))),
            Some(TokenKind::Integer(number)) => self.step(Base::Literal(Value::Integer(number))),
            Some(TokenKind::Word(word)) => match word.as_str() {
                "true" => self.step(Base::Literal(Value::Flag(true))),
                "false" => self.step(Base::Literal(Value::Flag(false))),
                "nil" => self.step(Base::Literal(Value::Nil)),
                _ => {
                    let start = self.at;
                    let function = self.function()?;
                    self.check_call(start, function, &[], false)?;
                    Base::Call(function)
                }
            },
            Some(TokenKind::Field { name, .. }) => {
                if self.withs == 0 && !name.is_empty() && !FIELDS.contains(&name.as_str()) {
                    let message =
                        format!("a container has no `.{name}`; there are .Name, .ContainerName and .Labels");
                    return Err(self.error_here(&message));
                }
                fields.extend(Some(name).filter(|name| !name.is_empty()));
                self.step(Base::Dot)
            }
            Some(TokenKind::Variable(name)) => {
                if !self.variables.contains(&name) {
                    return Err(self.error_here(&format!("variable `${name}` is not declared")));
                }
                self.step(Base::Variable(name))
            }
            Some(TokenKind::LeftParen) => {
                self.at += 1;
                let pipeline = self.pipeline()?;
                if !self.take(&TokenKind::RightParen) {
                    return Err(self.error_here("expected `)`"));
                }
                Base::Pipeline(Box::new(pipeline))
            }
            _ => return Ok(None),
        };
        while let Some(TokenKind::Field { name, attached: true }) = self.peek().cloned() {
            if name.is_empty() {
                return Err(self.error_here("a field name is missing after the dot"));
            }
            fields.push(name);
            self.at += 1;
        }
        Ok(Some(Operand { base, fields }))
    }

    fn step(&mut self, base: Base) -> Base {
        self.at += 1;
        base
    }

    fn close(&mut self) -> Result<(), TemplateError> {
        if self.take(&TokenKind::Close) {
            return Ok(());
        }
        Err(self.error_here("expected `}}`"))
    }

    fn take(&mut self, kind: &TokenKind) -> bool {
        let found = self.peek() == Some(kind);
        self.at += usize::from(found);
        found
    }

    fn peek(&self) -> Option<&TokenKind> {
        self.tokens.get(self.at).map(|token| &token.kind)
    }

    fn next(&mut self) -> Option<TokenKind> {
        let kind = self.peek().cloned();
        self.at += usize::from(kind.is_some());
        kind
    }

    fn deeper(&mut self) -> Result<(), TemplateError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.error_here(&format!("nested more than {MAX_DEPTH} deep")));
        }
        Ok(())
    }

    /// About the token just taken.
    fn error(&self, message: &str) -> TemplateError {
        self.error_at(self.at.saturating_sub(1), message)
    }

    /// About the next token.
    fn error_here(&self, message: &str) -> TemplateError {
        self.error_at(self.at, message)
    }

    fn error_at(&self, at: usize, message: &str) -> TemplateError {
        let token = self.tokens.get(at).or(self.tokens.last());
        TemplateError {
            position: token.map_or(1, |token| token.position),
            message: message.to_owned(),
        }
    }
}

fn is_literal(word: &str) -> bool {
    matches!(word, "true" | "false" | "nil")
}
