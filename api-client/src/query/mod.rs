//! The query language: one for every table, `-q` on the command line and `?q=` in REST.
//!
//! Bare words (substring, smart case) · `~re` · `-term` or `!term` · `f:fuzzy` · `field:value[,value]`
//! with `*` · `field>=value` with units (`gpus>=8 age<2h`) · `(a or b) c` · `@me`. Fields are the
//! columns' names.

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
#[derive(Clone, Debug, Default)]
pub struct Query {
    source: String,
}

impl Query {
    /// Reads a query for rows of `kind`.
    pub fn parse(input: &str, kind: Kind) -> Result<Self, QueryError> {
        let _ = kind;
        Ok(Self {
            source: input.to_owned(),
        })
    }

    /// As it was written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Matches everything.
    pub fn is_empty(&self) -> bool {
        self.source.trim().is_empty()
    }

    /// Does the row match.
    pub fn matches(&self, row: &Entity, context: &Context) -> bool {
        let _ = (row, context);
        true
    }
}
