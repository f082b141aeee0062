//! A list of rows: what is shown, in which order, and what is selected. Selection and marks are by
//! key; positions are derived and never kept as truth.

use std::collections::BTreeSet;
use std::sync::Arc;

use skytower_api_client::column::{
    Column, Context, SOURCE_OF_SEVERAL, Value, are_of_several_sources, columns, default_sort, fit,
    write_text,
};
use skytower_api_client::entity::{Entity, Owner};
use skytower_api_client::query::{Query, QueryError};
use skytower_api_client::table::Touch;
use skytower_api_client::{Key, Kind, Phase, Table, Text, policy};

use super::order::{Order, child_kind};
use crate::text::width;

/// Whose things are shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// One's own.
    Mine,
    /// Those in the workspaces one has something in.
    Workspaces(BTreeSet<Text>),
    /// Everybody's.
    #[default]
    All,
    /// One owner's.
    Owner(Owner),
}

impl Scope {
    /// Is the row within it. What belongs to nobody is everybody's.
    pub fn holds(&self, row: &Entity, context: &Context) -> bool {
        match self {
            Scope::All => true,
            Scope::Mine => row.owner().is_none() || policy::is_mine(&context.caller, row),
            Scope::Workspaces(list) => row.workspace().is_none_or(|ws| list.contains(ws)),
            Scope::Owner(owner) => row.owner().is_some_and(|it| it.id == owner.id),
        }
    }
}

/// Whether a line has children, and whether they are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fold {
    /// It has none.
    Leaf,
    /// It has some, hidden.
    Closed,
    /// It has some, below.
    Open,
    /// It is one of them.
    Child,
}

/// One line of a list.
#[derive(Clone, Debug)]
pub struct Line {
    /// The row; for a job of several tasks, one made of them.
    pub row: Arc<Entity>,
    /// Its place in a tree.
    pub fold: Fold,
}

impl Line {
    /// The key of its row.
    pub fn key(&self) -> &Key {
        self.row.key()
    }
}

/// A list of rows of one kind.
#[derive(Debug)]
pub struct List {
    /// The kind.
    pub kind: Kind,
    /// Only what belongs to this row.
    pub parent: Option<Key>,
    /// The filter as it is typed.
    pub filter: String,
    /// The last filter that could be read.
    pub query: Query,
    /// What is wrong with the filter as it is typed.
    pub error: Option<QueryError>,
    /// Filters typed before, the newest last.
    pub past: Vec<String>,
    /// Only what failed or limps.
    pub faults: bool,
    /// The column it is sorted by, and whether that descends.
    pub sort: (&'static str, bool),
    /// The row under the cursor.
    pub cursor: Option<Key>,
    /// Marked rows; may be hidden by a filter.
    pub marks: BTreeSet<Key>,
    /// Unfolded rows.
    pub open: BTreeSet<Key>,
    /// What is shown, in order.
    pub lines: Vec<Line>,
    /// Where the cursor was when its row was last there.
    pub at: usize,
    /// The first line on the screen.
    pub top: usize,
    /// Rows within the scope.
    pub in_scope: usize,
    /// Rows in all.
    pub total: usize,
    /// Its rows come from more than one source.
    pub several_sources: bool,
    /// The columns on the screen, with their widths.
    pub shown: Vec<(&'static Column, u16)>,
    /// Columns that had to go.
    pub dropped: usize,
    /// Rows changed since the lines were made.
    pub dirty: bool,
    /// The widest cell seen, per column; only grows, so that nothing jumps.
    widest: Vec<u16>,
    /// The columns in which a value was seen.
    filled: Vec<bool>,
    /// All of its rows, sorted.
    order: Order,
}

impl List {
    /// A list of a kind, sorted as that kind starts.
    pub fn new(kind: Kind, parent: Option<Key>) -> Self {
        Self {
            kind,
            order: Order::new(kind, parent.clone()),
            parent,
            filter: String::new(),
            query: Query::default(),
            error: None,
            past: Vec::new(),
            faults: false,
            sort: default_sort(kind),
            cursor: None,
            marks: BTreeSet::new(),
            open: BTreeSet::new(),
            lines: Vec::new(),
            at: 0,
            top: 0,
            in_scope: 0,
            total: 0,
            several_sources: false,
            shown: Vec::new(),
            dropped: 0,
            dirty: true,
            widest: Vec::new(),
            filled: Vec::new(),
        }
    }

    /// The kind whose rows are children in this list's tree.
    pub fn child_kind(&self) -> Option<Kind> {
        child_kind(self.kind)
    }

    /// Does a change of rows of `kind` concern this list.
    pub fn shows(&self, kind: Kind) -> bool {
        self.kind == kind || self.child_kind() == Some(kind)
    }

    /// A row came, changed or left.
    pub(crate) fn note(&mut self, touch: &Touch) {
        if touch.key.kind().is_some_and(|kind| self.shows(kind)) {
            self.dirty = true;
            self.order.note(touch);
        }
    }

    /// The line under the cursor.
    pub fn current(&self) -> Option<&Line> {
        let line = self.lines.get(self.at)?;
        (Some(line.key()) == self.cursor.as_ref()).then_some(line)
    }

    /// Reads the filter as typed; what was understood last holds while it cannot be read.
    pub fn set_filter(&mut self, text: String) {
        match Query::parse(&text, self.kind) {
            Ok(query) => {
                self.query = query;
                self.error = None;
            }
            Err(error) => self.error = Some(error),
        }
        self.filter = text;
        self.dirty = true;
    }

    /// Marks that are not on the list as it is filtered now.
    pub fn hidden_marks(&self) -> usize {
        if self.marks.is_empty() {
            return 0;
        }
        self.marks.len() - self.visible_marks().count()
    }

    /// Marked lines that are on the list.
    pub fn visible_marks(&self) -> impl Iterator<Item = &Line> {
        self.lines
            .iter()
            .filter(|line| self.marks.contains(line.key()))
    }

    /// Moves the cursor to a line.
    pub fn go(&mut self, at: usize) {
        self.at = at.min(self.lines.len().saturating_sub(1));
        self.cursor = self.lines.get(self.at).map(|line| line.key().clone());
    }

    /// Moves the cursor by lines.
    pub fn step(&mut self, by: isize) {
        self.go(self.at.saturating_add_signed(by));
    }

    /// Makes the lines anew when rows changed.
    pub fn refresh(&mut self, table: &Table, scope: &Scope, context: &Context) {
        if !self.dirty {
            return;
        }
        self.dirty = false;
        self.order.refresh(table, self.sort, context);
        self.lines.clear();
        self.in_scope = 0;
        self.total = self.order.units().len();
        let rows = self.order.units().iter().map(|unit| &*unit.row);
        self.several_sources = are_of_several_sources(self.kind, rows);
        for unit in self.order.units() {
            if self.parent.is_none() && !scope.holds(&unit.row, context) {
                continue;
            }
            self.in_scope += 1;
            if self.faults && !unit.all().any(|row| is_fault(row.phase())) {
                continue;
            }
            if !self.query.is_empty() && !unit.all().any(|row| self.query.matches(row, context)) {
                continue;
            }
            let open = self.open.contains(unit.row.key());
            let fold = match (unit.children.is_empty(), open) {
                (true, _) => Fold::Leaf,
                (false, false) => Fold::Closed,
                (false, true) => Fold::Open,
            };
            self.lines.push(Line {
                row: unit.row.clone(),
                fold,
            });
            if open {
                self.lines.extend(unit.children.iter().map(|row| Line {
                    row: row.clone(),
                    fold: Fold::Child,
                }));
            }
        }
        self.follow_cursor();
        if !self.marks.is_empty() {
            // A mark whose row is gone altogether marks nothing.
            let lines: BTreeSet<&Key> = self.lines.iter().map(Line::key).collect();
            let kept = |key: &Key| {
                lines.contains(key)
                    || table.get(key).is_some()
                    || key.id().split('/').count() == 1
                        && key.kind() == Some(Kind::Job)
                        && table
                            .get(&Key::new(
                                key.source(),
                                Kind::Job,
                                format!("{}/0", key.id()),
                            ))
                            .is_some()
            };
            let marks: BTreeSet<Key> = self.marks.iter().filter(|key| kept(key)).cloned().collect();
            self.marks = marks;
        }
    }

    /// The cursor stays on its row; where that is gone, it stays where the row was.
    fn follow_cursor(&mut self) {
        if let Some(key) = &self.cursor {
            let there = self
                .lines
                .get(self.at)
                .is_some_and(|line| line.key() == key);
            if there {
                return;
            }
            // It has rarely gone far.
            let found = |at: &usize| self.lines.get(*at).is_some_and(|line| line.key() == key);
            let far = self.lines.len().max(self.at);
            let near = (1..=far).flat_map(|by| [self.at.wrapping_sub(by), self.at + by]);
            if let Some(at) = near.into_iter().find(found) {
                self.at = at;
                return;
            }
        }
        self.go(self.at);
    }

    /// Is a row one of the parent's.
    pub(crate) fn belongs(&self, row: &Entity) -> bool {
        self.order.belongs(row)
    }

    /// Scrolls so that the cursor is on the screen.
    pub fn scroll(&mut self, height: usize) {
        let height = height.max(1);
        if self.at < self.top {
            self.top = self.at;
        }
        if self.at >= self.top + height {
            self.top = self.at + 1 - height;
        }
        self.top = self.top.min(self.lines.len().saturating_sub(height));
    }

    /// Forgets the widths: the next measure starts afresh.
    pub fn forget_widths(&mut self) {
        self.widest.clear();
        self.filled.clear();
    }

    /// Measures the visible rows and fits the columns into `room` cells.
    pub fn measure(&mut self, height: usize, room: u16, context: &Context) {
        let all = columns(self.kind);
        let several = self.several_sources;
        self.widest.resize(all.len(), 0);
        self.filled.resize(all.len(), false);
        let mut cell = String::new();
        for line in self.lines.iter().skip(self.top).take(height) {
            let slots = self.widest.iter_mut().zip(&mut self.filled);
            for (column, (widest, filled)) in all.iter().zip(slots) {
                if !is_shown(column, several) {
                    continue;
                }
                cell.clear();
                let value = value(line, column, context);
                *filled |= value != Value::None;
                write_text(&mut cell, &value, context);
                // The mark of a tree stands in front of the name.
                let mark = match line.fold {
                    Fold::Leaf => 0,
                    _ if column.id == "name" => 2,
                    _ => 0,
                };
                *widest = (*widest).max(width(&cell) as u16 + mark);
            }
        }
        let wanted: Vec<(&'static Column, u16)> = all
            .iter()
            .zip(self.widest.iter().zip(&self.filled))
            .filter(|(column, _)| is_shown(column, several))
            // On the page of one thing its parts need not say whose they are.
            .filter(|(column, _)| {
                self.parent.is_none()
                    || !matches!(column.id, "subject" | "service" | "pool" | "cluster")
            })
            // A column without a single value is left out; what people look for first always stays.
            .filter(|(column, (_, filled))| {
                **filled || column.priority < 2 || column.id == self.sort.0
            })
            .map(|(column, (widest, _))| {
                // Room for the arrow of the sorted column.
                let title = width(column.title) as u16 + u16::from(column.id == self.sort.0);
                let column = if column.id == SOURCE_OF_SEVERAL.id {
                    SOURCE_OF_SEVERAL
                } else {
                    column
                };
                (column, (*widest).max(title))
            })
            .collect();
        let fitted = fit(&wanted, room, 2);
        self.shown = fitted.columns;
        // `fit` counts titles without the arrow.
        for (column, width) in &mut self.shown {
            if column.id == self.sort.0 {
                *width = (*width).max(column.title.len() as u16 + 1);
            }
        }
        self.dropped = fitted.dropped;
    }
}

/// The cell of a line in a column: children of another kind answer by the column of the same name.
pub(crate) fn value(line: &Line, column: &Column, context: &Context) -> Value {
    if line.fold != Fold::Child {
        return (column.value)(&line.row, context);
    }
    skytower_api_client::column::column(line.row.kind(), column.id)
        .map_or(Value::Text(Text::default()), |own| {
            (own.value)(&line.row, context)
        })
}

fn is_shown(column: &Column, several_sources: bool) -> bool {
    column.is_shown() || several_sources && column.id == SOURCE_OF_SEVERAL.id
}

fn is_fault(phase: Phase) -> bool {
    matches!(phase, Phase::Failed | Phase::Degraded)
}

pub(super) fn job_of(key: &Key) -> &str {
    key.id().split('/').next().unwrap_or_default()
}

/// One row for a job of several tasks. Its state is that of the task that decides: in a pipeline the
/// first that has not succeeded, in a group the one that needs attention most.
pub(super) fn job_of_tasks(tasks: &[Arc<Entity>]) -> Arc<Entity> {
    let jobs: Vec<_> = tasks.iter().filter_map(|task| task.as_job()).collect();
    let Some(first) = jobs.first() else {
        return tasks
            .first()
            .cloned()
            .unwrap_or_else(|| Arc::new(Entity::Job(skytower_api_client::entity::Job::default())));
    };
    let deciding = if first.group {
        jobs.iter().min_by_key(|job| job.phase)
    } else {
        jobs.iter()
            .find(|job| job.phase != Phase::Succeeded)
            .or(jobs.last())
    }
    .unwrap_or(first);
    let mut job = (*deciding).clone();
    job.key = Key::new(first.key.source(), Kind::Job, first.job_id);
    job.name = first.job_name.clone();
    job.task_id = 0;
    // Its number is the job's alone.
    job.group = false;
    job.submitted_at = jobs.iter().filter_map(|job| job.submitted_at).min();
    job.started_at = jobs.iter().filter_map(|job| job.started_at).min();
    job.recoveries = jobs.iter().map(|job| job.recoveries).sum();
    if jobs.iter().any(|job| job.ended_at.is_none()) {
        job.ended_at = None;
    }
    Arc::new(Entity::Job(job))
}

/// The row of a job of several tasks, by the key that [`job_of_tasks`] gives it.
pub(crate) fn job_row(table: &Table, key: &Key) -> Option<Arc<Entity>> {
    if key.kind() != Some(Kind::Job) || key.id().contains('/') {
        return None;
    }
    let mut tasks: Vec<_> = table
        .rows(Kind::Job)
        .filter(|row| row.key().source() == key.source() && job_of(row.key()) == key.id())
        .cloned()
        .collect();
    tasks.sort_by_key(|task| task.as_job().map_or(0, |job| job.task_id));
    (!tasks.is_empty()).then(|| job_of_tasks(&tasks))
}
