//! The commands that start tasks, on the real program and a server with a local engine of this test's: what
//! is sent, what is said, and what is refused before anything is sent.
#![cfg(feature = "local-server")]
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests"
)]

mod desk;
mod terminal;

use std::sync::{Arc, Mutex};

use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use desk::Desk;
use serde_json::{Value, json};
use skytower::demo::TEAM;
use skytower_api_client::endpoint::{Credentials, Secret};
use skytower_api_client::wire::SUBPROTOCOL_JSON;
use terminal::Terminal;

const TASK: &str = "\
name: train
num_nodes: 2
resources:
  cpus: 2
envs:
  EPOCHS: 3
secrets:
  TOKEN:
setup: pip install torch
run: |
  python train.py
";
const SERVICE: &str = "\
service:
  readiness_probe: /health
  replicas: 2
resources:
  ports: 8080
run: python -m http.server 8080
";

/// A server with a local engine, as far as the commands see one.
struct Engine {
    url: String,
    world: Arc<Mutex<World>>,
}

#[derive(Default)]
struct World {
    sources: Vec<Value>,
    clusters: Vec<Value>,
    jobs: Vec<Value>,
    services: Vec<Value>,
    heard: Vec<Value>,
    /// Requests with this name in them fail.
    fails: &'static str,
}

type Shared = State<Arc<Mutex<World>>>;

fn request(id: usize, world: &World) -> Value {
    let asked = &world.heard[id];
    let action = asked["action"].as_str().unwrap();
    let name = asked["options"]["start"]["name"]
        .as_str()
        .unwrap_or("train");
    let dry_run = asked["dry_run"].as_bool().unwrap_or_default();
    let (message, made) = match action {
        "source.launch" => (
            format!("cluster `{name}` launched"),
            format!("local/cluster_job/{name}/1"),
        ),
        "source.jobs_launch" => (
            format!("job 7 `{name}` submitted"),
            "local/job/7/0".to_owned(),
        ),
        "source.serve_up" => (
            format!("service `{name}` is coming up"),
            format!("local/service/{name}"),
        ),
        "cluster.exec" => (
            "job 3 submitted to `dev`".to_owned(),
            "local/cluster_job/dev/3".to_owned(),
        ),
        "job.relaunch" => (
            "job 8 `train` submitted".to_owned(),
            "local/job/8/0".to_owned(),
        ),
        "source.clear" => (
            "4 clusters, 6 managed jobs and 1 service".to_owned(),
            String::new(),
        ),
        other => (format!("{other} done"), String::new()),
    };
    let failed = !world.fails.is_empty() && name == world.fails;
    let (outcome, message) = match (dry_run, failed) {
        (true, _) => ("waiting", Value::Null),
        (_, true) => ("failed", "there is no python here".into()),
        _ => ("done", message.into()),
    };
    json!({
        "key": format!("skytower/request/{id}"), "source": "skytower", "name": action,
        "status": if failed { "FAILED" } else { "SUCCEEDED" },
        "phase": if failed { "failed" } else { "succeeded" },
        "request_id": id.to_string(), "action": action,
        "results": [{
            "key": asked["targets"][0], "target": "source/local", "outcome": outcome,
            "message": message, "upstream": if made.is_empty() || failed { Value::Null } else { made.into() },
        }],
    })
}

async fn list(State(world): Shared, Path(kind): Path<String>) -> Json<Value> {
    let world = world.lock().unwrap();
    let rows = match kind.as_str() {
        "sources" => &world.sources,
        "clusters" => &world.clusters,
        "jobs" => &world.jobs,
        _ => &world.services,
    };
    Json(json!({"rows": rows, "revision": 1}))
}

async fn create(State(world): Shared, Json(asked): Json<Value>) -> (StatusCode, Json<Value>) {
    let mut world = world.lock().unwrap();
    world.heard.push(asked);
    let row = request(world.heard.len() - 1, &world);
    (StatusCode::ACCEPTED, Json(row))
}

async fn of_id(State(world): Shared, Path(id): Path<usize>) -> Json<Value> {
    Json(request(id, &world.lock().unwrap()))
}

/// Rows and details of a job that has ended, and its log.
async fn detail(Path((_, key)): Path<(String, String)>) -> Json<Value> {
    let kind = key.split('/').nth(1).unwrap();
    let id = key.splitn(3, '/').nth(2).unwrap();
    Json(json!({"row": row(kind, id, "train", "SUCCEEDED", "succeeded")}))
}

async fn log() -> &'static str {
    "epoch 1 of 1\nthe log has ended\n"
}

async fn watch(State(world): Shared, upgrade: WebSocketUpgrade) -> Response {
    let say = async move |mut socket: WebSocket| {
        let rows = world.lock().unwrap().sources.clone();
        let you = json!({"ids": ["a"], "name": "alice", "role": "user"});
        let hello = json!({"type": "hello", "protocol": 1, "version": "0.1.0", "epoch": "e",
            "revision": 1, "view": "v", "you": you, "kinds": [], "at": 1});
        let snapshot = json!({"type": "snapshot", "kind": "source", "revision": 1, "rows": rows});
        let ready = json!({"type": "ready", "revision": 1});
        for said in [hello, snapshot, ready] {
            let _ = socket.send(Message::Text(said.to_string().into())).await;
        }
        while let Some(Ok(_)) = socket.recv().await {}
    };
    upgrade.protocols([SUBPROTOCOL_JSON]).on_upgrade(say)
}

fn row(kind: &str, id: &str, name: &str, status: &str, phase: &str) -> Value {
    json!({"key": format!("local/{kind}/{id}"), "source": "local", "name": name, "job_name": name,
        "status": status, "phase": phase, "owner": {"id": "a", "name": "alice"}, "job_id": 7, "task_id": 0})
}

impl Engine {
    async fn start() -> Self {
        let mut source = row("source", "local", "local", "healthy", "running");
        source["fetched_at"] = json!({"cluster": 1, "job": 1, "service": 1});
        let world = World {
            sources: vec![source],
            ..World::default()
        };
        let world = Arc::new(Mutex::new(world));
        let health = json!({"status": "healthy", "service": "skytower", "version": "0.1.0",
            "commit": "c0ffee", "api_version": 1, "epoch": "e", "revision": 1, "pid": 1,
            "user": {"ids": ["a"], "name": "alice", "role": "user"}});
        let router = Router::new()
            .route("/api/health", get(async move || Json(health)))
            .route("/api/v1/requests", post(create))
            .route("/api/v1/requests/{id}", get(of_id))
            .route("/api/v1/watch", get(watch))
            .route("/api/v1/{kind}", get(list))
            .route("/api/v1/{kind}/{key}", get(detail))
            .route("/api/v1/{kind}/{key}/logs", get(log))
            .with_state(world.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, world }
    }

    fn with<T>(&self, f: impl FnOnce(&mut World) -> T) -> T {
        f(&mut self.world.lock().unwrap())
    }

    /// What was asked for since the last time.
    fn heard(&self) -> Vec<Value> {
        let seen = self.with(|world| world.heard.clone());
        seen.into_iter()
            .filter(|asked| asked["seen"].is_null())
            .collect()
    }

    /// The one request since the last time.
    #[track_caller]
    fn one(&self) -> Value {
        let heard = self.heard();
        let [one] = heard.as_slice() else {
            panic!("{heard:#?}");
        };
        self.with(|world| {
            for asked in &mut world.heard {
                asked["seen"] = true.into();
            }
        });
        one.clone()
    }
}

fn desk(engine: &Engine) -> Desk {
    let mut desk = Desk::new();
    desk.variables
        .push(("SKYTOWER_ENDPOINT".to_owned(), engine.url.clone()));
    for (name, text) in [("train.yaml", TASK), ("hello.yaml", SERVICE)] {
        std::fs::write(desk.path().join(name), text).unwrap();
    }
    desk
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_a_file_is_said_before_anything_is_asked_for() {
    // No server is needed for that, and none is started.
    let mut desk = desk(&Engine {
        url: format!("http://127.0.0.1:{}", desk::nobody()),
        world: Arc::default(),
    });
    desk.variables.clear();
    let wrong = TASK
        .replace("run:", "rum:")
        .replace("cpus: 2", "use_spot: true");
    std::fs::write(desk.path().join("wrong.yaml"), wrong).unwrap();
    std::fs::create_dir(desk.path().join("folder")).unwrap();
    for words in [
        &["launch", "wrong.yaml", "-y"][..],
        &["launch", "wrong.yaml", "--dry-run"],
        &["jobs", "launch", "wrong.yaml", "-y"],
    ] {
        let ran = desk.run(words).await;
        assert_eq!(ran.code, 2, "{ran:#?}");
        let mut lines = ran.err.lines();
        for start in [
            "wrong.yaml:4: resources.use_spot: ",
            "wrong.yaml:8: secrets.TOKEN: ",
            "wrong.yaml:10: rum: ",
            "error: `wrong.yaml` cannot be started: 3 mistakes",
            "hint: ",
        ] {
            let line = lines.next().unwrap();
            assert!(line.starts_with(start), "`{start}` and not `{line}`");
        }
    }
    for (words, about) in [
        (
            &["launch", "nothing.yaml", "-y"][..],
            "there is no file `nothing.yaml`",
        ),
        (&["launch", "folder", "-y"], "is a folder"),
        (
            &["launch", "train.yaml", "-y", "--secret", "NOT_SET"],
            "no such variable",
        ),
        (
            &["launch", "train.yaml", "-y", "--env", "=x"],
            "the name of a variable",
        ),
        (
            &["launch", "train.yaml", "--secret", "TOKEN=x"],
            "no terminal to ask at",
        ),
        (&["serve", "up", "hello.yaml"], "no terminal to ask at"),
    ] {
        desk.run(words).await.failed(2, about);
    }
    // A pipe is no terminal either.
    let ran = desk.run_with(&["launch", "-"], SERVICE.as_bytes()).await;
    ran.failed(2, "no terminal to ask at");
    let token = &["--secret", "TOKEN=x"][..];
    for (words, about) in [
        (
            &["serve", "up", "train.yaml", "-y"][..],
            "train.yaml: service: it is missing",
        ),
        (
            &["serve", "update", "hello", "train.yaml", "-y"],
            "train.yaml: service: it is missing",
        ),
    ] {
        let ran = desk.run(&[words, token].concat()).await;
        assert!(ran.ended(2).err.contains(about), "{ran:#?}");
    }
    assert!(desk.servers().is_empty(), "a server was started");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_started_is_sent_as_it_was_given() {
    let engine = Engine::start().await;
    engine.with(|world| {
        world.clusters = vec![row("cluster", "dev", "dev", "UP", "running")];
        world.services = vec![row("service", "hello", "hello", "READY", "running")];
        world.jobs = vec![row("job", "7/0", "train", "FAILED", "failed")];
    });
    let mut desk = desk(&engine);
    let secret = "hunter2.secret";
    desk.keep_secret(&Credentials::Bearer(Secret::new(secret)));
    desk.variables.push(("TOKEN".to_owned(), secret.to_owned()));
    let folder = std::fs::canonicalize(desk.path()).unwrap();
    let folder = folder.to_str().unwrap();

    let words = "launch -c dev train.yaml --env EPOCHS=5 --secret TOKEN -i 10 --down --owner bob --workspace research -y";
    let ran = desk.run(&words.split(' ').collect::<Vec<_>>()).await;
    assert_eq!(ran.ended(0).out, "✓ cluster `dev` launched\n");
    assert!(ran.err.contains("skytower logs queue/dev/1 -f"), "{ran:#?}");
    let asked = engine.one();
    assert_eq!(asked["action"], "source.launch");
    assert_eq!(asked["targets"], json!(["local/source/local"]));
    assert_eq!(
        asked["options"],
        json!({"idle_minutes": 10, "down": true, "start": {
            "file": "train.yaml", "yaml": TASK, "folder": folder, "name": "dev",
            "envs": {"EPOCHS": "5"}, "secrets": {"TOKEN": secret},
            "owner": "bob", "workspace": "research",
        }})
    );

    let token = ["--secret", "TOKEN", "-y"];
    let run = async |words: &[&str]| desk.run(&[words, &token].concat()).await;
    let ran = run(&["jobs", "launch", "-n", "night", "train.yaml"]).await;
    assert_eq!(ran.ended(0).out, "✓ job 7 `night` submitted\n");
    let asked = engine.one();
    assert_eq!(asked["action"], "source.jobs_launch");
    assert_eq!(asked["options"]["start"]["name"], "night");
    assert!(asked["options"]["idle_minutes"].is_null());

    let ran = desk
        .run(&["serve", "up", "-n", "chat", "hello.yaml", "-y"])
        .await;
    assert_eq!(ran.ended(0).out, "✓ service `chat` is coming up\n");
    assert_eq!(engine.one()["action"], "source.serve_up");

    // As with `sky`, nobody is asked.
    let ran = desk
        .run(&["exec", "dev", "train.yaml", "--secret", "TOKEN"])
        .await;
    assert_eq!(ran.ended(0).out, "✓ job 3 submitted to `dev`\n");
    let asked = engine.one();
    assert_eq!(asked["action"], "cluster.exec");
    assert_eq!(asked["targets"], json!(["local/cluster/dev"]));

    desk.run(&["services", "update", "service/hello", "hello.yaml", "-y"])
        .await
        .ended(0);
    let asked = engine.one();
    assert_eq!(asked["action"], "service.update");
    assert_eq!(asked["targets"], json!(["local/service/hello"]));

    let ran = desk
        .run_with(&["launch", "-", "-y", "-c", "piped"], SERVICE.as_bytes())
        .await;
    ran.ended(0);
    let asked = engine.one();
    assert_eq!(asked["options"]["start"]["yaml"], SERVICE);
    assert_eq!(asked["options"]["start"]["file"], "-");

    let ran = desk.run(&["relaunch", "job/7"]).await;
    assert!(
        ran.ended(0).out.contains("job 8 `train` submitted"),
        "{ran:#?}"
    );
    let asked = engine.one();
    assert_eq!(asked["action"], "job.relaunch");
    assert_eq!(asked["targets"], json!(["local/job/7/0"]));

    // For programs.
    let ran = run(&["jobs", "launch", "train.yaml", "-o", "json"]).await;
    let said: Value = serde_json::from_str(&ran.ended(0).out).unwrap();
    assert_eq!(said["results"][0]["upstream"], "local/job/7/0");
    assert_eq!(said["task"]["tasks"][0]["secrets"]["TOKEN"], "<not shown>");
    engine.one();

    // A dry run shows it and only asks whether it would be taken.
    let ran = run(&["launch", "-c", "dev", "train.yaml", "--dry-run"]).await;
    for about in [
        "train.py",
        "EPOCHS=3",
        "TOKEN (not shown)",
        "$ sky launch -c dev train.yaml",
        "would be done",
    ] {
        assert!(ran.ended(0).out.contains(about), "{about}: {ran:#?}");
    }
    assert_eq!(engine.one()["dry_run"], true);

    // Beside a SkyPilot the name says where.
    let beside = row("source", "prod", "prod", "stopped", "stopped");
    engine.with(|world| world.sources.push(beside));
    let ran = run(&["jobs", "launch", "train.yaml"]).await;
    let said = "skytower logs local:job/7 -f";
    assert!(ran.ended(0).err.contains(said), "{ran:#?}");
    engine.with(|world| world.sources.truncate(1));
    engine.one();

    for (words, code, about) in [
        (
            &["exec", "dve", "train.yaml"][..],
            5,
            "there is no cluster `dve`",
        ),
        (
            &["serve", "update", "chat", "hello.yaml"],
            5,
            "there is no service `chat`",
        ),
    ] {
        run(words).await.failed(code, about);
    }
    assert!(engine.heard().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_there_is_no_engine_it_is_said_what_to_do() {
    let engine = Engine::start().await;
    let skypilot = json!({"key": "prod/source/prod", "source": "prod", "name": "prod",
        "status": "healthy", "phase": "running"});
    engine.with(|world| world.sources = vec![skypilot]);
    let desk = desk(&engine);
    for words in [
        &["launch", "hello.yaml", "-y"][..],
        &["exec", "dev", "hello.yaml", "-y"],
        &["serve", "up", "hello.yaml", "-y"],
        &["demo"],
        &["demo", "--stop"],
    ] {
        desk.run(words).await.failed(1, "no local engine");
    }
    // What it would be is shown all the same.
    let ran = desk.run(&["serve", "up", "hello.yaml", "--dry-run"]).await;
    assert!(ran.ended(1).out.contains("2 replicas"), "{ran:#?}");
    assert!(engine.heard().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_failed_is_told_by_the_exit_code() {
    let engine = Engine::start().await;
    engine.with(|world| world.fails = "broken");
    let desk = desk(&engine);
    let ran = desk
        .run(&["launch", "-c", "broken", "hello.yaml", "-y"])
        .await;
    assert_eq!(ran.ended(1).out, "✗ failed: there is no python here\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sample_team_comes_once_and_goes_whole() {
    let engine = Engine::start().await;
    let desk = desk(&engine);
    let ran = desk.run(&["demo"]).await;
    assert_eq!(ran.ended(0).out.lines().count(), TEAM.len(), "{ran:#?}");
    assert!(ran.out.contains("job 7 `tokenize` submitted"), "{ran:#?}");
    assert!(ran.err.contains("skytower demo --stop"), "{ran:#?}");
    let heard = engine.heard();
    assert_eq!(heard.len(), TEAM.len());
    for part in TEAM {
        let of = |asked: &&Value| asked["options"]["start"]["name"] == part.name;
        let asked = heard.iter().find(of).unwrap();
        assert_eq!(asked["action"], part.action);
        assert_eq!(asked["targets"], json!(["local/source/local"]));
        let start = &asked["options"]["start"];
        assert_eq!(
            [&start["owner"], &start["workspace"], &start["label"]],
            [part.owner, part.workspace, "demo"]
        );
        assert_eq!(start["yaml"], part.yaml);
    }
    // What is there is not started again; what has ended is.
    engine.with(|world| {
        world.heard.clear();
        for part in TEAM {
            let job = row("job", "7/0", part.name, "RUNNING", "running");
            match part.action {
                "source.launch" => world
                    .clusters
                    .push(row("cluster", part.name, part.name, "UP", "running")),
                "source.serve_up" => world
                    .services
                    .push(row("service", part.name, part.name, "READY", "running")),
                _ if part.name == "flaky" => world
                    .jobs
                    .push(row("job", "7/0", "flaky", "FAILED", "failed")),
                _ => world.jobs.push(job),
            }
        }
    });
    let ran = desk.run(&["demo"]).await;
    assert!(
        ran.ended(0)
            .out
            .contains("10 of the team were there already"),
        "{ran:#?}"
    );
    assert_eq!(engine.one()["options"]["start"]["name"], "flaky");
    let ran = desk.run(&["demo", "--stop"]).await;
    assert_eq!(
        ran.ended(0).out,
        "✓ the sample team has ended: 4 clusters, 6 managed jobs and 1 service\n"
    );
    let asked = engine.one();
    assert_eq!(asked["action"], "source.clear");
    assert_eq!(asked["options"], json!({"label": "demo"}));
    // One that does not start is named.
    engine.with(|world| {
        (world.clusters, world.jobs, world.services) = Default::default();
        world.fails = "train";
    });
    let ran = desk.run(&["demo"]).await;
    ran.failed(6, "1 of 11 could not be started: train");
    assert!(
        ran.out.contains("failed: there is no python here"),
        "{ran:#?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_a_terminal_it_is_shown_asked_about_and_followed() {
    let engine = Engine::start().await;
    let desk = desk(&engine);
    let words = ["jobs", "launch", "train.yaml", "--secret", "TOKEN=x"];
    let mut terminal = Terminal::of(desk.at_terminal(&words));
    tokio::task::block_in_place(|| {
        terminal.shows("TOKEN (not shown)");
        terminal.shows("Launch a managed job from train.yaml? [y/N]");
        terminal.types("y\n");
        terminal.shows("job 7 `train` submitted");
        terminal.shows("the log has ended");
        terminal.shows("job/7: SUCCEEDED");
        assert!(terminal.child.wait().unwrap().success());
    });
    assert_eq!(engine.one()["action"], "source.jobs_launch");
    // Whoever does not say yes starts nothing.
    let mut terminal = Terminal::of(desk.at_terminal(&words));
    tokio::task::block_in_place(|| {
        terminal.shows("[y/N]");
        terminal.types("\n");
        terminal.shows("nothing was started");
        assert_eq!(terminal.child.wait().unwrap().exit_code(), 1);
    });
    assert!(engine.heard().is_empty());
    // Detached: how to follow it is said.
    let words = [&words[..], &["-d", "-y"]].concat();
    let mut terminal = Terminal::of(desk.at_terminal(&words));
    tokio::task::block_in_place(|| terminal.shows("skytower logs job/7 -f"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_dashboard_reads_a_file_and_starts_it() {
    let engine = Engine::start().await;
    let desk = desk(&engine);
    std::fs::create_dir(desk.path().join("jobs")).unwrap();
    std::fs::write(
        desk.path().join("jobs/night.yaml"),
        "name: night\nrun: sleep 60\n",
    )
    .unwrap();
    let mut terminal = Terminal::of(desk.at_terminal(&["--view", "jobs"]));
    tokio::task::block_in_place(|| {
        terminal.shows("Nothing runs here yet");
        terminal.types("n");
        terminal.shows("Start a task from a file");
        terminal.types("jo\t");
        terminal.shows("jobs/");
        terminal.types("\t");
        terminal.shows("jobs/night.yaml");
        terminal.types("\r");
        terminal.shows("sky jobs launch -n night");
        terminal.types("\r");
        terminal.until("the request", |_| !engine.heard().is_empty());
        terminal.types("\x03");
        terminal.was_given_back();
    });
    let asked = engine.one();
    assert_eq!(asked["action"], "source.jobs_launch");
    assert_eq!(
        asked["options"]["start"]["yaml"],
        "name: night\nrun: sleep 60\n"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sample_team_opens_the_dashboard() {
    let engine = Engine::start().await;
    let desk = desk(&engine);
    let mut terminal = Terminal::of(desk.at_terminal(&["demo"]));
    tokio::task::block_in_place(|| {
        terminal.shows("1 Clusters");
        terminal.types("\x03");
        terminal.was_given_back();
        assert!(terminal.child.wait().unwrap().success());
    });
    assert_eq!(engine.heard().len(), TEAM.len());
}
