//! A list of rows: what is shown, in which order, and what is selected. Selection and marks are by
//! key; positions are derived and never kept as truth.

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
        self.lines.clear();
        for unit in sorted(units, sort, self.sort.1, context) {
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

    fn belongs(&self, row: &Entity) -> bool {
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
                let mut tasks = Vec::new();
                while let Some(next) = rows.next_if(|next| same_job(row, next)) {
                    tasks.push(next.clone());
                }
                if !tasks.is_empty() {
                    tasks.push(row.clone());
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
    }

    /// Measures the visible rows and fits the columns into `room` cells.
    pub fn measure(&mut self, height: usize, room: u16, context: &Context) {
        let all = columns(self.kind);
        self.widest.resize(all.len(), 0);
        let mut cell = String::new();
        for line in self.lines.iter().skip(self.top).take(height) {
            for (column, widest) in all.iter().zip(&mut self.widest) {
                if !column.is_shown() {
                    continue;
                }
                cell.clear();
                write_text(&mut cell, &value(line, column, context), context);
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
            .zip(&self.widest)
            .filter(|(column, _)| column.is_shown())
            .map(|(column, widest)| {
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

/// Units in the order of a column. Most are told apart by a number; only what is equal by that is compared
/// in full, then by name and key.
fn sorted(
    units: Vec<Unit>,
    by: Option<&Column>,
    descends: bool,
    context: &Context,
) -> impl Iterator<Item = Unit> {
    let values: Vec<Value> = units
        .iter()
        .map(|unit| by.map_or(Value::None, |column| (column.value)(&unit.row, context)))
        .collect();
    // Numbers of different sorts of cells cannot be compared.
    let mut known = values.iter().filter(|value| !matches!(value, Value::None));
    let sort = known.next().map(std::mem::discriminant);
    let alike = known.all(|value| Some(std::mem::discriminant(value)) == sort);
    let mut keyed: Vec<(u64, u32)> = values
        .iter()
        .zip(0..)
        .map(|(value, at)| match rank(value) {
            // What is unknown comes last whichever way the rest is sorted.
            UNKNOWN => (UNKNOWN, at),
            _ if !alike => (0, at),
            rank if descends => (UNKNOWN - 1 - rank, at),
            rank => (rank, at),
        })
        .collect();
    keyed.sort_unstable_by(|(a, left), (b, right)| {
        a.cmp(b).then_with(|| {
            let (left, right) = (*left as usize, *right as usize);
            let order = compare(&values[left], &values[right]);
            let order = if descends { order.reverse() } else { order };
            let (left, right) = (&units[left].row, &units[right].row);
            order
                .then_with(|| natural(left.name(), right.name()))
                .then_with(|| left.key().cmp(right.key()))
        })
    });
    let mut units: Vec<Option<Unit>> = units.into_iter().map(Some).collect();
    keyed
        .into_iter()
        .filter_map(move |(_, at)| units.get_mut(at as usize)?.take())
}

/// The rank of an unknown cell, and of no other.
const UNKNOWN: u64 = u64::MAX;

/// A number that never contradicts [`compare`]: of two cells of the same sort the one with the smaller
/// number comes first; equal numbers say nothing.
fn rank(value: &Value) -> u64 {
    const SIGN: u64 = 1 << 63;
    /// The order of whole numbers in that of unsigned ones.
    fn whole(number: i64) -> u64 {
        (number as u64 ^ SIGN).min(UNKNOWN - 1)
    }
    match value {
        Value::None => UNKNOWN,
        Value::Int(number) | Value::Span(number) => whole(*number),
        // The youngest first.
        Value::Moment(at) | Value::Clock(at) => whole(at.0.saturating_neg()),
        Value::Flag(flag) => u64::from(!flag),
        Value::Status(phase, word) => (*phase as u64) << 56 | head_rank(word) >> 8,
        Value::Text(words) => head_rank(words),
        Value::Number(number) | Value::Gigabytes(number) => {
            // As `total_cmp`.
            let bits = number.to_bits();
            let rank = if bits & SIGN == 0 { bits | SIGN } else { !bits };
            rank.min(UNKNOWN - 1)
        }
    }
}

/// The beginning of words in natural order, up to the first digit: from there on numbers count.
fn head_rank(words: &str) -> u64 {
    let mut rank = [0; 8];
    for (slot, byte) in rank.iter_mut().zip(words.bytes()) {
        *slot = byte.to_ascii_lowercase();
        if byte.is_ascii_digit() {
            *slot = b'0';
            break;
        }
    }
    u64::from_be_bytes(rank).min(UNKNOWN - 1)
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use skytower_api_client::EpochMs;

    fn cells() -> impl Strategy<Value = (Value, Value)> {
        let text = || "[a-cA-C0-9.-]{0,12}|\\PC{0,9}";
        let number = || prop_oneof![any::<f64>(), (-3..3i32).prop_map(f64::from)];
        let moment = || any::<i64>().prop_map(EpochMs);
        let phase = || (0..Phase::ALL.len()).prop_map(|at| Phase::ALL[at]);
        prop_oneof![
            (text(), text()).prop_map(|(a, b)| (Value::Text(a.into()), Value::Text(b.into()))),
            (any::<i64>(), any::<i64>()).prop_map(|(a, b)| (Value::Int(a), Value::Int(b))),
            (-5..5i64, -5..5i64).prop_map(|(a, b)| (Value::Span(a), Value::Span(b))),
            (number(), number()).prop_map(|(a, b)| (Value::Number(a), Value::Number(b))),
            (moment(), moment()).prop_map(|(a, b)| (Value::Moment(a), Value::Moment(b))),
            (any::<bool>(), any::<bool>()).prop_map(|(a, b)| (Value::Flag(a), Value::Flag(b))),
            (phase(), text(), phase(), text()).prop_map(|(a, x, b, y)| {
                (Value::Status(a, x.into()), Value::Status(b, y.into()))
            }),
        ]
    }

    proptest! {
        #[test]
        fn ranks_never_contradict_the_order((a, b) in cells()) {
            let by_rank = rank(&a).cmp(&rank(&b));
            prop_assert!(by_rank.is_eq() || by_rank == compare(&a, &b), "{a:?} {b:?}");
            prop_assert!(rank(&a) != UNKNOWN);
        }
    }
}
