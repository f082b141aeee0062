//! What was written, as a tree that can be written out again.

use std::fmt;
use std::ops::Range;

/// Where something stands in the input. Two trees are equal wherever they were written.
#[derive(Clone, Debug, Default)]
pub(super) struct At(pub Range<usize>);

impl PartialEq for At {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// How a field is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Less,
    LessOrEqual,
    More,
    MoreOrEqual,
}

impl Op {
    pub(super) const fn sign(self) -> &'static str {
        match self {
            Op::Less => "<",
            Op::LessOrEqual => "<=",
            Op::More => ">",
            Op::MoreOrEqual => ">=",
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    /// All of them; the empty one is always true.
    And(Vec<Node>),
    /// One of them.
    Or(Vec<Node>),
    Not(Box<Node>),
    Word(String),
    Regex(String, At),
    Fuzzy(String),
    Me,
    Field {
        name: String,
        name_at: At,
        values: Vec<(String, At)>,
    },
    FieldRegex {
        name: String,
        name_at: At,
        pattern: String,
        at: At,
    },
    Compare {
        name: String,
        name_at: At,
        op: Op,
        value: String,
        at: At,
    },
}

/// A word as it has to be written to be read as this word.
pub(super) struct Quoted<'a>(pub &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = self.0;
        let plain = |c: char| c.is_alphanumeric() || "_-./%+*".contains(c);
        let bare = !word.is_empty()
            && word.chars().all(plain)
            && (word == "-" || !word.starts_with('-'))
            && !is_keyword(word);
        if bare {
            return f.write_str(word);
        }
        f.write_str("\"")?;
        for c in word.chars() {
            if matches!(c, '"' | '\\') {
                f.write_str("\\")?;
            }
            write!(f, "{c}")?;
        }
        f.write_str("\"")
    }
}

pub(super) fn is_keyword(word: &str) -> bool {
    word.eq_ignore_ascii_case("or") || word.eq_ignore_ascii_case("and")
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Node::And(parts) => {
                for (i, part) in parts.iter().enumerate() {
                    if i > 0 {
                        f.write_str(" ")?;
                    }
                    match part {
                        Node::Or(_) | Node::And(_) => write!(f, "({part})")?,
                        _ => write!(f, "{part}")?,
                    }
                }
                Ok(())
            }
            Node::Or(parts) => {
                for (i, part) in parts.iter().enumerate() {
                    if i > 0 {
                        f.write_str(" or ")?;
                    }
                    match part {
                        Node::Or(_) => write!(f, "({part})")?,
                        _ => write!(f, "{part}")?,
                    }
                }
                Ok(())
            }
            Node::Not(inner) => match &**inner {
                Node::Or(_) | Node::And(_) => write!(f, "-({inner})"),
                // `-f` and `-l` are k9s' own.
                Node::Word(word) if word == "f" || word == "l" => write!(f, "-\"{word}\""),
                _ => write!(f, "-{inner}"),
            },
            // A lone dash as a word would be taken for a negation of nothing.
            Node::Word(word) if word == "-" => f.write_str("\"-\""),
            Node::Word(word) => write!(f, "{}", Quoted(word)),
            Node::Regex(pattern, _) => write!(f, "~{}", Quoted(pattern)),
            Node::Fuzzy(word) => write!(f, "f:{}", Quoted(word)),
            Node::Me => f.write_str("@me"),
            Node::Field { name, values, .. } => {
                write!(f, "{name}:")?;
                for (i, (value, _)) in values.iter().enumerate() {
                    if i > 0 {
                        f.write_str(",")?;
                    }
                    if value == "@me" {
                        f.write_str(value)?;
                    } else {
                        write!(f, "{}", Quoted(value))?;
                    }
                }
                Ok(())
            }
            Node::FieldRegex { name, pattern, .. } => write!(f, "{name}~{}", Quoted(pattern)),
            Node::Compare {
                name, op, value, ..
            } => write!(f, "{name}{}{}", op.sign(), Quoted(value)),
        }
    }
}
