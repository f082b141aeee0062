//! Carries an accepted request out, and takes it up again where a crash left it.
//!
//! ```text
//! planned --journal--> submitting --POST--> submitted --result--> seen in the hub
//!    ^                     |  answer lost: look it up
//!    '---- certainly not accepted ----'
//! ```

mod lookup;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use skytower_api_client::action::Seen;
use skytower_api_client::backoff::Backoff;
use skytower_api_client::credentials::Credentials;
use skytower_api_client::entity::Outcome;
use skytower_api_client::wire::{Change, Problem};
use skytower_api_client::{Entity, EpochMs, Key, Kind, Text};
use uuid::Uuid;

use super::audited;
use super::journal::Progress;
use super::keyring::{self, Search};
use super::record::{ORIGIN, Record, Stage};
use super::{Requests, locked};
use crate::attention::Gaze;
use crate::hub::Hub;
use crate::source::{Handover, HandoverError, HandoverResult, Source};
use crate::store::StoreError;
use lookup::Looked;

type Shared = Arc<Mutex<Record>>;

/// Carries a request out until all of its targets are over.
pub(super) async fn run(requests: &Requests, record: &Shared) {
    let open: Vec<usize> = {
        let record = locked(record);
        let open = record
            .handovers
            .iter()
            .enumerate()
            .filter(|(_, handover)| handover.stage != Stage::Ended);
        open.map(|(number, _)| number).collect()
    };
    futures_util::stream::iter(open)
        .for_each_concurrent(requests.pace.at_once.max(1), |number| async move {
            Course {
                requests,
                record,
                number,
            }
            .run()
            .await;
        })
        .await;
    // A crash between the end of the last handover and the end of the request.
    let late = {
        let record = locked(record);
        record
            .ended_at
            .is_none()
            .then(|| record.handovers.len().saturating_sub(1))
    };
    if let Some(number) = late {
        let message = Some("what became of it was not written down".into());
        let all: Vec<usize> = (0..locked(record).targets.len()).collect();
        settle(requests, record, number, &all, Outcome::Unknown, message).await;
    }
}

/// Gives targets that are not over their outcome: in the journal, then for everybody to see.
pub(super) async fn settle(
    requests: &Requests,
    record: &Shared,
    number: usize,
    targets: &[usize],
    outcome: Outcome,
    message: Option<Text>,
) {
    let progress = {
        let mut record = locked(record);
        let mut results = Vec::new();
        for i in targets {
            let result = &mut record.targets[*i].result;
            if !result.outcome.is_over() {
                result.outcome = outcome;
                result.message.clone_from(&message);
                results.push((*i, result.clone()));
            }
        }
        let mut ended = Vec::new();
        let over = |i: &usize| record.targets[*i].result.outcome.is_over();
        if record
            .handovers
            .get(number)
            .is_some_and(|handover| handover.targets.iter().all(over))
        {
            record.handovers[number].stage = Stage::Ended;
            ended.push(number);
        }
        if record.is_over() && record.ended_at.is_none() {
            record.ended_at = Some(EpochMs::now());
        }
        Progress {
            request: record.id,
            results,
            ended,
            status: record.status(),
            ended_at: record.ended_at,
            end: record.ended_at.map(|_| audited::ended(&record)),
        }
    };
    // A task of its own: whoever waits here may be dropped half way, and what is known must not be.
    let (journal, hub, record) = (
        requests.journal.clone(),
        requests.hub.clone(),
        record.clone(),
    );
    let written = tokio::spawn(async move {
        // What cannot be written now is found out again after a restart: it is shown all the same.
        if let Err(error) = journal.save(progress).await {
            tracing::error!(%error, "results of a request could not be written down");
        }
        publish(&hub, &locked(&record));
    });
    if let Err(error) = written.await {
        tracing::error!(%error, "results of a request could not be written down");
    }
}

/// Shows a request as it is. Under its lock, so that an older row never follows a newer one.
fn publish(hub: &Hub, record: &Record) {
    hub.commit([Change::Upsert(record.row().into())]);
}

/// What there is to see of a target.
enum Sight {
    Row(Arc<Entity>),
    Gone,
    /// Not there, but nobody has looked: after a restart, or in a list that is read only while
    /// somebody looks at it.
    NotLooked,
}

fn look(hub: &Hub, key: &Key) -> Sight {
    hub.read(|table| {
        if let Some(row) = table.get(key) {
            return Sight::Row(row.clone());
        }
        let list = match key.kind() {
            Some(Kind::Replica) => Kind::Service,
            Some(Kind::Worker) => Kind::Pool,
            None | Some(Kind::ClusterJob | Kind::Event) => return Sight::NotLooked,
            Some(kind) => kind,
        };
        let looked = table
            .rows(Kind::Source)
            .filter_map(|row| row.as_source())
            .any(|source| source.name == key.source() && source.fetched_at.contains_key(&list));
        if looked {
            Sight::Gone
        } else {
            Sight::NotLooked
        }
    })
}

/// One handover on its way.
struct Course<'a> {
    requests: &'a Requests,
    record: &'a Shared,
    number: usize,
}

impl Course<'_> {
    async fn run(&self) {
        let (name, stage, upstream) = {
            let record = locked(self.record);
            let handover = &record.handovers[self.number];
            (
                handover.source.clone(),
                handover.stage,
                handover.upstream.clone(),
            )
        };
        if name == ORIGIN {
            return self.withdraw_own().await;
        }
        let Some(source) = self.requests.source(&name).cloned() else {
            let message = format!("this server does not watch `{name}` any more");
            let outcome = if stage == Stage::Planned {
                Outcome::Failed
            } else {
                Outcome::Unknown
            };
            return self.settle_all(outcome, Some(message.into())).await;
        };
        // What is read only while somebody looks is looked at until this is over.
        let _gaze = self.gaze();
        let upstream = match (stage, upstream) {
            (Stage::Submitted, Some(upstream)) => Some(upstream),
            (Stage::Submitting | Stage::Submitted, _) => self.take_up(&*source).await,
            _ => self.hand_over(&*source).await,
        };
        let Some(upstream) = upstream else { return };
        self.watch(&*source, &upstream).await;
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(
            self.requests.pace.retry_floor,
            self.requests.pace.retry_ceiling,
        )
    }

    /// Looks at the clusters whose queues hold targets: without it their rows would stand still.
    fn gaze(&self) -> Gaze {
        let mut gaze = self.requests.attention.gaze();
        for (_, key) in self.open() {
            let list = self.list(&key);
            if list != key && !gaze.focus(list, true) {
                // One handover is of one cluster; more than a screen shows is not looked at.
                break;
            }
        }
        gaze
    }

    /// What is asked for to see a target again: a queue is read as part of its cluster.
    fn list(&self, key: &Key) -> Key {
        let record = locked(self.record);
        let target = record
            .targets
            .iter()
            .find(|target| target.result.key == *key);
        target
            .and_then(|target| target.row.as_ref()?.as_cluster_job())
            .map_or_else(|| key.clone(), |job| job.cluster_key.clone())
    }

    /// The targets of this handover that are not over, with their keys.
    fn open(&self) -> Vec<(usize, Key)> {
        let record = locked(self.record);
        let members = record.handovers[self.number].targets.iter();
        members
            .map(|i| (*i, &record.targets[*i].result))
            .filter(|(_, result)| !result.outcome.is_over())
            .map(|(i, result)| (i, result.key.clone()))
            .collect()
    }

    async fn settle(&self, targets: &[usize], outcome: Outcome, message: Option<Text>) {
        settle(
            self.requests,
            self.record,
            self.number,
            targets,
            outcome,
            message,
        )
        .await;
    }

    async fn settle_all(&self, outcome: Outcome, message: Option<Text>) {
        let all: Vec<usize> = self.open().into_iter().map(|(i, _)| i).collect();
        self.settle(&all, outcome, message).await;
    }

    /// Tells everybody what this handover waits for; not worth an fsync.
    fn say(&self, outcome: Option<Outcome>, upstream: Option<&Text>, message: Option<&Text>) {
        {
            let mut record = locked(self.record);
            let members = record.handovers[self.number].targets.clone();
            for i in members {
                let result = &mut record.targets[i].result;
                if result.outcome.is_over() {
                    continue;
                }
                result.outcome = outcome.unwrap_or(result.outcome);
                result.message = message.cloned();
                if let Some(upstream) = upstream {
                    result.upstream = Some(upstream.clone());
                }
            }
            publish(&self.requests.hub, &record);
        }
    }

    fn seen(&self, sight: &Sight) -> Seen {
        let record = locked(self.record);
        match sight {
            Sight::Row(row) => (record.action.seen)(Some(row), &record.options),
            Sight::Gone => (record.action.seen)(None, &record.options),
            Sight::NotLooked => Seen::NotYet,
        }
    }

    /// Moves on in the journal, as often as it takes. False when it was withdrawn meanwhile.
    async fn advance(&self, from: Stage, to: Stage, upstream: Option<&Text>) -> bool {
        let tried_at = (to == Stage::Submitting).then(EpochMs::now);
        let id = locked(self.record).id;
        let mut backoff = self.backoff();
        loop {
            let journal = &self.requests.journal;
            match journal
                .advance(id, self.number, from, to, upstream.cloned(), tried_at)
                .await
            {
                Ok(moved) => {
                    if moved {
                        let handover = &mut locked(self.record).handovers[self.number];
                        handover.stage = to;
                        handover.upstream = upstream.cloned().or(handover.upstream.take());
                        handover.tried_at = tried_at.or(handover.tried_at);
                    }
                    return moved;
                }
                // It has been accepted: that it could not be written down changes nothing about it,
                // and after a crash it is looked up.
                Err(error) if to == Stage::Submitted => {
                    tracing::error!(%error, request = %id, "a receipt could not be written down");
                    return true;
                }
                Err(StoreError::Closed) => return false,
                Err(error) => {
                    let message = format!("nothing is sent while {error}");
                    self.say(None, None, Some(&message.into()));
                    wait(&mut backoff).await;
                }
            }
        }
    }

    /// Whose credentials go to the source is looked up whenever something is sent.
    fn search(&self, source: &dyn Source) -> Search<'_> {
        let caller = locked(self.record).caller.clone();
        let patience = self.requests.pace.until_signed_in;
        Search::new(&*self.requests.keyring, caller, source, patience)
    }

    fn handover(&self, credentials: Option<Credentials>) -> Handover {
        let record = locked(self.record);
        let handover = &record.handovers[self.number];
        let open = |i: &&usize| !record.targets[**i].result.outcome.is_over();
        Handover {
            id: Text::from(format!("{}/{}", record.id, self.number)),
            action: record.action,
            targets: handover
                .targets
                .iter()
                .filter(open)
                .filter_map(|i| record.targets[*i].row.clone())
                .collect(),
            options: record.options.clone(),
            caller: record.caller.clone(),
            credentials,
            tried_at: handover.tried_at.unwrap_or(record.created_at),
        }
    }

    /// Ends the targets for which there is nothing to do (any more). Waits, after a restart, until
    /// the source has been looked at: nothing may be concluded from an empty state.
    async fn skip_what_is_so(&self, source: &dyn Source) {
        let mut changes = self.requests.hub.changes();
        let mut asked = false;
        loop {
            let mut unknown = false;
            for (i, key) in self.open() {
                let sight = look(&self.requests.hub, &key);
                unknown |=
                    matches!(sight, Sight::NotLooked) && key.kind() != Some(Kind::ClusterJob);
                match self.seen(&sight) {
                    Seen::NotYet | Seen::Told => {}
                    Seen::Yes => {
                        self.settle(&[i], Outcome::Unchanged, Some(so_already(&sight)))
                            .await;
                    }
                    Seen::Never(reason) => {
                        self.settle(&[i], Outcome::Failed, Some(reason.into()))
                            .await;
                    }
                }
            }
            if !unknown {
                return;
            }
            if !asked {
                asked = true;
                for (_, key) in self.open() {
                    source.refresh(&self.list(&key));
                }
                self.say(
                    None,
                    None,
                    Some(&"waits until its source was looked at".into()),
                );
            }
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// From planned to submitted. None when it is over (or was withdrawn).
    async fn hand_over(&self, source: &dyn Source) -> Option<Text> {
        let mut backoff = self.backoff();
        let mut search = self.search(source);
        loop {
            self.skip_what_is_so(source).await;
            if self.open().is_empty() {
                return None;
            }
            let key = search.now();
            if key == keyring::Key::Missing {
                let (name, within) = (search.caller().name.clone(), search.patience());
                let message = format!("waits for {name} to sign in again");
                self.say(None, None, Some(&message.into()));
                tokio::select! {
                    again = search.wait() => if !again {
                        let message = format!("nothing was sent: {name} did not sign in again {within}");
                        self.settle_all(Outcome::Failed, Some(message.into())).await;
                        return None;
                    },
                    () = self.nothing_left() => return None,
                }
                continue;
            }
            let credentials = key.credentials();
            if !self.advance(Stage::Planned, Stage::Submitting, None).await {
                return None;
            }
            match source.submit(&self.handover(credentials)).await {
                Ok(upstream) => {
                    self.advance(Stage::Submitting, Stage::Submitted, Some(&upstream))
                        .await;
                    return Some(upstream);
                }
                Err(HandoverError::Refused(problem)) => {
                    self.settle_all(Outcome::Failed, Some(sentence(&problem)))
                        .await;
                    return None;
                }
                Err(HandoverError::NotAccepted(problem)) => {
                    if !self.advance(Stage::Submitting, Stage::Planned, None).await {
                        return None;
                    }
                    let message = format!(
                        "not accepted yet, it is tried again: {}",
                        sentence(&problem)
                    );
                    self.say(None, None, Some(&message.into()));
                    wait(&mut backoff).await;
                }
                Err(HandoverError::Uncertain(problem)) => {
                    let message = format!(
                        "the answer was lost, it is looked up: {}",
                        sentence(&problem)
                    );
                    self.say(Some(Outcome::Submitted), None, Some(&message.into()));
                    match self.look_up(source).await {
                        Looked::There(upstream) => return Some(upstream),
                        Looked::NotThere => wait(&mut backoff).await,
                        Looked::Over => return None,
                    }
                }
            }
        }
    }

    /// Until every target is over, which also a withdrawal makes it.
    async fn nothing_left(&self) {
        let mut changes = self.requests.hub.changes();
        while !self.open().is_empty() {
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// From submitted to the end.
    async fn watch(&self, source: &dyn Source, upstream: &Text) {
        self.say(Some(Outcome::Submitted), Some(upstream), None);
        let result = tokio::select! {
            result = self.result(source, upstream) => result,
            // The change may be seen before the source says that it is done.
            () = self.all_seen() => return,
        };
        match result {
            Some(HandoverResult {
                succeeded: false,
                message,
            }) => {
                self.note_what_is_seen(message.as_ref()).await;
                let message = message.unwrap_or_else(|| "the source says that it failed".into());
                self.settle_all(Outcome::Failed, Some(message)).await;
            }
            Some(HandoverResult {
                succeeded: true,
                message,
            }) => {
                let unread: Vec<usize> = self
                    .open()
                    .into_iter()
                    .filter(|(_, key)| key.kind() == Some(Kind::ClusterJob))
                    .filter(|(_, key)| matches!(look(&self.requests.hub, key), Sight::NotLooked))
                    .map(|(i, _)| i)
                    .collect();
                if !unread.is_empty() {
                    // Nobody looks at that queue, so there is nothing but the source's word.
                    let word = message.clone().unwrap_or_else(|| "SkyPilot says so".into());
                    self.settle(&unread, Outcome::Done, Some(word)).await;
                }
                let told: Vec<usize> = self
                    .open()
                    .into_iter()
                    .filter(|(_, key)| self.seen(&look(&self.requests.hub, key)) == Seen::Told)
                    .map(|(i, _)| i)
                    .collect();
                if !told.is_empty() {
                    self.settle(&told, Outcome::Done, message.clone()).await;
                }
                let said = message
                    .map(|said| format!("; it said: {said}"))
                    .unwrap_or_default();
                let name = source.name();
                let minutes = self.requests.pace.until_seen.as_secs().div_ceil(60);
                let late = format!(
                    "{name} says that it is done, but the change was not seen within {minutes} min{said}"
                );
                self.until_seen(source, &late.into()).await;
            }
            None => {
                let name = source.name();
                let late = format!(
                    "{name} says nothing (any more) of request {upstream}; the change was not seen since"
                );
                self.until_seen(source, &late.into()).await;
            }
        }
    }

    /// Ends what can be seen to be done.
    async fn note_what_is_seen(&self, never: Option<&Text>) {
        for (i, key) in self.open() {
            match self.seen(&look(&self.requests.hub, &key)) {
                Seen::NotYet | Seen::Told => {}
                Seen::Yes => self.settle(&[i], Outcome::Done, None).await,
                Seen::Never(reason) => {
                    let message = never.cloned().unwrap_or_else(|| reason.into());
                    self.settle(&[i], Outcome::Failed, Some(message)).await;
                }
            }
        }
    }

    async fn all_seen(&self) {
        let mut changes = self.requests.hub.changes();
        loop {
            self.note_what_is_seen(None).await;
            if self.open().is_empty() {
                return;
            }
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Has the source look again and again until everything is seen, or for long enough.
    async fn until_seen(&self, source: &dyn Source, late: &Text) {
        let again = async {
            let mut every = self.requests.pace.look_again;
            loop {
                for (_, key) in self.open() {
                    source.refresh(&self.list(&key));
                }
                tokio::time::sleep(every).await;
                every = (every * 2).min(Duration::from_secs(30));
            }
        };
        tokio::select! {
            () = self.all_seen() => {}
            () = again => {}
            () = tokio::time::sleep(self.requests.pace.until_seen) => {
                self.settle_all(Outcome::Unknown, Some(late.clone())).await;
            }
        }
    }

    /// A request of this server's own: withdraws what of it was not handed over.
    async fn withdraw_own(&self) {
        for (i, key) in self.open() {
            let withdrawn = match Uuid::parse_str(key.id()) {
                Ok(id) => self.requests.withdraw_planned(id, None).await,
                Err(_) => Ok((0, 0)),
            };
            let (outcome, message) = match withdrawn {
                Ok((0, 0)) => (Outcome::Unchanged, Some("it had ended already".to_owned())),
                Ok((0, _)) => (
                    Outcome::Failed,
                    Some(
                        "all of it had been handed over already: cancel what it started instead"
                            .to_owned(),
                    ),
                ),
                Ok((_, 0)) => (Outcome::Done, None),
                Ok((n, rest)) => (
                    Outcome::Done,
                    Some(format!(
                        "{n} withdrawn; {rest} had been handed over already"
                    )),
                ),
                Err(error) => (Outcome::Failed, Some(error.to_string())),
            };
            self.settle(&[i], outcome, message.map(Text::from)).await;
        }
    }
}

fn so_already(sight: &Sight) -> Text {
    match sight {
        Sight::Row(row) => Text::from(format!("it was {} already", row.status())),
        _ => "it was gone already".into(),
    }
}

fn sentence(problem: &Problem) -> Text {
    Text::from(problem.to_string())
}

async fn wait(backoff: &mut Backoff) {
    let random = f64::from(Uuid::new_v4().as_u128() as u32) / f64::from(u32::MAX);
    tokio::time::sleep(backoff.next(random)).await;
}
