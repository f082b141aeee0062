//! The columns: one table per kind, read by the dashboard's tables, the headless lists, sorting, the
//! filter language and the documentation.

mod audit;
mod cells;
mod fit;
mod places;
mod serving;
mod work;

pub(crate) use cells::number;
pub use cells::{compare, natural, text, write_text};
pub use fit::{Fit, fit, sort};

use crate::entity::Entity;
use crate::kind::Kind;
use crate::phase::Phase;
use crate::text::Text;
use crate::time::EpochMs;
use crate::wire::Caller;

/// What a cell holds, before it is written out.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Unknown or not applicable: shown as `-`, sorted last.
    None,
    /// A word or a sentence.
    Text(Text),
    /// A whole number.
    Int(i64),
    /// A number that may have a fraction.
    Number(f64),
    /// The source's status word and what it means: sorted by what needs attention first.
    Status(Phase, Text),
    /// A moment: shown as its age, compared as an age in filters (`age<2h`).
    Moment(EpochMs),
    /// A moment: shown as the time of day, compared as an age in filters.
    Clock(EpochMs),
    /// A span in milliseconds.
    Span(i64),
    /// A size in gigabytes.
    Gigabytes(f64),
    /// Yes or no.
    Flag(bool),
}

/// What a cell may depend on besides its row.
#[derive(Clone, Debug, Default)]
pub struct Context {
    /// The present, by the server's clock.
    pub now: EpochMs,
    /// Who asks (`@me`).
    pub caller: Caller,
    /// The caller's other names (aliases), lower case.
    pub aliases: Vec<Text>,
    /// Times of day in UTC instead of this machine's zone.
    pub utc: bool,
}

/// How a cell is placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers and ages.
    Right,
}

/// How a cell is cut when it is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// `long-na…`
    End,
    /// `s3://bu…/ckpt`
    Middle,
    /// Not at all: a status cut short reads like another one.
    Never,
}

/// What a column measures: how `field>value` reads its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Words: compared by `:` only.
    Words,
    /// A number; `8×A100`, `4+` and `1/3` count as 8, 4 and 1.
    Count,
    /// An age or a span: `90s`, `30m`, `1d2h`.
    Time,
    /// Gigabytes; `512M` and `1T` are understood.
    Size,
    /// Yes or no.
    Flag,
}

/// One column of one kind.
pub struct Column {
    /// Its name in filters, `--columns` and `--sort`.
    pub id: &'static str,
    /// Other names that filters understand (`user` for `owner`).
    pub aliases: &'static [&'static str],
    /// Its heading.
    pub title: &'static str,
    /// Its narrowest useful width, in cells.
    pub min: u16,
    /// The width beyond which more is of no use.
    pub max: u16,
    /// 0 is always shown, larger ones go first when there is no room; `HIDDEN` is shown only when asked for.
    pub priority: u8,
    /// How a cell is placed.
    pub align: Align,
    /// How a cell is cut.
    pub cut: Cut,
    /// What it measures.
    pub measure: Measure,
    /// The cell.
    pub value: fn(&Entity, &Context) -> Value,
    /// One sentence for help, ends with a full stop.
    pub doc: &'static str,
}

/// The priority of a column that is shown only when asked for (and can be filtered by at any time).
pub const HIDDEN: u8 = u8::MAX;

impl std::fmt::Debug for Column {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Column").field(&self.id).finish()
    }
}

impl Column {
    /// A column of words; the methods below make it something else.
    const fn new(
        id: &'static str,
        title: &'static str,
        (min, max): (u16, u16),
        priority: u8,
        value: fn(&Entity, &Context) -> Value,
        doc: &'static str,
    ) -> Self {
        Self {
            id,
            aliases: &[],
            title,
            min,
            max,
            priority,
            align: Align::Left,
            cut: Cut::End,
            measure: Measure::Words,
            value,
            doc,
        }
    }

    const fn aka(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    const fn cut(mut self, cut: Cut) -> Self {
        self.cut = cut;
        self
    }

    const fn left(mut self) -> Self {
        self.align = Align::Left;
        self
    }

    const fn measures(mut self, measure: Measure) -> Self {
        self.measure = measure;
        if !matches!(measure, Measure::Words | Measure::Flag) {
            self.align = Align::Right;
        }
        self
    }

    /// It is shown without being asked for.
    pub const fn is_shown(&self) -> bool {
        self.priority != HIDDEN
    }
}

/// A cell of one kind of row: `cell!(Job, row, context => …)`.
macro_rules! cell {
    ($kind:ident, $row:ident => $value:expr) => {
        |row: &crate::entity::Entity, _: &crate::column::Context| match row {
            crate::entity::Entity::$kind($row) => crate::column::Value::from($value),
            _ => crate::column::Value::None,
        }
    };
    ($kind:ident, $row:ident, $context:ident => $value:expr) => {
        |row: &crate::entity::Entity, $context: &crate::column::Context| match row {
            crate::entity::Entity::$kind($row) => crate::column::Value::from($value),
            _ => crate::column::Value::None,
        }
    };
}
use cell;

macro_rules! value_from {
    ($($ty:ty => |$it:ident| $value:expr),+ $(,)?) => {
        $(impl From<$ty> for Value {
            fn from($it: $ty) -> Self {
                $value
            }
        })+
    };
}

value_from! {
    &Text => |it| if it.is_empty() { Value::None } else { Value::Text(it.clone()) },
    String => |it| if it.is_empty() { Value::None } else { Value::Text(it.into()) },
    i64 => |it| Value::Int(it),
    u32 => |it| Value::Int(i64::from(it)),
    f64 => |it| Value::Number(it),
    bool => |it| Value::Flag(it),
}

impl<T> From<Option<T>> for Value
where
    Value: From<T>,
{
    fn from(it: Option<T>) -> Self {
        it.map_or(Value::None, Value::from)
    }
}

// The head that every row shares.
const NAME: Column = Column::new(
    "name",
    "NAME",
    (12, 40),
    0,
    |row, _| row.name().into(),
    "What people call it.",
);
const OWNER: Column = Column::new(
    "owner",
    "OWNER",
    (5, 16),
    1,
    |row, _| row.owner().map(owner_shown).into(),
    "Who it belongs to.",
)
.aka(&["user", "who"]);
const WORKSPACE: Column = Column::new(
    "workspace",
    "WORKSPACE",
    (9, 16),
    6,
    |row, _| row.workspace().into(),
    "Its SkyPilot workspace.",
)
.aka(&["ws", "namespace", "ns"]);
const STATUS: Column = Column::new(
    "status",
    "STATUS",
    (7, 20),
    0,
    |row, _| Value::Status(row.phase(), row.status().clone()),
    "The source's own word for its state.",
)
.aka(&["state"])
.cut(Cut::Never);
const PHASE: Column = Column::new(
    "phase",
    "PHASE",
    (9, 9),
    HIDDEN,
    |row, _| row.phase().word().to_owned().into(),
    "What the status means, in skytower's words.",
)
.cut(Cut::Never);
const WHY: Column = Column::new(
    "why",
    "WHY",
    (24, 60),
    5,
    |row, _| row.why().into(),
    "Why it is pending, recovering, failed or gone.",
)
.aka(&["reason", "details"]);
const SOURCE: Column = Column::new(
    "source",
    "SOURCE",
    (6, 16),
    HIDDEN,
    |row, _| row.source().into(),
    "The API server it comes from, or `local`: the engine on the server's machine.",
)
.aka(&["server", "context"]);

/// The source's column in a list whose rows come from several: there it is shown without being asked for.
pub const SOURCE_OF_SEVERAL: &Column = &Column {
    priority: 2,
    ..SOURCE
};

/// Do rows of a kind come from more than one source. What skytower itself says, and what is about sources,
/// is of everywhere.
pub fn are_of_several_sources<'a>(kind: Kind, rows: impl IntoIterator<Item = &'a Entity>) -> bool {
    if matches!(
        kind,
        Kind::Source | Kind::Request | Kind::Event | Kind::Audit
    ) {
        return false;
    }
    let mut rows = rows.into_iter();
    let first = rows.next().map(Entity::source);
    rows.any(|row| Some(row.source()) != first)
}
const KEY: Column = Column::new(
    "key",
    "KEY",
    (12, 60),
    HIDDEN,
    |row, _| row.key().as_str().to_owned().into(),
    "Its unique name on the wire.",
)
.cut(Cut::Middle);

/// The name people know, or the id where there is none.
pub(crate) fn owner_shown(owner: &crate::entity::Owner) -> &Text {
    if owner.name.is_empty() {
        &owner.id
    } else {
        &owner.name
    }
}

/// The columns of a kind, in the order in which they are shown.
pub fn columns(kind: Kind) -> &'static [Column] {
    match kind {
        Kind::Source => places::SOURCES,
        Kind::Cluster => work::CLUSTERS,
        Kind::Job => work::JOBS,
        Kind::ClusterJob => work::CLUSTER_JOBS,
        Kind::Service => serving::SERVICES,
        Kind::Replica => serving::REPLICAS,
        Kind::Pool => serving::POOLS,
        Kind::Worker => serving::WORKERS,
        Kind::User => places::USERS,
        Kind::Workspace => places::WORKSPACES,
        Kind::Infra => places::INFRA,
        Kind::Request => work::REQUESTS,
        Kind::Event => work::EVENTS,
        Kind::Audit => audit::AUDIT,
    }
}

/// The column of a kind by its id or one of its aliases.
pub fn column(kind: Kind, name: &str) -> Option<&'static Column> {
    columns(kind)
        .iter()
        .find(|column| column.id == name || column.aliases.contains(&name))
}

/// The sort order a kind's list starts with: column id, and whether it descends. What needs
/// attention or is newest comes first.
pub fn default_sort(kind: Kind) -> (&'static str, bool) {
    match kind {
        Kind::Job | Kind::ClusterJob | Kind::Audit => ("id", true),
        Kind::Cluster | Kind::Service | Kind::Pool | Kind::Source => ("status", false),
        Kind::Replica | Kind::Worker => ("id", false),
        Kind::User => ("gpus", true),
        Kind::Workspace | Kind::Infra => ("name", false),
        // Moments sort as ages: the youngest first.
        Kind::Request | Kind::Event => ("time", false),
    }
}

#[cfg(test)]
mod tests;
