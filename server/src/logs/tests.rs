//! Sharing, with a source whose streams are written by the test.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::StreamExt;
use skytower_api_client::action::ActionSpec;
use skytower_api_client::entity::Job;
use skytower_api_client::wire::{Change, Problem};
use skytower_api_client::{Entity, Kind, Phase, Text};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::source::{BoxFuture, Detail, Found, Handover, HandoverError, HandoverResult, LogChunk};

type Item = Result<LogChunk, Problem>;

/// Hands each opened stream to the test, which writes it.
struct Scripted {
    name: Text,
    opened: AtomicUsize,
    streams: mpsc::UnboundedSender<(LogQuery, mpsc::UnboundedSender<Item>)>,
    refuses: bool,
}

impl Source for Scripted {
    fn name(&self) -> &Text {
        &self.name
    }
    fn run(self: Arc<Self>, stop: CancellationToken) -> BoxFuture<'static, ()> {
        Box::pin(async move { stop.cancelled().await })
    }
    fn focus(&self, _: &Key, _: bool) {}
    fn refresh(&self, _: &Key) {}
    fn plan(&self, _: &'static ActionSpec, _: &[Arc<Entity>]) -> Vec<Vec<usize>> {
        Vec::new()
    }
    fn submit<'a>(&'a self, _: &'a Handover) -> BoxFuture<'a, Result<Text, HandoverError>> {
        unreachable!()
    }
    fn find<'a>(&'a self, _: &'a Handover) -> BoxFuture<'a, Result<Found, Problem>> {
        unreachable!()
    }
    fn result<'a>(
        &'a self,
        _: &'a Handover,
        _: &'a Text,
    ) -> BoxFuture<'a, Result<HandoverResult, Problem>> {
        unreachable!()
    }
    fn detail<'a>(&'a self, _: &'a Entity) -> BoxFuture<'a, Result<Detail, Problem>> {
        unreachable!()
    }
    fn logs<'a>(&'a self, query: &'a LogQuery) -> BoxFuture<'a, Result<LogStream, Problem>> {
        Box::pin(async move {
            if self.refuses {
                return Err(Problem::new("source_failed", 502, "no such job"));
            }
            self.opened.fetch_add(1, Ordering::SeqCst);
            let (writer, mut items) = mpsc::unbounded_channel();
            self.streams.send((query.clone(), writer)).unwrap();
            let stream: LogStream = Box::pin(futures_util::stream::poll_fn(move |context| {
                items.poll_recv(context)
            }));
            Ok(stream)
        })
    }
}

struct Stage {
    logs: Arc<Logs>,
    state: Arc<Hub>,
    source: Arc<Scripted>,
    streams: mpsc::UnboundedReceiver<(LogQuery, mpsc::UnboundedSender<Item>)>,
}

fn stage_with(limits: Limits, refuses: bool) -> Stage {
    let (sender, streams) = mpsc::unbounded_channel();
    let source = Arc::new(Scripted {
        name: "prod".into(),
        opened: AtomicUsize::new(0),
        streams: sender,
        refuses,
    });
    let sources: Arc<[Arc<dyn Source>]> = Arc::new([source.clone() as Arc<dyn Source>]);
    let state = Arc::new(Hub::new());
    state.commit([Change::Upsert(job(1, Phase::Running))]);
    Stage {
        logs: Logs::with_limits(sources, limits),
        state,
        source,
        streams,
    }
}

fn stage() -> Stage {
    stage_with(quick(), false)
}

fn quick() -> Limits {
    Limits {
        linger: Duration::from_millis(20),
        pause: Duration::from_millis(1),
        settle: Duration::from_millis(20),
        ..Limits::default()
    }
}

fn job(id: i64, phase: Phase) -> Arc<Entity> {
    Job {
        key: Key::new("prod", Kind::Job, format!("{id}/0")),
        source: "prod".into(),
        job_id: id,
        phase,
        ..Job::default()
    }
    .into()
}

fn follow(id: i64, tail: Option<u32>) -> LogQuery {
    LogQuery {
        row: job(id, Phase::Running),
        channel: LogChannel::Run,
        follow: true,
        tail,
    }
}

#[allow(
    clippy::unnecessary_wraps,
    reason = "it stands beside the error that breaks a stream"
)]
fn chunk(words: impl AsRef<str>) -> Item {
    Ok(LogChunk::Text(words.as_ref().to_owned()))
}

fn lost() -> Item {
    Err(Problem::new("source_answer_lost", 502, "lost"))
}

/// Reads texts until `enough`.
async fn read_until(log: &mut LogStream, enough: impl Fn(&str) -> bool) -> String {
    let mut all = String::new();
    while !enough(&all) {
        let item = tokio::time::timeout(Duration::from_secs(30), log.next()).await;
        match item.expect("it stopped coming") {
            Some(Ok(LogChunk::Text(text))) => all += &text,
            Some(Ok(LogChunk::Waiting(_))) => {}
            Some(Err(problem)) => panic!("{problem}"),
            None => break,
        }
    }
    all
}

impl Stage {
    async fn open(&self, query: LogQuery) -> LogStream {
        self.logs.open(&self.state, query).await.unwrap()
    }

    async fn stream(&mut self) -> (LogQuery, mpsc::UnboundedSender<Item>) {
        let opened = tokio::time::timeout(Duration::from_secs(30), self.streams.recv()).await;
        opened.expect("no stream was opened").unwrap()
    }
}

#[tokio::test]
async fn fifty_readers_are_one_stream() {
    let mut stage = stage();
    let mut readers = Vec::new();
    for _ in 0..50 {
        readers.push(stage.open(follow(1, None)).await);
    }
    let (_, writer) = stage.stream().await;
    writer.send(chunk("a\nb\n")).unwrap();
    drop(writer);
    for reader in &mut readers {
        assert_eq!(read_until(reader, |_| false).await, "a\nb\n");
    }
    assert_eq!(stage.source.opened.load(Ordering::SeqCst), 1);
    assert_eq!(stage.logs.followed(), 0);
}

#[tokio::test]
async fn a_late_reader_begins_in_the_recent_text() {
    let mut stage = stage();
    let mut first = stage.open(follow(1, None)).await;
    let (_, writer) = stage.stream().await;
    writer.send(chunk("a\nb\nc")).unwrap();
    writer.send(chunk("c\nd\n")).unwrap();
    read_until(&mut first, |all| all.ends_with("d\n")).await;
    let mut late = stage.open(follow(1, Some(2))).await;
    let mut later = stage.open(follow(1, Some(0))).await;
    let mut whole = stage.open(follow(1, None)).await;
    writer.send(chunk("e\n")).unwrap();
    drop(writer);
    assert_eq!(read_until(&mut late, |_| false).await, "cc\nd\ne\n");
    assert_eq!(read_until(&mut later, |_| false).await, "e\n");
    assert_eq!(read_until(&mut whole, |_| false).await, "a\nb\ncc\nd\ne\n");
}

#[tokio::test]
async fn a_slow_reader_skips_visibly_and_a_quick_one_misses_nothing() {
    let mut stage = stage_with(
        Limits {
            ring: 10_000,
            ..quick()
        },
        false,
    );
    let mut quick = stage.open(follow(1, None)).await;
    let mut slow = stage.open(follow(1, None)).await;
    let (_, writer) = stage.stream().await;
    let line = format!("{}\n", "x".repeat(99));
    for _ in 0..1000 {
        writer.send(chunk(&line)).unwrap();
    }
    drop(writer);
    assert_eq!(read_until(&mut quick, |_| false).await.len(), 100_000);
    let rest = read_until(&mut slow, |_| false).await;
    assert!(
        rest.starts_with("\u{1b}[2m» ") && rest.contains("KiB skipped"),
        "{rest:.100}"
    );
    assert!(rest.len() < 11_000, "{}", rest.len());
}

#[tokio::test]
async fn one_reader_alone_is_waited_for() {
    let mut stage = stage_with(
        Limits {
            ring: 10_000,
            ..quick()
        },
        false,
    );
    let mut reader = stage.open(follow(1, None)).await;
    let (_, writer) = stage.stream().await;
    for _ in 0..1000 {
        writer.send(chunk("y".repeat(100))).unwrap();
    }
    drop(writer);
    assert_eq!(read_until(&mut reader, |_| false).await.len(), 100_000);
}

#[tokio::test]
async fn nobody_reads_so_nothing_is_read() {
    let mut stage = stage();
    let reader = stage.open(follow(1, None)).await;
    let (_, writer) = stage.stream().await;
    drop(reader);
    tokio::time::timeout(Duration::from_secs(30), writer.closed())
        .await
        .expect("the stream goes on");
    assert_eq!(stage.logs.followed(), 0);
    // Whoever comes then gets a stream of their own.
    let _reader = stage.open(follow(1, None)).await;
    assert_eq!(stage.source.opened.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_broken_stream_goes_on_without_repeating() {
    let mut stage = stage();
    let mut reader = stage.open(follow(1, None)).await;
    let (_, writer) = stage.stream().await;
    writer
        .send(chunk("step 1 of 9\nstep 2 of 9\nstep 3"))
        .unwrap();
    writer.send(lost()).unwrap();
    let (again, writer) = stage.stream().await;
    assert_eq!(again.tail, Some(1000));
    writer
        .send(chunk("Job started.\nstep 1 of 9\nstep 2 of 9\n"))
        .unwrap();
    writer.send(chunk("step 3 of 9\nstep 4 of 9\n")).unwrap();
    drop(writer);
    assert_eq!(
        read_until(&mut reader, |_| false).await,
        "step 1 of 9\nstep 2 of 9\nstep 3 of 9\nstep 4 of 9\n"
    );
}

#[tokio::test]
async fn what_is_over_is_tried_once_more_and_then_left() {
    let mut stage = stage();
    let mut reader = stage.open(follow(1, None)).await;
    let (_, writer) = stage.stream().await;
    writer.send(chunk("the last words\n")).unwrap();
    stage
        .state
        .commit([Change::Upsert(job(1, Phase::Succeeded))]);
    writer.send(lost()).unwrap();
    let (_, writer) = stage.stream().await;
    writer.send(chunk("the last words\n")).unwrap();
    writer.send(lost()).unwrap();
    assert_eq!(read_until(&mut reader, |_| false).await, "the last words\n");
    assert_eq!(stage.source.opened.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn why_a_log_cannot_be_opened_is_told_before_it_begins() {
    let stage = stage_with(quick(), true);
    let refused = stage.logs.open(&stage.state, follow(1, None)).await;
    assert_eq!(
        refused.err().unwrap().detail.as_deref(),
        Some("no such job")
    );
}

#[tokio::test]
async fn there_are_only_so_many_streams() {
    let stage = stage_with(
        Limits {
            streams: 2,
            ..quick()
        },
        false,
    );
    let _one = stage.open(follow(1, None)).await;
    let once = LogQuery {
        follow: false,
        ..follow(2, None)
    };
    let two = stage.open(once.clone()).await;
    let refused = stage.logs.open(&stage.state, follow(3, None)).await;
    assert_eq!(&*refused.err().unwrap().code, "too_many_logs");
    // One that is read already is no further stream.
    let _shared = stage.open(follow(1, None)).await;
    drop(two);
    let _three = stage.open(once).await;
}
