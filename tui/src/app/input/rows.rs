//! What is done to the list on the page: folding, marking, sorting, whose rows it shows.

use std::collections::BTreeSet;

use skytower_api_client::{Text, policy};

use crate::app::list::{Fold, List, Scope};
use crate::app::model::Model;
use crate::keys::Command;

/// Carries out a command that concerns the list.
pub(super) fn run(model: &mut Model, command: Command) {
    use Command as C;
    match command {
        C::Scope => {
            let next = match &model.scope {
                Scope::Mine => Scope::Workspaces(my_workspaces(model)),
                Scope::Workspaces(_) => Scope::All,
                Scope::All | Scope::Owner(_) => Scope::Mine,
            };
            return set_scope(model, next);
        }
        C::ScopeAll => return set_scope(model, Scope::All),
        C::ThisOwner => {
            let owner = model.under_cursor().and_then(|row| row.owner().cloned());
            let next = match (&model.scope, owner) {
                (Scope::Owner(_), _) | (_, None) => Scope::All,
                (_, Some(owner)) => Scope::Owner(owner),
            };
            return set_scope(model, next);
        }
        _ => {}
    }
    let Some(list) = model.list_mut() else { return };
    match command {
        C::Fold => fold(list),
        C::FoldAll => fold_all(list),
        C::Mark => mark(list),
        C::MarkRange => mark_range(list),
        C::MarkAll => {
            let keys: BTreeSet<_> = list
                .lines
                .iter()
                .filter(|line| line.fold != Fold::Child)
                .map(|line| line.key().clone())
                .collect();
            list.marks.extend(keys);
        }
        C::Unmark => list.marks.clear(),
        C::Faults => {
            list.faults = !list.faults;
            list.dirty = true;
        }
        C::SortLeft => sort_beside(list, false),
        C::SortRight => sort_beside(list, true),
        C::SortReverse => {
            list.sort.1 = !list.sort.1;
            list.dirty = true;
        }
        _ => {}
    }
}

/// Sorts by a column; by the same one again, the other way round.
pub(super) fn sort_by(list: &mut List, id: &'static str) {
    let same = list.sort.0 == id;
    list.sort = (id, same && !list.sort.1);
    list.dirty = true;
}

fn sort_beside(list: &mut List, right: bool) {
    let shown: Vec<&'static str> = list.shown.iter().map(|(column, _)| column.id).collect();
    let Some(last) = shown.len().checked_sub(1) else {
        return;
    };
    let at = shown.iter().position(|id| *id == list.sort.0);
    let next = match at {
        None => 0,
        Some(at) if right => (at + 1) % shown.len(),
        Some(at) => at.checked_sub(1).unwrap_or(last),
    };
    list.sort = (shown[next], false);
    list.dirty = true;
}

fn mark(list: &mut List) {
    if let Some(key) = list.current().map(|line| line.key().clone()) {
        if !list.marks.remove(&key) {
            list.marks.insert(key);
        }
        list.step(1);
    }
}

/// From the nearest mark to the cursor.
fn mark_range(list: &mut List) {
    let at = list.at;
    let nearest = list
        .lines
        .iter()
        .enumerate()
        .filter(|(_, line)| list.marks.contains(line.key()))
        .map(|(i, _)| i)
        .min_by_key(|i| i.abs_diff(at))
        .unwrap_or(at);
    let (from, to) = (nearest.min(at), nearest.max(at));
    let keys: Vec<_> = list
        .lines
        .iter()
        .skip(from)
        .take(to + 1 - from)
        .map(|line| line.key().clone())
        .collect();
    list.marks.extend(keys);
}

fn fold_all(list: &mut List) {
    if list.open.is_empty() {
        list.open = list
            .lines
            .iter()
            .filter(|line| line.fold == Fold::Closed)
            .map(|line| line.key().clone())
            .collect();
    } else {
        list.open.clear();
    }
    list.dirty = true;
}

fn fold(list: &mut List) {
    let Some(line) = list.current() else { return };
    let key = match line.fold {
        // Folding from within closes what it is in, and the cursor goes there.
        Fold::Child => {
            let parent = list.lines[..list.at]
                .iter()
                .rposition(|line| line.fold == Fold::Open);
            let Some(parent) = parent else { return };
            list.go(parent);
            list.lines[parent].key().clone()
        }
        _ => line.key().clone(),
    };
    if !list.open.remove(&key) {
        list.open.insert(key);
    }
    list.dirty = true;
}

pub(super) fn set_scope(model: &mut Model, scope: Scope) {
    if model.scope != scope {
        model.scope = scope;
        model.all_dirty();
    }
}

/// The workspaces in which something is one's own; those one may see where nothing is.
pub(super) fn my_workspaces(model: &Model) -> BTreeSet<Text> {
    let own: BTreeSet<Text> = model
        .table
        .all()
        .filter(|row| policy::is_mine(&model.you, row))
        .filter_map(|row| row.workspace().cloned())
        .collect();
    match (&model.you.workspaces, own.is_empty()) {
        // By name alone: the scope narrows, and what is not to be seen is not here.
        (Some(list), _) => list
            .iter()
            .filter_map(|name| policy::unqualified(name))
            .map(|(_, name)| name.into())
            .collect(),
        (None, true) => BTreeSet::from(["default".into()]),
        (None, false) => own,
    }
}
