//! A field with its place, and the questions that are asked of it. Whoever asks for what is not there gets
//! nothing, and the report has one mistake more.

use super::report::{Report, quoted};
use super::scalar::{Meaning, meaning};
use super::tree::{Node, Value, below};

/// A field of the file.
pub(super) struct Field<'t, 'a> {
    /// Its name with its parents; empty for a whole document.
    pub(super) path: String,
    /// The line of its name.
    pub(super) line: usize,
    pub(super) node: &'t Node<'a>,
}

impl<'t, 'a> Field<'t, 'a> {
    /// A whole document.
    pub(super) fn document(node: &'t Node<'a>) -> Self {
        Self {
            path: String::new(),
            line: node.line,
            node,
        }
    }

    pub(super) fn wrong(&self, report: &mut Report, message: impl AsRef<str>) {
        report.add(Some(self.line), &self.path, message);
    }

    /// Nothing is written behind its name.
    pub(super) fn is_nothing(&self) -> bool {
        matches!(&self.node.value, Value::Scalar(scalar) if meaning(scalar) == Meaning::Nothing)
    }

    /// What it says, as a message shows it.
    pub(super) fn shown(&self) -> String {
        match &self.node.value {
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a mapping".to_owned(),
            Value::Scalar(_) if self.node.shared => "this".to_owned(),
            Value::Scalar(scalar) if scalar.text.is_empty() => "nothing".to_owned(),
            Value::Scalar(scalar) => quoted(&scalar.text),
        }
    }

    /// Its entries; none when it is not a mapping. The entries that are nothing are among them.
    pub(super) fn entries(&self, report: &mut Report) -> Vec<(&'t str, Field<'t, 'a>)> {
        let Value::Map(pairs) = &self.node.value else {
            self.wrong(
                report,
                format!("must be a mapping (`name: value`), not {}", self.shown()),
            );
            return Vec::new();
        };
        pairs
            .iter()
            .map(|pair| {
                let field = Field {
                    path: below(&self.path, &pair.key),
                    line: pair.line,
                    node: &pair.node,
                };
                (&*pair.key, field)
            })
            .collect()
    }

    /// The values of a list; a single value is a list of one.
    pub(super) fn items(&self) -> Vec<Field<'t, 'a>> {
        let Value::List(list) = &self.node.value else {
            return vec![Field {
                path: self.path.clone(),
                ..*self
            }];
        };
        list.iter()
            .enumerate()
            .map(|(index, node)| Field {
                path: format!("{}[{index}]", self.path),
                line: node.line,
                node,
            })
            .collect()
    }

    pub(super) fn meaning(&self) -> Option<Meaning> {
        match &self.node.value {
            Value::Scalar(scalar) => Some(meaning(scalar)),
            Value::List(_) | Value::Map(_) => None,
        }
    }

    /// The text, whatever it means.
    pub(super) fn raw(&self) -> Option<&'t str> {
        match &self.node.value {
            Value::Scalar(scalar) => Some(&scalar.text),
            Value::List(_) | Value::Map(_) => None,
        }
    }

    /// Text. What would be a number, a yes or a no must be in quotes, as `SkyPilot` wants it.
    pub(super) fn text(&self, report: &mut Report) -> Option<&'t str> {
        match (self.raw(), self.meaning()) {
            (Some(text), Some(Meaning::Text)) if text.contains('\0') => {
                self.wrong(report, "must not have a character of value 0");
                None
            }
            (Some(text), Some(Meaning::Text)) => Some(text),
            (Some(_), Some(Meaning::Nothing)) => {
                self.wrong(report, "must be text, not nothing");
                None
            }
            (Some(_), _) => {
                let shown = self.shown();
                self.wrong(
                    report,
                    format!("must be text; put {shown} in quotation marks"),
                );
                None
            }
            (None, _) => {
                self.wrong(report, format!("must be text, not {}", self.shown()));
                None
            }
        }
    }

    /// A whole number of at least `least`.
    pub(super) fn whole(&self, least: u32, report: &mut Report) -> Option<u32> {
        if let Some(Meaning::Whole(number)) = self.meaning()
            && let Ok(number) = u32::try_from(number)
            && number >= least
            // `1:30` is ninety to YAML, and to nobody else.
            && !self.raw().is_some_and(|raw| raw.contains(':'))
        {
            return Some(number);
        }
        let shown = self.shown();
        let quotes = match (&self.node.value, self.raw().map(str::parse::<u32>)) {
            (Value::Scalar(scalar), Some(Ok(_))) if !scalar.plain => " (without quotation marks)",
            _ => "",
        };
        self.wrong(
            report,
            format!("must be a whole number, {least} or more{quotes}, not {shown}"),
        );
        None
    }

    /// The number, when it is one above zero.
    pub(super) fn number(&self) -> Option<f64> {
        let number = match self.meaning()? {
            Meaning::Whole(number) => number as f64,
            Meaning::Fraction(number) => number,
            _ => return None,
        };
        let sixties = self.raw().is_some_and(|raw| raw.contains(':'));
        (number.is_finite() && number > 0.0 && !sixties).then_some(number)
    }

    /// A number above zero.
    pub(super) fn above_zero(&self, report: &mut Report) -> Option<f64> {
        let number = self.number();
        if number.is_none() {
            self.wrong(
                report,
                format!("must be a number above 0, not {}", self.shown()),
            );
        }
        number
    }

    /// Yes or no.
    pub(super) fn flag(&self, report: &mut Report) -> Option<bool> {
        if let Some(Meaning::Flag(flag)) = self.meaning() {
            return Some(flag);
        }
        self.wrong(
            report,
            format!("must be true or false, not {}", self.shown()),
        );
        None
    }
}
