//! From the tree to tests on rows of one kind, prepared once.

use regex::{Regex, RegexBuilder};

use super::QueryError;
use super::ast::{At, Node, Op};
use super::needle::{Needle, fuzzy};
use super::parse::error;
use crate::column::{Column, Context, Measure, Value, column, columns};
use crate::entity::{Entity, Owner};
use crate::human;
use crate::kind::Kind;
use crate::nearest::nearest;
use crate::phase::{Phase, status_spec};

#[derive(Clone, Debug)]
pub(super) enum Test {
    And(Vec<Test>),
    Or(Vec<Test>),
    Not(Box<Test>),
    Word(Needle),
    Regex(Regex),
    Fuzzy(String),
    Me,
    Owner(Needle),
    Phase(Phase),
    Unknown(&'static Column),
    Flag(&'static Column, bool),
    Number(&'static Column, f64),
    Text(&'static Column, Needle),
    TextRegex(&'static Column, Regex),
    Compare(&'static Column, Op, f64),
}

/// Prepares a tree for rows of `kind`.
pub(super) fn compile(node: &Node, kind: Kind) -> Result<Test, QueryError> {
    let each = |nodes: &[Node]| {
        nodes
            .iter()
            .map(|node| compile(node, kind))
            .collect::<Result<Vec<_>, _>>()
    };
    Ok(match node {
        Node::And(parts) => Test::And(each(parts)?),
        Node::Or(parts) => Test::Or(each(parts)?),
        Node::Not(inner) => Test::Not(Box::new(compile(inner, kind)?)),
        Node::Word(word) => Test::Word(Needle::smart(word)),
        Node::Regex(pattern, at) => Test::Regex(regex(pattern, at)?),
        Node::Fuzzy(word) => Test::Fuzzy(word.to_lowercase()),
        Node::Me => Test::Me,
        Node::Field {
            name,
            name_at,
            values,
        } => {
            let column = field(kind, name, name_at)?;
            let mut tests = values
                .iter()
                .map(|(value, at)| equals(kind, column, value, at))
                .collect::<Result<Vec<_>, _>>()?;
            match tests.len() {
                1 => tests.remove(0),
                _ => Test::Or(tests),
            }
        }
        Node::FieldRegex {
            name,
            name_at,
            pattern,
            at,
        } => Test::TextRegex(field(kind, name, name_at)?, regex(pattern, at)?),
        Node::Compare {
            name,
            name_at,
            op,
            value,
            at,
        } => {
            let column = field(kind, name, name_at)?;
            Test::Compare(column, *op, threshold(column, *op, value, at)?)
        }
    })
}

fn field(kind: Kind, name: &str, at: &At) -> Result<&'static Column, QueryError> {
    column(kind, name).ok_or_else(|| {
        let names = columns(kind)
            .iter()
            .flat_map(|column| std::iter::once(&column.id).chain(column.aliases))
            .copied();
        let mut problem = error(
            format!("{} have no field `{name}`", spoken(kind)),
            at.0.clone(),
        );
        problem.hint = Some(match nearest(name, names) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!(
                "fields are {}; to look for the words themselves, quote them",
                columns(kind)
                    .iter()
                    .filter(|column| column.is_shown())
                    .map(|column| column.id)
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
        });
        problem
    })
}

fn spoken(kind: Kind) -> String {
    match kind {
        Kind::Infra => "nodes".to_owned(),
        _ => kind.plural().replace('_', " "),
    }
}

fn regex(pattern: &str, at: &At) -> Result<Regex, QueryError> {
    RegexBuilder::new(pattern)
        .case_insensitive(!pattern.chars().any(char::is_uppercase))
        .size_limit(1 << 20)
        .build()
        .map_err(|why| {
            // The last line says what is wrong; those before draw the pattern.
            let why = why.to_string();
            let reason = why.lines().next_back().unwrap_or_default();
            let reason = reason.trim_start_matches("error: ");
            error(
                format!("`{pattern}` is not a regular expression: {reason}"),
                at.0.clone(),
            )
        })
}

fn is_person(kind: Kind, column: &Column) -> bool {
    column.id == "owner" || (kind == Kind::User && column.id == "name")
}

fn equals(kind: Kind, column: &'static Column, value: &str, at: &At) -> Result<Test, QueryError> {
    if value == "-" {
        return Ok(Test::Unknown(column));
    }
    if value == "*" {
        return Ok(Test::Not(Box::new(Test::Unknown(column))));
    }
    if is_person(kind, column) {
        return Ok(if value == "@me" {
            Test::Me
        } else if column.id == "owner" {
            Test::Owner(Needle::folded(value))
        } else {
            Test::Text(column, Needle::folded(value))
        });
    }
    if value == "@me" {
        return Err(error(
            format!("`@me` is a person, and `{}` is not", column.id),
            at.0.clone(),
        ));
    }
    let phase = Phase::ALL
        .iter()
        .copied()
        .find(|phase| phase.word().eq_ignore_ascii_case(value));
    if column.id == "phase" && !value.contains('*') {
        return phase.map(Test::Phase).ok_or_else(|| {
            let words = Phase::ALL.iter().map(|phase| phase.word());
            let mut problem = error(format!("`{value}` is not a phase"), at.0.clone());
            problem.hint = Some(match nearest(value, words.clone()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("phases are {}", words.collect::<Vec<_>>().join(", ")),
            });
            problem
        });
    }
    if column.id == "status"
        && let Some(phase) = phase
        && status_spec(kind, &value.to_uppercase()).is_none()
        && status_spec(kind, &value.to_lowercase()).is_none()
    {
        // `status:running` for clusters, whose word is UP.
        return Ok(Test::Phase(phase));
    }
    match column.measure {
        Measure::Flag => match value.to_ascii_lowercase().as_str() {
            "yes" | "true" | "y" | "1" => Ok(Test::Flag(column, true)),
            "no" | "false" | "n" | "0" => Ok(Test::Flag(column, false)),
            _ => Err(error(
                format!("`{}` is yes or no, not `{value}`", column.id),
                at.0.clone(),
            )),
        },
        Measure::Count => Ok(match value.parse::<f64>() {
            Ok(number) => Test::Number(column, number),
            Err(_) => Test::Text(column, Needle::folded(value)),
        }),
        Measure::Time | Measure::Size => {
            let mut problem = error(
                format!("`{}` is compared with `<` or `>`", column.id),
                at.0.clone(),
            );
            problem.hint = Some(example(column));
            Err(problem)
        }
        Measure::Words => Ok(Test::Text(column, Needle::folded(value))),
    }
}

fn example(column: &Column) -> String {
    match column.measure {
        Measure::Time => format!("such as `{}<2h` or `{}>1d`", column.id, column.id),
        Measure::Size => format!("such as `{}>80G`", column.id),
        Measure::Count => format!("such as `{}>=8`", column.id),
        Measure::Flag => format!("such as `{}:yes`", column.id),
        Measure::Words => format!("such as `{}:word` or `{}:wo*`", column.id, column.id),
    }
}

/// The number on the right of a comparison, in the column's own unit.
fn threshold(column: &Column, op: Op, value: &str, at: &At) -> Result<f64, QueryError> {
    let found = match column.measure {
        Measure::Time => human::parse_span(value).map(|span| span as f64),
        Measure::Size => scaled(value, &[("T", 1024.0), ("G", 1.0), ("M", 1.0 / 1024.0)]),
        Measure::Count => scaled(value, &[("k", 1e3), ("M", 1e6), ("G", 1e9)]),
        Measure::Words | Measure::Flag => {
            let mut problem = error(
                format!("`{}` cannot be compared with `{}`", column.id, op.sign()),
                at.0.clone(),
            );
            problem.hint = Some(example(column));
            return Err(problem);
        }
    };
    found.ok_or_else(|| {
        let wanted = match column.measure {
            Measure::Time => "a duration",
            Measure::Size => "a size",
            _ => "a number",
        };
        let mut problem = error(format!("`{value}` is not {wanted}"), at.0.clone());
        problem.hint = Some(example(column));
        problem
    })
}

fn scaled(value: &str, units: &[(&str, f64)]) -> Option<f64> {
    let lower = value.to_ascii_lowercase();
    let lower = lower.strip_suffix('b').unwrap_or(&lower);
    let (digits, factor) = units
        .iter()
        .find_map(|(unit, factor)| {
            let unit = unit.to_ascii_lowercase();
            let digits = lower.strip_suffix(&format!("{unit}i"));
            digits
                .or_else(|| lower.strip_suffix(&unit))
                .map(|digits| (digits, *factor))
        })
        .unwrap_or((lower, 1.0));
    let number: f64 = digits.parse().ok()?;
    number.is_finite().then_some(number * factor)
}

impl Test {
    pub(super) fn holds(&self, row: &Entity, context: &Context) -> bool {
        match self {
            Test::And(parts) => parts.iter().all(|part| part.holds(row, context)),
            Test::Or(parts) => parts.iter().any(|part| part.holds(row, context)),
            Test::Not(inner) => !inner.holds(row, context),
            Test::Word(needle) => any_word(row, context, |words| needle.is_in(words)),
            Test::Regex(regex) => any_word(row, context, |words| regex.is_match(words)),
            Test::Fuzzy(needle) => any_word(row, context, |words| fuzzy(words, needle).is_some()),
            Test::Me => is_me(row, context),
            Test::Owner(needle) => row
                .owner()
                .is_some_and(|owner| needle.is(&owner.name) || needle.is(&owner.id)),
            Test::Phase(phase) => row.phase() == *phase,
            Test::Unknown(column) => matches!((column.value)(row, context), Value::None),
            Test::Flag(column, wanted) => {
                matches!((column.value)(row, context), Value::Flag(is) if is == *wanted)
            }
            Test::Number(column, wanted) => {
                crate::column::number(&(column.value)(row, context)) == Some(*wanted)
            }
            Test::Text(column, needle) => {
                on_text(&(column.value)(row, context), |words| needle.is(words))
            }
            Test::TextRegex(column, regex) => {
                on_text(&(column.value)(row, context), |words| regex.is_match(words))
            }
            Test::Compare(column, op, wanted) => {
                let value = (column.value)(row, context);
                measured(column.measure, &value, context).is_some_and(|is| match op {
                    Op::Less => is < *wanted,
                    Op::LessOrEqual => is <= *wanted,
                    Op::More => is > *wanted,
                    Op::MoreOrEqual => is >= *wanted,
                })
            }
        }
    }
}

/// A cell as a number in its column's unit.
fn measured(measure: Measure, value: &Value, context: &Context) -> Option<f64> {
    match (measure, value) {
        (Measure::Time, Value::Moment(at) | Value::Clock(at)) => {
            Some(context.now.since(*at) as f64)
        }
        (Measure::Time, Value::Span(span)) => Some(*span as f64),
        (Measure::Time, Value::Text(words)) => {
            let span = human::parse_span(words.split(' ').next().unwrap_or_default())?;
            Some(span as f64)
        }
        (_, value) => crate::column::number(value),
    }
}

fn on_text(value: &Value, test: impl Fn(&str) -> bool) -> bool {
    match value {
        Value::Text(words) | Value::Status(_, words) => test(words),
        Value::Int(number) => test(&number.to_string()),
        _ => false,
    }
}

/// Does one of the words that are shown by themselves pass: times and mere counts are left out.
fn any_word(row: &Entity, context: &Context, test: impl Fn(&str) -> bool) -> bool {
    columns(row.kind())
        .iter()
        .filter(|column| column.is_shown() && column.measure != Measure::Time)
        .any(|column| match (column.value)(row, context) {
            Value::Text(words) | Value::Status(_, words) => test(&words),
            Value::Int(number) if column.id == "id" => test(&number.to_string()),
            _ => false,
        })
}

fn is_me(row: &Entity, context: &Context) -> bool {
    let same = |id: &str, name: &str| {
        context.caller.ids.iter().any(|mine| **mine == *id)
            || (!name.is_empty()
                && (*context.caller.name == *name
                    || context
                        .aliases
                        .iter()
                        .any(|alias| alias.eq_ignore_ascii_case(name))))
    };
    match (row, row.owner()) {
        (Entity::User(user), _) => same(&user.user_id, &user.name),
        (_, Some(Owner { id, name })) => same(id, name),
        (_, None) => false,
    }
}
