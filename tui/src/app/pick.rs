//! Choosing one of several by typing: the menu, the owners, the command line.

use skytower_api_client::Kind;
use skytower_api_client::action::{ActionOptions, ActionSpec};
use skytower_api_client::query::fuzzy;

use super::list::Scope;
use crate::keys::{Chord, Code, Command};

/// What choosing an item does.
#[derive(Clone, Debug, PartialEq)]
pub enum Choice {
    /// An action, on what is marked or under the cursor.
    Act(&'static ActionSpec, Option<ActionOptions>),
    /// A command of the key table.
    Command(Command),
    /// Whose things are shown.
    Scope(Scope),
    /// A screen, filtered.
    Screen(Kind, Option<String>),
}

/// One of several.
#[derive(Clone, Debug)]
pub struct Item {
    /// What it is called.
    pub label: String,
    /// What is said beside it.
    pub note: String,
    /// Its key, for those that have one.
    pub key: String,
    /// Why it cannot be chosen.
    pub off: Option<String>,
    /// What choosing it does.
    pub choice: Choice,
}

/// Several to choose from.
#[derive(Debug)]
pub struct Picker {
    /// Its heading.
    pub title: String,
    /// What to do, for an empty input.
    pub prompt: &'static str,
    /// What was typed.
    pub typed: String,
    /// Everything there is.
    pub items: Vec<Item>,
    /// The one with the cursor, among those that fit what was typed.
    pub at: usize,
    /// The first word names a screen, the rest filters it.
    pub command_line: bool,
}

/// What a key did to the picker.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Picked {
    Open,
    Closed,
    Chosen(Choice),
    Off(String),
}

impl Picker {
    /// The items that fit what was typed, best first.
    pub fn fitting(&self) -> Vec<&Item> {
        let typed = self.typed.trim();
        let needle = if self.command_line {
            typed.split_whitespace().next().unwrap_or_default()
        } else {
            typed
        };
        if needle.is_empty() {
            return self.items.iter().collect();
        }
        let mut scored: Vec<(bool, i32, &Item)> = self
            .items
            .iter()
            .filter_map(|item| {
                let score = fuzzy(&item.label, needle)?;
                let starts = item
                    .label
                    .to_lowercase()
                    .starts_with(&needle.to_lowercase());
                Some((starts, score, item))
            })
            .collect();
        scored.sort_by(|a, b| b.0.cmp(&a.0).then(b.1.cmp(&a.1)));
        scored.into_iter().map(|(_, _, item)| item).collect()
    }

    pub(crate) fn key(&mut self, chord: Chord) -> Picked {
        let fitting = self.fitting().len();
        match chord.code {
            Code::Esc => return Picked::Closed,
            Code::Char('c') if chord.ctrl => return Picked::Closed,
            Code::Up => self.at = self.at.saturating_sub(1),
            Code::Char('p') if chord.ctrl => self.at = self.at.saturating_sub(1),
            Code::Down | Code::Tab => self.at = (self.at + 1).min(fitting.saturating_sub(1)),
            Code::Char('n') if chord.ctrl => self.at = (self.at + 1).min(fitting.saturating_sub(1)),
            Code::PageDown => self.at = (self.at + 10).min(fitting.saturating_sub(1)),
            Code::PageUp => self.at = self.at.saturating_sub(10),
            Code::Backspace => {
                if self.typed.pop().is_none() {
                    return Picked::Closed;
                }
                self.at = 0;
            }
            Code::Char('u' | 'w') if chord.ctrl => {
                self.typed.clear();
                self.at = 0;
            }
            Code::Enter => {
                let Some(item) = self.fitting().get(self.at).copied() else {
                    return Picked::Off(format!("nothing is called `{}`", self.typed.trim()));
                };
                if let Some(reason) = &item.off {
                    return Picked::Off(reason.clone());
                }
                let mut choice = item.choice.clone();
                if self.command_line
                    && let Choice::Screen(_, filter) = &mut choice
                    && let Some((_, rest)) = self.typed.trim().split_once(char::is_whitespace)
                {
                    let rest = rest.trim();
                    *filter = Some(rest.strip_prefix('/').unwrap_or(rest).to_owned());
                }
                return Picked::Chosen(choice);
            }
            _ => {
                if let Some(c) = chord.types() {
                    self.typed.push(c);
                    self.at = 0;
                }
            }
        }
        Picked::Open
    }
}
