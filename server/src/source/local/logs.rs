//! Logs of what runs here: the files that the keepers write, one after the other, followed as they grow.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::time::Duration;

use skytower_api_client::human;
use skytower_api_client::wire::Problem;
use skytower_api_client::{Block, Key, Kind, Text};
use tokio::sync::{mpsc, oneshot};

use super::actor::Message;
use super::state::{Belongs, Purpose, State, Story, Work};
use crate::keeper::{self, Keepers};
use crate::logs::clean::Cleaner;
use crate::source::{Detail, LogChannel, LogChunk, LogStream};

/// How often files are looked at that somebody follows.
const LOOK_EVERY: Duration = Duration::from_millis(150);
/// Read at once.
const PIECE: usize = 64 * 1024;
/// A line that is longer is passed on in pieces, each with its prefix.
const LINE: usize = 64 * 1024;

/// A log: its segments, one after the other.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct LogPlan {
    pub segments: Vec<Segment>,
    /// Nothing will come any more.
    pub over: bool,
    /// What it waits for.
    pub waiting: Option<Text>,
}

/// Files that are written at the same time.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Segment {
    /// A line in front.
    pub title: Option<String>,
    pub files: Vec<Part>,
    /// Text instead of files.
    pub text: Option<String>,
}

/// One file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Part {
    pub path: PathBuf,
    /// In front of each of its lines.
    pub prefix: String,
    /// It grows no more.
    pub over: bool,
}

/// More about a row: the text it was made from.
pub(super) fn detail(state: &State, key: &Key) -> Detail {
    let Some(belongs) = belongs(state, key) else {
        return Detail::default();
    };
    Detail {
        yaml: (!belongs.yaml.is_empty()).then(|| Block::new(&belongs.yaml)),
        entrypoint: (!belongs.entrypoint.is_empty()).then(|| belongs.entrypoint.clone()),
    }
}

fn belongs<'a>(state: &'a State, key: &Key) -> Option<&'a Belongs> {
    let id = key.id();
    match key.kind()? {
        Kind::Cluster => Some(&state.clusters.get(&Text::from(id))?.belongs),
        Kind::ClusterJob => Some(&state.cluster_jobs.get(&pair(id)?)?.belongs),
        Kind::Job => Some(
            &state
                .jobs
                .get(&id.split('/').next()?.parse().ok()?)?
                .belongs,
        ),
        Kind::Service => Some(&state.services.get(&Text::from(id))?.belongs),
        Kind::Replica => Some(&state.services.get(&pair(id)?.0)?.belongs),
        _ => None,
    }
}

/// `name/number`.
fn pair(id: &str) -> Option<(Text, i64)> {
    let (name, number) = id.rsplit_once('/')?;
    Some((Text::from(name), number.parse().ok()?))
}

/// The log of a row as it is now.
pub(super) fn plan(
    state: &State,
    keepers: &Keepers,
    key: &Key,
    channel: LogChannel,
) -> Option<LogPlan> {
    let id = key.id();
    match key.kind()? {
        Kind::Cluster => {
            let cluster = state.clusters.get(&Text::from(id))?;
            if channel != LogChannel::Run {
                return Some(told(&cluster.story, cluster.ended_at.is_some()));
            }
            let jobs = state.cluster_jobs.values();
            let mut jobs = jobs;
            let last = jobs.rfind(|job| job.cluster == cluster.name);
            Some(match last {
                None => LogPlan {
                    over: true,
                    ..LogPlan::default()
                },
                Some(job) => of_works(state, keepers, &[job.work], true),
            })
        }
        Kind::ClusterJob => {
            let job = state.cluster_jobs.get(&pair(id)?)?;
            Some(of_works(state, keepers, &[job.work], true))
        }
        Kind::Job => {
            let (job, number) = id.split_once('/')?;
            let job = state.jobs.get(&job.parse().ok()?)?;
            if channel != LogChannel::Run {
                return Some(told(&job.story, job.is_over()));
            }
            let task = job.tasks.get(number.parse::<usize>().ok()?)?;
            let works: Vec<u64> = task.earlier.iter().chain(&task.work).copied().collect();
            let mut plan = of_works(state, keepers, &works, task.stage.is_over());
            if works.is_empty() {
                plan.waiting = Some("waits until it is started".into());
            } else if plan.waiting.is_none() && !task.stage.is_over() && task.again_at.is_some() {
                plan.waiting = Some("waits until it is started again".into());
            }
            Some(plan)
        }
        Kind::Service => {
            let service = state.services.get(&Text::from(id))?;
            let over = service.ended_at.is_some();
            if channel == LogChannel::Run {
                return Some(of_works(state, keepers, &[service.balancer], over));
            }
            Some(told(&service.story, over))
        }
        Kind::Replica => {
            let (name, number) = pair(id)?;
            let service = state.services.get(&name)?;
            let replica = service.replicas.iter().find(|r| r.id == number)?;
            if channel != LogChannel::Run {
                return Some(told(&service.story, replica.ended_at.is_some()));
            }
            Some(of_works(state, keepers, &[replica.work], true))
        }
        _ => None,
    }
}

/// The story of a thing as a log.
fn told(story: &Story, over: bool) -> LogPlan {
    let lines = story.0.iter().map(|happening| {
        let at = human::date_time(happening.at, false);
        format!("{at} {}\n", happening.text)
    });
    LogPlan {
        segments: vec![Segment {
            title: None,
            files: Vec::new(),
            text: Some(lines.collect()),
        }],
        over,
        waiting: None,
    }
}

fn of_works(state: &State, keepers: &Keepers, works: &[u64], no_more: bool) -> LogPlan {
    let mut plan = LogPlan {
        over: no_more,
        ..LogPlan::default()
    };
    for (number, id) in works.iter().enumerate() {
        let Some(work) = state.works.get(id) else {
            continue;
        };
        let title = (number > 0).then(|| format!("[skytower] attempt {}", number + 1));
        for setup in [true, false] {
            let files = parts(keepers, work, setup);
            if !files.is_empty() {
                let title = if setup || !had_setup(work) {
                    title.clone()
                } else {
                    None
                };
                plan.segments.push(Segment {
                    title,
                    files,
                    text: None,
                });
            }
        }
        plan.over &= work.is_over();
        plan.waiting = work.why.clone().filter(|_| !work.is_over());
    }
    plan
}

fn had_setup(work: &Work) -> bool {
    work.units.iter().any(|unit| unit.setup)
}

fn parts(keepers: &Keepers, work: &Work, setup: bool) -> Vec<Part> {
    let several = work.addresses.len() > 1;
    let units = work.units.iter().enumerate();
    units
        .filter(|(_, unit)| unit.setup == setup)
        .map(|(number, unit)| Part {
            path: keepers.log_path(&work.unit_name(number)),
            prefix: match (&work.purpose, several, unit.node) {
                (Purpose::Balancer { .. }, ..) | (_, false, _) => String::new(),
                // As SkyPilot marks them.
                (_, true, 0) => "(head, rank=0) ".to_owned(),
                (_, true, node) => format!("(worker{node}, rank={node}) "),
            },
            over: unit.is_over(),
        })
        .collect()
}

/// Opens a log; the engine is asked again what belongs to it while it is followed.
pub(super) async fn open(
    engine: Sender<Message>,
    key: Key,
    channel: LogChannel,
    follow: bool,
    tail: Option<u32>,
) -> Result<LogStream, Problem> {
    let plan = ask(&engine, &key, channel).await.ok_or_else(|| {
        Problem::new(
            "not_found",
            404,
            format!("the local engine has no log of `{}` (any more)", key.id()),
        )
    })?;
    let (send, receive) = mpsc::channel(16);
    let mut reader = Reader {
        send,
        segment: 0,
        places: Vec::new(),
        entered: false,
        waiting: None,
    };
    tokio::spawn(async move {
        if let Some(lines) = tail {
            reader.begin_near_the_end(&plan, lines as usize);
        }
        let mut plan = plan;
        loop {
            if reader.read(&plan).await.is_err() || !follow {
                return;
            }
            if plan.over && reader.segment + 1 >= plan.segments.len().max(1) {
                return;
            }
            if reader.segment + 1 < plan.segments.len() && reader.finished(&plan) {
                continue;
            }
            tokio::time::sleep(LOOK_EVERY).await;
            match ask(&engine, &key, channel).await {
                Some(next) => plan = next,
                None => return,
            }
        }
    });
    Ok(Box::pin(futures_util::stream::unfold(
        receive,
        async |mut receive| receive.recv().await.map(|item| (item, receive)),
    )))
}

async fn ask(engine: &Sender<Message>, key: &Key, channel: LogChannel) -> Option<LogPlan> {
    let (reply, answer) = oneshot::channel();
    let key = key.clone();
    engine
        .send(Message::Logs {
            key,
            channel,
            reply,
        })
        .ok()?;
    answer.await.ok().flatten()
}

/// Nobody reads any more.
struct Unread;

/// Where a reader is.
struct Reader {
    send: mpsc::Sender<Result<LogChunk, Problem>>,
    segment: usize,
    places: Vec<Place>,
    /// The title of the present segment was passed on.
    entered: bool,
    waiting: Option<Text>,
}

/// Where in a file, and what of a line was read.
#[derive(Default)]
struct Place {
    offset: u64,
    line: Vec<u8>,
    cleaner: Option<Cleaner>,
}

impl Reader {
    /// Everything that is there now.
    async fn read(&mut self, plan: &LogPlan) -> Result<(), Unread> {
        while self.segment < plan.segments.len() {
            let segment = &plan.segments[self.segment];
            self.read_segment(segment).await?;
            let last = self.segment + 1 >= plan.segments.len();
            if last || !self.finished(plan) {
                break;
            }
            self.flush(segment).await?;
            self.segment += 1;
            self.places.clear();
            self.entered = false;
        }
        if plan.over
            && let Some(segment) = plan.segments.get(self.segment)
        {
            self.flush(segment).await?;
        }
        if plan.waiting != self.waiting {
            self.waiting.clone_from(&plan.waiting);
            let waiting = LogChunk::Waiting(plan.waiting.clone());
            self.send.send(Ok(waiting)).await.map_err(|_| Unread)?;
        }
        Ok(())
    }

    /// The present segment grows no more.
    fn finished(&self, plan: &LogPlan) -> bool {
        plan.segments
            .get(self.segment)
            .is_none_or(|segment| segment.files.iter().all(|part| part.over))
    }

    async fn say(&self, text: String) -> Result<(), Unread> {
        if text.is_empty() {
            return Ok(());
        }
        let chunk = Ok(LogChunk::Text(text));
        self.send.send(chunk).await.map_err(|_| Unread)
    }

    async fn read_segment(&mut self, segment: &Segment) -> Result<(), Unread> {
        if !self.entered {
            self.entered = true;
            if let Some(title) = &segment.title {
                self.say(format!("{title}\n")).await?;
            }
        }
        if let Some(text) = &segment.text {
            // A story is told anew as a whole; what was told already is left out.
            self.places.resize_with(1, Place::default);
            let told = (self.places[0].offset as usize).min(text.len());
            self.places[0].offset = text.len() as u64;
            return self
                .say(text.get(told..).unwrap_or_default().to_owned())
                .await;
        }
        self.places.resize_with(segment.files.len(), Place::default);
        loop {
            let mut any = false;
            for (i, part) in segment.files.iter().enumerate() {
                let piece = piece_of(&part.path, &mut self.places[i].offset);
                if piece.is_empty() {
                    continue;
                }
                any = true;
                let place = &mut self.places[i];
                let text = if part.prefix.is_empty() {
                    place.cleaner.get_or_insert_with(Cleaner::new).push(&piece)
                } else {
                    place.prefixed(&piece, &part.prefix)
                };
                self.say(text).await?;
            }
            if !any {
                return Ok(());
            }
        }
    }

    /// The rest of lines that were never ended.
    async fn flush(&mut self, segment: &Segment) -> Result<(), Unread> {
        for (i, part) in segment.files.iter().enumerate() {
            let Some(place) = self.places.get_mut(i) else {
                continue;
            };
            let mut text = String::new();
            if !part.prefix.is_empty() && !place.line.is_empty() {
                text = place.prefixed(b"\n", &part.prefix);
            } else if let Some(cleaner) = &mut place.cleaner {
                text = cleaner.finish();
            }
            self.say(text).await?;
        }
        Ok(())
    }

    /// Skips all but the last lines.
    fn begin_near_the_end(&mut self, plan: &LogPlan, lines: usize) {
        let mut left = lines;
        for (number, segment) in plan.segments.iter().enumerate().rev() {
            self.segment = number;
            self.entered = true;
            if let Some(text) = &segment.text {
                let skip = text.lines().count().saturating_sub(left);
                let offset = text
                    .split_inclusive('\n')
                    .take(skip)
                    .map(str::len)
                    .sum::<usize>();
                self.places = vec![Place {
                    offset: offset as u64,
                    ..Place::default()
                }];
                return;
            }
            let mut most = 0;
            self.places = segment
                .files
                .iter()
                .map(|part| {
                    let (offset, found) = last_lines(&part.path, left).unwrap_or_default();
                    most = most.max(found);
                    Place {
                        offset,
                        ..Place::default()
                    }
                })
                .collect();
            if most >= left || number == 0 {
                return;
            }
            left -= most;
            // It is read whole, and so are those after it: only the first one read may be cut.
        }
    }
}

impl Place {
    /// Whole lines, each with the prefix.
    fn prefixed(&mut self, piece: &[u8], prefix: &str) -> String {
        let mut out = String::new();
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(part);
            if part.ends_with(b"\n") || self.line.len() >= LINE {
                let line = std::mem::take(&mut self.line);
                let cleaner = self.cleaner.get_or_insert_with(Cleaner::new);
                let clean = cleaner.push(&line);
                out.push_str(prefix);
                out.push_str(&clean);
                if !clean.ends_with('\n') {
                    out.push('\n');
                }
            }
        }
        out
    }
}

/// The next bytes of a file that may not be there yet. What was dropped in front is skipped.
fn piece_of(path: &Path, offset: &mut u64) -> Vec<u8> {
    let mut read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        if *offset >= length {
            return Ok(Vec::new());
        }
        let start = keeper::log_start(&file).unwrap_or(0);
        *offset = (*offset).max(start);
        file.seek(SeekFrom::Start(*offset))?;
        let mut piece = vec![0; PIECE];
        let n = file.read(&mut piece)?;
        piece.truncate(n);
        Ok(piece)
    };
    let piece = read().unwrap_or_default();
    *offset += piece.len() as u64;
    piece
}

/// Where the last lines of a file begin, and how many there are.
fn last_lines(path: &Path, lines: usize) -> io::Result<(u64, usize)> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    if lines == 0 {
        return Ok((length, 0));
    }
    let start = keeper::log_start(&file).unwrap_or(0);
    let mut ends = 0;
    let mut at = length;
    let mut piece = vec![0; PIECE];
    while at > start {
        let n = (at - start).min(PIECE as u64);
        at -= n;
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut piece[..n as usize])?;
        for i in (0..n as usize).rev() {
            let position = at + i as u64;
            // The newline at the very end ends the last line; it does not begin one.
            if piece[i] == b'\n' && position + 1 < length {
                ends += 1;
                if ends >= lines {
                    return Ok((position + 1, lines));
                }
            }
        }
    }
    let found = ends + usize::from(length > start);
    Ok((start, found.min(lines)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_found_from_the_end() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("log");
        std::fs::write(&path, "one\ntwo\nthree\n").unwrap();
        assert_eq!(last_lines(&path, 1).unwrap(), (8, 1));
        assert_eq!(last_lines(&path, 2).unwrap(), (4, 2));
        assert_eq!(last_lines(&path, 9).unwrap(), (0, 3));
        assert_eq!(last_lines(&path, 0).unwrap(), (14, 0));
        std::fs::write(&path, "one\ntwo").unwrap();
        assert_eq!(last_lines(&path, 1).unwrap(), (4, 1));
        std::fs::write(&path, "").unwrap();
        assert_eq!(last_lines(&path, 3).unwrap(), (0, 0));
    }
}
