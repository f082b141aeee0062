//! Why a list is empty: different texts, each with what to do.

use ratatui::layout::Rect;
use skytower_api_client::action::LOCAL;
use skytower_api_client::feed::Link;
use skytower_api_client::wire::Role;
use skytower_api_client::{Kind, human};

use super::pen::Pen;
use crate::app::{List, Model, Scope, command_why_not, screen_title, sources};
use crate::keys::Command;
use crate::text::{width, wrap};
use crate::theme::Tone;

pub(super) fn draw(model: &Model, list: &List, area: Rect, pen: &mut Pen<'_>) {
    let lines = words(model, list);
    let mut y = area.y + area.height.saturating_sub(lines.len() as u16) / 3;
    let room = usize::from(area.width).saturating_sub(4).min(76);
    let block: usize = lines
        .iter()
        .map(|(text, _)| width(text).min(room))
        .max()
        .unwrap_or(0);
    let x = area.x + area.width.saturating_sub(block as u16) / 2;
    for (text, tone) in lines {
        let indent = text.len() - text.trim_start().len();
        let pieces = if width(&text) <= room {
            vec![text]
        } else {
            wrap(&text, room.saturating_sub(indent))
        };
        for piece in pieces {
            if y >= area.bottom() {
                return;
            }
            let style = pen.theme.style(tone);
            pen.put_until(x, y, area.right(), &piece, style);
            y += 1;
        }
    }
}

fn words(model: &Model, list: &List) -> Vec<(String, Tone)> {
    let theme = model.options.theme;
    let plural = screen_title(list.kind).to_lowercase();
    let line = |text: String, tone: Tone| (text, tone);
    let gap = || (String::new(), Tone::Plain);
    match &model.link {
        Link::Refused(problem) => {
            let mut lines = vec![
                line(
                    format!("{} The server refuses", theme.pick("✗", "x")),
                    Tone::Bad,
                ),
                gap(),
                line(problem.to_string(), Tone::Plain),
            ];
            if let Some(hint) = &problem.hint {
                lines.push(line(hint.to_string(), Tone::Plain));
            }
            lines.push(gap());
            if command_why_not(model, Command::SignIn).is_none() {
                lines.push(line(
                    "^l                      signs in here".to_owned(),
                    Tone::Dim,
                ));
            }
            lines.push(line(
                "skytower api login      signs in".to_owned(),
                Tone::Dim,
            ));
            lines.push(line(
                "skytower api info       says where the address comes from".to_owned(),
                Tone::Dim,
            ));
            lines.push(line("^r tries again, ^c quits".to_owned(), Tone::Dim));
            return lines;
        }
        Link::Lost { reason, .. } if !model.ready => {
            return vec![
                line(
                    format!(
                        "{} No connection to {}",
                        theme.pick("◌", "o"),
                        model.options.endpoint
                    ),
                    Tone::Bad,
                ),
                gap(),
                line(format!("{reason}."), Tone::Plain),
                line(
                    "It is tried again by itself; ^r tries now, ^c quits.".to_owned(),
                    Tone::Plain,
                ),
                gap(),
                line(
                    "skytower api info       says where the address comes from".to_owned(),
                    Tone::Dim,
                ),
                line(
                    "skytower api status     says how the local server is".to_owned(),
                    Tone::Dim,
                ),
            ];
        }
        _ if !model.ready => {
            return vec![line(
                format!(
                    "{} Loading from {}",
                    theme.pick("◐", "~"),
                    model.options.endpoint
                ),
                Tone::Busy,
            )];
        }
        _ => {}
    }
    let all = sources(model);
    if all.is_empty() {
        return first_run(theme.pick("◆", "#"));
    }
    let starts = command_why_not(model, Command::New).is_none();
    let is_of_work = matches!(list.kind, Kind::Cluster | Kind::Job | Kind::Service);
    if is_of_work && list.parent.is_none() && command_why_not(model, Command::Demo).is_none() {
        let alone = all.iter().all(|source| source.name == LOCAL);
        return nothing_yet(theme.pick("◆", "#"), alone);
    }
    if list.total > 0 {
        let mut lines = vec![
            line(
                format!("None of {} {plural} to show here", list.total),
                Tone::Title,
            ),
            gap(),
        ];
        match &model.scope {
            _ if list.parent.is_some() => {}
            Scope::Mine => lines.push(line(
                "scope   mine: 0 shows everybody's".to_owned(),
                Tone::Plain,
            )),
            Scope::Workspaces(list) => {
                let names: Vec<&str> = list.iter().map(skytower_api_client::Text::as_str).collect();
                lines.push(line(
                    format!(
                        "scope   workspace {}: 0 shows everybody's",
                        names.join(", ")
                    ),
                    Tone::Plain,
                ));
            }
            Scope::Owner(owner) => lines.push(line(
                format!("scope   owner {}: 0 shows everybody's", owner.name),
                Tone::Plain,
            )),
            Scope::All => {}
        }
        if !list.filter.is_empty() {
            let hidden = human::count(list.in_scope, "row");
            lines.push(line(
                format!("filter  /{} hides {hidden}: Esc takes it away", list.filter),
                Tone::Plain,
            ));
        }
        if list.faults {
            lines.push(line(
                "filter  only what failed or limps: ! shows everything".to_owned(),
                Tone::Plain,
            ));
        }
        return lines;
    }
    let mut lines = Vec::new();
    let mut reading = false;
    for source in all {
        if let Some(error) = source.errors.get(&list.kind).or(source.error.as_ref()) {
            lines.push(line(
                format!("{} {}: {error}", theme.pick("!", "!"), source.name),
                Tone::Warn,
            ));
            if let Some(hint) = &source.hint {
                lines.push(line(hint.to_string(), Tone::Dim));
            }
        } else if let Some(note) = source.notes.get(&list.kind) {
            lines.push(line(format!("{}: {note}", source.name), Tone::Plain));
        } else if !source.fetched_at.contains_key(&list.kind)
            && list.parent.is_none()
            && list.kind != Kind::Request
        {
            reading = true;
        }
    }
    if !lines.is_empty() {
        lines.insert(0, gap());
        lines.insert(0, line(format!("No {plural} known"), Tone::Title));
        return lines;
    }
    if reading {
        return vec![line(
            format!(
                "{} Reading {plural} for the first time",
                theme.pick("◐", "~")
            ),
            Tone::Busy,
        )];
    }
    if list.parent.is_some() {
        let text = match list.kind {
            Kind::ClusterJob => "No jobs in this cluster's queue, as far as was seen yet",
            Kind::Event => "No events so far; they are asked for while this page is open",
            Kind::Replica => "No replicas",
            Kind::Worker => "No workers",
            _ => "Nothing here",
        };
        return vec![line(text.to_owned(), Tone::Dim)];
    }
    if list.kind == Kind::Audit {
        return audit(model.you.role == Role::Admin);
    }
    let how = match list.kind {
        Kind::Cluster => "sky launch -c dev task.yaml      starts one",
        Kind::Job => "sky jobs launch task.yaml        submits one",
        Kind::Service => "sky serve up -n chat task.yaml   starts one",
        Kind::Pool => "sky jobs pool apply -p pool pool.yaml   makes one",
        _ => "",
    };
    let mut lines = vec![
        line(format!("There are no {plural}"), Tone::Title),
        gap(),
        line(how.to_owned(), Tone::Dim),
    ];
    if starts && is_of_work {
        let key = "n                                starts one here, from its file";
        lines.push(line(key.to_owned(), Tone::Dim));
    }
    lines
}

/// Rights may change while somebody looks.
fn audit(administrator: bool) -> Vec<(String, Tone)> {
    let (title, more) = if administrator {
        (
            "Nothing is in the audit yet",
            "who asks for what, and what comes of it, will stand here",
        )
    } else {
        (
            "The audit is for administrators",
            "8 shows the requests that you may see",
        )
    };
    vec![
        (title.to_owned(), Tone::Title),
        (String::new(), Tone::Plain),
        (more.to_owned(), Tone::Dim),
    ]
}

/// The local engine is there, and nobody has started anything.
fn nothing_yet(mark: &str, alone: bool) -> Vec<(String, Tone)> {
    let plain = |text: &str| (text.to_owned(), Tone::Plain);
    let mut lines = vec![
        (format!("{mark} Nothing runs here yet"), Tone::Title),
        plain(""),
        plain("d    starts a small sample team: real processes on this machine,"),
        plain("     which `skytower demo --stop` ends without a trace"),
        plain("n    starts a task of your own from its file"),
        plain(""),
    ];
    if alone {
        lines.extend(connecting());
    }
    lines.push(leaving());
    lines
}

/// How to connect to a SkyPilot.
fn connecting() -> Vec<(String, Tone)> {
    [
        "Connect to your SkyPilot API server:",
        "  skytower api login -e http://HOST:46580",
        "or for this shell only:",
        "  export SKYPILOT_API_SERVER_ENDPOINT=http://HOST:46580",
        "",
    ]
    .map(|text| (text.to_owned(), Tone::Plain))
    .to_vec()
}

fn leaving() -> (String, Tone) {
    let text = "q leaves; skytower api info says what is configured now";
    (text.to_owned(), Tone::Dim)
}

fn first_run(mark: &str) -> Vec<(String, Tone)> {
    let mut lines = vec![
        (format!("{mark} skytower watches nothing yet"), Tone::Title),
        (String::new(), Tone::Plain),
    ];
    lines.extend(connecting());
    lines.push(leaving());
    lines
}
