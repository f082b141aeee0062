//! What an action would do to rows, before anybody is asked.

use std::collections::BTreeSet;
use std::sync::Arc;

use skytower_api_client::action::{ActionOptions, ActionSpec, Danger, LOCAL};
use skytower_api_client::entity::Entity;
use skytower_api_client::feed::Link;
use skytower_api_client::policy::{Verdict, may};
use skytower_api_client::rest::NewRequest;
use skytower_api_client::{Kind, Text, policy};

use super::model::{Model, Page, Tab};

/// From this many targets on, their number has to be typed.
const MANY: usize = 10;

/// What an action would do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The action.
    pub action: &'static ActionSpec,
    /// What else it needs to know.
    pub options: ActionOptions,
    /// One's own, or nobody's.
    pub mine: Vec<Arc<Entity>>,
    /// Other people's.
    pub others: Vec<(Arc<Entity>, Text)>,
    /// What will not be touched, and why.
    pub refused: Vec<(Arc<Entity>, Text)>,
    /// Marked rows that the filter hides: left alone.
    pub hidden: usize,
}

impl Plan {
    /// Rows that would be acted on.
    pub fn targets(&self, only_mine: bool) -> Vec<Arc<Entity>> {
        let others = self.others.iter().map(|(row, _)| row.clone());
        let others = others.filter(|_| !only_mine);
        self.mine.iter().cloned().chain(others).collect()
    }

    /// How many rows would be acted on.
    pub fn count(&self) -> usize {
        self.mine.len() + self.others.len()
    }

    /// Who they belong to.
    pub fn owners(&self) -> usize {
        let mine = usize::from(!self.mine.is_empty());
        let others: BTreeSet<&Text> = self.others.iter().map(|(_, owner)| owner).collect();
        mine + others.len()
    }

    /// Nobody has to be asked.
    pub fn is_harmless(&self) -> bool {
        self.action.danger == Danger::Mild
            && self.others.is_empty()
            && self.refused.is_empty()
            && self.count() == 1
    }

    /// What has to be typed before it is done.
    pub fn must_type(&self) -> Option<usize> {
        let count = self.count();
        (count > 0 && (!self.others.is_empty() || count >= MANY)).then_some(count)
    }

    /// The `sky` commands that do the same.
    pub fn sky(&self, only_mine: bool) -> Vec<String> {
        let rows = self.targets(only_mine);
        let rows: Vec<&Entity> = rows.iter().map(|row| &**row).collect();
        (self.action.sky)(&rows, &self.options)
    }

    /// What is sent.
    pub fn request(&self, model: &Model, only_mine: bool) -> NewRequest {
        NewRequest {
            action: self.action.id.into(),
            targets: self
                .targets(only_mine)
                .iter()
                .map(|row| model.real_key(row.key()))
                .collect(),
            options: self.options.clone(),
            others_confirmed: !only_mine && !self.others.is_empty(),
            dry_run: false,
        }
    }
}

impl Model {
    /// The rows that an action of `kind` would be for: the marked ones that are shown, else the one
    /// under the cursor, else the subject of the page.
    pub(crate) fn targets(&self, kind: Kind) -> (Vec<Arc<Entity>>, usize) {
        if kind == Kind::Source {
            // No list shows sources; what is done to one is done to the local engine.
            let engine = crate::start::engine(self.table.rows(kind));
            return (engine.into_iter().cloned().collect(), 0);
        }
        if let Some(list) = self.list() {
            let marked: Vec<_> = list
                .visible_marks()
                .filter(|line| line.row.kind() == kind)
                .map(|line| line.row.clone())
                .collect();
            if !marked.is_empty() {
                return (marked, list.hidden_marks());
            }
            if let Some(line) = list.current().filter(|line| line.row.kind() == kind) {
                return (vec![line.row.clone()], 0);
            }
        }
        let subject = self.subject().filter(|row| row.kind() == kind);
        (subject.into_iter().collect(), 0)
    }

    /// What `action` would do to what is marked or under the cursor.
    pub(crate) fn plan(&self, action: &'static ActionSpec, options: ActionOptions) -> Plan {
        let (rows, hidden) = self.targets(action.kind);
        self.plan_for(action, options, rows, hidden)
    }

    /// What `action` would do to these rows.
    pub(crate) fn plan_for(
        &self,
        action: &'static ActionSpec,
        options: ActionOptions,
        rows: Vec<Arc<Entity>>,
        hidden: usize,
    ) -> Plan {
        let mut plan = Plan {
            action,
            options,
            mine: Vec::new(),
            others: Vec::new(),
            refused: Vec::new(),
            hidden,
        };
        let mut jobs: BTreeSet<(Text, i64)> = BTreeSet::new();
        for row in rows {
            // A managed job is acted on as a whole, whichever of its tasks is meant.
            if let Some(job) = row.as_job()
                && !jobs.insert((job.source.clone(), job.job_id))
            {
                continue;
            }
            match may(&self.you, action, &plan.options, &row) {
                Verdict::Allowed => plan.mine.push(row),
                Verdict::OwnerGuard { owner } => plan.others.push((row, owner)),
                Verdict::Denied { reason } => plan.refused.push((row, reason)),
            }
        }
        plan
    }

    /// The kinds whose actions make sense here: of the row under the cursor, then of the subject.
    pub(crate) fn action_kinds(&self) -> Vec<Kind> {
        let mut kinds = Vec::new();
        for row in [self.under_cursor(), self.subject()].into_iter().flatten() {
            if !kinds.contains(&row.kind()) {
                kinds.push(row.kind());
            }
        }
        kinds
    }
}

/// Why an action does nothing here; none when it does.
pub fn why_not(model: &Model, action: &'static ActionSpec) -> Option<String> {
    why_not_with(model, action, ActionOptions::default())
}

/// As [`why_not`], for what the options ask of the action.
pub(crate) fn why_not_with(
    model: &Model,
    action: &'static ActionSpec,
    options: ActionOptions,
) -> Option<String> {
    if !model.is_live() {
        return Some("not connected: actions are off, nothing is queued".to_owned());
    }
    let plan = model.plan(action, options);
    if plan.count() > 0 {
        return None;
    }
    match plan.refused.as_slice() {
        [] if action.kind == Kind::Source => Some(crate::start::NO_ENGINE_SHORT.to_owned()),
        [] => Some(format!("there is no {} under the cursor", action.kind)),
        // It is about the caller: which row it is says nothing to it.
        [(row, reason)] if only_looks_at(model, row) => Some(reason.to_string()),
        [(row, reason)] => Some(format!("{}: {reason}", row.name())),
        [(_, reason), rest @ ..] => Some(format!("{reason} ({} more)", rest.len())),
    }
}

/// The caller may only look at a row, whatever state it is in.
fn only_looks_at(model: &Model, row: &Entity) -> bool {
    let acts_there = |places: &Vec<Text>| places.contains(row.source());
    policy::only_looks(&model.you).is_some() || !model.you.acts_at.as_ref().is_none_or(acts_there)
}

/// Why a command of the key table does nothing here; none when it does.
pub(crate) fn command_why_not(model: &Model, command: crate::keys::Command) -> Option<String> {
    use crate::keys::Command as C;
    let row = model.under_cursor();
    let kind = row.as_ref().map(|row| row.kind());
    let nothing = || Some("nothing is under the cursor".to_owned());
    match command {
        C::Open | C::Menu | C::CopyName | C::CopyKey if row.is_none() => nothing(),
        C::Mark | C::MarkRange | C::MarkAll
            if model.list().is_none_or(|list| list.lines.is_empty()) =>
        {
            Some("there is nothing to mark".to_owned())
        }
        C::Screen(number) if usize::from(number) > model.screens().len() => {
            Some("it is for administrators".to_owned())
        }
        C::Logs => match kind {
            None => nothing(),
            Some(kind) if has_log(kind) => None,
            Some(kind) => Some(format!("a {kind} has no log")),
        },
        C::ControllerLogs => match kind {
            None => nothing(),
            Some(kind) if other_log(kind).is_some() => None,
            Some(kind) => Some(format!("a {kind} has no other log")),
        },
        C::Yaml => match kind {
            None => nothing(),
            Some(kind) if has_yaml(kind) => None,
            Some(kind) => Some(format!("a {kind} is not made from YAML")),
        },
        C::Fold => match model.list().and_then(super::list::List::current) {
            Some(line) if line.fold != super::list::Fold::Leaf => None,
            _ => Some("it has no parts".to_owned()),
        },
        C::ThisOwner if row.as_ref().is_none_or(|row| row.owner().is_none()) => {
            Some("it belongs to nobody".to_owned())
        }
        C::Preview if model.size.0 < super::geometry::WIDE => Some(format!(
            "the terminal has {} columns, the preview needs {}",
            model.size.0,
            super::geometry::WIDE
        )),
        C::New => starts_why_not(model),
        C::SignIn => sign_in_why_not(model),
        C::Demo => starts_why_not(model).or_else(|| {
            let there = "there is something already: `skytower demo` starts the team beside it";
            (!is_bare(model)).then(|| there.to_owned())
        }),
        C::HistoryBack | C::HistoryLast if model.back.is_empty() => {
            Some("there is no page before".to_owned())
        }
        C::HistoryForward if model.forward.is_empty() => {
            Some("there is no page to go forward to".to_owned())
        }
        C::NextMatch | C::PreviousMatch | C::OnlyMatches
            if model
                .text_view()
                .is_some_and(|view| view.search().is_empty()) =>
        {
            Some("nothing is searched for: / starts a search".to_owned())
        }
        C::Filter if matches!(model.page, Page::Detail(_, Tab::Facts | Tab::Results)) => {
            Some("there is nothing to filter".to_owned())
        }
        _ => None,
    }
}

/// Why one cannot sign in now; none when one can.
fn sign_in_why_not(model: &Model) -> Option<String> {
    let said = |reason: &str| Some(reason.to_owned());
    match &model.link {
        _ if !model.options.signs_in => said("this server is your own: nobody signs in to it"),
        Link::Refused(_) => None,
        _ if model.you.name.is_empty() => said("the server did not ask who you are"),
        _ => Some(format!("you are signed in as {}", model.you.name)),
    }
}

/// Why nothing can be started from a task file here; none when it can.
fn starts_why_not(model: &Model) -> Option<String> {
    let launch = crate::start::making().next()?;
    why_not(model, launch)
}

/// Nothing that anybody could have started is there, and all who would know have been asked.
fn is_bare(model: &Model) -> bool {
    let kinds = [Kind::Cluster, Kind::Job, Kind::Service];
    kinds
        .iter()
        .all(|kind| model.table.rows(*kind).next().is_none())
        && super::sources(model).iter().all(|source| {
            let known =
                |kind| source.fetched_at.contains_key(kind) || source.notes.contains_key(kind);
            source.name == LOCAL || kinds.iter().all(known)
        })
}

/// Has a kind a log.
pub(crate) fn has_log(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Cluster
            | Kind::ClusterJob
            | Kind::Job
            | Kind::Service
            | Kind::Replica
            | Kind::Pool
            | Kind::Worker
            | Kind::Request
    )
}

/// The other log of a kind.
pub(crate) fn other_log(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Job | Kind::Service | Kind::Pool => Some("controller"),
        Kind::Cluster => Some("provision"),
        _ => None,
    }
}

/// Is a kind made from YAML.
pub(crate) fn has_yaml(kind: Kind) -> bool {
    matches!(kind, Kind::Cluster | Kind::Job | Kind::Service | Kind::Pool)
}

/// The page of a row.
pub(crate) fn first_tab(kind: Kind) -> Tab {
    super::geometry::tabs_of(kind)
        .first()
        .copied()
        .unwrap_or(Tab::Facts)
}

/// A key that names what people would type for a row.
pub(crate) fn copy_name(row: &Entity) -> String {
    match row {
        Entity::Job(job) => job.job_id.to_string(),
        Entity::ClusterJob(job) => job.job_id.to_string(),
        Entity::Request(request) => request.request_id.to_string(),
        _ => row.name().to_string(),
    }
}

/// What people call a row in a sentence: `job 12 train`, `cluster dev`.
pub(crate) fn called(row: &Entity) -> String {
    match row {
        Entity::Job(job) => format!("{} {}", job.job_id, job.job_name),
        Entity::ClusterJob(job) => format!("{} on {}", job.job_id, job.cluster),
        Entity::Replica(replica) => format!("{} of {}", replica.replica_id, replica.service),
        Entity::Request(request) => request.request_id.chars().take(8).collect(),
        _ => row.name().to_string(),
    }
}
