//! A list of rows: what is shown, in which order, and what is selected. Selection and marks are by
//! key; positions are derived and never kept as truth.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use skytower_api_client::column::{
    Column, Context, Value, columns, compare, default_sort, fit, natural, write_text,
};
use skytower_api_client::entity::{Entity, Owner};
use skytower_api_client::query::{Query, QueryError};
use skytower_api_client::{Key, Kind, Phase, Table, Text, policy};

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
}

impl List {
    /// A list of a kind, sorted as that kind starts.
    pub fn new(kind: Kind, parent: Option<Key>) -> Self {
        Self {
            kind,
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
            shown: Vec::new(),
            dropped: 0,
            dirty: true,
            widest: Vec::new(),
            filled: Vec::new(),
        }
    }

    /// The kind whose rows are children in this list's tree.
    pub fn child_kind(&self) -> Option<Kind> {
        match self.kind {
            Kind::Service => Some(Kind::Replica),
            Kind::Pool => Some(Kind::Worker),
            _ => None,
        }
    }

    /// Does a change of rows of `kind` concern this list.
    pub fn shows(&self, kind: Kind) -> bool {
        self.kind == kind || self.child_kind() == Some(kind)
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
        let units = self.units(table, scope, context);
        let sort = columns(self.kind)
            .iter()
            .find(|column| column.id == self.sort.0);
        let mut keyed: Vec<(Value, Unit)> = units
            .into_iter()
            .map(|unit| {
                let value = sort.map_or(Value::None, |column| (column.value)(&unit.row, context));
                (value, unit)
            })
            .collect();
        let descends = self.sort.1;
        keyed.sort_by(|(a, left), (b, right)| {
            let unknown = matches!(a, Value::None) || matches!(b, Value::None);
            let order = compare(a, b);
            let order = if descends && !unknown {
                order.reverse()
            } else {
                order
            };
            match order {
                Ordering::Equal => natural(left.row.name(), right.row.name())
                    .then_with(|| left.row.key().cmp(right.row.key())),
                order => order,
            }
        });
        self.lines.clear();
        for (_, unit) in keyed {
            let open = self.open.contains(unit.row.key());
            let fold = match (unit.children.is_empty(), open) {
                (true, _) => Fold::Leaf,
                (false, false) => Fold::Closed,
                (false, true) => Fold::Open,
            };
            self.lines.push(Line {
                row: unit.row,
                fold,
            });
            if open {
                self.lines.extend(unit.children.into_iter().map(|row| Line {
                    row,
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
            if let Some(at) = self.lines.iter().position(|line| line.key() == key) {
                self.at = at;
                return;
            }
        }
        self.go(self.at);
    }

    /// Is a row one of the parent's.
    pub(crate) fn belongs(&self, row: &Entity) -> bool {
        let Some(parent) = &self.parent else {
            return true;
        };
        match row {
            Entity::ClusterJob(job) => job.cluster_key == *parent,
            Entity::Replica(replica) => replica.service_key == *parent,
            Entity::Worker(worker) => worker.pool_key == *parent,
            Entity::Event(event) => {
                event.subject == *parent
                    || (parent.kind() == Some(Kind::Job)
                        && job_of(&event.subject) == job_of(parent)
                        && event.subject.source() == parent.source())
            }
            Entity::Job(job) => {
                job.key.source() == parent.source() && job_of(&job.key) == job_of(parent)
            }
            _ => true,
        }
    }

    fn units(&mut self, table: &Table, scope: &Scope, context: &Context) -> Vec<Unit> {
        self.total = 0;
        self.in_scope = 0;
        let mut children: BTreeMap<&Key, Vec<Arc<Entity>>> = BTreeMap::new();
        if let Some(kind) = self.child_kind() {
            for row in table.rows(kind) {
                let parent = match &**row {
                    Entity::Replica(replica) => &replica.service_key,
                    Entity::Worker(worker) => &worker.pool_key,
                    _ => continue,
                };
                children.entry(parent).or_default().push(row.clone());
            }
        }
        let mut units: Vec<Unit> = Vec::new();
        let mut rows = table
            .rows(self.kind)
            .filter(|row| self.belongs(row))
            .peekable();
        let mut total = 0;
        let mut in_scope = 0;
        while let Some(row) = rows.next() {
            let mut unit = Unit {
                row: row.clone(),
                children: children.remove(row.key()).unwrap_or_default(),
            };
            unit.children
                .sort_by(|a, b| natural(a.key().as_str(), b.key().as_str()));
            // The keys of a job's tasks are neighbours.
            if self.kind == Kind::Job && self.parent.is_none() {
                let mut tasks = vec![row.clone()];
                while let Some(next) = rows.next_if(|next| same_job(row, next)) {
                    tasks.push(next.clone());
                }
                if tasks.len() > 1 {
                    tasks.sort_by_key(|task| task.as_job().map_or(0, |job| job.task_id));
                    unit = Unit {
                        row: job_of_tasks(&tasks),
                        children: tasks,
                    };
                }
            }
            total += 1;
            if self.parent.is_none() && !scope.holds(&unit.row, context) {
                continue;
            }
            in_scope += 1;
            if self.faults && !unit.all().any(|row| is_fault(row.phase())) {
                continue;
            }
            if !self.query.is_empty() && !unit.all().any(|row| self.query.matches(row, context)) {
                continue;
            }
            units.push(unit);
        }
        self.total = total;
        self.in_scope = in_scope;
        units
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
        self.widest.resize(all.len(), 0);
        self.filled.resize(all.len(), false);
        let mut cell = String::new();
        for line in self.lines.iter().skip(self.top).take(height) {
            let slots = self.widest.iter_mut().zip(&mut self.filled);
            for (column, (widest, filled)) in all.iter().zip(slots) {
                if !column.is_shown() {
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
            .filter(|(column, _)| column.is_shown())
            // A column without a single value is left out; what people look for first always stays.
            .filter(|(column, (_, filled))| {
                **filled || column.priority < 2 || column.id == self.sort.0
            })
            .map(|(column, (widest, _))| {
                // Room for the arrow of the sorted column.
                let title = width(column.title) as u16 + u16::from(column.id == self.sort.0);
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

struct Unit {
    row: Arc<Entity>,
    children: Vec<Arc<Entity>>,
}

impl Unit {
    fn all(&self) -> impl Iterator<Item = &Arc<Entity>> {
        std::iter::once(&self.row).chain(&self.children)
    }
}

fn is_fault(phase: Phase) -> bool {
    matches!(phase, Phase::Failed | Phase::Degraded)
}

fn job_of(key: &Key) -> &str {
    key.id().split('/').next().unwrap_or_default()
}

fn same_job(a: &Entity, b: &Entity) -> bool {
    match (a.as_job(), b.as_job()) {
        (Some(a), Some(b)) => a.job_id == b.job_id && a.source == b.source,
        _ => false,
    }
}

/// One row for a job of several tasks. Its state is that of the task that decides: in a pipeline the
/// first that has not succeeded, in a group the one that needs attention most.
fn job_of_tasks(tasks: &[Arc<Entity>]) -> Arc<Entity> {
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
