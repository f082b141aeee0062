//! From page to page, and back.

use std::collections::BTreeSet;

use skytower_api_client::Kind;
use skytower_api_client::entity::{Entity, Owner};

use super::Effects;
use super::rows::set_scope;
use crate::app::SCREENS;
use crate::app::act::first_tab;
use crate::app::geometry;
use crate::app::list::Scope;
use crate::app::log::LogView;
use crate::app::model::{Model, Page, Tab};
use crate::app::msg::Effect;
use crate::keys::Command;

pub(super) fn escape(model: &mut Model) -> Effects {
    if let Some(view) = model.text_view_mut()
        && (view.only || !view.search().is_empty())
    {
        view.only = false;
        view.look_for(String::new());
        return Vec::new();
    }
    if let Some(list) = model.list_mut() {
        if !list.filter.is_empty() {
            list.set_filter(String::new());
            return Vec::new();
        }
        if list.faults {
            list.faults = false;
            list.dirty = true;
            return Vec::new();
        }
        if !list.marks.is_empty() {
            list.marks.clear();
            return Vec::new();
        }
    }
    if matches!(model.page, Page::List(_)) {
        if matches!(model.scope, Scope::Owner(_)) {
            set_scope(model, Scope::All);
        } else {
            model.message = None;
        }
        return Vec::new();
    }
    up(model)
}

/// Out of a page: back to where one came from, or to its list.
pub(super) fn up(model: &mut Model) -> Effects {
    let page = match model.back.pop() {
        Some(page) => page,
        None => Page::List(match &model.page {
            Page::Detail(key, _) | Page::Log(key, _) | Page::Yaml(key) => key
                .kind()
                .filter(|kind| SCREENS.contains(kind))
                .unwrap_or(Kind::Cluster),
            Page::List(kind) => *kind,
        }),
    };
    let here = std::mem::replace(&mut model.page, page);
    model.forward.push(here);
    arrive(model)
}

/// Goes to a page, which becomes the newest of the history.
pub(super) fn visit(model: &mut Model, page: Page) -> Effects {
    if page == model.page {
        return Vec::new();
    }
    let here = std::mem::replace(&mut model.page, page);
    model.back.push(here);
    if model.back.len() > 50 {
        model.back.remove(0);
    }
    model.forward.clear();
    arrive(model)
}

/// What a page needs once one is there.
pub(super) fn arrive(model: &mut Model) -> Effects {
    let mut effects = Vec::new();
    model.typing = None;
    model.message = None;
    let wanted = match &model.page {
        Page::Detail(key, _) => Some(model.real_key(key)),
        _ => None,
    };
    if wanted != model.focus {
        if let Some(old) = model.focus.take() {
            effects.push(Effect::Unfocus(old));
        }
        if let Some(key) = &wanted {
            effects.push(Effect::Focus(key.clone()));
        }
        model.focus = wanted;
    }
    // The log that is open stays open only where it is shown.
    let log = match &model.page {
        Page::Log(key, channel) => Some((key.clone(), *channel)),
        Page::Detail(key, Tab::Log) => Some((key.clone(), None)),
        _ => None,
    };
    let open = model.log.as_ref().map(|log| (log.key.clone(), log.channel));
    if log != open {
        if model.log.take().is_some() {
            effects.push(Effect::CloseLog);
        }
        if let Some((key, channel)) = log {
            model.serial += 1;
            let id = model.serial;
            let tail = if matches!(model.page, Page::Log(..)) {
                10_000
            } else {
                1_000
            };
            effects.push(Effect::OpenLog {
                id,
                key: model.real_key(&key),
                channel,
                tail,
            });
            model.log = Some(LogView::new(id, key, channel));
        }
    }
    let yaml = match &model.page {
        Page::Yaml(key) | Page::Detail(key, Tab::Yaml) => Some(key.clone()),
        _ => None,
    };
    if let Some(key) = yaml {
        let real = model.real_key(&key);
        if model.yaml.as_ref().is_none_or(|yaml| yaml.key != key) || model.detail.is_none() {
            model.yaml = None;
            model.detail = Some((real.clone(), None));
            effects.push(Effect::LoadDetail(real));
        }
    } else {
        model.yaml = None;
        model.detail = None;
    }
    effects
}

pub(super) fn other_tab(model: &mut Model, next: bool) -> Effects {
    let step = |at: usize, len: usize| {
        if next {
            (at + 1) % len
        } else {
            (at + len - 1) % len
        }
    };
    match model.page.clone() {
        Page::List(kind) => {
            let screens = model.screens();
            let at = screens.iter().position(|it| *it == kind).unwrap_or(0);
            visit(model, Page::List(screens[step(at, screens.len())]))
        }
        Page::Detail(key, tab) => {
            let tabs = key.kind().map_or(&[][..], geometry::tabs_of);
            let at = tabs.iter().position(|it| *it == tab).unwrap_or(0);
            if tabs.len() > 1 {
                model.page = Page::Detail(key, tabs[step(at, tabs.len())]);
                return arrive(model);
            }
            Vec::new()
        }
        Page::Log(..) | Page::Yaml(_) => Vec::new(),
    }
}

pub(super) fn open(model: &mut Model) -> Effects {
    if let Page::Detail(key, Tab::Log) = &model.page {
        let page = Page::Log(key.clone(), None);
        return visit(model, page);
    }
    let Some(row) = model.under_cursor() else {
        return Vec::new();
    };
    if Some(row.key()) == model.subject().as_ref().map(|row| row.key()) {
        return Vec::new();
    }
    match &*row {
        Entity::User(user) => {
            let owner = Owner {
                id: user.user_id.clone(),
                name: user.name.clone(),
            };
            let effects = visit(model, Page::List(Kind::Job));
            set_scope(model, Scope::Owner(owner));
            effects
        }
        Entity::Workspace(workspace) => {
            let name = workspace.name.clone();
            let effects = visit(model, Page::List(Kind::Cluster));
            set_scope(model, Scope::Workspaces(BTreeSet::from([name])));
            effects
        }
        Entity::Event(_) => Vec::new(),
        _ => visit(
            model,
            Page::Detail(row.key().clone(), first_tab(row.kind())),
        ),
    }
}

pub(super) fn open_log(model: &mut Model, channel: Option<&'static str>) -> Effects {
    match model.under_cursor() {
        Some(row) => visit(model, Page::Log(row.key().clone(), channel)),
        None => Vec::new(),
    }
}

/// Through the pages that were visited.
pub(super) fn history(model: &mut Model, command: Command) -> Effects {
    let (from, to) = match command {
        Command::HistoryBack => (&mut model.back, &mut model.forward),
        Command::HistoryForward => (&mut model.forward, &mut model.back),
        _ => {
            return match model.back.pop() {
                Some(page) => visit(model, page),
                None => Vec::new(),
            };
        }
    };
    let Some(page) = from.pop() else {
        return Vec::new();
    };
    to.push(std::mem::replace(&mut model.page, page));
    arrive(model)
}
