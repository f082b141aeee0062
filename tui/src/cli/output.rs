//! Rows written out: tables, JSON, YAML and names. Pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value as Json;
use skytower_api_client::column::{
    self, Align, Column, Context, Cut, HIDDEN, SOURCE_OF_SEVERAL, Value, are_of_several_sources,
    columns, write_text,
};
use skytower_api_client::{Entity, EpochMs, Kind, target};
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::Failure;
use super::args::Output;
use super::console::Console;

/// The cells between two columns.
const GAP: usize = 2;

/// Which columns a table has.
#[derive(Debug)]
pub enum Wanted {
    /// Those that are shown by themselves.
    Shown,
    /// All.
    All,
    /// These.
    These(Vec<&'static Column>),
}

impl Wanted {
    /// The columns of `-o` and `--columns`.
    pub fn read(kind: Kind, output: Output, names: &[String]) -> Result<Self, Failure> {
        if names.is_empty() {
            return Ok(match output {
                Output::Wide => Wanted::All,
                _ => Wanted::Shown,
            });
        }
        names
            .iter()
            .map(|name| column_named(kind, name))
            .collect::<Result<_, _>>()
            .map(Wanted::These)
    }

    fn columns(&self, kind: Kind, several_sources: bool) -> Vec<&'static Column> {
        match self {
            Wanted::Shown => columns(kind)
                .iter()
                .filter_map(|column| {
                    if several_sources && column.id == SOURCE_OF_SEVERAL.id {
                        Some(SOURCE_OF_SEVERAL)
                    } else {
                        column.is_shown().then_some(column)
                    }
                })
                .collect(),
            Wanted::All => columns(kind)
                .iter()
                .filter(|it| it.is_shown() || !matches!(it.id, "phase" | "key"))
                .collect(),
            Wanted::These(these) => these.clone(),
        }
    }
}

/// The column of a name, or a failure that says which there are.
pub fn column_named(kind: Kind, name: &str) -> Result<&'static Column, Failure> {
    column::column(kind, &name.to_ascii_lowercase()).ok_or_else(|| {
        let ids = columns(kind).iter().map(|column| column.id);
        let hint = match skytower_api_client::nearest::nearest(name, ids.clone()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("columns are {}", ids.collect::<Vec<_>>().join(", ")),
        };
        Failure::usage(format!("{} have no column `{name}`", kind.plural()), hint)
    })
}

/// A table. Piped, or with columns that were asked for, nothing is cut.
pub fn table(
    kind: Kind,
    rows: &[Arc<Entity>],
    wanted: &Wanted,
    header: bool,
    console: &Console,
    context: &Context,
) -> String {
    let several = are_of_several_sources(kind, rows.iter().map(|row| &**row));
    let all = wanted.columns(kind, several);
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            all.iter()
                .map(|column| cell(column, row, context))
                .collect()
        })
        .collect();
    let content = |at: usize| cells.iter().map(|row| row[at].width()).max().unwrap_or(0);
    let natural = |at: usize| content(at).max(all[at].title.width());
    let shown: Vec<(usize, usize)> = match (wanted, console.width) {
        (Wanted::Shown, Some(total)) => {
            let sized: Vec<(&'static Column, u16)> = all
                .iter()
                .enumerate()
                .map(|(at, column)| (*column, content(at).min(usize::from(u16::MAX)) as u16))
                .collect();
            let fitted = column::fit(&sized, total, GAP as u16);
            fitted
                .columns
                .into_iter()
                .filter_map(|(column, width)| {
                    let at = all.iter().position(|it| it.id == column.id)?;
                    Some((at, usize::from(width)))
                })
                .collect()
        }
        _ => (0..all.len()).map(|at| (at, natural(at))).collect(),
    };
    let mut out = String::new();
    if header {
        let line = shown.iter().map(|&(at, width)| {
            let title = place(all[at].title, width, all[at].align);
            (title.clone(), title)
        });
        push_line(&mut out, line, |line| console.style("1", line));
    }
    for (row, cells) in rows.iter().zip(&cells) {
        let line = shown.iter().map(|&(at, width)| {
            let cut = cut(&cells[at], width, all[at].cut);
            let plain = place(&cut, width, all[at].align);
            let painted = if all[at].id == "status" {
                plain.replacen(&cut, &console.paint(row.phase(), &cut), 1)
            } else {
                plain.clone()
            };
            (plain, painted)
        });
        push_line(&mut out, line, str::to_owned);
    }
    out
}

fn push_line(
    out: &mut String,
    cells: impl Iterator<Item = (String, String)>,
    style: impl Fn(&str) -> String,
) {
    let mut line = String::new();
    for (i, (_, painted)) in cells.enumerate() {
        if i > 0 {
            line.push_str(&" ".repeat(GAP));
        }
        line.push_str(&painted);
    }
    out.push_str(&style(line.trim_end()));
    out.push('\n');
}

fn cell(column: &Column, row: &Entity, context: &Context) -> String {
    let mut out = String::new();
    write_text(&mut out, &(column.value)(row, context), context);
    out
}

fn place(text: &str, width: usize, align: Align) -> String {
    let pad = " ".repeat(width.saturating_sub(text.width()));
    match align {
        Align::Left => format!("{text}{pad}"),
        Align::Right => format!("{pad}{text}"),
    }
}

/// The text in at most `width` cells.
pub fn cut(text: &str, width: usize, how: Cut) -> String {
    if how == Cut::Never || text.width() <= width {
        return text.to_owned();
    }
    let room = width.saturating_sub(1);
    let head = |room: usize, chars: &mut dyn Iterator<Item = char>| -> String {
        let mut used = 0;
        chars
            .take_while(|c| {
                used += c.width().unwrap_or(0);
                used <= room
            })
            .collect()
    };
    match how {
        Cut::Middle => {
            let front = head(room.div_ceil(2), &mut text.chars());
            let back: String = head(room / 2, &mut text.chars().rev());
            let back: String = back.chars().rev().collect();
            format!("{front}…{back}")
        }
        _ => format!("{}…", head(room, &mut text.chars())),
    }
}

/// A row as on the wire, with times that people can read (RFC 3339).
pub fn json(row: &Entity) -> Json {
    let mut value = serde_json::to_value(row).unwrap_or_default();
    readable_times(&mut value);
    value
}

/// Epoch milliseconds become RFC 3339, by the names that the wire gives to moments.
pub fn readable_times(value: &mut Json) {
    let moment = |value: &mut Json| {
        if let Some(ms) = value.as_i64() {
            *value = EpochMs(ms).to_rfc3339().into();
        }
    };
    match value {
        Json::Array(items) => items.iter_mut().for_each(readable_times),
        Json::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Json::Object(by_kind) if name == "fetched_at" => {
                        by_kind.values_mut().for_each(moment);
                    }
                    Json::Number(_)
                        if name.ends_with("_at") || name == "at" || name == "ready_since" =>
                    {
                        moment(value);
                    }
                    other => readable_times(other),
                }
            }
        }
        _ => {}
    }
}

/// JSON for people and programs: indented.
pub fn pretty(value: &Json) -> String {
    format!("{value:#}\n")
}

/// The same as YAML.
pub fn yaml(value: &Json) -> Result<String, Failure> {
    serde_saphyr::to_string(value)
        .map_err(|error| Failure::new(1, format!("the rows could not be written as YAML: {error}")))
}

/// Targets, one per line; with their source where there are several.
pub fn names(rows: &[Arc<Entity>], several_sources: bool) -> String {
    let mut seen = BTreeSet::new();
    let mut out = String::new();
    for row in rows {
        let name = if several_sources {
            format!("{}:{}", row.source(), target::of(row))
        } else {
            target::of(row)
        };
        // The tasks of a pipeline are one target.
        if seen.insert(name.clone()) {
            out.push_str(&name);
            out.push('\n');
        }
    }
    out
}

/// Every known cell of one row, a line each.
pub fn card(row: &Entity, console: &Console, context: &Context) -> String {
    let known: Vec<(&Column, String)> = columns(row.kind())
        .iter()
        .filter(|column| column.priority != HIDDEN || column.id != "phase")
        .filter(|column| !matches!((column.value)(row, context), Value::None))
        .map(|column| (column, cell(column, row, context)))
        .collect();
    let width = known.iter().map(|(column, _)| column.title.width()).max();
    let mut out = String::new();
    for (column, text) in known {
        let title = place(column.title, width.unwrap_or(0), Align::Left);
        let text = if column.id == "status" {
            console.paint(row.phase(), &text)
        } else {
            text
        };
        out.push_str(&format!("{}  {text}\n", console.style("1", &title)));
    }
    out
}

#[cfg(test)]
mod tests;
