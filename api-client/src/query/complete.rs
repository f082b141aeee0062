//! What could come next.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::ast::Quoted;
use crate::column::{Column, Context, Measure, Value, column, columns, text};
use crate::entity::Entity;
use crate::kind::Kind;
use crate::phase::{Phase, STATUSES};

/// The most suggestions that are of use at once.
const MOST: usize = 50;

/// One way to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suggestion {
    /// The bytes of the input that it replaces.
    pub replaces: Range<usize>,
    /// What it puts there.
    pub text: String,
    /// A few words about it.
    pub note: String,
}

/// Suggestions for the term under the cursor (a byte offset): fields, or the values that the rows have.
pub fn complete<'a>(
    input: &str,
    cursor: usize,
    kind: Kind,
    rows: impl IntoIterator<Item = &'a Arc<Entity>>,
    context: &Context,
) -> Vec<Suggestion> {
    let mut cursor = cursor.min(input.len());
    while !input.is_char_boundary(cursor) {
        cursor -= 1;
    }
    let before = &input[..cursor];
    let start = before
        .char_indices()
        .rev()
        .find(|(_, c)| c.is_whitespace() || *c == '(')
        .map_or(0, |(at, c)| at + c.len_utf8());
    let term = before[start..].trim_start_matches(['-', '!']);
    let start = cursor - term.len();
    let Some((name, after)) = term.split_once([':', '=']) else {
        return fields(term, start..cursor, kind);
    };
    let Some(column) = column(kind, &name.to_ascii_lowercase()) else {
        return Vec::new();
    };
    let typed = after.rsplit(',').next().unwrap_or_default();
    values(
        typed.trim_start_matches('"'),
        cursor - typed.len()..cursor,
        column,
        kind,
        rows,
        context,
    )
}

fn fields(typed: &str, replaces: Range<usize>, kind: Kind) -> Vec<Suggestion> {
    let typed = typed.to_ascii_lowercase();
    let mut found: Vec<Suggestion> = columns(kind)
        .iter()
        .filter(|column| {
            column.id.starts_with(&typed)
                || (!typed.is_empty()
                    && column.aliases.iter().any(|alias| alias.starts_with(&typed)))
        })
        .map(|column| Suggestion {
            replaces: replaces.clone(),
            text: match column.measure {
                Measure::Time => format!("{}<", column.id),
                Measure::Count | Measure::Size => format!("{}>=", column.id),
                Measure::Words | Measure::Flag => format!("{}:", column.id),
            },
            note: column.doc.to_owned(),
        })
        .collect();
    if "@me".starts_with(&typed) && column(kind, "owner").is_some() {
        found.push(Suggestion {
            replaces,
            text: "@me".to_owned(),
            note: "What is yours.".to_owned(),
        });
    }
    found
}

fn values<'a>(
    typed: &str,
    replaces: Range<usize>,
    column: &Column,
    kind: Kind,
    rows: impl IntoIterator<Item = &'a Arc<Entity>>,
    context: &Context,
) -> Vec<Suggestion> {
    let folded = typed.to_lowercase();
    let mut counts = BTreeMap::<String, usize>::new();
    for row in rows {
        match (column.value)(row, context) {
            Value::None | Value::Moment(_) | Value::Clock(_) | Value::Span(_) => {}
            value => *counts.entry(text(&value, context)).or_default() += 1,
        }
    }
    match column.id {
        "status" => {
            for spec in STATUSES.iter().filter(|spec| spec.kind == kind) {
                counts.entry(spec.word.to_owned()).or_default();
            }
        }
        "phase" => {
            for phase in Phase::ALL {
                counts.entry(phase.word().to_owned()).or_default();
            }
        }
        _ => {}
    }
    let mut found: Vec<(usize, String)> = counts
        .into_iter()
        .filter(|(word, _)| word.to_lowercase().starts_with(&folded))
        .map(|(word, count)| (count, word))
        .collect();
    found.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    found.truncate(MOST);
    let me = (column.id == "owner" && "@me".starts_with(&folded)).then(|| Suggestion {
        replaces: replaces.clone(),
        text: "@me".to_owned(),
        note: "You.".to_owned(),
    });
    me.into_iter()
        .chain(found.into_iter().map(|(count, word)| Suggestion {
            replaces: replaces.clone(),
            text: Quoted(&word).to_string(),
            note: match count {
                0 => String::new(),
                count => crate::human::count(count, "row"),
            },
        }))
        .collect()
}
