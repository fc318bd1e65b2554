//! Tokens to tree. Knows the grammar and the limits; what a matcher is, `compile` knows.

use smallvec::SmallVec;

use super::lexer::{Lexer, Token};
use super::tree::{Expression, Tree};
use super::{MAX_DEPTH, MAX_MATCHERS, MAX_RULE_BYTES, RuleError, hint};

/// One matcher as written: `NAME(ARGUMENT, ...)`.
pub(super) struct Call<'t> {
    /// As written.
    pub(super) name: &'t str,
    /// Where the name starts.
    pub(super) offset: usize,
    /// The decoded strings.
    pub(super) args: Vec<Argument>,
}

/// One string argument.
pub(super) struct Argument {
    pub(super) value: String,
    /// Where its quote starts.
    pub(super) offset: usize,
}

/// Parses a rule whose matchers `compile` understands.
pub(super) fn parse<M>(
    text: &str,
    compile: impl Fn(&Call<'_>) -> Result<M, RuleError>,
) -> Result<Expression<M>, RuleError> {
    if text.len() > MAX_RULE_BYTES {
        return Err(RuleError::new(
            // The limit may fall into the middle of a character.
            (0..=MAX_RULE_BYTES)
                .rev()
                .find(|at| text.is_char_boundary(*at))
                .unwrap_or(0),
            format!(
                "the rule has {} bytes; at most {MAX_RULE_BYTES} are allowed",
                text.len()
            ),
        ));
    }
    let mut lexer = Lexer::new(text);
    let (offset, token) = lexer.next()?;
    let mut parser = Parser {
        lexer,
        offset,
        token,
        matchers: SmallVec::new(),
        compile,
    };
    let tree = parser.any(0)?;
    match parser.token {
        Token::End => Ok(Expression::new(parser.matchers, tree)),
        ref token => Err(RuleError::new(parser.offset, hint::after_matcher(token))),
    }
}

struct Parser<'t, M, C> {
    lexer: Lexer<'t>,
    /// The token ahead, and where it starts.
    offset: usize,
    token: Token<'t>,
    /// Those compiled so far.
    matchers: SmallVec<[M; 2]>,
    compile: C,
}

impl<'t, M, C: Fn(&Call<'_>) -> Result<M, RuleError>> Parser<'t, M, C> {
    /// Takes the token ahead and reads the next.
    fn advance(&mut self) -> Result<Token<'t>, RuleError> {
        let (offset, token) = self.lexer.next()?;
        self.offset = offset;
        Ok(std::mem::replace(&mut self.token, token))
    }

    /// `all ("||" all)*`
    fn any(&mut self, depth: usize) -> Result<Tree, RuleError> {
        let first = self.all(depth)?;
        if self.token != Token::Or {
            return Ok(first);
        }
        let mut branches = vec![first];
        while self.token == Token::Or {
            self.advance()?;
            branches.push(self.all(depth)?);
        }
        Ok(Tree::Any(branches.into()))
    }

    /// `unary ("&&" unary)*`
    fn all(&mut self, depth: usize) -> Result<Tree, RuleError> {
        let first = self.unary(depth)?;
        if self.token != Token::And {
            return Ok(first);
        }
        let mut branches = vec![first];
        while self.token == Token::And {
            self.advance()?;
            branches.push(self.unary(depth)?);
        }
        Ok(Tree::All(branches.into()))
    }

    /// `"!" unary | "(" any ")" | call`
    fn unary(&mut self, depth: usize) -> Result<Tree, RuleError> {
        if depth > MAX_DEPTH {
            return Err(RuleError::new(
                self.offset,
                format!("parentheses and `!` are nested deeper than {MAX_DEPTH} levels"),
            ));
        }
        let offset = self.offset;
        match self.advance()? {
            Token::Not => Ok(Tree::Not(Box::new(self.unary(depth + 1)?))),
            Token::Open => {
                let inner = self.any(depth + 1)?;
                if self.token != Token::Close {
                    return Err(RuleError::new(
                        self.offset,
                        format!(
                            "expected `)` for the `(` at byte {offset}, found {}; {}",
                            self.token.describe(),
                            hint::after_matcher(&self.token),
                        ),
                    ));
                }
                self.advance()?;
                Ok(inner)
            }
            Token::Name(name) => self.call(name, offset),
            token => Err(RuleError::new(offset, hint::no_matcher(&token))),
        }
    }

    /// `NAME "(" (TEXT ("," TEXT)* "..."? ","?)? ")"`
    fn call(&mut self, name: &'t str, offset: usize) -> Result<Tree, RuleError> {
        if self.token != Token::Open {
            return Err(RuleError::new(self.offset, hint::no_arguments(name, &self.token)));
        }
        let place = match u16::try_from(self.matchers.len()) {
            Ok(place) if usize::from(place) < MAX_MATCHERS => place,
            _ => {
                return Err(RuleError::new(
                    offset,
                    format!("the rule has more than {MAX_MATCHERS} matchers"),
                ));
            }
        };
        self.advance()?;
        let mut args = Vec::new();
        while self.token != Token::Close {
            let offset = self.offset;
            match self.advance()? {
                Token::Text(value) => args.push(Argument {
                    value: value.into_owned(),
                    offset,
                }),
                token => return Err(RuleError::new(offset, hint::no_string(name, &token))),
            }
            let last = self.token == Token::Ellipsis;
            if last {
                self.advance()?;
            }
            match self.token {
                Token::Comma => drop(self.advance()?),
                Token::Close => {}
                ref token => {
                    return Err(RuleError::new(
                        self.offset,
                        format!(
                            "expected `,` or `)` after an argument of `{name}`, found {}",
                            token.describe()
                        ),
                    ));
                }
            }
            if last && self.token != Token::Close {
                return Err(RuleError::new(
                    self.offset,
                    format!(
                        "expected `)` after the `...` of `{name}`, found {}",
                        self.token.describe()
                    ),
                ));
            }
        }
        self.advance()?;
        self.matchers.push((self.compile)(&Call { name, offset, args })?);
        Ok(Tree::Leaf(place))
    }
}
