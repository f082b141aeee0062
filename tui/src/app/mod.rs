//! The model of the dashboard and the one place that changes it.
//!
//! Pure: no clock, no input or output. The present comes with each message; what has to be done
//! outside is returned as [`Effect`]s.

mod act;
mod batch;
mod confirm;
mod dialog;
mod geometry;
mod input;
mod list;
mod log;
mod model;
mod msg;
mod order;
mod pick;
mod reading;
mod sign_in;
mod start;
mod typing;
mod update;

pub use act::{Plan, why_not};
pub(crate) use act::{called, command_why_not};
pub use batch::Batch;
pub use confirm::{Button, Confirm};
pub(crate) use dialog::{
    centred, confirm_area, confirm_buttons, confirm_room, inner, pick_area, pick_window,
    sign_in_area, start_area,
};
pub(crate) use geometry::{body, chrome as chrome_rows, fact_rows, flow, headings};
pub use geometry::{detail_facts, list_area, preview_area, tabs_of};
pub(crate) use input::action_noun;
pub(crate) use list::value as cell_value;
pub use list::{Fold, Line, List, Scope};
pub use log::{LogState, LogView, Place, Room, Row};
pub use model::{Message, Model, Options, Overlay, Page, READ_ONLY, Severity, Tab};
pub use msg::{Effect, LogEvent, Mouse, Msg};
pub use pick::{Choice, Item, Picker};
pub(crate) use reading::{last_events, text_area, text_room};
pub use sign_in::{Field, SignIn, Stage};
pub use start::{Look, Starting, Step, Way};
pub use typing::{Completion, Typing};
pub(crate) use update::{SPIN_MS, sort_title, sources};
pub use update::{settle, update};

use skytower_api_client::Kind;

/// The kinds that have a screen, in the order of their tabs. See [`Model::screens`] for those that are
/// offered.
pub const SCREENS: &[Kind] = &[
    Kind::Cluster,
    Kind::Job,
    Kind::Service,
    Kind::Pool,
    Kind::Infra,
    Kind::User,
    Kind::Workspace,
    Kind::Request,
    Kind::Audit,
];

/// The title of a kind's screen.
pub const fn screen_title(kind: Kind) -> &'static str {
    match kind {
        Kind::Source => "Sources",
        Kind::Cluster => "Clusters",
        Kind::Job => "Jobs",
        Kind::ClusterJob => "Queue",
        Kind::Service => "Services",
        Kind::Replica => "Replicas",
        Kind::Pool => "Pools",
        Kind::Worker => "Workers",
        Kind::User => "Users",
        Kind::Workspace => "Workspaces",
        Kind::Infra => "Infra",
        Kind::Request => "Requests",
        Kind::Event => "Events",
        Kind::Audit => "Audit",
    }
}

/// The title of a kind's screen where there is little room.
pub(crate) const fn short_title(kind: Kind) -> &'static str {
    match kind {
        Kind::Service => "Svcs",
        Kind::Workspace => "Spaces",
        Kind::Request => "Reqs",
        other => screen_title(other),
    }
}

/// The number of rows says something: things that come and go, not the places they are in.
pub(crate) const fn is_counted(kind: Kind) -> bool {
    !matches!(
        kind,
        Kind::Infra | Kind::User | Kind::Workspace | Kind::Audit
    )
}

/// The kinds whose actions make sense here.
pub(crate) fn action_kinds(model: &Model) -> Vec<Kind> {
    model.action_kinds()
}
