//! The model: all that the screen is made of.

use std::collections::BTreeMap;
use std::sync::Arc;

use skytower_api_client::column::Context;
use skytower_api_client::entity::Entity;
use skytower_api_client::feed::Link;
use skytower_api_client::rest::Detail;
use skytower_api_client::wire::{Caller, Role};
use skytower_api_client::{EpochMs, Key, Kind, Table, Text, policy};

use super::batch::Batch;
use super::confirm::Confirm;
use super::list::{List, Scope, job_row};
use super::log::LogView;
use super::pick::Picker;
use super::sign_in::SignIn;
use super::start::Starting;
use super::typing::Typing;
use crate::keys;
use crate::theme::Theme;

/// What the dashboard is started with.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Where it is connected to, for people.
    pub endpoint: Text,
    /// The screen to start with.
    pub screen: Option<Kind>,
    /// How the terminal is drawn on.
    pub theme: Theme,
    /// Times of day in UTC.
    pub utc: bool,
    /// Makes this run's idempotency keys its own.
    pub run: String,
    /// Nothing is to be changed from here.
    pub read_only: bool,
    /// One can sign in anew: it is not the server of this account alone.
    pub signs_in: bool,
}

/// Why nothing is changed from here, when somebody said so.
pub const READ_ONLY: &str = "this skytower is read-only: it was told to change nothing";

impl Options {
    /// What whom the server takes us for may do from here.
    pub(crate) fn limited_here(&self, mut caller: Caller) -> Caller {
        if self.read_only && policy::only_looks(&caller).is_none() {
            caller.role = Role::Viewer;
            caller.limited = Some(READ_ONLY.into());
        }
        caller
    }
}

/// A tab of a detail page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tab {
    /// Rows that belong to the subject.
    Rows(Kind),
    /// Its YAML.
    Yaml,
    /// Its log, with what happened last above it.
    Log,
    /// A request's result per target.
    Results,
    /// Nothing but its facts.
    Facts,
}

/// Where one is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Page {
    /// A screen.
    List(Kind),
    /// One thing.
    Detail(Key, Tab),
    /// A log in full.
    Log(Key, Option<&'static str>),
    /// A YAML in full.
    Yaml(Key),
}

/// How loud a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// For information.
    Info,
    /// It went well.
    Good,
    /// It did not.
    Bad,
}

/// The line above the hints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// What.
    pub text: String,
    /// How loud.
    pub severity: Severity,
    /// Since when.
    pub at: EpochMs,
}

/// Something in front of the page.
#[derive(Debug)]
pub enum Overlay {
    /// The keys.
    Help {
        /// What they are narrowed by.
        typed: String,
        /// The first line shown.
        top: usize,
    },
    /// Choose one of several.
    Pick(Picker),
    /// Really?
    Confirm(Confirm),
    /// Start something from a task file.
    Start(Box<Starting>),
    /// Who is there?
    SignIn(Box<SignIn>),
    /// How a request fares, target by target.
    Results {
        /// The request's row.
        key: Key,
        /// The first line shown.
        top: usize,
    },
}

/// Details that came, or what happened and what to do about it.
pub(crate) type Loaded = Result<Detail, (Text, Option<Text>)>;

/// All that the screen is made of.
#[derive(Debug)]
pub struct Model {
    /// The copy of the server's state.
    pub table: Table,
    /// The link to the server.
    pub link: Link,
    /// The initial state is here.
    pub ready: bool,
    /// Who the server takes us for.
    pub you: Caller,
    /// What it was started with.
    pub options: Options,
    /// The present, by this machine's clock.
    pub at: EpochMs,
    /// The server's clock minus ours.
    pub offset_ms: i64,
    /// The server last said something.
    pub heard: Option<EpochMs>,
    /// Columns and rows of the terminal.
    pub size: (u16, u16),
    /// Where one is.
    pub page: Page,
    /// Pages before.
    pub back: Vec<Page>,
    /// Pages left by going back.
    pub forward: Vec<Page>,
    /// In front of the page, the last one on top.
    pub overlays: Vec<Overlay>,
    /// A filter or search is being typed.
    pub typing: Option<Typing>,
    /// Whose things are shown.
    pub scope: Scope,
    /// The preview is wanted.
    pub preview: bool,
    /// The line above the hints.
    pub message: Option<Message>,
    /// The next close at the outermost page quits.
    pub quit_armed: bool,
    /// Lists with their cursors, by kind and subject.
    pub lists: BTreeMap<(Kind, Option<Key>), List>,
    /// The log that is open.
    pub log: Option<LogView>,
    /// The YAML that is open.
    pub yaml: Option<LogView>,
    /// The details that were asked for last.
    pub(crate) detail: Option<(Key, Option<Loaded>)>,
    /// What the server was asked to look at closely.
    pub focus: Option<Key>,
    /// Our own requests whose end is still to be told, with the number of targets.
    pub pending: Vec<Key>,
    /// Requests that were made together.
    pub batch: Option<Batch>,
    /// Counts logs and decisions.
    pub serial: u64,
    /// When it was asked who one is, since the server refuses: the box does not open again by itself.
    pub asked_who: Option<EpochMs>,
    /// Rows per kind, for the tabs.
    pub counts: BTreeMap<Kind, usize>,
}

impl Model {
    /// Nothing connected, nothing here.
    pub fn new(options: Options, at: EpochMs, size: (u16, u16)) -> Self {
        let screen = options
            .screen
            .filter(|kind| super::SCREENS.contains(kind))
            .unwrap_or(Kind::Cluster);
        Self {
            table: Table::new(),
            link: Link::Connecting { attempt: 1 },
            ready: false,
            you: Caller::default(),
            options,
            at,
            offset_ms: 0,
            heard: None,
            size,
            page: Page::List(screen),
            back: Vec::new(),
            forward: Vec::new(),
            overlays: Vec::new(),
            typing: None,
            scope: Scope::All,
            preview: true,
            message: None,
            quit_armed: false,
            lists: BTreeMap::new(),
            log: None,
            yaml: None,
            detail: None,
            focus: None,
            pending: Vec::new(),
            batch: None,
            serial: 0,
            asked_who: None,
            counts: BTreeMap::new(),
        }
    }

    /// What cells and queries depend on.
    pub fn context(&self) -> Context {
        Context {
            now: EpochMs(self.at.0 + self.offset_ms),
            caller: self.you.clone(),
            utc: self.options.utc,
            ..Context::default()
        }
    }

    /// The kinds that have a screen for whoever looks, in the order of their tabs: the audit is for
    /// administrators.
    pub fn screens(&self) -> &'static [Kind] {
        const OTHERS: &[Kind] = super::SCREENS.split_at(super::SCREENS.len() - 1).0;
        if self.you.role == Role::Admin {
            super::SCREENS
        } else {
            OTHERS
        }
    }

    /// Is what is here what the server has.
    pub fn is_live(&self) -> bool {
        matches!(self.link, Link::Live { .. })
    }

    /// The list on the page.
    pub fn list_id(&self) -> Option<(Kind, Option<Key>)> {
        match &self.page {
            Page::List(kind) => Some((*kind, None)),
            Page::Detail(key, Tab::Rows(kind)) => Some((*kind, Some(key.clone()))),
            _ => None,
        }
    }

    /// The list on the page.
    pub fn list(&self) -> Option<&List> {
        self.lists.get(&self.list_id()?)
    }

    /// The list on the page, made when it is not there.
    pub fn list_mut(&mut self) -> Option<&mut List> {
        let (kind, parent) = self.list_id()?;
        Some(
            self.lists
                .entry((kind, parent.clone()))
                .or_insert_with(|| List::new(kind, parent)),
        )
    }

    /// The row of a key; for a job of several tasks one made of them.
    pub fn row(&self, key: &Key) -> Option<Arc<Entity>> {
        self.table
            .get(key)
            .cloned()
            .or_else(|| job_row(&self.table, key))
    }

    /// The row of the server's that a key of ours stands for.
    pub fn real_key(&self, key: &Key) -> Key {
        if self.table.get(key).is_some() {
            return key.clone();
        }
        let task = Key::new(key.source(), Kind::Job, format!("{}/0", key.id()));
        if self.table.get(&task).is_some() {
            task
        } else {
            key.clone()
        }
    }

    /// What is under the cursor: the row of a list, or the subject of the page.
    pub fn under_cursor(&self) -> Option<Arc<Entity>> {
        if let Some(line) = self.list().and_then(List::current) {
            return Some(line.row.clone());
        }
        self.subject()
    }

    /// What the page is about.
    pub fn subject(&self) -> Option<Arc<Entity>> {
        match &self.page {
            Page::List(_) => None,
            Page::Detail(key, _) | Page::Log(key, _) | Page::Yaml(key) => self.row(key),
        }
    }

    /// Where keys are pressed now.
    pub fn key_context(&self) -> keys::Context {
        match &self.page {
            Page::List(_) => keys::Context::List,
            Page::Detail(..) => keys::Context::Detail,
            Page::Log(..) => keys::Context::Log,
            Page::Yaml(_) => keys::Context::Text,
        }
    }

    /// The text on the page.
    pub fn text_view(&self) -> Option<&LogView> {
        match &self.page {
            Page::Log(..) | Page::Detail(_, Tab::Log) => self.log.as_ref(),
            Page::Yaml(_) | Page::Detail(_, Tab::Yaml) => self.yaml.as_ref(),
            _ => None,
        }
    }

    /// The text on the page.
    pub fn text_view_mut(&mut self) -> Option<&mut LogView> {
        match &self.page {
            Page::Log(..) | Page::Detail(_, Tab::Log) => self.log.as_mut(),
            Page::Yaml(_) | Page::Detail(_, Tab::Yaml) => self.yaml.as_mut(),
            _ => None,
        }
    }

    /// Says something.
    pub fn say(&mut self, severity: Severity, text: impl Into<String>) {
        self.message = Some(Message {
            text: text.into(),
            severity,
            at: self.at,
        });
    }

    /// Every list has to be made anew.
    pub fn all_dirty(&mut self) {
        for list in self.lists.values_mut() {
            list.dirty = true;
        }
    }
}
