//! Keys and the mouse: what they mean here, and what that does.

use std::collections::{BTreeMap, BTreeSet};

use skytower_api_client::action::{ActionOptions, ActionSpec, actions_of};
use skytower_api_client::column::columns;
use skytower_api_client::entity::{Entity, Owner};
use skytower_api_client::{Kind, Text, human, policy};

use super::act::{command_why_not, copy_name, first_tab, other_log};
use super::confirm::{Answer, Confirm};
use super::geometry;
use super::list::{Fold, List, Scope};
use super::model::{Model, Overlay, Page, Severity, Tab};
use super::msg::{Effect, Mouse};
use super::pick::{Choice, Item, Picked, Picker};
use crate::keys::{self, Chord, Code, Command, Meaning, bindings};

type Effects = Vec<Effect>;

/// A key was pressed.
pub(crate) fn key(model: &mut Model, chord: Chord) -> Effects {
    let armed = std::mem::take(&mut model.quit_armed);
    if !model.overlays.is_empty() {
        return overlay_key(model, chord);
    }
    if model.typing.is_some() {
        return typing_key(model, chord);
    }
    let context = model.key_context();
    let mut kinds = model.action_kinds().into_iter();
    let meaning = keys::meaning(chord, context, kinds.next())
        .or_else(|| kinds.find_map(|kind| keys::meaning(chord, context, Some(kind))));
    match meaning {
        Some(Meaning::Command(command)) => {
            model.quit_armed = armed && command == Command::Close;
            run(model, command)
        }
        Some(Meaning::Action(action)) => start(model, action, None),
        None => {
            if let Some(c) = chord.types().filter(|c| !c.is_control()) {
                model.say(
                    Severity::Info,
                    format!("`{c}` does nothing here (? shows every key)"),
                );
            }
            Vec::new()
        }
    }
}

/// Text was pasted: into what is being typed, never into keys.
pub(crate) fn paste(model: &mut Model, text: &str) -> Effects {
    let mut effects = Vec::new();
    let takes = model.typing.is_some()
        || matches!(
            model.overlays.last(),
            Some(Overlay::Pick(_) | Overlay::Help { .. })
        );
    if takes {
        for c in Text::new(text).chars().take(400) {
            effects.extend(key(model, Chord::plain(Code::Char(c))));
        }
    }
    effects
}

/// The mouse did something.
pub(crate) fn mouse(model: &mut Model, mouse: Mouse) -> Effects {
    match mouse {
        Mouse::WheelUp | Mouse::WheelDown => {
            let down = mouse == Mouse::WheelDown;
            if let Some(overlay) = model.overlays.last_mut() {
                match overlay {
                    Overlay::Help { top, .. } | Overlay::Results { top, .. } => {
                        *top = if down {
                            *top + 3
                        } else {
                            top.saturating_sub(3)
                        };
                    }
                    Overlay::Pick(picker) => {
                        let code = if down { Code::Down } else { Code::Up };
                        picker.key(Chord::plain(code));
                    }
                    Overlay::Confirm(confirm) => {
                        confirm.top = if down {
                            confirm.top + 1
                        } else {
                            confirm.top.saturating_sub(1)
                        };
                    }
                }
                return Vec::new();
            }
            scroll(model, if down { 3 } else { -3 });
            Vec::new()
        }
        Mouse::Click(x, y) => {
            if !model.overlays.is_empty() {
                return Vec::new();
            }
            if y == 1 {
                let heading = geometry::headings(model).into_iter().find(|it| {
                    x >= it.x && usize::from(x) < usize::from(it.x) + crate::text::width(&it.text)
                });
                return heading.map_or_else(Vec::new, |it| visit(model, Page::List(it.kind)));
            }
            let area = geometry::list_area(model);
            if x >= area.right() || y < area.y || y >= area.bottom() {
                return Vec::new();
            }
            let Some(list) = model.list_mut() else {
                return Vec::new();
            };
            if y == area.y {
                let mut at = area.x + geometry::FRONT;
                for (column, width) in list.shown.clone() {
                    if x >= at && x < at + width {
                        let same = list.sort.0 == column.id;
                        list.sort = (column.id, if same { !list.sort.1 } else { false });
                        list.dirty = true;
                        break;
                    }
                    at += width + 2;
                }
                return Vec::new();
            }
            let at = list.top + usize::from(y - area.y - 1);
            if at >= list.lines.len() {
                return Vec::new();
            }
            let again = list.at == at;
            list.go(at);
            if again {
                run(model, Command::Open)
            } else {
                Vec::new()
            }
        }
    }
}

fn overlay_key(model: &mut Model, chord: Chord) -> Effects {
    let Some(overlay) = model.overlays.last_mut() else {
        return Vec::new();
    };
    match overlay {
        Overlay::Help { typed, top } => {
            match chord.code {
                Code::Esc | Code::Enter => {
                    model.overlays.pop();
                }
                Code::Char('c') if chord.ctrl => {
                    model.overlays.pop();
                }
                Code::Up => *top = top.saturating_sub(1),
                Code::Down => *top += 1,
                Code::PageUp => *top = top.saturating_sub(10),
                Code::PageDown => *top += 10,
                Code::Backspace => {
                    typed.pop();
                    *top = 0;
                }
                Code::Char('?' | 'q') if typed.is_empty() => {
                    model.overlays.pop();
                }
                _ => {
                    if let Some(c) = chord.types() {
                        typed.push(c);
                        *top = 0;
                    }
                }
            }
            Vec::new()
        }
        Overlay::Results { top, .. } => {
            match chord.code {
                Code::Up | Code::Char('k') => *top = top.saturating_sub(1),
                Code::Down | Code::Char('j') => *top += 1,
                _ => {
                    model.overlays.pop();
                }
            }
            Vec::new()
        }
        Overlay::Confirm(confirm) => match confirm.key(chord) {
            Answer::Open => Vec::new(),
            Answer::Keep => {
                model.overlays.pop();
                model.say(Severity::Info, "nothing was done");
                Vec::new()
            }
            Answer::Copy => vec![Effect::Copy(confirm.plan.sky(false).join("\n"))],
            Answer::Go(only_mine) => {
                let Some(Overlay::Confirm(confirm)) = model.overlays.pop() else {
                    return Vec::new();
                };
                submit(model, &confirm.plan, only_mine)
            }
        },
        Overlay::Pick(picker) => {
            if picker.title == AUTOSTOP {
                let picked = picker.key(chord);
                if picked == Picked::Open {
                    let typed = picker.typed.clone();
                    picker.items = autostop_items(&typed);
                }
                return picked_one(model, picked);
            }
            let picked = picker.key(chord);
            picked_one(model, picked)
        }
    }
}

fn picked_one(model: &mut Model, picked: Picked) -> Effects {
    match picked {
        Picked::Open => Vec::new(),
        Picked::Closed => {
            model.overlays.pop();
            Vec::new()
        }
        Picked::Off(reason) => {
            model.say(Severity::Bad, reason);
            Vec::new()
        }
        Picked::Chosen(choice) => {
            model.overlays.pop();
            match choice {
                Choice::Act(action, options) => start(model, action, options),
                Choice::Command(command) => run(model, command),
                Choice::Scope(scope) => {
                    set_scope(model, scope);
                    Vec::new()
                }
                Choice::Screen(kind, filter) => {
                    let effects = visit(model, Page::List(kind));
                    if let (Some(filter), Some(list)) = (filter, model.list_mut()) {
                        list.set_filter(filter);
                    }
                    effects
                }
            }
        }
    }
}

fn typing_key(model: &mut Model, chord: Chord) -> Effects {
    let mut text = match (model.text_view(), model.list()) {
        (Some(view), _) => view.search.clone(),
        (None, Some(list)) => list.filter.clone(),
        (None, None) => String::new(),
    };
    match chord.code {
        Code::Enter => {
            model.typing = None;
            let height = text_height(model);
            if let Some(view) = model.text_view_mut().filter(|view| !view.search.is_empty()) {
                let found = view.seek(true, height, super::log::LogView::matches);
                if !found {
                    let search = view.search.clone();
                    model.say(Severity::Info, format!("nothing matches `{search}`"));
                }
            }
            return Vec::new();
        }
        Code::Esc => text = model.typing.take().unwrap_or_default(),
        Code::Char('c') if chord.ctrl => text = model.typing.take().unwrap_or_default(),
        Code::Backspace => {
            if text.pop().is_none() {
                model.typing = None;
            }
        }
        Code::Char('u') if chord.ctrl => text.clear(),
        Code::Char('w') if chord.ctrl => {
            let kept = text.trim_end().rfind(' ').map_or(0, |at| at + 1);
            text.truncate(kept);
        }
        Code::Tab => {
            if let Some(list) = model.list() {
                let rows: Vec<&Entity> =
                    list.lines.iter().take(500).map(|line| &*line.row).collect();
                let context = model.context();
                if let Some(done) = complete_one(&text, list.kind, &rows, &context) {
                    text = done;
                }
            }
        }
        Code::Up | Code::Down => {
            let by = if chord.code == Code::Up { -1 } else { 1 };
            scroll(model, by);
            return Vec::new();
        }
        _ => match chord.types() {
            Some(c) => text.push(c),
            None => return Vec::new(),
        },
    }
    if let Some(view) = model.text_view_mut() {
        view.search = text;
        view.found = None;
    } else if let Some(list) = model.list_mut() {
        list.set_filter(text);
    }
    Vec::new()
}

/// The field whose name begins like the last word.
fn complete_one(
    text: &str,
    kind: Kind,
    _: &[&Entity],
    _: &skytower_api_client::column::Context,
) -> Option<String> {
    let start = text.rfind([' ', '(']).map_or(0, |at| at + 1);
    let (before, word) = text.split_at(start);
    let word = word.trim_start_matches(['-', '!']);
    let sign = &text[before.len()..text.len() - word.len()];
    if word.is_empty() {
        return None;
    }
    let field = columns(kind)
        .iter()
        .find(|column| column.id.starts_with(word))?;
    Some(format!("{before}{sign}{}:", field.id))
}

/// Carries out a command of the key table.
pub(crate) fn run(model: &mut Model, command: Command) -> Effects {
    use Command as C;
    if let Some(reason) = command_why_not(model, command) {
        model.say(Severity::Info, reason);
        return Vec::new();
    }
    let height = text_height(model);
    match command {
        C::Quit => return vec![Effect::Quit],
        C::Suspend => return vec![Effect::Suspend],
        C::Escape => return escape(model),
        C::Close => {
            if matches!(model.page, Page::List(_)) {
                if model.quit_armed {
                    return vec![Effect::Quit];
                }
                model.quit_armed = true;
                model.say(Severity::Info, "q again quits");
                return Vec::new();
            }
            return up(model);
        }
        C::Help => model.overlays.push(Overlay::Help {
            typed: String::new(),
            top: 0,
        }),
        C::CommandLine => {
            let picker = command_line(model);
            model.overlays.push(Overlay::Pick(picker));
        }
        C::Menu => {
            let picker = menu(model);
            model.overlays.push(Overlay::Pick(picker));
        }
        C::Filter => {
            let before = match (model.text_view(), model.list()) {
                (Some(view), _) => view.search.clone(),
                (None, Some(list)) => list.filter.clone(),
                (None, None) => return Vec::new(),
            };
            model.typing = Some(before);
        }
        C::HistoryBack => {
            if let Some(page) = model.back.pop() {
                let here = std::mem::replace(&mut model.page, page);
                model.forward.push(here);
                return arrive(model);
            }
        }
        C::HistoryForward => {
            if let Some(page) = model.forward.pop() {
                let here = std::mem::replace(&mut model.page, page);
                model.back.push(here);
                return arrive(model);
            }
        }
        C::HistoryLast => {
            if let Some(page) = model.back.pop() {
                return visit(model, page);
            }
        }
        C::Refresh => {
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
            if let Some(key) = key {
                model.say(
                    Severity::Info,
                    format!("asked {} to look again", key.source()),
                );
                return vec![Effect::Refresh(key)];
            }
        }
        C::Screen(number) => {
            if let Some(kind) = super::SCREENS.get(usize::from(number).wrapping_sub(1)) {
                return visit(model, Page::List(*kind));
            }
        }
        C::NextTab | C::PreviousTab => return other_tab(model, command == C::NextTab),
        C::Up => scroll(model, -1),
        C::Down => scroll(model, 1),
        C::PageUp => scroll(model, -(page_rows(model) as isize)),
        C::PageDown => scroll(model, page_rows(model) as isize),
        C::HalfUp => scroll(model, -(height as isize / 2)),
        C::HalfDown => scroll(model, height as isize / 2),
        C::Top => match model.text_view_mut() {
            Some(view) => view.to_top(),
            None => {
                if let Some(list) = model.list_mut() {
                    list.go(0);
                }
            }
        },
        C::Bottom => match model.text_view_mut() {
            Some(view) => view.follow = true,
            None => {
                if let Some(list) = model.list_mut() {
                    list.go(usize::MAX);
                }
            }
        },
        C::Left | C::Right => {
            if let Some(view) = model.text_view_mut() {
                view.left = if command == C::Left {
                    view.left.saturating_sub(8)
                } else {
                    view.left + 8
                };
            }
        }
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
        C::Fold => fold(model),
        C::FoldAll => {
            if let Some(list) = model.list_mut() {
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
        }
        C::Preview => model.preview = !model.preview,
        C::Mark => {
            if let Some(list) = model.list_mut()
                && let Some(key) = list.current().map(|line| line.key().clone())
            {
                if !list.marks.remove(&key) {
                    list.marks.insert(key);
                }
                list.step(1);
            }
        }
        C::MarkRange => {
            if let Some(list) = model.list_mut() {
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
        }
        C::MarkAll => {
            if let Some(list) = model.list_mut() {
                let keys: BTreeSet<_> = list
                    .lines
                    .iter()
                    .filter(|line| line.fold != Fold::Child)
                    .map(|line| line.key().clone())
                    .collect();
                list.marks.extend(keys);
            }
        }
        C::Unmark => {
            if let Some(list) = model.list_mut() {
                list.marks.clear();
            }
        }
        C::Scope => {
            let next = match &model.scope {
                Scope::Mine => Scope::Workspaces(my_workspaces(model)),
                Scope::Workspaces(_) => Scope::All,
                Scope::All | Scope::Owner(_) => Scope::Mine,
            };
            set_scope(model, next);
        }
        C::ScopeAll => set_scope(model, Scope::All),
        C::ThisOwner => {
            let owner = model.under_cursor().and_then(|row| row.owner().cloned());
            let next = match (&model.scope, owner) {
                (Scope::Owner(_), _) | (_, None) => Scope::All,
                (_, Some(owner)) => Scope::Owner(owner),
            };
            set_scope(model, next);
        }
        C::PickOwner => {
            let picker = owners(model);
            model.overlays.push(Overlay::Pick(picker));
        }
        C::Faults => {
            if let Some(list) = model.list_mut() {
                list.faults = !list.faults;
                list.dirty = true;
            }
        }
        C::SortLeft | C::SortRight => {
            if let Some(list) = model.list_mut() {
                let shown: Vec<&'static str> =
                    list.shown.iter().map(|(column, _)| column.id).collect();
                if let Some(last) = shown.len().checked_sub(1) {
                    let at = shown.iter().position(|id| *id == list.sort.0);
                    let next = match (at, command) {
                        (None, _) => 0,
                        (Some(at), C::SortLeft) => at.checked_sub(1).unwrap_or(last),
                        (Some(at), _) => {
                            if at == last {
                                0
                            } else {
                                at + 1
                            }
                        }
                    };
                    list.sort = (shown[next], false);
                    list.dirty = true;
                }
            }
        }
        C::SortReverse => {
            if let Some(list) = model.list_mut() {
                list.sort.1 = !list.sort.1;
                list.dirty = true;
            }
        }
        C::CopyName => {
            if let Some(row) = model.under_cursor() {
                return vec![Effect::Copy(copy_name(&row))];
            }
        }
        C::CopyKey => {
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
        }
        C::NextMatch | C::PreviousMatch | C::NextError | C::PreviousError => {
            let forward = matches!(command, C::NextMatch | C::NextError);
            let errors = matches!(command, C::NextError | C::PreviousError);
            if let Some(view) = model.text_view_mut() {
                let found = if errors {
                    view.seek(forward, height, super::log::LogView::is_error)
                } else {
                    view.seek(forward, height, super::log::LogView::matches)
                };
                if !found {
                    let what = if errors { "error" } else { "match" };
                    let way = if forward {
                        "further down"
                    } else {
                        "further up"
                    };
                    model.say(Severity::Info, format!("no {what} {way}"));
                }
            }
        }
        C::OnlyMatches => {
            if let Some(view) = model.text_view_mut() {
                view.only = !view.only;
            }
        }
        C::Follow => {
            if let Some(view) = model.text_view_mut() {
                if view.follow {
                    view.top = view.len().saturating_sub(height);
                }
                view.follow = !view.follow;
            }
        }
        C::Wrap => {
            if let Some(view) = model.text_view_mut() {
                view.wrap = !view.wrap;
                view.left = 0;
            }
        }
        C::Save => {
            if let Some(view) = model.text_view() {
                let kind = if matches!(model.page, Page::Yaml(_)) {
                    "yaml"
                } else {
                    "log"
                };
                let name: String = view
                    .key
                    .as_str()
                    .chars()
                    .map(|c| {
                        if c.is_ascii_alphanumeric() || c == '-' || c == '.' {
                            c
                        } else {
                            '-'
                        }
                    })
                    .collect();
                return vec![Effect::Save {
                    name: format!("{name}.{kind}"),
                    text: view.text(),
                }];
            }
        }
    }
    Vec::new()
}

fn text_height(model: &Model) -> usize {
    usize::from(geometry::body(model).height)
        .saturating_sub(1)
        .max(1)
}

fn page_rows(model: &Model) -> usize {
    geometry::list_height(model).saturating_sub(1).max(1)
}

fn scroll(model: &mut Model, by: isize) {
    let height = text_height(model);
    if let Some(view) = model.text_view_mut() {
        view.scroll(by, height);
    } else if let Some(list) = model.list_mut() {
        list.step(by);
    }
}

fn escape(model: &mut Model) -> Effects {
    if let Some(view) = model.text_view_mut()
        && (view.only || !view.search.is_empty())
    {
        view.only = false;
        view.search.clear();
        view.found = None;
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
fn up(model: &mut Model) -> Effects {
    let page = match model.back.pop() {
        Some(page) => page,
        None => Page::List(match &model.page {
            Page::Detail(key, _) | Page::Log(key, _) | Page::Yaml(key) => key
                .kind()
                .filter(|kind| super::SCREENS.contains(kind))
                .unwrap_or(Kind::Cluster),
            Page::List(kind) => *kind,
        }),
    };
    let here = std::mem::replace(&mut model.page, page);
    model.forward.push(here);
    arrive(model)
}

/// Goes to a page, which becomes the newest of the history.
pub(crate) fn visit(model: &mut Model, page: Page) -> Effects {
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
pub(crate) fn arrive(model: &mut Model) -> Effects {
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
            model.log = Some(super::log::LogView::new(id, key, channel));
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

fn other_tab(model: &mut Model, next: bool) -> Effects {
    let step = |at: usize, len: usize| {
        if next {
            (at + 1) % len
        } else {
            (at + len - 1) % len
        }
    };
    match model.page.clone() {
        Page::List(kind) => {
            let at = super::SCREENS
                .iter()
                .position(|it| *it == kind)
                .unwrap_or(0);
            visit(
                model,
                Page::List(super::SCREENS[step(at, super::SCREENS.len())]),
            )
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

fn open(model: &mut Model) -> Effects {
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

fn open_log(model: &mut Model, channel: Option<&'static str>) -> Effects {
    match model.under_cursor() {
        Some(row) => visit(model, Page::Log(row.key().clone(), channel)),
        None => Vec::new(),
    }
}

fn fold(model: &mut Model) {
    let Some(list) = model.list_mut() else { return };
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

pub(crate) fn set_scope(model: &mut Model, scope: Scope) {
    if model.scope != scope {
        model.scope = scope;
        model.all_dirty();
    }
}

/// The workspaces in which something is one's own; those one may see where nothing is.
fn my_workspaces(model: &Model) -> BTreeSet<Text> {
    let own: BTreeSet<Text> = model
        .table
        .all()
        .filter(|row| policy::is_mine(&model.you, row))
        .filter_map(|row| row.workspace().cloned())
        .collect();
    match (&model.you.workspaces, own.is_empty()) {
        (Some(list), _) => list.iter().cloned().collect(),
        (None, true) => BTreeSet::from(["default".into()]),
        (None, false) => own,
    }
}

/// Begins an action: does it, asks first, or says why not.
fn start(
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
    if action.id == "cluster.autostop" && options.is_none() {
        if let Some(reason) = super::act::why_not(model, action) {
            model.say(Severity::Bad, reason);
            return Vec::new();
        }
        model.overlays.push(Overlay::Pick(Picker {
            title: AUTOSTOP.to_owned(),
            prompt: "or type a time, such as 45m or 3h",
            typed: String::new(),
            items: autostop_items(""),
            at: 0,
            command_line: false,
        }));
        return Vec::new();
    }
    let plan = model.plan(action, options.unwrap_or_default());
    if plan.count() == 0 && plan.refused.len() <= 1 {
        let reason = super::act::why_not(model, action).unwrap_or_default();
        model.say(
            Severity::Bad,
            format!("{}: not possible: {reason}", action.title),
        );
        return Vec::new();
    }
    if plan.is_harmless() {
        return submit(model, &plan, false);
    }
    model.overlays.push(Overlay::Confirm(Confirm::new(plan)));
    Vec::new()
}

fn submit(model: &mut Model, plan: &super::act::Plan, only_mine: bool) -> Effects {
    if !model.is_live() {
        model.say(
            Severity::Bad,
            "the connection was lost meanwhile: nothing was done",
        );
        return Vec::new();
    }
    let request = plan.request(model, only_mine);
    model.serial += 1;
    let idempotency_key = format!("{}-{}", model.options.run, model.serial);
    let what = match plan.targets(only_mine).as_slice() {
        [row] => super::act::called(row),
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
    vec![Effect::Create {
        request,
        idempotency_key,
    }]
}

/// The noun for counting what an action is for.
pub(crate) fn action_noun(action: &ActionSpec) -> &'static str {
    match action.kind {
        Kind::ClusterJob => "cluster job",
        kind => kind.noun(),
    }
}

const AUTOSTOP: &str = "Autostop";

fn autostop_items(typed: &str) -> Vec<Item> {
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
    for down in [false, true] {
        for minutes in &spans {
            let verb = if down { "tear down" } else { "stop" };
            items.push(item(
                format!("{verb} after {}{tag}", written(*minutes)),
                "of idling",
                ActionOptions {
                    idle_minutes: Some(*minutes),
                    down,
                },
            ));
        }
    }
    items.push(item(
        "off".to_owned(),
        "it runs until somebody ends it",
        ActionOptions::default(),
    ));
    items
}

fn autostop() -> &'static ActionSpec {
    static FALLBACK: &ActionSpec = &skytower_api_client::action::ACTIONS[0];
    skytower_api_client::action::action("cluster.autostop").unwrap_or(FALLBACK)
}

/// Every action for what is under the cursor, the impossible ones with their reason.
fn menu(model: &Model) -> Picker {
    let ascii = model.options.theme.ascii;
    let mut items = Vec::new();
    for kind in model.action_kinds() {
        for action in actions_of(kind) {
            items.push(Item {
                label: action.title.to_owned(),
                note: action.doc.to_owned(),
                key: keys::short(action.key, ascii),
                off: super::act::why_not(model, action),
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
        format!(
            "{} {}",
            row.kind().noun().replace('_', " "),
            super::act::called(&row)
        )
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
fn owners(model: &Model) -> Picker {
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
fn command_line(model: &Model) -> Picker {
    let ascii = model.options.theme.ascii;
    let mut items: Vec<Item> = super::SCREENS
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
                key: keys::short(action.key, ascii),
                off: super::act::why_not(model, action),
                choice: Choice::Act(action, None),
            });
        }
    }
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

/// The list of a page is there.
pub(crate) fn ensure_list(model: &mut Model) -> Option<&mut List> {
    model.list_mut()
}
