//! How much of a server one client may take.

use std::sync::Arc;
use std::time::Duration;

use skytower_server::home;

use crate::program::Program;
use crate::raw::{Raw, ask, get, token};
use crate::support::{Running, administrator, job, start, start_with, until, upsert, within};

const KIB: usize = 1024;
/// Longer than any test: what ends before it ended for another reason.
const NEVER: Duration = Duration::from_hours(1);

async fn limited(change: impl FnOnce(&mut skytower_server::Config)) -> Running {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    start_with(folder, change).await.unwrap()
}

/// Strangers that have begun to ask and never come to an end.
async fn slow(server: &Running, count: usize) -> Vec<Raw> {
    let mut all = Vec::new();
    for _ in 0..count {
        let mut raw = Raw::connect(server).await;
        raw.send(b"GET /api/health HTTP/1.1\r\nX-Slow: a").await;
        all.push(raw);
    }
    all
}

#[tokio::test]
async fn case_14_slowloris_heads_are_cut_off() {
    let server = limited(|config| config.deadlines.head = Duration::from_millis(300)).await;
    for mut raw in slow(&server, 20).await {
        let said = raw.rest().await;
        assert!(
            said.is_empty() || said.starts_with("HTTP/1.1 408"),
            "{said}"
        );
    }
    // Silence is cut off too, and so is whoever is slow with the second request.
    assert!(Raw::connect(&server).await.is_closed().await);
    let mut again = Raw::connect(&server).await;
    again
        .send(get(&server, "/api/v1/status", &token(&server)).as_bytes())
        .await;
    assert_eq!(again.answer().await.unwrap().status, 200);
    again.send(b"GET /").await;
    let said = again.rest().await;
    assert!(!said.contains("HTTP/1.1 200"), "{said}");
    server.stop().await;
}

#[tokio::test]
async fn case_14_slowloris_strangers_do_not_keep_others_out() {
    let server = limited(|config| {
        config.limits.strangers = Some(8);
        config.deadlines.head = NEVER;
        config.deadlines.stranger = NEVER;
    })
    .await;
    let mut watching = server.connect().await;
    watching.subscribe(None).await;
    watching.next_ready().await;
    let slow = slow(&server, 8).await;
    // A stranger has a moment to itself: whoever comes meanwhile is closed, and comes again.
    let signed_in = async {
        loop {
            let mut raw = Raw::connect(&server).await;
            raw.send(get(&server, "/api/v1/status", &token(&server)).as_bytes())
                .await;
            match raw.answer().await {
                Some(answer) => break answer.status,
                None => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    };
    assert_eq!(within(signed_in).await, 200);
    server.hub.commit([upsert(job(1, "default", "a"))]);
    watching.follow_until(|copy| copy.revision() == 1).await;
    drop(slow);
    server.stop().await;
}

#[tokio::test]
async fn case_14_slowloris_strangers_that_are_too_many_are_closed_at_once() {
    let server = limited(|config| {
        config.limits.strangers = Some(2);
        config.limits.connections = Some(3);
        config.deadlines.head = NEVER;
        config.deadlines.stranger = NEVER;
    })
    .await;
    // Those who are inside take no stranger's place, and are not sent away.
    let mut inside = Vec::new();
    for _ in 0..3 {
        inside.push(Raw::watch(&server).await);
    }
    let mut outside = Raw::connect(&server).await;
    assert!(outside.is_closed().await);
    drop(inside.pop());
    let back = async {
        while Raw::connect(&server).await.try_upgrade(&server).await != Some(101) {
            tokio::task::yield_now().await;
        }
    };
    within(back).await;
    server.stop().await;
}

#[tokio::test]
async fn a_stranger_gets_one_answer_and_not_all_the_time_there_is() {
    let server = limited(|config| {
        config.deadlines.head = NEVER;
        config.deadlines.stranger = Duration::from_millis(700);
    })
    .await;
    let answer = ask(&server, "/api/health", "").await;
    assert!(answer.head.contains("connection: close"), "{}", answer.head);
    let answer = ask(&server, "/api/v1/status", &token(&server)).await;
    assert!(
        !answer.head.contains("connection: close"),
        "{}",
        answer.head
    );
    assert!(slow(&server, 1).await[0].is_closed().await);
    let mut known = Raw::connect(&server).await;
    known
        .send(get(&server, "/api/v1/status", &token(&server)).as_bytes())
        .await;
    assert_eq!(known.answer().await.unwrap().status, 200);
    // Whoever is known stays, and so does a websocket.
    let mut watching = server.connect().await;
    // One that came later is sent away: their time is over too.
    assert!(slow(&server, 1).await[0].is_closed().await);
    watching.subscribe(None).await;
    watching.next_ready().await;
    known
        .send(get(&server, "/api/v1/status", &token(&server)).as_bytes())
        .await;
    assert_eq!(known.answer().await.unwrap().status, 200);
    server.stop().await;
}

#[tokio::test]
async fn without_accounts_a_hundred_may_watch_with_the_one_token() {
    let server = start().await;
    let mut inside = Vec::new();
    for _ in 0..100 {
        inside.push(Raw::watch(&server).await);
    }
    assert_eq!(
        ask(&server, "/api/v1/status", &token(&server)).await.status,
        200
    );
    server.stop().await;
}

#[tokio::test]
async fn case_30_one_user_does_not_take_all_the_places() {
    let server = limited(|config| {
        config.accounts = true;
        config.limits.connections_per_user = 3;
    })
    .await;
    let mut inside = Vec::new();
    for _ in 0..3 {
        inside.push(Raw::watch(&server).await);
    }
    let refused = ask(&server, "/api/v1/status", &token(&server)).await;
    assert_eq!(refused.status, 429);
    assert!(refused.body.contains("too_many_connections") && refused.body.contains("hint"));
    assert_eq!(
        Raw::connect(&server)
            .await
            .upgrade(&server, "")
            .await
            .status,
        429
    );
    assert_eq!(
        ask(&server, "/api/health", "").await.status,
        200,
        "others are not concerned"
    );
    // The place of a websocket is free when it ends, and again and again.
    for _ in 0..5 {
        drop(inside.pop());
        let back = async {
            while Raw::connect(&server)
                .await
                .upgrade(&server, "")
                .await
                .status
                != 101
            {
                tokio::task::yield_now().await;
            }
        };
        within(back).await;
        until(|| *server.hub.watchers().borrow() <= 3).await;
        let again = async {
            loop {
                let mut raw = Raw::connect(&server).await;
                if raw.upgrade(&server, "").await.status == 101 {
                    break raw;
                }
            }
        };
        inside.push(within(again).await);
    }
    server.stop().await;
}

#[tokio::test]
async fn case_28_a_long_question_is_refused_and_a_nasty_one_is_answered() {
    let server = start().await;
    server
        .hub
        .commit((0..2000).map(|id| upsert(job(id, "default", &"a".repeat(200)))));
    let question = |q: &str| {
        format!(
            "/api/v1/jobs?q={}&limit=1",
            skytower_api_client::rest::path::segment(q)
        )
    };
    for q in ["~(a+)+$", "~(a|a)*b", "~(a|aa)+$", "name~(.*)*x"] {
        let answer = ask(&server, &question(q), &token(&server)).await;
        assert!([200, 400].contains(&answer.status), "{q}: {answer:?}");
    }
    for q in [
        "~(a{1000}){1000}{1000}",
        &"(".repeat(20_000),
        &"-".repeat(50_000),
    ] {
        let answer = ask(&server, &question(q), &token(&server)).await;
        assert_eq!(answer.status, 400, "{:.40}: {:.200}", q, answer.body);
    }
    let mut raw = Raw::connect(&server).await;
    let long = format!("/api/v1/jobs?q={}", "a".repeat(KIB * KIB));
    raw.send(get(&server, &long, &token(&server)).as_bytes())
        .await;
    if let Some(answer) = raw.answer().await {
        assert!([414, 431].contains(&answer.status), "{answer:?}");
    }
    server.stop().await;
}

/// What the server counts, by its name in the measurements.
async fn measured(server: &Running, name: &str) -> u64 {
    let answer = ask(server, "/metrics", &token(server)).await;
    let mut lines = answer.body.lines();
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_24_and_25_who_reads_nothing_or_a_byte_at_a_time_is_cut_and_others_are_served() {
    let server = limited(|config| config.deadlines.write = Duration::from_secs(2)).await;
    server.caller_is(&administrator()).await;
    let mut healthy = server.connect().await;
    healthy.subscribe(None).await;
    healthy.next_ready().await;
    let mut slow = Vec::new();
    for _ in 0..2 {
        let mut raw = Raw::watch(&server).await;
        raw.send(&crate::raw::frame(0x81, br#"{"type":"subscribe"}"#))
            .await;
        slow.push(raw);
    }
    until(|| *server.hub.watchers().borrow() == 3).await;
    let mut trickling = slow.pop().unwrap();
    let trickle = tokio::spawn(async move {
        let mut bytes = 0_u64;
        while trickling.byte().await {
            bytes += 1;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        bytes
    });
    // More than the kernel holds for them.
    let mut revision = 0;
    for round in 0..16_u64 {
        let noise = |id: i64| {
            let words = (0..64)
                .map(|i| (round + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15 ^ (id * 64 + i) as u64));
            words.map(|word| format!("{word:016x}")).collect::<String>()
        };
        server
            .hub
            .commit((0..1000).map(|id| upsert(job(id, "default", &noise(id)))));
        revision += 1;
        healthy
            .follow_until(|copy| copy.revision() == revision)
            .await;
    }
    let cut = async {
        while measured(&server, "skytower_stuck_clients_total").await < 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within(cut).await;
    // Their places are free.
    until(|| *server.hub.watchers().borrow() == 1).await;
    trickle.abort();
    server.hub.commit([upsert(job(1, "default", "after"))]);
    healthy
        .follow_until(|copy| copy.revision() == revision + 1)
        .await;
    server.stop().await;
}

/// A server with so many file descriptors.
fn program(descriptors: u32, limits: &str) -> Program {
    let config = format!("engine = 'none'\n[limits]\n{limits}");
    Program::start(&format!("ulimit -n {descriptors}"), &config)
}

#[tokio::test]
async fn case_18_out_of_descriptors_it_pauses_and_goes_on() {
    let limits = "connections = 100000\nstrangers = 100000\nconnections_per_user = 100000";
    let program = program(256, limits);
    let server = program.running().await;
    let mut watching = server.connect().await;
    watching.subscribe(None).await;
    watching.next_ready().await;
    // What the kernel has taken and nobody accepts waits in its queue: connecting goes on.
    let mut idle = Vec::new();
    for _ in 0..400 {
        idle.push(Raw::connect(&server).await);
    }
    let log = program.home().join(home::LOG);
    let said = || std::fs::read_to_string(&log).unwrap_or_default();
    until(|| said().contains("connections cannot be accepted at present")).await;
    // Who is inside goes on being served.
    assert!(watching.frame().await.is_some(), "a heartbeat");
    drop(idle);
    let back = ask(&server, "/api/v1/status", &token(&server)).await;
    assert_eq!(back.status, 200);
    let warned = said().matches("cannot be accepted").count();
    assert_eq!(warned, 1, "once a minute, however often it was tried");
    drop(watching);
    server.stop().await;
}

#[tokio::test]
async fn case_18_connections_leave_descriptors_for_everything_else() {
    let program = program(256, "");
    let server = program.running().await;
    let mut watching = Vec::new();
    // Sixty-four of one user; what is left of the strangers' quarter is turned away.
    for _ in 0..64 {
        watching.push(Raw::watch(&server).await);
    }
    let mut idle = Vec::new();
    for _ in 0..200 {
        idle.push(Raw::connect(&server).await);
    }
    let fds = format!("/proc/{}/fd", program.child.id());
    let open = std::fs::read_dir(fds).unwrap().count();
    assert!(open < 200, "{open} descriptors");
    drop((idle, watching));
    server.stop().await;
}
