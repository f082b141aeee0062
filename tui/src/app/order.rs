//! The rows of a list in the order of a column, kept from one frame to the next: a letter of a filter
//! sorts nothing anew, and a change moves only what has changed.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use skytower_api_client::column::{Column, Context, Value, columns, compare, natural};
use skytower_api_client::entity::{Entity, Job};
use skytower_api_client::table::Touch;
use skytower_api_client::{Key, Kind, Table, Text};

use super::list::{job_of, job_of_tasks};

/// More changes than these at once are taken in by starting over.
const FEW: usize = 512;

/// A row, and those that belong under it.
#[derive(Clone, Debug)]
pub(super) struct Unit {
    pub(super) row: Arc<Entity>,
    pub(super) children: Vec<Arc<Entity>>,
}

impl Unit {
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Entity>> {
        std::iter::once(&self.row).chain(&self.children)
    }
}

/// The kind whose rows stand under those of `kind`.
pub(super) fn child_kind(kind: Kind) -> Option<Kind> {
    match kind {
        Kind::Service => Some(Kind::Replica),
        Kind::Pool => Some(Kind::Worker),
        _ => None,
    }
}

/// All rows of a list, filtered by nothing but what they belong to, sorted.
#[derive(Debug)]
pub(super) struct Order {
    kind: Kind,
    parent: Option<Key>,
    units: Vec<Unit>,
    /// What they are sorted by; none when they have to be gathered anew.
    by: Option<(&'static str, bool)>,
    /// What has happened since.
    touched: Vec<Touch>,
    /// Jobs with tasks beyond the first: their rows are made of several.
    several: HashSet<(Text, i64)>,
}

impl Order {
    pub(super) fn new(kind: Kind, parent: Option<Key>) -> Self {
        Self {
            kind,
            parent,
            units: Vec::new(),
            by: None,
            touched: Vec::new(),
            several: HashSet::new(),
        }
    }

    pub(super) fn units(&self) -> &[Unit] {
        &self.units
    }

    /// A row came, changed or left.
    pub(super) fn note(&mut self, touch: &Touch) {
        if self.by.is_none() {
            return;
        }
        let plain = self.parent.is_none() && child_kind(self.kind).is_none();
        if plain && self.touched.len() < FEW {
            self.touched.push(touch.clone());
        } else {
            self.by = None;
            self.touched.clear();
            self.units.clear();
        }
    }

    /// Brings it up to date.
    pub(super) fn refresh(&mut self, table: &Table, by: (&'static str, bool), context: &Context) {
        let touched = std::mem::take(&mut self.touched);
        let sort = Sort {
            column: columns(self.kind).iter().find(|column| column.id == by.0),
            descends: by.1,
            context,
        };
        let merged = self.by == Some(by)
            && !touched.iter().any(|touch| self.is_one_of_several(touch))
            && self.take_in(&touched, &sort);
        if !merged {
            let units = self.gather(table);
            let tasks = units.iter().flat_map(Unit::all);
            self.several = tasks.filter_map(|row| further_task(row)).collect();
            self.units = sort.sorted(units);
            self.by = Some(by);
        }
    }

    /// Is it about a task of a job that has, or gets, more than one.
    fn is_one_of_several(&self, touch: &Touch) -> bool {
        let mut rows = touch.before.iter().chain(&touch.after);
        rows.any(|row| {
            let known = |job: &Job| self.several.contains(&(job.source.clone(), job.job_id));
            further_task(row).is_some() || row.as_job().is_some_and(known)
        })
    }

    /// Replaces the rows that were touched. False when that cannot be done.
    fn take_in(&mut self, touched: &[Touch], sort: &Sort<'_>) -> bool {
        if touched.is_empty() {
            return true;
        }
        // Rows are found by where they lie in memory: looking into all of them would cost far more.
        let gone: HashSet<*const Entity> = touched
            .iter()
            .filter_map(|touch| touch.before.as_ref().map(Arc::as_ptr))
            .collect();
        let came: Vec<Unit> = touched
            .iter()
            .filter_map(|touch| touch.after.clone())
            .filter(|row| !gone.contains(&Arc::as_ptr(row)))
            .map(|row| Unit {
                row,
                children: Vec::new(),
            })
            .collect();
        // Spans grow as time goes by, and with them the order of all rows changes.
        if came
            .iter()
            .any(|unit| matches!(sort.value(unit), Value::Span(_)))
        {
            return false;
        }
        // Those that came and went since the last time were never here.
        let passing = touched
            .iter()
            .filter_map(|touch| touch.after.as_ref().map(Arc::as_ptr))
            .filter(|row| gone.contains(row))
            .count();
        let before = self.units.len();
        self.units
            .retain(|unit| !gone.contains(&Arc::as_ptr(&unit.row)));
        if before - self.units.len() + passing != gone.len() {
            return false;
        }
        let came = sort.sorted(came);
        // From the end, so that each place is found among those that stay.
        let mut to = self.units.len();
        let places: Vec<usize> = came
            .iter()
            .rev()
            .map(|unit| {
                to = self.units[..to].partition_point(|there| sort.compare(there, unit).is_le());
                to
            })
            .collect();
        let mut merged = Vec::with_capacity(self.units.len() + came.len());
        let mut stay = std::mem::take(&mut self.units).into_iter();
        let mut taken = 0;
        for (unit, place) in came.into_iter().zip(places.into_iter().rev()) {
            merged.extend(stay.by_ref().take(place - taken));
            taken = place;
            merged.push(unit);
        }
        merged.extend(stay);
        self.units = merged;
        true
    }

    pub(super) fn belongs(&self, row: &Entity) -> bool {
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

    fn gather(&self, table: &Table) -> Vec<Unit> {
        let mut children: BTreeMap<&Key, Vec<Arc<Entity>>> = BTreeMap::new();
        if let Some(kind) = child_kind(self.kind) {
            for row in table.rows(kind) {
                let parent = match &**row {
                    Entity::Replica(replica) => &replica.service_key,
                    Entity::Worker(worker) => &worker.pool_key,
                    _ => continue,
                };
                children.entry(parent).or_default().push(row.clone());
            }
        }
        let mut units = Vec::new();
        let mut rows = table
            .rows(self.kind)
            .filter(|row| self.belongs(row))
            .peekable();
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
            units.push(unit);
        }
        units
    }
}

/// The job of a task that is not its first.
fn further_task(row: &Entity) -> Option<(Text, i64)> {
    let job = row.as_job().filter(|job| job.task_id != 0)?;
    Some((job.source.clone(), job.job_id))
}

fn same_job(a: &Entity, b: &Entity) -> bool {
    match (a.as_job(), b.as_job()) {
        (Some(a), Some(b)) => a.job_id == b.job_id && a.source == b.source,
        _ => false,
    }
}

/// How rows are sorted.
struct Sort<'a> {
    column: Option<&'static Column>,
    descends: bool,
    context: &'a Context,
}

impl Sort<'_> {
    fn value(&self, unit: &Unit) -> Value {
        self.column.map_or(Value::None, |column| {
            (column.value)(&unit.row, self.context)
        })
    }

    fn compare(&self, a: &Unit, b: &Unit) -> Ordering {
        self.compare_with(&self.value(a), a, &self.value(b), b)
    }

    /// By the column, what is unknown last either way; then by name, then by key.
    fn compare_with(&self, value_a: &Value, a: &Unit, value_b: &Value, b: &Unit) -> Ordering {
        let unknown = matches!(value_a, Value::None) || matches!(value_b, Value::None);
        let order = compare(value_a, value_b);
        let order = if self.descends && !unknown {
            order.reverse()
        } else {
            order
        };
        order
            .then_with(|| natural(a.row.name(), b.row.name()))
            .then_with(|| a.row.key().cmp(b.row.key()))
    }

    /// Most are told apart by a number; only what is equal by that is compared in full.
    fn sorted(&self, units: Vec<Unit>) -> Vec<Unit> {
        let values: Vec<Value> = units.iter().map(|unit| self.value(unit)).collect();
        // Numbers of different sorts of cells cannot be compared.
        let mut known = values.iter().filter(|value| !matches!(value, Value::None));
        let sort = known.next().map(std::mem::discriminant);
        let alike = known.all(|value| Some(std::mem::discriminant(value)) == sort);
        let mut keyed: Vec<(u64, u32)> = values
            .iter()
            .zip(0..)
            .map(|(value, at)| match rank(value) {
                UNKNOWN => (UNKNOWN, at),
                _ if !alike => (0, at),
                rank if self.descends => (UNKNOWN - 1 - rank, at),
                rank => (rank, at),
            })
            .collect();
        keyed.sort_unstable();
        for group in keyed.chunk_by_mut(|(a, _), (b, _)| a == b) {
            self.sort_equals(group, &values, &units);
        }
        let mut units: Vec<Option<Unit>> = units.into_iter().map(Some).collect();
        keyed
            .into_iter()
            .filter_map(|(_, at)| units.get_mut(at as usize)?.take())
            .collect()
    }

    /// Sorts rows whose cells have the same rank: by what the cells go on with, or by name where they are
    /// wholly equal. Of both the beginning mostly decides.
    fn sort_equals(&self, group: &mut [(u64, u32)], values: &[Value], units: &[Unit]) {
        let [(_, first), _, ..] = group else { return };
        let first = &values[*first as usize];
        let equal = group
            .iter()
            .all(|(_, at)| compare(&values[*at as usize], first).is_eq());
        let worded = group
            .iter()
            .all(|(_, at)| matches!(values[*at as usize], Value::Text(_)));
        let mut keyed: Vec<([u8; 24], u32)> = group
            .iter()
            .map(|(_, at)| {
                let head = match &values[*at as usize] {
                    _ if equal => head(units[*at as usize].row.name()),
                    Value::Text(words) if worded => head(words),
                    _ => [0; 24],
                };
                (head, *at)
            })
            .collect();
        let falls = self.descends && !equal;
        keyed.sort_unstable_by(|(a, left), (b, right)| {
            let order = if falls { b.cmp(a) } else { a.cmp(b) };
            order.then_with(|| {
                let (left, right) = (*left as usize, *right as usize);
                self.compare_with(&values[left], &units[left], &values[right], &units[right])
            })
        });
        for (slot, (_, at)) in group.iter_mut().zip(keyed) {
            slot.1 = at;
        }
    }
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
        Value::Status(phase, word) => {
            (*phase as u64) << 56 | u64::from_be_bytes(head::<8>(word)) >> 8
        }
        Value::Text(words) => u64::from_be_bytes(head::<8>(words)).min(UNKNOWN - 1),
        Value::Number(number) | Value::Gigabytes(number) => {
            // As `total_cmp`.
            let bits = number.to_bits();
            let rank = if bits & SIGN == 0 { bits | SIGN } else { !bits };
            rank.min(UNKNOWN - 1)
        }
    }
}

/// The beginning of words as bytes that compare as [`natural`] does: letters without their case, and of a
/// number first how many digits it has. Where they are equal, they say nothing.
fn head<const LENGTH: usize>(words: &str) -> [u8; LENGTH] {
    let mut head = [0; LENGTH];
    let mut slots = head.iter_mut();
    let mut put = |byte| slots.next().map(|slot| *slot = byte);
    let mut rest = words.as_bytes();
    while let Some(byte) = rest.first() {
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (number, after) = rest.split_at(digits.max(1));
        rest = after;
        let done = if digits == 0 {
            put(byte.to_ascii_lowercase())
        } else {
            let zeros = number.iter().take_while(|byte| **byte == b'0').count();
            let number = &number[zeros..];
            let Ok(length) = u8::try_from(number.len()) else {
                // Nobody counts that far: the whole words decide.
                put(b'0');
                break;
            };
            put(b'0')
                .and(put(length))
                .and_then(|()| number.iter().try_for_each(|digit| put(*digit)))
        };
        if done.is_none() {
            break;
        }
    }
    head
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use skytower_api_client::phase::phase_of;
    use skytower_api_client::wire::Change;
    use skytower_api_client::{EpochMs, Phase};

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

    fn job(id: i64, task: i64, name: u8) -> Arc<Entity> {
        let status = ["RUNNING", "FAILED", "PENDING"][usize::from(name) % 3];
        Job {
            key: Key::new("s", Kind::Job, format_args!("{id}/{task}")),
            source: "s".into(),
            name: format!("n{}", name % 4).into(),
            status: status.into(),
            phase: phase_of(Kind::Job, status),
            job_id: id,
            task_id: task,
            submitted_at: name
                .is_multiple_of(2)
                .then_some(EpochMs(i64::from(name) * 1000)),
            started_at: name
                .is_multiple_of(2)
                .then_some(EpochMs(i64::from(name) * 1000)),
            gpus: (name > 3).then_some(f64::from(name)),
            ..Job::default()
        }
        .into()
    }

    type Step = (bool, i64, i64, Option<u8>);

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let task = prop_oneof![6 => Just(0i64), 1 => 1..3i64];
        let step = (
            any::<bool>(),
            0..7i64,
            task,
            proptest::option::weighted(0.7, 0..8u8),
        );
        proptest::collection::vec(step, 1..60)
    }

    proptest! {
        #[test]
        fn taking_in_changes_and_starting_over_come_to_the_same(
            steps in steps(),
            column in 0..columns(Kind::Job).len(),
            descends: bool,
        ) {
            let by = (columns(Kind::Job)[column].id, descends);
            let context = Context { now: EpochMs(1_000_000), ..Context::default() };
            let mut table = Table::new();
            let mut kept = Order::new(Kind::Job, None);
            for (look, id, task, name) in steps {
                let change = match name {
                    Some(name) => Change::Upsert(job(id, task, name)),
                    None => Change::Remove {
                        kind: Kind::Job,
                        key: Key::new("s", Kind::Job, format_args!("{id}/{task}")),
                        reason: "gone".into(),
                    },
                };
                for touch in table.commit([change]) {
                    kept.note(&touch);
                }
                if look {
                    kept.refresh(&table, by, &context);
                    let mut fresh = Order::new(Kind::Job, None);
                    fresh.refresh(&table, by, &context);
                    let rows = |order: &Order| -> Vec<_> {
                        order.units().iter().map(|unit| (unit.row.clone(), unit.children.clone())).collect()
                    };
                    prop_assert_eq!(rows(&kept), rows(&fresh));
                }
            }
        }

        #[test]
        fn ranks_never_contradict_the_order((a, b) in cells()) {
            let by_rank = rank(&a).cmp(&rank(&b));
            prop_assert!(by_rank.is_eq() || by_rank == compare(&a, &b), "{a:?} {b:?}");
            prop_assert!(rank(&a) != UNKNOWN);
            if let (Value::Text(a), Value::Text(b)) = (&a, &b) {
                let by_head = head::<24>(a).cmp(&head::<24>(b));
                prop_assert!(by_head.is_eq() || by_head == natural(a, b), "{a:?} {b:?}");
            }
        }
    }
}
