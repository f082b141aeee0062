//! `envs` and `secrets`, and where their values are put in. No message says a value, or what may be one.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use regex::{Captures, Regex};

use super::super::names::is_variable_name;
use super::field::Field;
use super::report::Report;
use super::scalar::as_text;
use super::tree::Value;

const NAME: &str =
    "one of the names is not that of a variable: letters, digits and `_`, and no digit first";

/// The values of the file, with those that were given (with `flag`) in their place.
pub(super) fn variables(
    flag: &str,
    field: Option<&Field<'_, '_>>,
    given: &BTreeMap<String, String>,
    report: &mut Report,
) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    let field = field.filter(|field| !field.is_nothing());
    match field.map(|field| (field, &field.node.value)) {
        Some((field, Value::Map(_))) => {
            for (name, entry) in field.entries(report) {
                if !is_variable_name(name) {
                    entry.wrong(report, NAME);
                } else if let Some(value) = value(flag, name, &entry, given, report) {
                    values.insert(name.to_owned(), value);
                }
            }
        }
        Some((field, _)) => field.wrong(
            report,
            format!(
                "must be a mapping (`NAME: value`); a name with nothing behind it is given with {flag} NAME=…"
            ),
        ),
        None => {}
    }
    for (name, value) in given {
        if !is_variable_name(name) {
            report.add(None, flag, NAME);
        } else if value.contains('\0') {
            report.add(None, flag, ZERO);
        } else {
            values.insert(name.clone(), value.clone());
        }
    }
    values
}

const ZERO: &str = "a value must not have a character of value 0";

fn value(
    flag: &str,
    name: &str,
    entry: &Field<'_, '_>,
    given: &BTreeMap<String, String>,
    report: &mut Report,
) -> Option<String> {
    // What the file says no longer matters.
    if given.contains_key(name) {
        return None;
    }
    let Value::Scalar(scalar) = &entry.node.value else {
        entry.wrong(report, "must be one value: text, or a number");
        return None;
    };
    let value = as_text(scalar);
    match &value {
        None => entry.wrong(
            report,
            format!(
                "has no value; write one, `\"\"` for an empty one, or give it with {flag} {name}=…"
            ),
        ),
        Some(value) if value.contains('\0') => entry.wrong(report, ZERO),
        Some(_) => {}
    }
    value
}

/// `$NAME` and `${NAME}`. As in `SkyPilot`, either brace alone is taken along.
#[expect(clippy::expect_used, reason = "a constant expression, which tests use")]
static REFERENCE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"\$\{?([a-zA-Z_][a-zA-Z0-9_]*)\}?").expect("an expression that compiles")
});

/// Values of variables, for the fields that they are put into.
pub(super) struct Values<'v> {
    pub(super) envs: &'v BTreeMap<String, String>,
    pub(super) secrets: &'v BTreeMap<String, String>,
}

impl Values<'_> {
    /// The text with the values in place of their names. What is no variable of the file stays.
    pub(super) fn put_into(&self, text: &str) -> String {
        REFERENCE
            .replace_all(text, |found: &Captures<'_>| {
                let (whole, [name]) = found.extract();
                let value = self.secrets.get(name).or_else(|| self.envs.get(name));
                value.map_or_else(|| whole.to_owned(), Clone::clone)
            })
            .into_owned()
    }
}
