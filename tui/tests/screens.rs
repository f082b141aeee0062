//! Every screen and state, as it looks at two sizes.

mod sample;

use sample::{NOW, empty, feed, live, press, rows, screen, type_in};
use skytower::app::{LogEvent, Model, Msg, update};
use skytower_api_client::EpochMs;
use skytower_api_client::feed::{FeedEvent, Link};
use skytower_api_client::wire::Problem;

const SIZES: [(u16, u16); 2] = [(80, 24), (160, 45)];

fn check(name: &str, make: impl Fn((u16, u16)) -> Model) {
    for size in SIZES {
        let mut model = make(size);
        insta::assert_snapshot!(format!("{name}-{}x{}", size.0, size.1), screen(&mut model));
    }
}

fn lost() -> FeedEvent {
    FeedEvent::Link(Link::Lost {
        reason: "nothing listens at http://sky.example:46580".into(),
        since: EpochMs(NOW.0 - 47_000),
        retry_at: EpochMs(NOW.0 + 3000),
        attempt: 4,
    })
}

#[test]
fn tables() {
    for (key, name) in [
        ("1", "clusters"),
        ("2", "jobs"),
        ("3", "services"),
        ("4", "pools"),
        ("5", "infra"),
        ("6", "users"),
        ("7", "workspaces"),
        ("8", "requests"),
    ] {
        check(name, |size| {
            let mut model = live(size, rows());
            press(&mut model, key);
            model
        });
    }
}

#[test]
fn trees() {
    check("jobs-unfolded", |size| {
        let mut model = live(size, rows());
        press(&mut model, "2 Z");
        model
    });
    check("services-unfolded", |size| {
        let mut model = live(size, rows());
        press(&mut model, "3 z");
        model
    });
}

#[test]
fn details() {
    check("cluster-detail", |size| {
        let mut model = live(size, rows());
        press(&mut model, "1 enter");
        model
    });
    check("job-detail", |size| {
        let mut model = live(size, rows());
        press(&mut model, "2 down enter");
        let id = model.log.as_ref().map_or(0, |log| log.id);
        let text = "step 1 loss 0.9\nstep 2 loss 0.8\nERROR: out of memory\n".to_owned();
        update(&mut model, NOW, Msg::Log(id, LogEvent::Chunk(text)));
        model
    });
    check("service-detail", |size| {
        let mut model = live(size, rows());
        press(&mut model, "3 enter");
        model
    });
    check("request-detail", |size| {
        let mut model = live(size, rows());
        press(&mut model, "8 enter");
        model
    });
}

#[test]
fn logs() {
    check("log-search", |size| {
        let mut model = live(size, rows());
        press(&mut model, "2 l");
        let id = model.log.as_ref().map_or(0, |log| log.id);
        let lines: Vec<String> = (0..100)
            .map(|i| format!("step {i} loss {}\n", 100 - i))
            .collect();
        let text = lines.concat();
        update(&mut model, NOW, Msg::Log(id, LogEvent::Chunk(text)));
        press(&mut model, "/");
        type_in(&mut model, "step 4");
        press(&mut model, "enter");
        model
    });
}

#[test]
fn states() {
    check("connecting", empty);
    check("first-run", |size| live(size, Vec::new()));
    check("never-reached", |size| {
        let mut model = empty(size);
        feed(&mut model, lost());
        model
    });
    check("disconnected", |size| {
        let mut model = live(size, rows());
        feed(&mut model, lost());
        model
    });
    check("refused", |size| {
        let mut model = empty(size);
        let problem = Problem::new(
            "unauthorized",
            401,
            "http://sky.example:46580 does not know you",
        )
        .hint("sign in: skytower api login -e http://sky.example:46580");
        feed(&mut model, FeedEvent::Link(Link::Refused(problem)));
        model
    });
    check("nothing-matches", |size| {
        let mut model = live(size, rows());
        press(&mut model, "2 o /");
        type_in(&mut model, "name:nope");
        press(&mut model, "enter");
        model
    });
    check("filter-error", |size| {
        let mut model = live(size, rows());
        press(&mut model, "2 /");
        type_in(&mut model, "colour:red");
        model
    });
    check("marks-hidden", |size| {
        let mut model = live(size, rows());
        press(&mut model, "2 space space space /");
        type_in(&mut model, "llama");
        press(&mut model, "enter");
        model
    });
}

#[test]
fn dialogs() {
    check("confirm-own", |size| {
        let mut model = live(size, rows());
        press(&mut model, "2 /");
        type_in(&mut model, "mmlu");
        press(&mut model, "enter ctrl-d");
        model
    });
    check("confirm-others", |size| {
        let mut model = live(size, rows());
        press(&mut model, "2 * ctrl-d");
        model
    });
    check("help", |size| {
        let mut model = live(size, rows());
        press(&mut model, "2 ?");
        model
    });
    check("menu", |size| {
        let mut model = live(size, rows());
        press(&mut model, "1 x");
        model
    });
    check("owners", |size| {
        let mut model = live(size, rows());
        press(&mut model, "2 @");
        model
    });
    check("command-line", |size| {
        let mut model = live(size, rows());
        press(&mut model, "2 :");
        type_in(&mut model, "cl");
        model
    });
}
