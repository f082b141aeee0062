//! The query language: one for every table, `-q` on the command line and `?q=` in REST.
//!
//! ```text
//! query  = all { "or" all }
//! all    = { [ "-" | "!" ] term }
//! term   = "(" query ")"      one of several
//!        | word               somewhere in the row; upper case counts when it has any
//!        | ~regex             the same for a regular expression
//!        | f:word             the letters in this order
//!        | @me                mine
//!        | field:value,value  exactly one of these (whole words; `*` stands for anything, `-` for unknown)
//!        | field!=value       none of these
//!        | field~regex        a regular expression on one field
//!        | field>=value       also > < <=; with units: gpus>=8 age<2h memory>80G
//! ```
//!
//! Fields are the columns' names. Quotes make a word of anything. k9s' `-f word`, `-l field=value`
//! and `!word` are understood.

mod ast;
mod complete;
mod needle;
mod parse;
mod test;

use std::fmt;

pub use complete::{Suggestion, complete};
pub use needle::fuzzy;

use crate::column::Context;
use crate::entity::Entity;
use crate::kind::Kind;

/// What is wrong with a query, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct QueryError {
    /// A sentence.
    pub message: String,
    /// What to do about it, such as the nearest field.
    pub hint: Option<String>,
    /// The bytes of the input that are meant.
    pub at: std::ops::Range<usize>,
}

/// A query that was understood. The empty one matches everything.
#[derive(Clone, Debug)]
pub struct Query {
    source: String,
    tree: ast::Node,
    test: test::Test,
}

impl Default for Query {
    fn default() -> Self {
        Self {
            source: String::new(),
            tree: ast::Node::And(Vec::new()),
            test: test::Test::And(Vec::new()),
        }
    }
}

impl PartialEq for Query {
    /// The same terms, however they were written.
    fn eq(&self, other: &Self) -> bool {
        self.tree == other.tree
    }
}

impl Query {
    /// Reads a query for rows of `kind`.
    pub fn parse(input: &str, kind: Kind) -> Result<Self, QueryError> {
        let tree = parse::parse(input)?;
        let test = test::compile(&tree, kind)?;
        Ok(Self {
            source: input.to_owned(),
            tree,
            test,
        })
    }

    /// As it was written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Matches everything.
    pub fn is_empty(&self) -> bool {
        matches!(&self.tree, ast::Node::And(parts) if parts.is_empty())
    }

    /// Does the row match.
    pub fn matches(&self, row: &Entity, context: &Context) -> bool {
        self.test.holds(row, context)
    }
}

impl fmt::Display for Query {
    /// In one spelling: reading it again gives an equal query.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.tree, f)
    }
}

#[cfg(test)]
mod tests;
