//! The box that asks who one is.

use ratatui::layout::Position;
use skytower_api_client::EpochMs;
use skytower_api_client::column::Cut;

use super::pen::Pen;
use crate::app::{Field, SPIN_MS, SignIn, Stage, inner, sign_in_area};
use crate::text::{cut, wrap};
use crate::theme::Tone;

/// Where values stand, beside the longest label.
const VALUES: u16 = 11;
/// Lines of the reason at most.
const REASON: usize = 3;

pub(super) fn draw(sign_in: &SignIn, now: EpochMs, pen: &mut Pen<'_>) -> Option<Position> {
    let ascii = pen.theme.ascii;
    let room = usize::from(inner(sign_in_area(pen.size(), 1)).width).saturating_sub(2);
    let mut reason = wrap(&sign_in.reason, room);
    reason.truncate(REASON);
    let whole = sign_in_area(pen.size(), reason.len() as u16);
    let title = format!("Sign in to {}", sign_in.server);
    pen.frame(
        whole,
        &cut(&title, room.saturating_sub(2), Cut::Middle, ascii),
        "Enter signs in, Tab another field, Esc closes",
        Tone::Title,
    );
    let area = inner(whole);
    let x = area.x + 1;
    for (i, line) in reason.iter().enumerate() {
        pen.put(x, area.y + i as u16, line, Tone::Plain);
    }
    let top = area.y + reason.len() as u16 + 1;
    let dot = if ascii { '*' } else { '•' };
    let mut cursor = None;
    for (i, field) in Field::ALL.iter().enumerate() {
        let y = top + i as u16;
        if y >= area.bottom() {
            break;
        }
        let here = *field == sign_in.field;
        if here {
            pen.put(area.x, y, pen.theme.pick("▌", ">"), Tone::Accent);
        }
        let tone = if here { Tone::Plain } else { Tone::Dim };
        pen.put(x, y, field.label(), tone);
        let text = sign_in.shown(*field, dot);
        let at = here.then(|| sign_in.cursor(dot));
        let line = super::line::draw(pen, (x + VALUES, y), area.right(), &text, at);
        if let Some(at) = at {
            cursor = Some(Position::new(line.column(&text, at), y));
        }
    }
    let y = top + Field::ALL.len() as u16 + 1;
    if y < area.bottom() {
        let (said, tone) = said(sign_in, now, pen);
        pen.put(x, y, &cut(&said, room, Cut::End, ascii), tone);
    }
    // While the server is asked, nothing is typed.
    cursor.filter(|_| !matches!(sign_in.stage, Stage::Checking(_)))
}

fn said(sign_in: &SignIn, now: EpochMs, pen: &Pen<'_>) -> (String, Tone) {
    match (&sign_in.stage, sign_in.wait(now)) {
        (_, Some(wait)) => (
            format!("! too many attempts: the server wants to be asked again in {wait}"),
            Tone::Warn,
        ),
        (Stage::Checking(_), _) => {
            let turn = (now.0 / SPIN_MS).rem_euclid(4) as usize;
            let picture = pen.theme.pick("◐◓◑◒", "|/-\\").chars().nth(turn);
            (
                format!("{} asking the server", picture.unwrap_or(' ')),
                Tone::Busy,
            )
        }
        (Stage::Wrong(why), _) => (format!("{} {why}", pen.theme.pick("✗", "x")), Tone::Bad),
        (Stage::Open | Stage::Wait(_), _) => (
            "a user and a password, or a token; what you type is not shown".to_owned(),
            Tone::Dim,
        ),
    }
}
