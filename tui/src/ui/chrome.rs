//! The rows around the page: identity and link above, scope and filter, message and keys below.

use ratatui::layout::Position;
use skytower_api_client::action::actions_of;
use skytower_api_client::feed::Link;
use skytower_api_client::{Kind, human};

use super::pen::Pen;
use crate::app::{
    Model, Overlay, Page, Scope, Severity, Step, Tab, chrome_rows, headings, screen_title,
    sort_title, sources, why_not,
};
use crate::keys::{self, Command, bindings};
use crate::text::{cut, width};
use crate::theme::Tone;
use skytower_api_client::column::Cut;

/// Silence of the server from which on it is said.
const QUIET_MS: i64 = 12_000;

/// The age of what is shown from which on it is said, where a source is in trouble.
const STALE_MS: i64 = 15_000;

/// Identity, sources and link; the screens.
pub(super) fn top(model: &Model, pen: &mut Pen<'_>) {
    let mark = pen.theme.pick("◆", "#");
    let x = pen.put(1, 0, mark, Tone::Accent);
    let x = pen.put(x + 1, 0, "skytower", Tone::Title);
    let (link, tone) = link(model);
    let who = who(model);
    let right = pen.right(0, 1, &who, Tone::Dim);
    let link_x = right.saturating_sub(width(&link) as u16 + 3);
    let room = usize::from(link_x.saturating_sub(x + 4));
    let mut x = pen.put(
        x + 2,
        0,
        &cut(
            host(&model.options.endpoint),
            room.min(44),
            Cut::Middle,
            pen.theme.ascii,
        ),
        Tone::Dim,
    );
    if model.ready {
        for source in sources(model) {
            let text = format!("{} ", source.name);
            if x + 4 + width(&text) as u16 > link_x {
                break;
            }
            x = pen.put(x + 2, 0, &text, Tone::Plain);
            let glyph = pen.theme.glyph(source.phase).to_string();
            let style = pen.theme.phase(source.phase);
            x = pen.put_until(x, 0, link_x, &glyph, style);
        }
    }
    pen.put(link_x, 0, &link, tone);
    match &model.page {
        Page::List(here) => {
            for heading in headings(model) {
                let active = heading.kind == *here;
                let tone = if active { Tone::Active } else { Tone::Plain };
                pen.put(heading.x, 1, &heading.text, tone);
            }
        }
        _ => crumbs(model, pen),
    }
}

/// An address without what goes without saying.
fn host(endpoint: &str) -> &str {
    endpoint.strip_prefix("http://").unwrap_or(endpoint)
}

fn crumbs(model: &Model, pen: &mut Pen<'_>) {
    let sep = pen.theme.pick(" › ", " > ");
    let (key, last) = match &model.page {
        Page::Detail(key, _) => (key, None),
        Page::Log(key, channel) => (
            key,
            Some(channel.map_or("log".to_owned(), |it| format!("{it} log"))),
        ),
        Page::Yaml(key) => (key, Some("yaml".to_owned())),
        Page::List(_) => return,
    };
    let mut x = pen.put(1, 1, key.kind().map_or("", screen_title), Tone::Dim);
    x = pen.put(x, 1, sep, Tone::Dim);
    let name = model
        .row(key)
        .map_or_else(|| key.id().to_owned(), |row| crate::app::called(&row));
    x = pen.put(
        x,
        1,
        &cut(&name, 50, Cut::End, pen.theme.ascii),
        Tone::Title,
    );
    if let Some(last) = last {
        x = pen.put(x, 1, sep, Tone::Dim);
        pen.put(x, 1, &last, Tone::Plain);
    }
    pen.right(1, 1, "[ back  ] forward", Tone::Dim);
}

fn who(model: &Model) -> String {
    if model.you.name.is_empty() {
        return String::new();
    }
    let may = if model.options.read_only || model.you.rules.read_only {
        "read-only"
    } else {
        model.you.role.word()
    };
    format!("{} ({may})", model.you.name)
}

/// How the link is, in few words; steady while nothing is wrong.
fn link(model: &Model) -> (String, Tone) {
    let theme = model.options.theme;
    match &model.link {
        Link::Connecting { attempt } => {
            let again = if *attempt > 1 {
                format!(" (try {attempt})")
            } else {
                String::new()
            };
            (
                format!("{} connecting{again}", theme.pick("◐", "~")),
                Tone::Busy,
            )
        }
        Link::Lost {
            since, retry_at, ..
        } => {
            let gone = human::age(model.at.since(*since));
            let wait = retry_at.since(model.at).max(0) / 1000;
            (
                format!("{} offline {gone}, retry in {wait}s", theme.pick("◌", "o")),
                Tone::Bad,
            )
        }
        Link::Refused(_) => (format!("{} refused", theme.pick("✗", "x")), Tone::Bad),
        Link::Live { round_trip, .. } => {
            let quiet = model.heard.map_or(0, |at| model.at.since(at));
            if quiet >= QUIET_MS {
                return (
                    format!("{} silent for {}", theme.pick("!", "!"), human::age(quiet)),
                    Tone::Warn,
                );
            }
            let trip =
                round_trip.map_or_else(String::new, |trip| format!(" {}", steps(trip.as_millis())));
            let stale = stalest(model);
            match stale {
                Some(age) => (
                    format!("{} live{trip}, data {age} old", theme.pick("↻", "@")),
                    Tone::Warn,
                ),
                None => (format!("{} live{trip}", theme.pick("●", "*")), Tone::Good),
            }
        }
    }
}

/// A round trip in steps: the last millisecond is noise and would repaint the line for nothing.
fn steps(ms: u128) -> String {
    match ms {
        0..10 => "<10ms".to_owned(),
        10..100 => format!("{}ms", ms.div_ceil(10) * 10),
        100..1000 => format!("{}ms", ms.div_ceil(100) * 100),
        _ => format!("{}s", ms.div_ceil(1000)),
    }
}

/// The age of the oldest list on the screen, where a source is in trouble.
fn stalest(model: &Model) -> Option<String> {
    let kind = match &model.page {
        Page::List(kind) => *kind,
        _ => Kind::Cluster,
    };
    let now = model.context().now;
    sources(model)
        .into_iter()
        .filter(|source| source.phase != skytower_api_client::Phase::Running)
        .filter_map(|source| source.fetched_at.get(&kind))
        .map(|at| now.since(*at))
        .filter(|age| *age >= STALE_MS)
        .max()
        .map(human::age)
}

/// Scope, filter, counts and order; or what is wrong.
pub(super) fn third(model: &Model, pen: &mut Pen<'_>) -> Option<Position> {
    let (above, _) = chrome_rows(model.size.1);
    let y = 2;
    // A low terminal has no such row; what is typed is then in the message line's place.
    let y = if above < 3 {
        model.typing.as_ref()?;
        pen.height().saturating_sub(1)
    } else {
        y
    };
    let lost = match &model.link {
        Link::Lost { reason, .. } => Some(("Server lost", reason.to_string())),
        Link::Refused(problem) if problem.status == 401 => {
            Some(("Not signed in any more", problem.to_string()))
        }
        Link::Refused(problem) => Some(("The server refuses", problem.to_string())),
        _ => None,
    };
    if let Some((what, reason)) = lost.filter(|_| model.ready && model.typing.is_none()) {
        let as_of = model.heard.map_or_else(
            || "the last state".to_owned(),
            |at| format!("the state of {}", human::clock(at, model.options.utc)),
        );
        let room = usize::from(pen.width()).saturating_sub(2);
        let text = format!("{what}, this is {as_of}: {reason}");
        pen.line(y, &cut(&text, room, Cut::End, pen.theme.ascii), Tone::Bad);
        return None;
    }
    let typed = match (model.text_view(), model.list()) {
        (Some(view), _) => view.search().to_owned(),
        (None, Some(list)) => list.filter.clone(),
        (None, None) => String::new(),
    };
    let mut x = 1;
    if let (Page::List(_), Some(list)) = (&model.page, model.list()) {
        x = scope(model, pen, y) + 3;
        let right = summary(model, pen, y);
        let end = right.saturating_sub(1);
        if model.typing.is_none() && list.filter.is_empty() {
            if list.faults {
                pen.put_until(
                    x,
                    y,
                    end,
                    "! only what failed or limps",
                    pen.theme.style(Tone::Warn),
                );
            }
            return None;
        }
        let slash = if model.typing.is_some() {
            Tone::Accent
        } else {
            Tone::Dim
        };
        x = pen.put(x, y, "/", slash);
        let at = model.typing.as_ref().map(|typing| typing.at);
        let line = super::line::draw(pen, (x, y), end, &typed, at);
        if let Some(error) = &list.error {
            let from = line.column(&typed, error.at.start);
            let len = typed.get(error.at.clone()).map_or(1, width).max(1) as u16;
            let bad = pen
                .theme
                .style(Tone::Bad)
                .add_modifier(ratatui::style::Modifier::UNDERLINED);
            pen.tint(
                ratatui::layout::Rect::new(from, y, len.min(end.saturating_sub(from)), 1),
                bad,
            );
        }
        return at.map(|at| Position::new(line.column(&typed, at), y));
    }
    if model.text_view().is_some() || model.typing.is_some() {
        return super::text::head(model, pen, y);
    }
    let _ = x;
    None
}

fn scope(model: &Model, pen: &mut Pen<'_>, y: u16) -> u16 {
    let mut x = 1;
    if let Scope::Owner(owner) = &model.scope {
        x = pen.put(x, y, "owner ", Tone::Dim);
        let name = if owner.name.is_empty() {
            &owner.id
        } else {
            &owner.name
        };
        return pen.put(x, y, &format!("[{name}]"), Tone::Accent);
    }
    let workspace = match &model.scope {
        Scope::Workspaces(list) if list.len() == 1 => {
            format!(
                "workspace {}",
                list.iter().next().map_or("", |ws| ws.as_str())
            )
        }
        Scope::Workspaces(list) => format!("{} workspaces", list.len()),
        _ => "workspace".to_owned(),
    };
    for (label, on) in [
        ("mine".to_owned(), model.scope == Scope::Mine),
        (workspace, matches!(model.scope, Scope::Workspaces(_))),
        ("all".to_owned(), model.scope == Scope::All),
    ] {
        x = if on {
            pen.put(x, y, &format!("[{label}]"), Tone::Accent)
        } else {
            pen.put(x, y, &format!(" {label} "), Tone::Dim)
        };
    }
    x
}

fn summary(model: &Model, pen: &mut Pen<'_>, y: u16) -> u16 {
    let Some(list) = model.list() else {
        return pen.width();
    };
    let arrow = match (list.sort.1, pen.theme.ascii) {
        (false, false) => "↑",
        (true, false) => "↓",
        (false, true) => "^",
        (true, true) => "v",
    };
    let mut text = String::new();
    let marks = list.marks.len();
    if marks > 0 {
        let hidden = list.hidden_marks();
        text += &format!("{}{} marked", pen.theme.pick("◆", "#"), marks - hidden);
        if hidden > 0 {
            text += &format!(" +{hidden} hidden");
        }
        text += "  ";
    }
    let shown = list
        .lines
        .iter()
        .filter(|line| line.fold != crate::app::Fold::Child)
        .count();
    text += &format!("{shown} of {}", list.total);
    text += &format!("  sort {}{arrow}", sort_title(list.kind, list.sort.0));
    if list.dropped > 0 {
        text += &format!("  +{} cols", list.dropped);
    }
    pen.right(y, 1, &text, if marks > 0 { Tone::Plain } else { Tone::Dim })
}

/// The summary of the row, the message, and the keys.
pub(super) fn bottom(model: &Model, pen: &mut Pen<'_>) {
    let (above, below) = chrome_rows(model.size.1);
    let bottom = pen.height();
    let typing_here = above < 3 && model.typing.is_some();
    if below == 3 {
        if let (Page::List(_), Some(line)) = (
            &model.page,
            model.list().and_then(crate::app::List::current),
        ) {
            summary_line(model, pen, bottom - 3, &line.row);
        }
        message(model, pen, bottom - 2);
    } else if model.message.is_some() && !typing_here {
        message(model, pen, bottom - 1);
        return;
    }
    if !typing_here {
        hints(model, pen, bottom - 1);
    }
}

/// What the columns had no room for: why, and the rest.
fn summary_line(model: &Model, pen: &mut Pen<'_>, y: u16, row: &skytower_api_client::Entity) {
    let mut words = vec![crate::app::called(row)];
    if let Some(owner) = row.owner() {
        let owner = if owner.name.is_empty() {
            &owner.id
        } else {
            &owner.name
        };
        if owner != row.name() {
            words.push(owner.to_string());
        }
    }
    if let Some(why) = row.why() {
        words.push(why.to_string());
    } else {
        let context = model.context();
        for column in skytower_api_client::column::columns(row.kind()) {
            let hidden = !model
                .list()
                .is_some_and(|list| list.shown.iter().any(|(shown, _)| shown.id == column.id));
            if !hidden
                || matches!(
                    column.id,
                    "key"
                        | "phase"
                        | "why"
                        | "owner"
                        | "name"
                        | "source"
                        | "status"
                        | "job"
                        | "task"
                )
            {
                continue;
            }
            let value = (column.value)(row, &context);
            if !matches!(
                value,
                skytower_api_client::column::Value::None
                    | skytower_api_client::column::Value::Int(0)
                    | skytower_api_client::column::Value::Moment(_)
                    | skytower_api_client::column::Value::Flag(false)
            ) {
                let text = skytower_api_client::column::text(&value, &context);
                if !text.is_empty() && text != **row.name() {
                    words.push(format!("{} {text}", column.title.to_lowercase()));
                }
            }
        }
    }
    let sep = pen.theme.pick(" · ", " - ");
    let x = pen.put(1, y, pen.theme.pick("▸", ">"), Tone::Accent);
    let room = usize::from(pen.width().saturating_sub(x + 2));
    let text = cut(&words.join(sep), room, Cut::End, pen.theme.ascii);
    pen.put(x + 1, y, &text, Tone::Dim);
}

fn message(model: &Model, pen: &mut Pen<'_>, y: u16) {
    let room = usize::from(pen.width()).saturating_sub(4);
    if let Some(error) = model
        .list()
        .and_then(|list| list.error.as_ref())
        .filter(|_| model.text_view().is_none())
    {
        let hint = error
            .hint
            .as_ref()
            .map_or_else(String::new, |hint| format!(" ({hint})"));
        pen.line(
            y,
            &cut(
                &format!("filter: {error}{hint}"),
                room,
                Cut::End,
                pen.theme.ascii,
            ),
            Tone::Bad,
        );
        return;
    }
    if let Some(message) = &model.message {
        let (glyph, tone) = match message.severity {
            Severity::Info => ("", Tone::Plain),
            Severity::Good => (pen.theme.pick("✓ ", "+ "), Tone::Good),
            Severity::Bad => (pen.theme.pick("✗ ", "x "), Tone::Bad),
        };
        let x = pen.put(1, y, glyph, tone);
        let text = cut(&message.text, room, Cut::End, pen.theme.ascii);
        pen.put(x, y, &text, Tone::Plain);
        return;
    }
    if !model.is_live() && model.ready {
        let text = "looking, filtering and copying still work; actions are off: nothing is queued   ^r retries now";
        pen.line(y, &cut(text, room, Cut::End, pen.theme.ascii), Tone::Dim);
        return;
    }
    for source in sources(model) {
        if let Some(error) = &source.error {
            let hint = source
                .hint
                .as_ref()
                .map_or_else(String::new, |hint| format!(" ({hint})"));
            let text = format!("{} is {}: {error}{hint}", source.name, source.status);
            let x = pen.put(1, y, "! ", Tone::Warn);
            pen.put(
                x,
                y,
                &cut(&text, room, Cut::End, pen.theme.ascii),
                Tone::Plain,
            );
            return;
        }
    }
}

/// The keys that do something here, from the table.
fn hints(model: &Model, pen: &mut Pen<'_>, y: u16) {
    let ascii = pen.theme.ascii;
    let mut hints: Vec<(String, String)> = Vec::new();
    match (model.overlays.last(), &model.typing) {
        (Some(Overlay::Confirm(_)), _) => {
            for (key, what) in [
                ("Tab", "other button"),
                ("Enter", "press"),
                ("Y", "copy command"),
                ("Esc", "keep"),
            ] {
                hints.push((key.into(), what.into()));
            }
        }
        (Some(Overlay::Pick(_)), _) => {
            for (key, what) in [("Enter", "choose"), ("Up Down", "move"), ("Esc", "close")] {
                hints.push((key.into(), what.into()));
            }
        }
        (Some(Overlay::Start(starting)), _) => {
            let looks = matches!(starting.step, Step::Look(_));
            let wrong = !starting.mistakes().is_empty();
            let keys = if looks {
                [
                    ("Enter", if wrong { "read again" } else { "start" }),
                    ("Up Down", "as what"),
                    ("PgDn", "scroll"),
                    ("Esc", "back"),
                ]
            } else {
                [
                    ("Enter", "look"),
                    ("Tab", "complete"),
                    ("Up Down", "as what"),
                    ("Esc", "close"),
                ]
            };
            for (key, what) in keys {
                hints.push((key.into(), what.into()));
            }
        }
        (Some(Overlay::SignIn(_)), _) => {
            for (key, what) in [
                ("Enter", "sign in"),
                ("Tab", "another field"),
                ("Esc", "close"),
            ] {
                hints.push((key.into(), what.into()));
            }
        }
        (Some(_), _) => {
            hints.push(("Up Down".into(), "scroll".into()));
            hints.push(("Esc".into(), "close".into()));
        }
        (None, Some(_)) if model.text_view().is_some() => {
            for (key, what) in [("Enter", "search"), ("Esc", "as before")] {
                hints.push((key.into(), what.into()));
            }
        }
        (None, Some(_)) => {
            for (key, what) in [("Enter", "keep"), ("Tab", "complete"), ("Esc", "as before")] {
                hints.push((key.into(), what.into()));
            }
            hints.push((
                "such as".into(),
                "status:running  -word  gpus>=8  age<2h  @me".into(),
            ));
        }
        (None, None) => {
            let context = model.key_context();
            if !matches!(model.page, Page::List(_)) {
                hints.push(("Esc".into(), "back".into()));
            }
            if let Page::Detail(_, tab) = &model.page {
                hints.push(("Tab".into(), "next tab".into()));
                if *tab == Tab::Log {
                    hints.push((keys::short("enter", ascii), "full log".into()));
                }
            }
            let mut bound = bindings(context)
                .filter(|binding| binding.hint.is_some())
                .filter(|binding| binding.command != Command::Escape)
                .filter(|binding| crate::app::command_why_not(model, binding.command).is_none())
                .filter(|binding| {
                    !(matches!(
                        model.page,
                        Page::Detail(_, Tab::Log | Tab::Yaml | Tab::Facts | Tab::Results)
                    ) && binding.command == Command::Open)
                })
                .map(|binding| {
                    let key = binding.keys.first().copied().unwrap_or_default();
                    (
                        keys::short(key, ascii),
                        binding.hint.unwrap_or_default().to_owned(),
                    )
                });
            hints.extend(bound.by_ref().take(2));
            if matches!(context, keys::Context::List | keys::Context::Detail) {
                for kind in crate::app::action_kinds(model) {
                    for action in actions_of(kind).filter(|action| !action.key.is_empty()) {
                        let key = keys::short(action.key, ascii);
                        if why_not(model, action).is_none()
                            && !hints.iter().any(|(other, _)| *other == key)
                        {
                            let what = if kind == Kind::ClusterJob && action.verb == "cancel" {
                                "cancel job"
                            } else {
                                action.verb
                            };
                            hints.push((key, what.to_owned()));
                        }
                    }
                }
            }
            hints.extend(bound);
        }
    }
    // The help is always there, whatever has no room.
    let last = (keys::short("?", ascii), "help".to_owned());
    let closed = model.overlays.is_empty() && model.typing.is_none();
    hints.retain(|hint| *hint != last);
    let mut end = pen.width().saturating_sub(1);
    if closed {
        end = pen.width().saturating_sub(8);
        let x = pen.put(end + 1, y, &last.0, Tone::Accent);
        pen.put(x + 1, y, &last.1, Tone::Dim);
    }
    let mut x = 1;
    for (key, what) in hints {
        if x + (width(&key) + 1 + width(&what)) as u16 > end {
            break;
        }
        x = pen.put(x, y, &key, Tone::Accent);
        x = pen.put(x + 1, y, &what, Tone::Dim) + 2;
    }
}
