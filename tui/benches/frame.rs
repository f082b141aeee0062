//! The dashboard with 100,000 jobs in it: from a key, or from a change, to the bytes of the frame. Each
//! figure beside its floor, measured in the same run: ratatui writing the visible rows' text and nothing
//! else, after the plainest code that finds or orders the same rows.
//!
//! `cargo bench -p skytower`

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark prints and may panic"
)]

#[path = "../../api-client/benches/measure/mod.rs"]
mod measure;
#[path = "../tests/sample/mod.rs"]
#[allow(clippy::wildcard_imports, reason = "a module of tests")]
mod sample;

use std::hint::black_box;
use std::sync::Arc;

use measure::{cpu_ms, line, median, once};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use sample::{feed, job, live, press, type_in};
use skytower::app::{Model, settle};
use skytower::term::Screen;
use skytower::ui;
use skytower_api_client::feed::FeedEvent;
use skytower_api_client::wire::{Change, ServerMessage};
use skytower_api_client::{Entity, Kind};

const ROWS: i64 = 100_000;
const SIZE: (u16, u16) = (200, 50);
const ROUNDS: usize = 9;
/// Changes that come between two frames when there are 500 in a second and 30 frames.
const CHANGES: i64 = 16;

fn main() {
    let mut bench = Bench::new();
    println!(
        "{ROWS} jobs, {}x{} cells, CPU time of one thread, medians of {ROUNDS} turns\n",
        SIZE.0, SIZE.1
    );
    bench.frames();
    bench.filter();
    bench.sort();
    bench.changes();
}

struct Bench {
    model: Model,
    rows: Vec<Arc<Entity>>,
    screen: Screen<std::io::Sink>,
    revision: u64,
}

/// A number that says nothing about its neighbours.
fn mixed(id: i64) -> usize {
    (id as usize).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32
}

fn row(id: i64, status: &str) -> Arc<Entity> {
    let mixed = mixed(id);
    let who = ["alice", "bob", "carol", "dana", "frank"][mixed % 5];
    let word = ["sweep-lr", "eval-mmlu", "pretrain", "tokenize"][mixed / 5 % 4];
    job(
        id,
        0,
        &format!("{word}-{id}"),
        who,
        status,
        ROWS * 7 - id * 7,
    )
}

impl Bench {
    fn new() -> Self {
        let statuses = ["RUNNING", "PENDING", "SUCCEEDED", "FAILED", "STARTING"];
        let rows: Vec<_> = (0..ROWS)
            .map(|id| row(id, statuses[mixed(id) / 20 % 5]))
            .collect();
        let mut bench = Self {
            model: live(SIZE, rows.clone()),
            rows,
            screen: Screen::new(std::io::sink()),
            revision: 1,
        };
        press(&mut bench.model, "2");
        bench.frame();
        // Whose jobs: everybody's.
        let list = bench.model.list().unwrap();
        assert_eq!((list.kind, list.lines.len()), (Kind::Job, ROWS as usize));
        bench
    }

    /// What the runtime does for every frame. Returns its bytes.
    fn frame(&mut self) -> usize {
        settle(&mut self.model);
        let mut frame = Buffer::empty(Rect::new(0, 0, SIZE.0, SIZE.1));
        let cursor = ui::draw(&self.model, &mut frame);
        self.screen.show(frame, cursor).unwrap()
    }

    /// Time from something that happens to the bytes of its frame, and their number.
    fn measure(&mut self, happens: impl FnOnce(&mut Self)) -> (f64, usize) {
        let start = cpu_ms();
        happens(self);
        let bytes = self.frame();
        (cpu_ms() - start, bytes)
    }

    /// The text of the visible rows, written by ratatui without anybody thinking about it.
    fn floor_frame(texts: &[Vec<String>], shown: &Buffer) {
        let mut frame = Buffer::empty(Rect::new(0, 0, SIZE.0, SIZE.1));
        for (y, cells) in texts.iter().enumerate() {
            let mut x = 0;
            for cell in cells {
                frame.set_stringn(x, y as u16, cell, 24, Style::new());
                x += 25;
            }
        }
        black_box(shown.diff(&frame));
    }

    fn texts(&self) -> Vec<Vec<String>> {
        self.rows
            .iter()
            .take(SIZE.1.into())
            .map(|row| {
                let job = row.as_job().unwrap();
                vec![
                    job.job_id.to_string(),
                    job.name.to_string(),
                    row.owner().unwrap().name.to_string(),
                    job.status.to_string(),
                    job.infra.clone().unwrap().to_string(),
                    job.accelerators.clone().unwrap().to_string(),
                    job.workspace.clone().unwrap().to_string(),
                    job.recoveries.to_string(),
                ]
            })
            .collect()
    }

    /// `before` is not measured; `ours` is with its frame, and `floor` with its text.
    fn report(
        &mut self,
        what: &str,
        mut before: impl FnMut(&mut Self),
        mut ours: impl FnMut(&mut Self, usize),
        floor: Floor,
        promise: &str,
    ) {
        let texts = self.texts();
        let shown = Buffer::empty(Rect::new(0, 0, SIZE.0, SIZE.1));
        let (mut a, mut b, mut bytes) = (Vec::new(), Vec::new(), 0);
        for round in 0..=ROUNDS {
            before(self);
            let spent = once(&mut || {
                (floor.work)(&self.rows);
                Self::floor_frame(&texts, &shown);
            });
            let (took, size) = self.measure(|bench| ours(bench, round));
            // The first turn only warms.
            if round > 0 {
                a.push(took);
                b.push(spent);
                bytes = size;
            }
        }
        let promise = format!("{bytes:>6} bytes  {promise}");
        line(what, median(a), floor.name, median(b), &promise);
    }

    fn frames(&mut self) {
        let as_it_is = |_: &mut Self| {};
        self.report("a frame, nothing changed", as_it_is, |_, _| {}, TEXT, "");
        self.report(
            "the whole frame anew",
            |bench| bench.screen.forget(),
            |_, _| {},
            TEXT,
            "",
        );
        for (what, key, promise) in [
            ("the cursor a line down", "down", "P10: at most 2,000 bytes"),
            ("a page down", "pgdn", ""),
        ] {
            self.report(
                what,
                as_it_is,
                |bench, _| {
                    press(&mut bench.model, key);
                },
                TEXT,
                promise,
            );
        }
        press(&mut self.model, "g");
        self.frame();
    }

    /// What was typed before is on the screen already; what is measured is one letter.
    fn filter(&mut self) {
        for (what, typed) in [
            ("filter: first letter", "s"),
            ("filter: a word", "sweep-lr-4"),
            ("filter: owner and status", "owner:bob status:running"),
        ] {
            let (start, last) = typed.split_at(typed.len() - 1);
            self.report(
                what,
                |bench| {
                    press(&mut bench.model, "esc esc /");
                    type_in(&mut bench.model, start);
                    bench.frame();
                },
                |bench, _| type_in(&mut bench.model, last),
                CONTAINS,
                KEY_PROMISE,
            );
            let shown = self.model.list().unwrap().lines.len();
            assert!(
                (1..=ROWS as usize).contains(&shown),
                "{typed}: {shown} rows"
            );
            press(&mut self.model, "esc esc");
            self.frame();
        }
    }

    fn sort(&mut self) {
        for _ in 0..4 {
            press(&mut self.model, "shift-right");
            let by = self.model.list().unwrap().sort.0;
            self.report(
                &format!("sort: by {by}"),
                |bench| {
                    press(&mut bench.model, "shift-left");
                    bench.frame();
                },
                |bench, _| {
                    press(&mut bench.model, "shift-right");
                },
                ORDER,
                KEY_PROMISE,
            );
        }
    }

    /// The list as it starts, newest first, while jobs change.
    fn changes(&mut self) {
        self.model = live(SIZE, self.rows.clone());
        press(&mut self.model, "2");
        self.frame();
        let statuses = ["RUNNING", "SUCCEEDED"];
        self.report(
            &format!("{CHANGES} rows changed"),
            |_| {},
            |bench, round| {
                let changes = (0..CHANGES)
                    .map(|i| {
                        let id = (i * 6007 + round as i64 * 31) % ROWS;
                        Change::Upsert(row(id, statuses[round % 2]))
                    })
                    .collect();
                bench.revision += 1;
                feed(
                    &mut bench.model,
                    FeedEvent::Message(ServerMessage::Delta {
                        since: bench.revision - 1,
                        revision: bench.revision,
                        changes,
                    }),
                );
            },
            TEXT,
            KEY_PROMISE,
        );
    }
}

const KEY_PROMISE: &str = "P10: 8 ms, fails at 16.7 ms";

/// The plainest code for a key, before its text is written.
#[derive(Clone, Copy)]
struct Floor {
    name: &'static str,
    work: fn(&[Arc<Entity>]),
}

const TEXT: Floor = Floor {
    name: "text of visible rows",
    work: |_| {},
};
const CONTAINS: Floor = Floor {
    name: "contains on all names, text",
    work: |rows| {
        let holds = |row: &&Arc<Entity>| row.name().contains("lr-4");
        black_box(rows.iter().filter(holds).count());
    },
};
const ORDER: Floor = Floor {
    name: "sort_unstable by name, text",
    work: |rows| {
        let names = rows.iter().enumerate();
        let mut names: Vec<_> = names.map(|(i, row)| (row.name().as_str(), i)).collect();
        names.sort_unstable();
        black_box(names);
    },
};
