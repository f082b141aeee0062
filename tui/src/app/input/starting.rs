//! Starting something from a task file: the dialog opens, its keys are carried out, and what is confirmed
//! becomes a request like that of any action. The sample team goes the same way, without the dialog.

use std::collections::BTreeSet;
use std::sync::Arc;

use skytower_api_client::action::{ActionOptions, ActionSpec, action};
use skytower_api_client::entity::Entity;
use skytower_api_client::policy::{Verdict, may};
use skytower_api_client::rest::NewRequest;
use skytower_api_client::{Kind, Text};

use super::Effects;
use super::acting::{ask_for, begin};
use crate::app::batch::Batch;
use crate::app::model::{Model, Overlay, Page, Severity};
use crate::app::msg::Effect;
use crate::app::start::{Asked, Starting, Way};
use crate::demo;
use crate::keys::Chord;
use crate::start::{Read, engine, making};

/// Opens the dialog, for an action that somebody chose, or for what is usual here.
pub(super) fn open(model: &mut Model, chosen: Option<&'static ActionSpec>) -> Effects {
    let ways = ways(model);
    let of = |id: &str| {
        ways.iter()
            .position(|way| way.action.id == id && way.off.is_none())
    };
    let way = match chosen {
        Some(action) => of(action.id),
        None => of(usual(model)).or_else(|| of("source.launch")),
    };
    let Some(way) = way else {
        model.say(Severity::Info, "nothing can be started from here");
        return Vec::new();
    };
    let starting = Starting::new(ways, way, chosen.is_some());
    model.overlays.push(Overlay::Start(Box::new(starting)));
    Vec::new()
}

/// The ways to start a file here.
fn ways(model: &Model) -> Vec<Way> {
    let way = |action: &'static ActionSpec, target: &Arc<Entity>, label: String| {
        let verdict = may(&model.you, action, &ActionOptions::default(), target);
        Way {
            action,
            target: target.clone(),
            label,
            off: match verdict {
                Verdict::Denied { reason } => Some(reason.to_string()),
                _ => None,
            },
        }
    };
    let mut ways = Vec::new();
    if let Some(engine) = engine(model.table.rows(Kind::Source)) {
        ways.extend(making().map(|action| way(action, engine, action.title.to_owned())));
    }
    for id in ["cluster.exec", "service.update"] {
        let Some(action) = action(id) else { continue };
        if let Some(row) = near(model, action.kind) {
            let label = format!("{} {}", action.title, row.name());
            ways.push(way(action, &row, label));
        }
    }
    ways
}

/// The cluster or service that is under the cursor, or that what is there belongs to.
fn near(model: &Model, kind: Kind) -> Option<Arc<Entity>> {
    let rows = [model.under_cursor(), model.subject()];
    rows.into_iter().flatten().find_map(|row| {
        let parent = match &*row {
            _ if row.kind() == kind => return Some(row.clone()),
            Entity::ClusterJob(job) if kind == Kind::Cluster => &job.cluster_key,
            Entity::Replica(replica) if kind == Kind::Service => &replica.service_key,
            _ => return None,
        };
        model.table.get(parent).cloned()
    })
}

/// What people start here most: in a list something new, on the page of a thing something on that.
fn usual(model: &Model) -> &'static str {
    let (kind, whole) = match &model.page {
        Page::List(kind) => (Some(*kind), false),
        Page::Detail(key, _) | Page::Log(key, _) | Page::Yaml(key) => (key.kind(), true),
    };
    match kind {
        Some(Kind::Cluster | Kind::ClusterJob) if whole => "cluster.exec",
        Some(Kind::Service | Kind::Replica) if whole => "service.update",
        Some(Kind::Service) => "source.serve_up",
        Some(Kind::Job) => "source.jobs_launch",
        _ => "source.launch",
    }
}

/// A key in the dialog.
pub(super) fn key(model: &mut Model, chord: Chord) -> Effects {
    let Some(Overlay::Start(starting)) = model.overlays.last_mut() else {
        return Vec::new();
    };
    match starting.key(chord) {
        Asked::Nothing => Vec::new(),
        Asked::Close => {
            model.overlays.pop();
            Vec::new()
        }
        Asked::Folder(folder) => vec![Effect::ListFolder(folder)],
        Asked::File(path) => vec![Effect::ReadTask(path)],
        Asked::Go => go(model),
    }
}

/// What a folder holds came.
pub(crate) fn listed(model: &mut Model, folder: &str, names: Result<Vec<String>, String>) {
    if let Some(starting) = dialog(model) {
        starting.listed(folder, names);
    }
}

/// A task file came.
pub(crate) fn came(model: &mut Model, path: &str, read: Result<Read, String>) {
    if let Some(starting) = dialog(model) {
        starting.came(path, read);
    }
}

fn dialog(model: &mut Model) -> Option<&mut Starting> {
    model.overlays.iter_mut().find_map(|overlay| match overlay {
        Overlay::Start(starting) => Some(&mut **starting),
        _ => None,
    })
}

/// It was looked at and confirmed.
fn go(model: &mut Model) -> Effects {
    let Some(Overlay::Start(starting)) = model.overlays.pop() else {
        return Vec::new();
    };
    let (Some(options), Some(way)) = (starting.options(), starting.chosen()) else {
        return Vec::new();
    };
    let plan = model.plan_for(way.action, options, vec![way.target.clone()], 0);
    begin(model, plan)
}

/// Starts the sample team.
pub(super) fn demo(model: &mut Model) -> Effects {
    let Some(engine) = engine(model.table.rows(Kind::Source)).map(|row| row.key().clone()) else {
        return Vec::new();
    };
    let parts = demo::missing(model.table.all());
    let mut asked = BTreeSet::new();
    let mut effects = Vec::new();
    for part in &parts {
        let request = NewRequest {
            action: Text::from(part.action),
            targets: vec![engine.clone()],
            options: ActionOptions {
                start: Some(Box::new(part.start())),
                ..ActionOptions::default()
            },
            others_confirmed: true,
            dry_run: false,
        };
        let effect = ask_for(model, request);
        if let Effect::Create {
            idempotency_key, ..
        } = &effect
        {
            asked.insert(idempotency_key.clone());
        }
        effects.push(effect);
    }
    let batch = Batch::new("the sample team", demo::counted(&parts), asked);
    let (severity, text) = batch.said();
    model.say(severity, text);
    model.batch = Some(batch);
    effects
}
