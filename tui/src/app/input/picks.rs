//! What there is to choose from: the menu, the owners, the command line, times of idling.

use std::collections::BTreeMap;

use skytower_api_client::action::{ActionOptions, ActionSpec, actions_of};
use skytower_api_client::entity::Owner;
use skytower_api_client::{Kind, human};

use super::rows::my_workspaces;
use crate::app::act::{called, command_why_not, why_not, why_not_with};
use crate::app::list::Scope;
use crate::app::model::{Model, Page};
use crate::app::pick::{Choice, Item, Picker};
use crate::keys::{self, Command, bindings};

/// The title by which this picker is known again.
pub(super) const AUTOSTOP: &str = "Autostop";

/// After how long of idling.
pub(super) fn idling(model: &Model) -> Picker {
    let to_stop = ActionOptions {
        idle_minutes: Some(1),
        down: false,
        ..ActionOptions::default()
    };
    let no_stop = why_not_with(model, autostop(), to_stop);
    Picker {
        title: AUTOSTOP.to_owned(),
        prompt: "or type a time, such as 45m or 3h",
        typed: String::new(),
        items: autostop_items("", no_stop.as_ref()),
        at: 0,
        command_line: false,
    }
}

/// The times to choose from; `no_stop` says why stopping is not among what is possible.
pub(super) fn autostop_items(typed: &str, no_stop: Option<&String>) -> Vec<Item> {
    let mut spans: Vec<u32> = vec![10, 30, 60, 180];
    let own = human::parse_span(typed.trim()).map(|ms| (ms / 60_000) as u32);
    if let Some(minutes) = own.filter(|minutes| *minutes > 0) {
        spans = vec![minutes];
    }
    let written = |minutes: u32| human::span(i64::from(minutes) * 60_000);
    let item = |label: String, note: &str, options: ActionOptions| Item {
        label,
        note: note.to_owned(),
        key: String::new(),
        off: None,
        choice: Choice::Act(autostop(), Some(options)),
    };
    // What was typed has to fit the item's words, or it would filter itself away.
    let tag = if own.is_some() {
        format!("  ({})", typed.trim())
    } else {
        String::new()
    };
    let mut items = Vec::new();
    // What is possible comes first.
    for down in [no_stop.is_some(), no_stop.is_none()] {
        for minutes in &spans {
            let verb = if down { "tear down" } else { "stop" };
            let mut item = item(
                format!("{verb} after {}{tag}", written(*minutes)),
                "of idling",
                ActionOptions {
                    idle_minutes: Some(*minutes),
                    down,
                    ..ActionOptions::default()
                },
            );
            item.off = no_stop.filter(|_| !down).cloned();
            items.push(item);
        }
    }
    items.push(item(
        "off".to_owned(),
        "it runs until somebody ends it",
        ActionOptions::default(),
    ));
    items
}

/// Every action for what is under the cursor, the impossible ones with their reason.
pub(super) fn menu(model: &Model) -> Picker {
    let ascii = model.options.theme.ascii;
    let mut items = Vec::new();
    for kind in model.action_kinds() {
        for action in actions_of(kind) {
            items.push(Item {
                label: action.title.to_owned(),
                note: action.doc.to_owned(),
                key: keys::short(keys::of_action(action), ascii),
                off: why_not(model, action),
                choice: Choice::Act(action, None),
            });
        }
    }
    for binding in bindings(model.key_context()) {
        if matches!(binding.group, keys::Group::See) {
            items.push(Item {
                label: binding.help.trim_end_matches('.').to_owned(),
                note: String::new(),
                key: keys::short(binding.keys.first().copied().unwrap_or_default(), ascii),
                off: command_why_not(model, binding.command),
                choice: Choice::Command(binding.command),
            });
        }
    }
    let title = model.under_cursor().map_or_else(String::new, |row| {
        format!("{} {}", row.kind().noun().replace('_', " "), called(&row))
    });
    let marked = model.list().map_or(0, |list| list.visible_marks().count());
    Picker {
        title: if marked > 0 {
            format!("{marked} marked")
        } else {
            title
        },
        prompt: "type to narrow",
        typed: String::new(),
        items,
        at: 0,
        command_line: false,
    }
}

/// The owners of what is on the screen's list, with counts.
pub(super) fn owners(model: &Model) -> Picker {
    let kind = match &model.page {
        Page::List(kind) => *kind,
        _ => Kind::Job,
    };
    let mut counts: BTreeMap<Owner, [usize; 3]> = BTreeMap::new();
    for row in model.table.all() {
        let slot = match row.kind() {
            Kind::Cluster => 0,
            Kind::Job => 1,
            Kind::Service => 2,
            _ => continue,
        };
        if row.phase() == skytower_api_client::Phase::Gone {
            continue;
        }
        if let Some(owner) = row.owner() {
            counts.entry(owner.clone()).or_default()[slot] += 1;
        }
    }
    let here = match kind {
        Kind::Cluster => 0,
        Kind::Service => 2,
        _ => 1,
    };
    let mut owners: Vec<(Owner, [usize; 3])> = counts.into_iter().collect();
    owners.sort_by(|a, b| {
        b.1[here]
            .cmp(&a.1[here])
            .then_with(|| a.0.name.cmp(&b.0.name))
    });
    let mut items = vec![
        scope_item("everybody", Scope::All),
        scope_item("mine", Scope::Mine),
    ];
    items.extend(
        owners
            .into_iter()
            .map(|(owner, [clusters, jobs, services])| Item {
                label: if owner.name.is_empty() {
                    owner.id.to_string()
                } else {
                    owner.name.to_string()
                },
                note: format!(
                    "{}, {}, {}",
                    human::count(clusters, "cluster"),
                    human::count(jobs, "job"),
                    human::count(services, "service")
                ),
                key: String::new(),
                off: None,
                choice: Choice::Scope(Scope::Owner(owner)),
            }),
    );
    Picker {
        title: "Owner".to_owned(),
        prompt: "type a name",
        typed: String::new(),
        items,
        at: 0,
        command_line: false,
    }
}

fn scope_item(label: &str, scope: Scope) -> Item {
    Item {
        label: label.to_owned(),
        note: String::new(),
        key: String::new(),
        off: None,
        choice: Choice::Scope(scope),
    }
}

/// Screens, actions, scopes and owners by name.
pub(super) fn command_line(model: &Model) -> Picker {
    let ascii = model.options.theme.ascii;
    let mut items: Vec<Item> = model
        .screens()
        .iter()
        .enumerate()
        .map(|(i, kind)| Item {
            label: kind.plural().to_owned(),
            note: "screen; words after it filter".to_owned(),
            key: (i + 1).to_string(),
            off: None,
            choice: Choice::Screen(*kind, None),
        })
        .collect();
    for kind in model.action_kinds() {
        for action in actions_of(kind) {
            items.push(Item {
                label: action.verb.to_owned(),
                note: action.doc.to_owned(),
                key: keys::short(keys::of_action(action), ascii),
                off: why_not(model, action),
                choice: Choice::Act(action, None),
            });
        }
    }
    items.extend(crate::start::making().map(|action| Item {
        label: action.verb.to_owned(),
        note: action.doc.to_owned(),
        key: keys::short(keys::of_action(action), ascii),
        off: why_not(model, action),
        choice: Choice::Act(action, None),
    }));
    items.push(scope_item("mine", Scope::Mine));
    items.push(scope_item(
        "workspace",
        Scope::Workspaces(my_workspaces(model)),
    ));
    items.push(scope_item("all", Scope::All));
    for (label, command) in [
        ("owner", Command::PickOwner),
        ("logs", Command::Logs),
        ("yaml", Command::Yaml),
        ("demo", Command::Demo),
        ("sign in", Command::SignIn),
        ("refresh", Command::Refresh),
        ("help", Command::Help),
        ("quit", Command::Quit),
    ] {
        let binding = bindings(model.key_context()).find(|binding| binding.command == command);
        items.push(Item {
            label: label.to_owned(),
            note: binding.map_or("", |binding| binding.help).to_owned(),
            key: binding
                .and_then(|binding| binding.keys.first())
                .map_or_else(String::new, |key| keys::short(key, ascii)),
            off: command_why_not(model, command),
            choice: Choice::Command(command),
        });
    }
    Picker {
        title: "Command".to_owned(),
        prompt: "a screen (with a filter), an action, a scope",
        typed: String::new(),
        items,
        at: 0,
        command_line: true,
    }
}

fn autostop() -> &'static ActionSpec {
    static FALLBACK: &ActionSpec = &skytower_api_client::action::ACTIONS[0];
    skytower_api_client::action::action("cluster.autostop").unwrap_or(FALLBACK)
}
