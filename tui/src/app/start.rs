//! The dialog that starts something from a task file: which file, as what, and what that would be.

use std::sync::Arc;

use skytower_api_client::action::{ActionOptions, ActionSpec, Start};
use skytower_api_client::entity::Entity;
use skytower_api_client::query::Suggestion;
use skytower_api_client::task::Mistake;
use skytower_api_client::{Kind, human};

use super::typing::{Completion, Typing, edit};
use crate::keys::{Chord, Code};
use crate::start::{Read, misfit, preview};
use crate::text::{cut, width, wrap};
use crate::theme::Tone;
use skytower_api_client::column::Cut;

/// One way to start a file.
#[derive(Clone, Debug)]
pub struct Way {
    /// The action.
    pub action: &'static ActionSpec,
    /// The row that it is for: the engine, or a cluster or service.
    pub target: Arc<Entity>,
    /// What it is called.
    pub label: String,
    /// Why it cannot be chosen.
    pub off: Option<String>,
}

impl Way {
    /// It makes something new, which has a name of its own.
    pub fn makes(&self) -> bool {
        self.action.kind == Kind::Source
    }
}

/// How far one is.
#[derive(Debug)]
pub enum Step {
    /// The file is named.
    Path,
    /// It is being read.
    Reading,
    /// What it says is looked at.
    Look(Box<Look>),
}

/// A file that was read.
#[derive(Debug)]
pub struct Look {
    /// What it says, or what is wrong with it.
    pub read: Read,
    /// The name of what is made.
    pub name: String,
    /// The cursor in the name, in bytes.
    pub at: usize,
    /// The first line shown.
    pub top: usize,
}

/// A line of what would be started.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) title: String,
    pub(crate) text: String,
    pub(crate) tone: Tone,
}

/// The dialog.
#[derive(Debug)]
pub struct Starting {
    /// The ways there are here.
    pub ways: Vec<Way>,
    /// The one that is chosen.
    pub way: usize,
    /// Somebody chose it: the file does not change it any more.
    chosen: bool,
    /// The file, as it is typed.
    pub path: String,
    /// The cursor in the path, and what Tab goes through.
    pub typing: Typing,
    /// How far one is.
    pub step: Step,
    /// What was wrong last.
    pub problem: Option<String>,
    /// A folder and what is in it.
    listing: Option<(String, Vec<String>)>,
}

/// What a key asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Nothing more.
    Nothing,
    /// To close the dialog.
    Close,
    /// What is in a folder.
    Folder(String),
    /// To read a file.
    File(String),
    /// To start it.
    Go,
}

impl Starting {
    /// Asks for a file, to be started in `way`; `chosen` when somebody asked for that one.
    pub(crate) fn new(ways: Vec<Way>, way: usize, chosen: bool) -> Self {
        Self {
            ways,
            way,
            chosen,
            path: String::new(),
            typing: Typing::default(),
            step: Step::Path,
            problem: None,
            listing: None,
        }
    }

    /// The way that is chosen.
    pub fn chosen(&self) -> Option<&Way> {
        self.ways.get(self.way)
    }

    pub(crate) fn key(&mut self, chord: Chord) -> Asked {
        if chord.code == Code::Char('c') && chord.ctrl {
            return Asked::Close;
        }
        match (chord.code, &mut self.step) {
            (Code::Up | Code::Down, _) => {
                self.typing.completion = None;
                self.step_way(chord.code == Code::Down);
                Asked::Nothing
            }
            (_, Step::Look(_)) => self.key_at_look(chord),
            _ => self.key_at_path(chord),
        }
    }

    fn step_way(&mut self, down: bool) {
        let count = self.ways.len();
        let mut at = self.way;
        for _ in 0..count {
            at = (at + if down { 1 } else { count - 1 }) % count;
            if self.ways[at].off.is_none() {
                self.way = at;
                self.chosen = true;
                return;
            }
        }
    }

    fn key_at_path(&mut self, chord: Chord) -> Asked {
        let offered = self.typing.completion.take();
        match chord.code {
            Code::Esc => {
                // Out of the suggestions first.
                let Some(offered) = offered else {
                    return Asked::Close;
                };
                (self.path, self.typing.at) = (offered.typed, offered.cursor);
            }
            Code::Enter if self.path.ends_with('/') => return self.complete(),
            Code::Enter if self.path.trim().is_empty() => {
                self.problem = Some("name a task file; Tab shows those that are here".to_owned());
            }
            Code::Enter => return self.look(),
            Code::Tab => {
                let Some(mut offered) = offered else {
                    return self.complete();
                };
                offered.step(!chord.shift);
                (self.path, self.typing.at) = offered.text();
                self.typing.completion = Some(offered);
            }
            _ => {
                self.problem = None;
                self.step = Step::Path;
                edit(&mut self.path, &mut self.typing.at, chord);
            }
        }
        Asked::Nothing
    }

    fn key_at_look(&mut self, chord: Chord) -> Asked {
        let wrong = !self.mistakes().is_empty();
        let makes = self.chosen().is_some_and(Way::makes);
        let Step::Look(look) = &mut self.step else {
            return Asked::Nothing;
        };
        match chord.code {
            Code::Esc => self.step = Step::Path,
            // Whoever corrected the file looks again.
            Code::Enter if wrong => return self.look(),
            Code::Enter => return Asked::Go,
            Code::PageUp => look.top = look.top.saturating_sub(5),
            Code::PageDown => look.top += 5,
            _ if makes => {
                edit(&mut look.name, &mut look.at, chord);
            }
            _ => {}
        }
        Asked::Nothing
    }

    fn look(&mut self) -> Asked {
        self.problem = None;
        self.step = Step::Reading;
        Asked::File(self.path.trim().to_owned())
    }

    /// The folder in front of the cursor.
    fn folder(&self) -> &str {
        let before = self.path.get(..self.typing.at).unwrap_or_default();
        before.rfind('/').map_or("", |at| &before[..=at])
    }

    /// Offers what the folder holds; asks for that first.
    fn complete(&mut self) -> Asked {
        let folder = self.folder().to_owned();
        match &self.listing {
            Some((known, names)) if *known == folder => {
                let names = names.clone();
                self.offer(&names);
                Asked::Nothing
            }
            _ => Asked::Folder(folder),
        }
    }

    /// What a folder holds came.
    pub(crate) fn listed(&mut self, folder: &str, names: Result<Vec<String>, String>) {
        if folder != self.folder() || !matches!(self.step, Step::Path) {
            return;
        }
        match names {
            Ok(names) => {
                self.offer(&names);
                self.listing = Some((folder.to_owned(), names));
            }
            Err(why) => self.problem = Some(why),
        }
    }

    fn offer(&mut self, names: &[String]) {
        let start = self.folder().len();
        let typed = self.path.get(start..self.typing.at).unwrap_or_default();
        let fits = |name: &&String| {
            name.starts_with(typed) && (!name.starts_with('.') || typed.starts_with('.'))
        };
        let suggestion = |name: &String| Suggestion {
            replaces: start..self.typing.at,
            text: name.clone(),
            note: if name.ends_with('/') { "folder" } else { "" }.to_owned(),
        };
        let found: Vec<Suggestion> = names.iter().filter(fits).map(suggestion).collect();
        if found.is_empty() {
            self.problem = Some(format!(
                "no task file (.yaml, .yml) {}",
                if typed.is_empty() {
                    "is there"
                } else {
                    "begins so"
                }
            ));
            return;
        }
        let completion = Completion {
            typed: self.path.clone(),
            cursor: self.typing.at,
            found,
            at: 0,
        };
        self.problem = None;
        (self.path, self.typing.at) = completion.text();
        // A single one is no choice: the next Tab goes on from it.
        self.typing.completion = (completion.found.len() > 1).then_some(completion);
    }

    /// The file that was asked for came.
    pub(crate) fn came(&mut self, path: &str, read: Result<Read, String>) {
        if !matches!(self.step, Step::Reading) || path != self.path.trim() {
            return;
        }
        let read = match read {
            Ok(read) => read,
            Err(why) => {
                self.step = Step::Path;
                self.problem = Some(why);
                return;
            }
        };
        if let Ok(task) = &read.task
            && !self.chosen
            && self
                .chosen()
                .is_some_and(|way| misfit(way.action, &read.start.file, task).is_some())
        {
            // What the file is says how it is started, as long as nobody has.
            let fits = |way: &Way| {
                way.off.is_none() && misfit(way.action, &read.start.file, task).is_none()
            };
            let serves = task.tasks.iter().any(|task| task.service.is_some());
            let wanted = if serves {
                "source.serve_up"
            } else {
                "source.jobs_launch"
            };
            let own = self
                .ways
                .iter()
                .position(|way| way.action.id == wanted && fits(way));
            self.way = own.unwrap_or(self.way);
        }
        let name = read.task.as_ref().ok().and_then(|task| task.name.clone());
        let name = name.map_or_else(String::new, |name| name.to_string());
        self.step = Step::Look(Box::new(Look {
            at: name.len(),
            name,
            read,
            top: 0,
        }));
    }

    /// What is wrong with the file, or with starting it in this way.
    pub(crate) fn mistakes(&self) -> Vec<Mistake> {
        let (Step::Look(look), Some(way)) = (&self.step, self.chosen()) else {
            return Vec::new();
        };
        match &look.read.task {
            Err(mistakes) => mistakes.clone(),
            Ok(task) => misfit(way.action, &look.read.start.file, task)
                .into_iter()
                .collect(),
        }
    }

    /// What is sent.
    pub(crate) fn options(&self) -> Option<ActionOptions> {
        let (Step::Look(look), Some(way)) = (&self.step, self.chosen()) else {
            return None;
        };
        let name = look.name.trim();
        let start = Start {
            name: (way.makes() && !name.is_empty()).then(|| name.into()),
            ..look.read.start.clone()
        };
        Some(ActionOptions {
            start: Some(Box::new(start)),
            ..ActionOptions::default()
        })
    }

    /// What would be started, or what is wrong, in lines of `room` cells.
    pub(crate) fn lines(&self, room: usize, ascii: bool) -> Vec<Said> {
        let (Step::Look(look), Some(way)) = (&self.step, self.chosen()) else {
            return Vec::new();
        };
        let mistakes = self.mistakes();
        let mut lines = Vec::new();
        if !mistakes.is_empty() {
            lines.push(Said {
                title: String::new(),
                text: format!(
                    "{}: nothing can be started",
                    human::count(mistakes.len(), "mistake")
                ),
                tone: Tone::Bad,
            });
            let mark = if ascii { "x" } else { "✗" };
            for mistake in &mistakes {
                let pieces = wrap(&mistake.to_string(), room.saturating_sub(2));
                lines.extend(pieces.into_iter().enumerate().map(|(i, text)| Said {
                    title: if i == 0 { mark } else { " " }.to_owned(),
                    text,
                    tone: Tone::Plain,
                }));
            }
            return lines;
        }
        if let Ok(task) = &look.read.task {
            let facts = preview(task);
            let titles = facts.iter().map(|(title, _)| width(title)).max();
            let titles = titles.unwrap_or(0);
            lines.extend(facts.into_iter().map(|(title, text)| Said {
                text: cut(&text, room.saturating_sub(titles + 1), Cut::End, ascii),
                title: format!("{title:titles$}"),
                tone: Tone::Plain,
            }));
        }
        if let Some(options) = self.options() {
            lines.push(Said {
                title: String::new(),
                text: String::new(),
                tone: Tone::Plain,
            });
            lines.extend(
                (way.action.sky)(&[&way.target], &options)
                    .iter()
                    .map(|command| Said {
                        title: String::new(),
                        text: cut(&format!("$ {command}"), room, Cut::End, ascii),
                        tone: Tone::Dim,
                    }),
            );
        }
        lines
    }
}
