//! Beginning an action: it is done, asked about first, or said why not.

use skytower_api_client::action::{ActionOptions, ActionSpec};
use skytower_api_client::rest::NewRequest;
use skytower_api_client::{Kind, human};

use super::Effects;
use super::{picks, starting};
use crate::app::act::{Plan, called, why_not};
use crate::app::confirm::Confirm;
use crate::app::model::{Model, Overlay, Severity};
use crate::app::msg::Effect;
use crate::start::needs_file;

/// Begins an action: does it, asks first, or says why not.
pub(super) fn start(
    model: &mut Model,
    action: &'static ActionSpec,
    options: Option<ActionOptions>,
) -> Effects {
    if !model.is_live() {
        model.say(
            Severity::Bad,
            "not connected: actions are off, nothing is queued and nothing fires later",
        );
        return Vec::new();
    }
    let asks = action.id == "cluster.autostop" || needs_file(action);
    if asks && options.is_none() {
        if let Some(reason) = why_not(model, action) {
            model.say(Severity::Bad, reason);
            return Vec::new();
        }
        if needs_file(action) {
            return starting::open(model, Some(action));
        }
        model.overlays.push(Overlay::Pick(picks::idling(model)));
        return Vec::new();
    }
    let plan = model.plan(action, options.unwrap_or_default());
    if plan.count() == 0 && plan.refused.len() <= 1 {
        let reason = why_not(model, action).unwrap_or_default();
        model.say(
            Severity::Bad,
            format!("{}: not possible: {reason}", action.title),
        );
        return Vec::new();
    }
    begin(model, plan)
}

/// Does what is harmless, and asks about the rest.
pub(super) fn begin(model: &mut Model, plan: Plan) -> Effects {
    if plan.is_harmless() {
        return submit(model, &plan, false);
    }
    model.overlays.push(Overlay::Confirm(Confirm::new(plan)));
    Vec::new()
}

pub(super) fn submit(model: &mut Model, plan: &Plan, only_mine: bool) -> Effects {
    if !model.is_live() {
        model.say(
            Severity::Bad,
            "the connection was lost meanwhile: nothing was done",
        );
        return Vec::new();
    }
    let request = plan.request(model, only_mine);
    let what = match plan.targets(only_mine).as_slice() {
        [row] => called(row),
        rows => human::count(rows.len(), action_noun(plan.action)),
    };
    model.say(
        Severity::Info,
        format!("{} {what}: asking", plan.action.doing),
    );
    if let Some(list) = model.list_mut() {
        for key in plan.targets(only_mine).iter().map(|row| row.key()) {
            list.marks.remove(key);
        }
    }
    vec![ask_for(model, request)]
}

/// A decision, under a key of its own.
pub(super) fn ask_for(model: &mut Model, request: NewRequest) -> Effect {
    model.serial += 1;
    Effect::Create {
        request,
        idempotency_key: format!("{}-{}", model.options.run, model.serial),
    }
}

/// The noun for counting what an action is for.
pub(crate) fn action_noun(action: &ActionSpec) -> &'static str {
    match action.kind {
        Kind::ClusterJob => "cluster job",
        kind => kind.noun(),
    }
}
