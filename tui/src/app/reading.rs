//! Where a text is on the screen: read by the drawing, and by what scrolls.

use ratatui::layout::Rect;
use skytower_api_client::Kind;
use skytower_api_client::entity::{Entity, Event};

use super::geometry::{body, list_area};
use super::log::{LogState, Room};
use super::model::{Model, Page, Tab};

/// What happened last to the subject of a page with a log, oldest first. It stands above the log.
pub(crate) fn last_events(model: &Model) -> Vec<&Event> {
    let Page::Detail(_, Tab::Log) = &model.page else {
        return Vec::new();
    };
    let Some(row) = model.subject() else {
        return Vec::new();
    };
    let mut events: Vec<&Event> = model
        .table
        .rows(Kind::Event)
        .filter_map(|event| event.as_event())
        .filter(|event| concerns(event, &row))
        .collect();
    events.sort_by_key(|event| event.at);
    let most = usize::from(list_area(model).height / 3);
    events.split_off(events.len().saturating_sub(most))
}

/// Is an event about a row; those of a job's tasks are about the job.
fn concerns(event: &Event, row: &Entity) -> bool {
    let key = row.key();
    let job = |id: &str| id.split('/').next().map(str::to_owned);
    event.subject == *key
        || (event.subject.source() == key.source()
            && row.kind() == Kind::Job
            && event.subject.kind() == Some(Kind::Job)
            && job(event.subject.id()) == job(key.id()))
}

/// Where the text is, with a cell of margin on both sides.
pub(crate) fn text_area(model: &Model) -> Rect {
    let area = match model.page {
        Page::Detail(..) => list_area(model),
        _ => body(model),
    };
    let above = (last_events(model).len() as u16).min(area.height);
    Rect {
        y: area.y + above,
        height: area.height - above,
        ..area
    }
}

/// The rows and cells that there are for the lines of the text.
pub(crate) fn text_room(model: &Model) -> Room {
    let area = text_area(model);
    let broken = model
        .text_view()
        .is_some_and(|view| matches!(view.state, LogState::Failed(..)));
    Room {
        // Below a log that broke off stands why.
        rows: usize::from(area.height).saturating_sub(usize::from(broken)),
        cells: usize::from(area.width).saturating_sub(2),
    }
}
