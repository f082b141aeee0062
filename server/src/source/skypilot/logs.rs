//! Logs of clusters, jobs, services, pools and requests: which call, and what its stream means.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use serde_json::{Value, json};
use skytower_api_client::entity::Entity;
use skytower_api_client::wire::Problem;
use skytower_api_client::{Kind, Text};
use tokio::sync::mpsc;

use super::client::{CallError, Client, escape};
use super::payload::{Piece, Splitter};
use crate::logs::clean::Cleaner;
use crate::source::{LogChannel, LogChunk, LogQuery, LogStream};

/// SkyPilot answers `follow: false` for a job that has not started only when it does. Whoever does
/// not follow wants what there is now.
const SNAPSHOT_IDLE: Duration = Duration::from_secs(30);
/// SkyPilot sends a heartbeat each 30 s: after several that did not come the connection is dead.
const FOLLOW_IDLE: Duration = Duration::from_secs(150);
/// How often a call is made again when SkyPilot asks for it, and the pause before each.
const RETRIES: u32 = 10;
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// How long the outcome of a stream that has ended is waited for.
const OUTCOME_DEADLINE: Duration = Duration::from_secs(5);
/// Chunks between the connection and its reader.
const BUFFERED: usize = 8;

type Upstream = Pin<Box<dyn Stream<Item = Result<Bytes, CallError>> + Send>>;

/// One call that opens a log.
#[derive(Clone, Debug, PartialEq)]
struct Call {
    path: String,
    /// None for GET.
    body: Option<Value>,
    /// A request of SkyPilot's stands behind the stream: it sends heartbeats and has an outcome.
    is_request: bool,
}

/// Opens a log.
pub(super) async fn open(client: &Client, query: &LogQuery) -> Result<LogStream, Problem> {
    let call = call(query)?;
    let (id, upstream) = connect(client, &call)
        .await
        .map_err(|error| error.problem())?;
    let (chunks, mut received) = mpsc::channel(BUFFERED);
    let reading = Reading {
        client: client.clone(),
        call,
        name: query.row.name().clone(),
        follow: query.follow,
        chunks: chunks.clone(),
        wrote: false,
        waiting: None,
    };
    tokio::spawn(async move {
        tokio::select! {
            // Dropping the connection is how SkyPilot learns that nobody reads any more.
            () = chunks.closed() => {}
            () = reading.run(id, upstream) => {}
        }
    });
    Ok(Box::pin(futures_util::stream::poll_fn(move |context| {
        received.poll_recv(context)
    })))
}

async fn connect(client: &Client, call: &Call) -> Result<(Text, Upstream), CallError> {
    Ok(if let Some(body) = &call.body {
        let (id, stream) = client.stream(&call.path, body.clone()).await?;
        (id, Box::pin(stream) as Upstream)
    } else {
        let (id, stream) = client.get_stream(&call.path).await?;
        (id, Box::pin(stream) as Upstream)
    })
}

/// Which call opens the log that is asked for.
fn call(query: &LogQuery) -> Result<Call, Problem> {
    let LogQuery {
        row,
        channel,
        follow,
        tail,
    } = query;
    let (follow, tail) = (*follow, *tail);
    let post = |path: &str, body: Value| Call {
        path: path.to_owned(),
        body: Some(in_workspace(body, row.workspace())),
        is_request: true,
    };
    // SkyPilot shows the last lines of these or follows them, not both.
    let serving_tail = if follow { None } else { tail };
    let cluster_log = |cluster: &Text, job: Option<i64>| {
        post(
            "/logs",
            json!({"cluster_name": cluster, "job_id": job, "follow": follow, "tail": tail.unwrap_or(0)}),
        )
    };
    let service_log = |service: &Text, target: &str, replica: Option<i64>| {
        let mut body = json!({"service_name": service, "target": target, "follow": follow, "tail": serving_tail});
        if replica.is_some() {
            body["replica_id"] = json!(replica);
        }
        post("/serve/logs", body)
    };
    let pool_log = |pool: &Text, target: &str, worker: Option<i64>| {
        let mut body =
            json!({"pool_name": pool, "target": target, "follow": follow, "tail": serving_tail});
        if worker.is_some() {
            body["worker_id"] = json!(worker);
        }
        post("/jobs/pool_logs", body)
    };
    let provision_log = |cluster: &Text| {
        let tail = tail.map_or_else(String::new, |tail| format!("&tail={tail}"));
        Call {
            is_request: false,
            ..post(
                &format!("/provision_logs?follow={follow}{tail}"),
                json!({"cluster_name": cluster, "worker": null}),
            )
        }
    };
    Ok(match (&**row, channel) {
        (Entity::Cluster(cluster), LogChannel::Run) => cluster_log(&cluster.name, None),
        (Entity::Cluster(cluster), LogChannel::Provision) => provision_log(&cluster.name),
        (Entity::ClusterJob(job), LogChannel::Run) => cluster_log(&job.cluster, Some(job.job_id)),
        (Entity::ClusterJob(job), LogChannel::Provision) => provision_log(&job.cluster),
        (Entity::Job(job), LogChannel::Run | LogChannel::Controller) => {
            let controller = *channel == LogChannel::Controller;
            let mut body = json!({
                "job_id": job.job_id, "follow": follow, "controller": controller, "tail": tail, "refresh": false,
            });
            // The one task of a plain job needs no name; servers before 0.13 know none.
            if !controller && (job.task_id > 0 || job.group || job.name != job.job_name) {
                body["task"] = json!(job.task_id);
            }
            post("/jobs/logs", body)
        }
        (Entity::Job(job), LogChannel::Provision) => match &job.cluster {
            Some(cluster) => provision_log(cluster),
            None => return Err(no_cluster(row)),
        },
        (Entity::Service(service), LogChannel::Run) => {
            service_log(&service.name, "load_balancer", None)
        }
        (Entity::Service(service), LogChannel::Controller) => {
            service_log(&service.name, "controller", None)
        }
        (Entity::Replica(replica), LogChannel::Run) => {
            service_log(&replica.service, "replica", Some(replica.replica_id))
        }
        (Entity::Replica(replica), LogChannel::Controller) => {
            service_log(&replica.service, "controller", None)
        }
        (Entity::Pool(pool), LogChannel::Run | LogChannel::Controller) => {
            pool_log(&pool.name, "controller", None)
        }
        (Entity::Worker(worker), LogChannel::Run) => {
            pool_log(&worker.pool, "replica", Some(worker.worker_id))
        }
        (Entity::Worker(worker), LogChannel::Controller) => {
            pool_log(&worker.pool, "controller", None)
        }
        (Entity::Request(request), LogChannel::Run) if *request.origin == *"skypilot" => {
            let tail = tail.map_or_else(String::new, |tail| format!("&tail={tail}"));
            Call {
                path: format!(
                    "/api/stream?request_id={}&format=console&follow={follow}{tail}",
                    escape(&request.request_id)
                ),
                body: None,
                is_request: false,
            }
        }
        _ => return Err(no_such_log(row, *channel)),
    })
}

fn no_cluster(row: &Entity) -> Problem {
    Problem::new(
        "no_log",
        404,
        format!("{} {} has no cluster yet", row.kind(), row.name()),
    )
    .hint("its controller log says what it waits for: channel `controller`")
}

fn no_such_log(row: &Entity, channel: LogChannel) -> Problem {
    let name = row.name();
    let kind = row.kind();
    let problem = Problem::new(
        "no_log",
        404,
        format!("{kind} {name} has no {} log", channel.word()),
    );
    if kind == Kind::Request {
        problem.hint("requests of skytower have their results in the row; SkyPilot's have a log")
    } else {
        let channels: Vec<_> = LogChannel::ALL
            .iter()
            .filter(|channel| has_channel(kind, **channel))
            .map(|channel| channel.word())
            .collect();
        if channels.is_empty() {
            problem
                .hint("clusters, jobs, services, replicas, pools, workers and requests have logs")
        } else {
            problem.hint(format!("a {kind} has these: {}", channels.join(", ")))
        }
    }
}

const fn has_channel(kind: Kind, channel: LogChannel) -> bool {
    match channel {
        LogChannel::Run => matches!(
            kind,
            Kind::Cluster
                | Kind::ClusterJob
                | Kind::Job
                | Kind::Service
                | Kind::Replica
                | Kind::Pool
                | Kind::Worker
        ),
        LogChannel::Controller => matches!(
            kind,
            Kind::Job | Kind::Service | Kind::Replica | Kind::Pool | Kind::Worker
        ),
        LogChannel::Provision => matches!(kind, Kind::Cluster | Kind::ClusterJob | Kind::Job),
    }
}

/// A request runs in the caller's own workspace unless it says otherwise.
fn in_workspace(mut body: Value, workspace: Option<&Text>) -> Value {
    if let Some(workspace) = workspace {
        body["override_skypilot_config"] = json!({"active_workspace": workspace});
    }
    body
}

enum End {
    /// The log has ended.
    Done,
    /// The call should be made again.
    Retry,
    /// The reader is gone, or was told what went wrong.
    Told,
}

struct Reading {
    client: Client,
    call: Call,
    name: Text,
    follow: bool,
    chunks: mpsc::Sender<Result<LogChunk, Problem>>,
    wrote: bool,
    waiting: Option<Text>,
}

impl Reading {
    async fn run(mut self, mut id: Text, mut upstream: Upstream) {
        for _ in 0..RETRIES {
            match self.read(upstream).await {
                End::Told => return,
                End::Done => return self.outcome(&id).await,
                End::Retry if self.wrote => {
                    // A new call would repeat what was read: that is for whoever can tell.
                    let lost = CallError::Lost {
                        url: self.client.url().clone(),
                    };
                    return self.fail(lost.problem()).await;
                }
                End::Retry => {}
            }
            tokio::time::sleep(RETRY_PAUSE).await;
            match connect(&self.client, &self.call).await {
                Ok(connected) => (id, upstream) = connected,
                Err(error) => return self.fail(error.problem()).await,
            }
        }
        let busy = CallError::Busy("it asks to try again, time after time".into());
        self.fail(busy.problem()).await;
    }

    async fn read(&mut self, mut upstream: Upstream) -> End {
        let (mut splitter, mut cleaner) = (Splitter::new(), Cleaner::new());
        // Without following, heartbeats do not count: only what there is to read.
        let mut quiet_until = tokio::time::Instant::now() + SNAPSHOT_IDLE;
        loop {
            let next = if self.follow {
                let silence = if self.call.is_request {
                    FOLLOW_IDLE
                } else {
                    Duration::MAX
                };
                match tokio::time::timeout(silence, upstream.next()).await {
                    Ok(next) => next,
                    Err(_) => Some(Err(CallError::Lost {
                        url: self.client.url().clone(),
                    })),
                }
            } else {
                match tokio::time::timeout_at(quiet_until, upstream.next()).await {
                    Ok(next) => next,
                    Err(_) if self.wrote => None,
                    Err(_) => {
                        self.fail(self.not_yet()).await;
                        return End::Told;
                    }
                }
            };
            let (pieces, ended) = match next {
                Some(Ok(bytes)) => (splitter.push(&bytes), false),
                Some(Err(error)) => {
                    self.fail(error.problem()).await;
                    return End::Told;
                }
                None => (splitter.finish(), true),
            };
            for piece in pieces {
                let chunk = match piece {
                    Piece::Text(bytes) => LogChunk::Text(cleaner.push(&bytes)),
                    Piece::Waiting(waiting) => {
                        self.waiting.clone_from(&waiting);
                        LogChunk::Waiting(waiting)
                    }
                    Piece::Retry => return End::Retry,
                };
                if !self.send(chunk, &mut quiet_until).await {
                    return End::Told;
                }
            }
            if ended {
                let rest = LogChunk::Text(cleaner.finish());
                let heard = self.send(rest, &mut quiet_until).await;
                return if heard { End::Done } else { End::Told };
            }
        }
    }

    /// False when nobody reads any more.
    async fn send(&mut self, chunk: LogChunk, quiet_until: &mut tokio::time::Instant) -> bool {
        if let LogChunk::Text(text) = &chunk {
            if text.is_empty() {
                return true;
            }
            self.wrote = true;
            *quiet_until = tokio::time::Instant::now() + SNAPSHOT_IDLE;
        }
        self.chunks.send(Ok(chunk)).await.is_ok()
    }

    async fn fail(&self, problem: Problem) {
        // Nobody listens any more: there is nobody to tell.
        let _ = self.chunks.send(Err(problem)).await;
    }

    /// SkyPilot answers 200 before it knows whether it can read the log: why it could not stands in
    /// the request's result.
    async fn outcome(&self, id: &str) {
        if !self.call.is_request || id.is_empty() {
            return;
        }
        if let Err(error @ CallError::Failed { .. }) =
            self.client.result(id, OUTCOME_DEADLINE).await
        {
            self.fail(error.problem()).await;
        }
    }

    fn not_yet(&self) -> Problem {
        let waiting = self
            .waiting
            .as_ref()
            .map_or_else(String::new, |waiting| format!(": {waiting}"));
        Problem::new(
            "log_not_begun",
            504,
            format!("the log of {} has not begun{waiting}", self.name),
        )
        .hint("follow it to see it when it begins")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use skytower_api_client::entity::{
        Cluster, ClusterJob, Job, Replica, Request, Service, User, Worker,
    };

    use super::*;

    fn query(row: impl Into<Arc<Entity>>, channel: LogChannel) -> LogQuery {
        LogQuery {
            row: row.into(),
            channel,
            follow: true,
            tail: Some(10),
        }
    }

    fn asked(row: impl Into<Arc<Entity>>, channel: LogChannel) -> (String, Value) {
        let call = call(&query(row, channel)).unwrap();
        (call.path, call.body.unwrap_or_default())
    }

    #[test]
    fn a_cluster_job_is_read_in_its_workspace() {
        let job = ClusterJob {
            cluster: "train-llm".into(),
            job_id: 3,
            workspace: Some("research".into()),
            ..ClusterJob::default()
        };
        let (path, body) = asked(job, LogChannel::Run);
        assert_eq!(path, "/logs");
        assert_eq!(
            body,
            json!({"cluster_name": "train-llm", "job_id": 3, "follow": true, "tail": 10,
                "override_skypilot_config": {"active_workspace": "research"}})
        );
    }

    #[test]
    fn a_cluster_has_its_latest_job_and_its_launch() {
        let cluster = Cluster {
            name: "dev".into(),
            ..Cluster::default()
        };
        let (_, body) = asked(cluster.clone(), LogChannel::Run);
        assert_eq!(body["job_id"], Value::Null);
        let (path, body) = asked(cluster.clone(), LogChannel::Provision);
        assert_eq!(path, "/provision_logs?follow=true&tail=10");
        assert_eq!(body["cluster_name"], "dev");
        let problem = call(&query(cluster, LogChannel::Controller)).unwrap_err();
        assert_eq!(
            problem.hint.as_deref(),
            Some("a cluster has these: run, provision")
        );
    }

    #[test]
    fn only_tasks_of_pipelines_are_named() {
        let job = Job {
            name: "a".into(),
            job_name: "a".into(),
            job_id: 7,
            ..Job::default()
        };
        let (path, body) = asked(job.clone(), LogChannel::Run);
        assert_eq!((path.as_str(), body.get("task")), ("/jobs/logs", None));
        assert_eq!(body["refresh"], false);
        let task = Job {
            name: "eval".into(),
            task_id: 1,
            ..job
        };
        assert_eq!(asked(task.clone(), LogChannel::Run).1["task"], 1);
        let (_, body) = asked(task, LogChannel::Controller);
        assert_eq!(
            (&body["controller"], body.get("task")),
            (&json!(true), None)
        );
    }

    #[test]
    fn services_and_workers_have_targets() {
        let service = Service {
            name: "chat".into(),
            ..Service::default()
        };
        let (_, body) = asked(service, LogChannel::Run);
        assert_eq!(
            (&body["target"], &body["tail"]),
            (&json!("load_balancer"), &Value::Null)
        );
        let replica = Replica {
            service: "chat".into(),
            replica_id: 2,
            ..Replica::default()
        };
        let (_, body) = asked(replica, LogChannel::Run);
        assert_eq!(
            (&body["target"], &body["replica_id"]),
            (&json!("replica"), &json!(2))
        );
        let worker = Worker {
            pool: "warm".into(),
            worker_id: 1,
            ..Worker::default()
        };
        let (path, body) = asked(worker, LogChannel::Run);
        assert_eq!(
            (path.as_str(), &body["worker_id"]),
            ("/jobs/pool_logs", &json!(1))
        );
    }

    #[test]
    fn requests_of_skypilot_have_a_log_and_users_have_none() {
        let request = Request {
            origin: "skypilot".into(),
            request_id: "a&b".into(),
            ..Request::default()
        };
        let (path, _) = asked(request, LogChannel::Run);
        assert_eq!(
            path,
            "/api/stream?request_id=a%26b&format=console&follow=true&tail=10"
        );
        assert!(call(&query(Request::default(), LogChannel::Run)).is_err());
        assert!(call(&query(User::default(), LogChannel::Run)).is_err());
    }

    /// A server whose `/logs` answers with these bodies, one after the other; the connection breaks
    /// after a body that ends in `!`. Every request has failed when it is asked about.
    async fn server(bodies: &'static [&'static str]) -> Client {
        use axum::body::Body;
        use axum::response::Response;
        use std::sync::atomic::{AtomicUsize, Ordering};

        let answer = |status: u16, body: Body| {
            Response::builder()
                .status(status)
                .header("x-skypilot-api-version", "62")
                .header("x-skypilot-version", "0.14.1")
                .header("x-skypilot-request-id", "rid-1")
                .body(body)
                .unwrap()
        };
        let calls = Arc::new(AtomicUsize::new(0));
        let logs = move || {
            let body = bodies[calls.fetch_add(1, Ordering::SeqCst)];
            let mut chunks = vec![Ok(Bytes::from_static(
                body.trim_end_matches('!').as_bytes(),
            ))];
            if body.ends_with('!') {
                chunks.push(Err(std::io::Error::other("cut")));
            }
            // A pause between the chunks: what was written is sent before the connection breaks.
            let chunks = futures_util::stream::iter(chunks).then(async |chunk| {
                tokio::task::yield_now().await;
                chunk
            });
            let answer = answer(200, Body::from_stream(chunks));
            async move { answer }
        };
        let error = json!({"type": "ClusterNotUpError", "message": "Cluster 'dev' is not up."});
        let failed =
            json!({"detail": {"status": "FAILED", "error": error.to_string()}}).to_string();
        let router = axum::Router::new()
            .route("/logs", axum::routing::post(logs))
            .route(
                "/api/get",
                axum::routing::get(move || {
                    let answer = answer(500, Body::from(failed.clone()));
                    async move { answer }
                }),
            );
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Client::new(&url, &skytower_api_client::credentials::Credentials::None).unwrap()
    }

    async fn read(bodies: &'static [&'static str]) -> (String, Option<Problem>) {
        let client = server(bodies).await;
        let cluster = Cluster {
            name: "dev".into(),
            ..Cluster::default()
        };
        let mut log = open(&client, &query(cluster, LogChannel::Run))
            .await
            .unwrap();
        let (mut text, mut problem) = (String::new(), None);
        while let Some(item) = log.next().await {
            match item {
                Ok(LogChunk::Text(more)) => text += &more,
                Ok(LogChunk::Waiting(_)) => {}
                Err(error) => problem = Some(error),
            }
        }
        (text, problem)
    }

    #[tokio::test]
    async fn why_a_log_could_not_be_read_is_told_after_its_empty_answer() {
        let (text, problem) = read(&["\u{1b}]0;x\u{7}\n"]).await;
        assert_eq!(text, "\n");
        let problem = problem.unwrap();
        assert_eq!(problem.code, "source_failed");
        assert_eq!(problem.detail.as_deref(), Some("Cluster 'dev' is not up."));
    }

    #[tokio::test]
    async fn the_call_is_made_again_when_skypilot_asks_for_it() {
        let (text, _) = read(&[
            "<sky-payload>\"<retry></retry>\"</sky-payload>\n",
            "words\n",
        ])
        .await;
        assert_eq!(text, "words\n");
    }

    #[tokio::test]
    async fn a_broken_connection_is_an_error_that_passes() {
        let (text, problem) = read(&["words\n!"]).await;
        assert_eq!(text, "words\n");
        assert_eq!(problem.unwrap().code, "source_answer_lost");
    }
}
