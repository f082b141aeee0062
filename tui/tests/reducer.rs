//! The model under anything that may happen: nothing panics, selection stays on its row.

mod sample;

use std::sync::Arc;

use proptest::prelude::*;
use sample::{NOW, feed, job, live, press, rows, screen, type_in, write_log};
use skytower::app::{Effect, Mouse, Msg, Overlay, settle, update};
use skytower_api_client::feed::{FeedEvent, Link};
use skytower_api_client::wire::{Change, Problem, ServerMessage};
use skytower_api_client::{Key, Kind};

const KEYS: &[&str] = &[
    "j",
    "k",
    "down",
    "up",
    "g",
    "G",
    "pgdn",
    "pgup",
    "enter",
    "esc",
    "q",
    "l",
    "L",
    "y",
    "z",
    "Z",
    "i",
    "n",
    "N",
    "&",
    "e",
    "E",
    "s",
    "w",
    "x",
    "space",
    "v",
    "*",
    "\\",
    "o",
    "0",
    "@",
    "!",
    "/",
    "shift-left",
    "shift-right",
    "O",
    "tab",
    "shift-tab",
    "1",
    "2",
    "3",
    "4",
    "5",
    "6",
    "7",
    "8",
    "[",
    "]",
    "-",
    "c",
    "Y",
    ":",
    "?",
    "ctrl-d",
    "ctrl-k",
    "ctrl-u",
    "ctrl-r",
    "r",
    "a",
    "(",
    "backspace",
    "left",
    "right",
    "ctrl-s",
    "ctrl-w",
    "home",
    "end",
    "delete",
    "ctrl-e",
    "~",
    "p",
    "(",
    "d",
    "R",
    "ctrl-l",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_sequence_of_keys_panics_at_any_size(
        keys in proptest::collection::vec((0..KEYS.len(), 0u16..200, 0u16..60), 1..60),
        size in (1u16..170, 1u16..50),
    ) {
        let mut all = rows();
        all.extend(sample::local());
        let mut model = live(size, all);
        model.options.signs_in = true;
        for (key, x, y) in keys {
            for effect in press(&mut model, KEYS[key]) {
                // Files come as soon as they are asked for.
                let answer = match effect {
                    Effect::ListFolder(folder) => Msg::Folder(folder, Ok(vec!["n.yaml".to_owned(), "z/".to_owned()])),
                    Effect::ReadTask(path) => Msg::Task(path, Box::new(Ok(sample::task_file(&["one"])))),
                    _ => continue,
                };
                update(&mut model, NOW, answer);
            }
            if x % 5 == 0 {
                write_log(&mut model, "\u{1b}[31mstep\u{1b}[0m 日本語 1%\r2%\nerror: a line that is long ");
            }
            if x % 13 == 0 {
                let problem = Problem::new("not_signed_in", 401, "the token was revoked: 日本語 long ".repeat(9));
                feed(&mut model, FeedEvent::Link(Link::Refused(problem)));
            }
            if x % 7 == 0 {
                update(&mut model, NOW, Msg::Mouse(Mouse::Click(x, y)));
            }
            if x % 11 == 0 {
                update(&mut model, NOW, Msg::Resize(x + 1, y + 1));
            }
            screen(&mut model);
        }
    }

    #[test]
    fn the_cursor_and_the_marks_stay_on_their_rows(
        changes in proptest::collection::vec((0i64..30, any::<bool>(), 0usize..4), 1..40),
        cursor in 0usize..10,
    ) {
        let statuses = ["RUNNING", "PENDING", "SUCCEEDED", "FAILED"];
        let start: Vec<_> = (0..30).map(|id| job(id, 0, &format!("job-{id}"), "bob", "RUNNING", id)).collect();
        let mut model = live((80, 24), start);
        press(&mut model, "2");
        settle(&mut model);
        for _ in 0..cursor {
            press(&mut model, "down");
        }
        press(&mut model, "space up");
        settle(&mut model);
        let selected = model.list().unwrap().cursor.clone().unwrap();
        for (i, (id, remove, status)) in changes.into_iter().enumerate() {
            let key = Key::new("prod", Kind::Job, format!("{id}/0"));
            if key == selected {
                continue;
            }
            let change = if remove {
                Change::Remove { kind: Kind::Job, key, reason: "gone".into() }
            } else {
                Change::Upsert(job(id, 0, &format!("job-{id}"), "bob", statuses[status], id))
            };
            let revision = 2 + i as u64;
            feed(&mut model, FeedEvent::Message(ServerMessage::Delta {
                since: revision - 1,
                revision,
                changes: vec![change],
            }));
            settle(&mut model);
            let list = model.list().unwrap();
            prop_assert_eq!(list.cursor.as_ref(), Some(&selected));
            prop_assert_eq!(list.lines[list.at].key(), &selected);
            prop_assert!(list.marks.iter().all(|key| model.table.get(key).is_some()));
            let ids: Vec<i64> = list.lines.iter().filter_map(|line| line.row.as_job()).map(|job| job.job_id).collect();
            prop_assert!(ids.is_sorted_by(|a, b| a > b));
        }
    }
}

#[test]
fn marks_that_a_filter_hides_are_not_acted_on() {
    let mut model = live((80, 24), rows());
    press(&mut model, "2 * /");
    type_in(&mut model, "mmlu");
    press(&mut model, "enter ctrl-d");
    let Some(Overlay::Confirm(confirm)) = model.overlays.last() else {
        panic!("no question was asked");
    };
    assert_eq!(confirm.plan.count(), 1);
    assert!(confirm.plan.hidden > 0);
}

#[test]
fn enter_on_a_fresh_question_does_nothing() {
    let mut model = live((80, 24), rows());
    press(&mut model, "2 down ctrl-d");
    assert!(press(&mut model, "enter").is_empty());
    assert!(model.overlays.is_empty());
}

#[test]
fn other_peoples_things_need_their_number_typed() {
    let mut model = live((80, 24), rows());
    press(&mut model, "2 * ctrl-d tab tab");
    assert!(press(&mut model, "enter").is_empty());
    press(&mut model, "6");
    let effects = press(&mut model, "enter");
    let [Effect::Create { request, .. }] = effects.as_slice() else {
        panic!("{effects:?}");
    };
    assert!(request.others_confirmed);
    assert_eq!(request.targets.len(), 6);
    // A job of several tasks is named by a row that the server has.
    assert!(
        request
            .targets
            .iter()
            .all(|key| model.table.get(key).is_some())
    );
}

#[test]
fn only_mine_leaves_the_others_alone() {
    let mut model = live((80, 24), rows());
    press(&mut model, "2 * ctrl-d tab");
    let effects = press(&mut model, "enter");
    let [Effect::Create { request, .. }] = effects.as_slice() else {
        panic!("{effects:?}");
    };
    assert!(!request.others_confirmed);
    assert_eq!(request.targets.len(), 2);
}

#[test]
fn nothing_is_done_or_queued_while_offline() {
    let mut model = live((80, 24), rows());
    feed(&mut model, FeedEvent::Link(Link::Connecting { attempt: 2 }));
    assert!(press(&mut model, "2 down ctrl-d").is_empty());
    assert!(model.overlays.is_empty());
    assert!(
        model
            .message
            .as_ref()
            .is_some_and(|message| message.text.contains("not connected"))
    );
}

#[test]
fn an_idle_screen_has_nothing_to_repaint_before_an_age_turns() {
    let rows: Vec<Arc<_>> = rows()
        .into_iter()
        .filter(|row| row.kind() != Kind::Cluster)
        .collect();
    let mut model = live((80, 24), rows);
    let before = screen(&mut model);
    let later = skytower_api_client::EpochMs(NOW.0 + 900);
    update(&mut model, later, Msg::Tick);
    assert_eq!(screen(&mut model), before);
    assert!(settle(&mut model).is_some_and(|wait| wait > 0));
}
