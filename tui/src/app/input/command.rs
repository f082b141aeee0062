//! The commands of the key table: each goes to where it is carried out.

use skytower_api_client::Kind;
use skytower_api_client::action::{ActionOptions, actions_of};

use super::navigation::{escape, history, open, open_log, other_tab, up, visit};
use super::{Effects, picks, reading, rows, signing, starting, typing};
use crate::app::act::{command_why_not, copy_name, other_log};
use crate::app::model::{Model, Overlay, Page, Severity};
use crate::app::msg::Effect;
use crate::keys::Command;

/// Carries out a command of the key table.
pub(super) fn run(model: &mut Model, command: Command) -> Effects {
    use Command as C;
    if let Some(reason) = command_why_not(model, command) {
        model.say(Severity::Info, reason);
        return Vec::new();
    }
    match command {
        C::Quit => return vec![Effect::Quit],
        C::Suspend => return vec![Effect::Suspend],
        C::Escape => return escape(model),
        C::Close => return close(model),
        C::Help => model.overlays.push(Overlay::Help {
            typed: String::new(),
            top: 0,
        }),
        C::CommandLine => {
            let picker = picks::command_line(model);
            model.overlays.push(Overlay::Pick(picker));
        }
        C::Menu => {
            let picker = picks::menu(model);
            model.overlays.push(Overlay::Pick(picker));
        }
        C::PickOwner => {
            let picker = picks::owners(model);
            model.overlays.push(Overlay::Pick(picker));
        }
        C::New => return starting::open(model, None),
        C::Demo => return starting::demo(model),
        C::SignIn => signing::open(model),
        C::Filter => typing::begin(model),
        C::HistoryBack | C::HistoryForward | C::HistoryLast => return history(model, command),
        C::Refresh => return refresh(model),
        C::Screen(number) => {
            if let Some(kind) = model.screens().get(usize::from(number).wrapping_sub(1)) {
                return visit(model, Page::List(*kind));
            }
        }
        C::NextTab | C::PreviousTab => return other_tab(model, command == C::NextTab),
        C::Open => return open(model),
        C::Logs => return open_log(model, None),
        C::ControllerLogs => {
            let other = model.under_cursor().and_then(|row| other_log(row.kind()));
            return open_log(model, other);
        }
        C::Yaml => {
            if let Some(row) = model.under_cursor() {
                return visit(model, Page::Yaml(row.key().clone()));
            }
        }
        C::Preview => model.preview = !model.preview,
        C::CopyName => {
            if let Some(row) = model.under_cursor() {
                return vec![Effect::Copy(copy_name(&row))];
            }
        }
        C::CopyKey => return copy_command(model),
        C::Up
        | C::Down
        | C::PageUp
        | C::PageDown
        | C::HalfUp
        | C::HalfDown
        | C::Top
        | C::Bottom
        | C::Left
        | C::Right => reading::go(model, command),
        C::NextMatch | C::PreviousMatch | C::NextError | C::PreviousError => {
            reading::seek(model, command);
        }
        C::OnlyMatches | C::Follow | C::Wrap => reading::switch(model, command),
        C::Save => return reading::save(model),
        C::CopyText => return reading::copy(model),
        C::Fold
        | C::FoldAll
        | C::Mark
        | C::MarkRange
        | C::MarkAll
        | C::Unmark
        | C::Scope
        | C::ScopeAll
        | C::ThisOwner
        | C::Faults
        | C::SortLeft
        | C::SortRight
        | C::SortReverse => rows::run(model, command),
    }
    Vec::new()
}

/// Back; at the outermost page the second time quits.
fn close(model: &mut Model) -> Effects {
    if !matches!(model.page, Page::List(_)) {
        return up(model);
    }
    if model.quit_armed {
        return vec![Effect::Quit];
    }
    model.quit_armed = true;
    model.say(Severity::Info, "q again quits");
    Vec::new()
}

/// Asks the source of what is under the cursor to look again; connects when offline.
fn refresh(model: &mut Model) -> Effects {
    if !model.is_live() {
        model.say(Severity::Info, "connecting");
        return vec![Effect::Retry];
    }
    let key = model
        .under_cursor()
        .map(|row| model.real_key(row.key()))
        .or_else(|| {
            model
                .table
                .rows(Kind::Source)
                .next()
                .map(|row| row.key().clone())
        });
    let Some(key) = key else { return Vec::new() };
    model.say(
        Severity::Info,
        format!("asked {} to look again", key.source()),
    );
    vec![Effect::Refresh(key)]
}

fn copy_command(model: &mut Model) -> Effects {
    for kind in model.action_kinds() {
        for action in actions_of(kind) {
            let plan = model.plan(action, ActionOptions::default());
            if plan.count() > 0 {
                return vec![Effect::Copy(plan.sky(false).join("\n"))];
            }
        }
    }
    model.say(
        Severity::Info,
        "no action is possible here, so there is no command to copy",
    );
    Vec::new()
}
