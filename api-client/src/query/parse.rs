//! From what was typed to a tree.

use super::QueryError;
use super::ast::{At, Node, Op, is_keyword};

/// How deep parentheses may be nested; deeper is a mistake, or meant badly.
const DEEPEST: usize = 64;

pub(super) fn parse(input: &str) -> Result<Node, QueryError> {
    let mut parser = Parser {
        input,
        at: 0,
        depth: 0,
    };
    let node = parser.either()?;
    parser.skip_spaces();
    if parser.peek() == Some(')') {
        return Err(error(
            "there is no `(` for this `)`",
            parser.at..parser.at + 1,
        ));
    }
    Ok(node)
}

pub(super) fn error(message: impl Into<String>, at: std::ops::Range<usize>) -> QueryError {
    QueryError {
        message: message.into(),
        hint: None,
        at,
    }
}

struct Parser<'a> {
    input: &'a str,
    at: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        &self.input[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn skip_spaces(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    fn take(&mut self, sign: &str) -> bool {
        let there = self.rest().starts_with(sign);
        if there {
            self.at += sign.len();
        }
        there
    }

    /// The bare word that starts here, without moving.
    fn bare(&self) -> &'a str {
        let rest = self.rest();
        let end = rest
            .find(|c: char| c.is_whitespace() || c == ')')
            .unwrap_or(rest.len());
        &rest[..end]
    }

    fn take_keyword(&mut self, keyword: &str) -> bool {
        self.skip_spaces();
        let there = self.bare().eq_ignore_ascii_case(keyword);
        if there {
            self.at += keyword.len();
        }
        there
    }

    fn either(&mut self) -> Result<Node, QueryError> {
        let mut parts = Vec::new();
        loop {
            let start = self.at;
            let part = self.all()?;
            let empty = matches!(&part, Node::And(inner) if inner.is_empty());
            parts.push(part);
            let keyword_at = self.at;
            let more = self.take_keyword("or");
            if (more || parts.len() > 1) && empty {
                let at = if more {
                    self.at - 2..self.at
                } else {
                    start.saturating_sub(2)..keyword_at.max(start)
                };
                return Err(error("`or` needs something on both sides", at));
            }
            if !more {
                break;
            }
        }
        Ok(match parts.len() {
            1 => parts.remove(0),
            _ => Node::Or(parts),
        })
    }

    fn all(&mut self) -> Result<Node, QueryError> {
        let mut parts = Vec::new();
        loop {
            self.skip_spaces();
            match self.peek() {
                None | Some(')') => break,
                _ if self.bare().eq_ignore_ascii_case("or") => break,
                _ if self.bare().eq_ignore_ascii_case("and") => self.at += 3,
                _ => parts.push(self.unary()?),
            }
        }
        Ok(match parts.len() {
            1 => parts.remove(0),
            _ => Node::And(parts),
        })
    }

    fn unary(&mut self) -> Result<Node, QueryError> {
        if let Some(node) = self.k9s_flag()? {
            return Ok(node);
        }
        let start = self.at;
        let mut negated = false;
        while self.take("-") || self.take("!") {
            negated = !negated;
        }
        let nothing = self.peek().is_none_or(|c| c.is_whitespace() || c == ')');
        if nothing || (self.at > start && is_keyword(self.bare())) {
            return Err(error("there is nothing to exclude", start..self.at));
        }
        let node = self.primary()?;
        Ok(if negated {
            Node::Not(Box::new(node))
        } else {
            node
        })
    }

    /// `-f word` and `-l field=value`, as k9s has them.
    fn k9s_flag(&mut self) -> Result<Option<Node>, QueryError> {
        let word = self.bare();
        if word != "-f" && word != "-l" {
            return Ok(None);
        }
        let start = self.at;
        self.at += word.len();
        self.skip_spaces();
        if self.peek().is_none_or(|c| c == ')') {
            let after = if word == "-f" {
                "a word"
            } else {
                "`field=value`"
            };
            return Err(error(
                format!("`{word}` needs {after} after it"),
                start..self.at,
            ));
        }
        if word == "-f" {
            return Ok(Some(Node::Fuzzy(self.value(false)?.0)));
        }
        match self.primary()? {
            node @ (Node::Field { .. } | Node::Not(_)) => Ok(Some(node)),
            _ => Err(error("`-l` takes `field=value`", start..self.at)),
        }
    }

    fn primary(&mut self) -> Result<Node, QueryError> {
        let start = self.at;
        if self.take("(") {
            self.depth += 1;
            if self.depth > DEEPEST {
                return Err(error("too many parentheses", start..start + 1));
            }
            let inner = self.either()?;
            self.skip_spaces();
            if !self.take(")") {
                return Err(error("there is no `)` for this `(`", start..start + 1));
            }
            self.depth -= 1;
            return Ok(inner);
        }
        if self.take("~") {
            let (pattern, at) = self.needed("`~` needs a regular expression after it", start)?;
            return Ok(Node::Regex(pattern, at));
        }
        if self.bare() == "@me" {
            self.at += 3;
            return Ok(Node::Me);
        }
        if let Some(node) = self.field()? {
            return Ok(node);
        }
        Ok(Node::Word(self.value(false)?.0))
    }

    /// `name` and an operator in front of a value; none when it is a plain word.
    fn field(&mut self) -> Result<Option<Node>, QueryError> {
        let word = self.bare();
        let end = word
            .find(|c: char| !(c.is_ascii_alphabetic() || c == '_'))
            .unwrap_or(word.len());
        let (name, after) = word.split_at(end);
        let Some(sign) = ["!=", ">=", "<=", ":", "=", ">", "<", "~"]
            .into_iter()
            .find(|sign| after.starts_with(sign))
        else {
            return Ok(None);
        };
        // `https://…` is an address, not a field.
        if name.is_empty() || after.starts_with("://") {
            return Ok(None);
        }
        let start = self.at;
        let name_at = At(start..start + end);
        self.at += end + sign.len();
        let missing = format!("`{name}{sign}` needs a value after it");
        let name = name.to_ascii_lowercase();
        if name == "f" && sign == ":" {
            return Ok(Some(Node::Fuzzy(self.needed(&missing, start)?.0)));
        }
        let op = match sign {
            ">=" => Op::MoreOrEqual,
            "<=" => Op::LessOrEqual,
            ">" => Op::More,
            "<" => Op::Less,
            "~" => {
                let (pattern, at) = self.needed(&missing, start)?;
                return Ok(Some(Node::FieldRegex {
                    name,
                    name_at,
                    pattern,
                    at,
                }));
            }
            _ => {
                let mut values = vec![self.one_of_list(&missing, start)?];
                while self.take(",") {
                    values.push(self.one_of_list(&missing, start)?);
                }
                let node = Node::Field {
                    name,
                    name_at,
                    values,
                };
                return Ok(Some(if sign == "!=" {
                    Node::Not(Box::new(node))
                } else {
                    node
                }));
            }
        };
        let (value, at) = self.needed(&missing, start)?;
        Ok(Some(Node::Compare {
            name,
            name_at,
            op,
            value,
            at,
        }))
    }

    fn one_of_list(&mut self, missing: &str, start: usize) -> Result<(String, At), QueryError> {
        let value = self.value(true)?;
        if value.0.is_empty() && value.1.0.is_empty() {
            return Err(error(missing, start..self.at));
        }
        Ok(value)
    }

    fn needed(&mut self, missing: &str, start: usize) -> Result<(String, At), QueryError> {
        let value = self.value(false)?;
        if value.0.is_empty() {
            return Err(error(missing, start..self.at));
        }
        Ok(value)
    }

    /// A bare or quoted value; a bare one ends at a space or `)`, in a list also at a comma.
    fn value(&mut self, list: bool) -> Result<(String, At), QueryError> {
        let start = self.at;
        if !self.take("\"") {
            let bare = self.bare();
            let end = if list {
                bare.find(',').unwrap_or(bare.len())
            } else {
                bare.len()
            };
            self.at += end;
            return Ok((bare[..end].to_owned(), At(start..self.at)));
        }
        let mut value = String::new();
        let mut escaped = false;
        for (i, c) in self.rest().char_indices() {
            match c {
                _ if escaped => {
                    value.push(c);
                    escaped = false;
                }
                '\\' => escaped = true,
                '"' => {
                    self.at += i + 1;
                    return Ok((value, At(start..self.at)));
                }
                c => value.push(c),
            }
        }
        Err(error("this `\"` is not closed", start..self.input.len()))
    }
}
