//! The one place that changes the model.

use skytower_api_client::column::columns;
use skytower_api_client::entity::{Entity, Outcome, Request};
use skytower_api_client::feed::{FeedEvent, Link};
use skytower_api_client::rest::{ClientError, Detail};
use skytower_api_client::table::Touched;
use skytower_api_client::wire::ServerMessage;
use skytower_api_client::{EpochMs, Key, Kind, Phase, Text, human, policy};

use super::act::called;
use super::geometry;
use super::input;
use super::log::{LogState, LogView};
use super::model::{Model, Overlay, Page, Severity};
use super::msg::{Effect, LogEvent, Msg};
use super::sign_in::Stage;

/// How long a message stays.
const MESSAGE_MS: i64 = 12_000;
/// How long a picture of what turns while one waits stays.
pub(crate) const SPIN_MS: i64 = 120;

/// Something happened at `at`: the model becomes what it is then.
pub fn update(model: &mut Model, at: EpochMs, msg: Msg) -> Vec<Effect> {
    model.at = at;
    match msg {
        Msg::Key(chord) => {
            // Keys act on what is on the screen.
            settle(model);
            input::key(model, chord)
        }
        Msg::Paste(text) => input::paste(model, text.expose()),
        Msg::Mouse(mouse) => {
            settle(model);
            input::mouse(model, mouse)
        }
        Msg::Resize(columns, rows) => {
            model.size = (columns, rows);
            for list in model.lists.values_mut() {
                list.forget_widths();
            }
            Vec::new()
        }
        Msg::Feed(event) => feed(model, *event),
        Msg::Created(asked, answer) => {
            created(model, &asked, *answer);
            Vec::new()
        }
        Msg::Folder(folder, names) => {
            input::listed(model, &folder, names);
            Vec::new()
        }
        Msg::Task(path, read) => {
            input::came(model, &path, *read);
            Vec::new()
        }
        Msg::Detail(key, answer) => {
            detail(model, &key, *answer);
            Vec::new()
        }
        Msg::Log(id, event) => {
            log(model, id, event);
            Vec::new()
        }
        Msg::SignedIn(number, answer) => {
            input::answered(model, number, *answer);
            Vec::new()
        }
        Msg::Said(Ok(text)) => {
            model.say(Severity::Good, text.as_str());
            Vec::new()
        }
        Msg::Said(Err(text)) => {
            model.say(Severity::Bad, text.as_str());
            Vec::new()
        }
        Msg::Tick => Vec::new(),
    }
}

/// Brings what is derived up to date with what it is derived from: lines, scroll, widths, counts.
/// Returns in how many milliseconds something on the screen changes by time alone.
pub fn settle(model: &mut Model) -> Option<i64> {
    let context = model.context();
    if model
        .message
        .as_ref()
        .is_some_and(|message| model.at.since(message.at) >= MESSAGE_MS)
    {
        model.message = None;
    }
    if model.list_mut().is_none() {
        return tick_of_chrome(model);
    }
    let (height, room) = (geometry::list_height(model), geometry::columns_room(model));
    let id = model.list_id()?;
    let mut list = model.lists.remove(&id)?;
    list.refresh(&model.table, &model.scope, &context);
    list.scroll(height);
    list.measure(height, room, &context);
    let next = next_change(&list, height, &context);
    model.lists.insert(id, list);
    match (next, tick_of_chrome(model)) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// When the rows above and below change by time: the message goes, the offline clock runs.
fn tick_of_chrome(model: &Model) -> Option<i64> {
    let message = model
        .message
        .as_ref()
        .map(|message| (MESSAGE_MS - model.at.since(message.at)).max(1));
    let link = match &model.link {
        Link::Live { .. } => None,
        _ => Some(1000),
    };
    let checking = matches!(
        model.overlays.last(),
        Some(Overlay::SignIn(sign_in)) if matches!(sign_in.stage, Stage::Checking(_))
    );
    let checking = checking.then_some(SPIN_MS);
    let silent = model.is_live().then_some(5000);
    [message, link, silent, checking]
        .into_iter()
        .flatten()
        .min()
}

/// When the next visible age is written differently.
fn next_change(
    list: &super::list::List,
    height: usize,
    context: &skytower_api_client::column::Context,
) -> Option<i64> {
    use skytower_api_client::column::Value;
    let mut next: Option<i64> = None;
    for line in list.lines.iter().skip(list.top).take(height) {
        for (column, _) in &list.shown {
            let span = match super::list::value(line, column, context) {
                Value::Moment(at) => context.now.since(at).max(0),
                Value::Span(span) if !line.row.phase().is_over() => span.max(0),
                _ => continue,
            };
            let step = match span / 1000 {
                0..60 => 1000,
                60..36_000 => 60_000,
                36_000..172_800 => 3_600_000,
                _ => 86_400_000,
            };
            let wait = step - span % step;
            next = Some(next.map_or(wait, |next| next.min(wait)));
        }
    }
    next
}

fn feed(model: &mut Model, event: FeedEvent) -> Vec<Effect> {
    match event {
        FeedEvent::Link(link) => {
            if let Link::Live {
                clock_offset_ms, ..
            } = &link
            {
                model.offset_ms = *clock_offset_ms;
                model.heard = Some(model.at);
                // There is nothing to ask any more, and the next refusal is another one.
                model.asked_who = None;
                input::close_sign_in(model);
            }
            model.link = link;
            if let Link::Refused(problem) = model.link.clone() {
                input::refused(model, &problem);
            }
            Vec::new()
        }
        FeedEvent::Hello(hello) => {
            model.you = model.options.limited_here(hello.you);
            model.heard = Some(model.at);
            model.table.interrupted();
            model.all_dirty();
            Vec::new()
        }
        FeedEvent::Message(message) => {
            model.heard = Some(model.at);
            if matches!(message, ServerMessage::Ready { .. }) {
                model.ready = true;
            }
            match model.table.apply(message) {
                Ok(touched) => {
                    touch(model, &touched);
                    Vec::new()
                }
                Err(_) => vec![Effect::StartOver],
            }
        }
    }
}

fn touch(model: &mut Model, touched: &Touched) {
    for change in &touched.changes {
        for list in model.lists.values_mut() {
            list.note(change);
        }
        if let Some(kind) = change.key.kind() {
            let counts = |row: &Option<_>| row.as_ref().is_some_and(counts);
            let count = model.counts.entry(kind).or_default();
            *count =
                *count + usize::from(counts(&change.after)) - usize::from(counts(&change.before));
        }
        let Some(after) = &change.after else { continue };
        if after.kind() == Kind::Request && model.pending.contains(&change.key) {
            if let Some(request) = after.as_request() {
                progress(model, &request.clone());
            }
        } else if change
            .before
            .as_ref()
            .is_some_and(|before| before.phase() != Phase::Failed && after.phase() == Phase::Failed)
            && policy::is_mine(&model.you, after)
            && matches!(after.kind(), Kind::Job | Kind::Service | Kind::Cluster)
        {
            let why = after
                .why()
                .map_or_else(String::new, |why| format!(": {why}"));
            let text = format!(
                "{} {} is {}{why}",
                after.kind(),
                called(after),
                after.status()
            );
            model.say(Severity::Bad, text);
        }
    }
}

/// Tombstones are not counted, and of a job one of its tasks.
fn counts(row: &std::sync::Arc<Entity>) -> bool {
    row.phase() != Phase::Gone && row.as_job().is_none_or(|job| job.task_id == 0)
}

fn created(model: &mut Model, asked: &str, answer: Result<Request, ClientError>) {
    if let Some(batch) = &mut model.batch {
        let said = answer.as_ref().map(|request| &request.key);
        let ours = batch.answered(asked, said.map_err(ToString::to_string));
        if ours && answer.is_err() {
            return tell_batch(model);
        }
    }
    match answer {
        Ok(request) => {
            if request.results.len() > 1 {
                model.overlays.push(Overlay::Results {
                    key: request.key.clone(),
                    top: 0,
                });
            }
            model.pending.push(request.key.clone());
            // The stream may have been faster than the answer.
            let newest = model
                .table
                .get(&request.key)
                .and_then(|row| row.as_request().cloned());
            progress(model, &newest.unwrap_or(request));
        }
        Err(error) => {
            let hint = error
                .hint()
                .map_or_else(String::new, |hint| format!(" ({hint})"));
            model.say(Severity::Bad, format!("{error}{hint}"));
        }
    }
}

/// Tells how requests that were made together fare.
fn tell_batch(model: &mut Model) {
    if let Some(batch) = &model.batch {
        let (severity, text) = batch.said();
        if batch.is_over() {
            model.batch = None;
        }
        model.say(severity, text);
    }
}

/// Tells how one of our own requests fares.
fn progress(model: &mut Model, request: &Request) {
    let count = |wanted: fn(Outcome) -> bool| {
        request
            .results
            .iter()
            .filter(|it| wanted(it.outcome))
            .count()
    };
    let done = count(|it| matches!(it, Outcome::Done | Outcome::Unchanged));
    let bad = count(|it| matches!(it, Outcome::Failed | Outcome::Cancelled | Outcome::Unknown));
    let action = skytower_api_client::action::action(&request.action);
    let what = action.map_or_else(
        || request.action.to_string(),
        |action| action.title.to_owned(),
    );
    let target = match request.results.as_slice() {
        // Who is asked has a name only.
        [one] => one.target.trim_start_matches("source/").to_owned(),
        many => human::count(
            many.len(),
            action.map_or("target", |action| input::action_noun(action)),
        ),
    };
    let over = request.phase.is_over() || request.phase == Phase::Degraded;
    let first_bad = request
        .results
        .iter()
        .find(|it| matches!(it.outcome, Outcome::Failed | Outcome::Unknown))
        .and_then(|it| it.message.clone());
    if let Some(batch) = model.batch.as_mut().filter(|it| it.holds(&request.key)) {
        if over {
            let reason = || first_bad.clone().unwrap_or_default().to_string();
            batch.over(&request.key, (bad > 0).then(reason));
            model.pending.retain(|key| *key != request.key);
        }
        return tell_batch(model);
    }
    if !over {
        let doing = action.map_or("Working on", |action| action.doing);
        let far = if request.results.len() > 1 {
            format!(": {done} of {} done", request.results.len())
        } else {
            String::new()
        };
        model.say(Severity::Info, format!("{doing} {target}{far}"));
        return;
    }
    model.pending.retain(|key| *key != request.key);
    if bad == 0 {
        // What was made is said by who made it.
        let made = match request.results.as_slice() {
            [one] if one.upstream.is_some() => one.message.clone(),
            _ => None,
        };
        let said = made.map_or_else(|| format!("{what}: {target} done"), |it| it.to_string());
        model.say(Severity::Good, said);
    } else {
        let why = first_bad.map_or_else(String::new, |why| format!(": {why}"));
        let tally = if request.results.len() > 1 {
            format!("{done} done, {bad} not")
        } else {
            "not done".to_owned()
        };
        model.say(Severity::Bad, format!("{what}: {target} {tally}{why}"));
    }
}

fn detail(model: &mut Model, key: &Key, answer: Result<Detail, ClientError>) {
    let Some((wanted, slot)) = &mut model.detail else {
        return;
    };
    if wanted != key {
        return;
    }
    let answer = answer.map_err(|error| (Text::from(error.to_string()), error.hint()));
    let page_key = match &model.page {
        Page::Yaml(key) | Page::Detail(key, _) => key.clone(),
        _ => key.clone(),
    };
    let mut view = LogView::new(0, page_key, None);
    view.follow = false;
    match &answer {
        Ok(detail) => {
            if let Some(entrypoint) = &detail.entrypoint {
                view.push(&format!("# {entrypoint}\n"));
            }
            view.push(detail.yaml.as_deref().unwrap_or_default());
            view.end(LogState::Ended);
        }
        Err((message, hint)) => view.end(LogState::Failed(message.clone(), hint.clone())),
    }
    *slot = Some(answer);
    model.yaml = Some(view);
}

fn log(model: &mut Model, id: u64, event: LogEvent) {
    let Some(view) = model.log.as_mut().filter(|view| view.id == id) else {
        return;
    };
    match event {
        LogEvent::Chunk(chunk) => view.push(&chunk),
        LogEvent::End => view.end(LogState::Ended),
        LogEvent::Failed(error) => {
            view.end(LogState::Failed(error.to_string().into(), error.hint()));
        }
    }
}

/// The title of the column that a list is sorted by.
pub(crate) fn sort_title(kind: Kind, id: &str) -> &'static str {
    columns(kind)
        .iter()
        .find(|column| column.id == id)
        .map_or("", |column| column.title)
}

/// The rows of the sources.
pub(crate) fn sources(model: &Model) -> Vec<&skytower_api_client::entity::Source> {
    model
        .table
        .rows(Kind::Source)
        .filter_map(|row| match &**row {
            Entity::Source(source) => Some(source),
            _ => None,
        })
        .collect()
}
