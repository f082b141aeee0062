//! Requests against a source whose every step can be held up, and a journal that is opened again.

mod keys;

use std::path::Path;

use super::keyring::OwnKeys;
use super::*;
use crate::source::{
    BoxFuture, Detail, Found, Handover, HandoverError, HandoverResult, LogQuery, LogStream,
};
use skytower_api_client::Key;
use skytower_api_client::action::ActionSpec;
use skytower_api_client::credentials::Credentials;
use skytower_api_client::entity::{Cluster, Owner, Source as SourceRow};
use skytower_api_client::phase::Phase;

const STEPS: [&str; 4] = [
    "before the source got it",
    "after the source got it",
    "result",
    "effect",
];

/// Keeps what it was sent, as SkyPilot does while skytower is killed.
#[derive(Default)]
struct Kept {
    mutations: Vec<(String, Vec<Key>)>,
    /// What it was asked, and with whose credentials.
    heard: Vec<(&'static str, Option<Credentials>)>,
    /// Credentials that it does not take (any more).
    revoked: Vec<Credentials>,
    /// Only whoever sent something is told of it.
    discreet: bool,
    hold: Option<&'static str>,
    say_once: Option<HandoverError>,
    forgets: bool,
    fails: bool,
}

struct Fake {
    name: Text,
    kept: Arc<Mutex<Kept>>,
    hub: Arc<Hub>,
    reached: watch::Sender<Option<&'static str>>,
    caller: watch::Sender<Option<Caller>>,
}

impl Fake {
    async fn pass(&self, step: &'static str) {
        if locked(&self.kept).hold == Some(step) {
            self.reached.send_replace(Some(step));
            std::future::pending::<()>().await;
        }
    }

    /// Notes a call; the refusal when its credentials are not taken.
    fn hear(&self, step: &'static str, handover: &Handover) -> Result<(), Problem> {
        self.reached.send_replace(Some(step));
        let mut kept = locked(&self.kept);
        kept.heard.push((step, handover.credentials.clone()));
        let credentials = handover.credentials.as_ref();
        if credentials.is_some_and(|credentials| kept.revoked.contains(credentials)) {
            return Err(Problem::new("refused", 401, "token revoked"));
        }
        Ok(())
    }
}

impl Source for Fake {
    fn name(&self) -> &Text {
        &self.name
    }

    fn run(self: Arc<Self>, stop: CancellationToken) -> BoxFuture<'static, ()> {
        Box::pin(async move { stop.cancelled().await })
    }

    fn caller(&self) -> watch::Receiver<Option<Caller>> {
        self.caller.subscribe()
    }

    fn focus(&self, _: &Key, _: bool) {}

    fn refresh(&self, _: &Key) {}

    fn plan(&self, _: &'static ActionSpec, targets: &[Arc<Entity>]) -> Vec<Vec<usize>> {
        (0..targets.len()).map(|i| vec![i]).collect()
    }

    fn submit<'a>(&'a self, handover: &'a Handover) -> BoxFuture<'a, Result<Text, HandoverError>> {
        Box::pin(async move {
            self.pass(STEPS[0]).await;
            self.hear("submit", handover)
                .map_err(HandoverError::Refused)?;
            if let Some(error) = locked(&self.kept).say_once.take() {
                return Err(error);
            }
            let keys = handover
                .targets
                .iter()
                .map(|row| row.key().clone())
                .collect();
            locked(&self.kept)
                .mutations
                .push((handover.id.to_string(), keys));
            self.pass(STEPS[1]).await;
            Ok(handover.id.clone())
        })
    }

    fn find<'a>(&'a self, handover: &'a Handover) -> BoxFuture<'a, Result<Found, Problem>> {
        Box::pin(async move {
            self.hear("find", handover)?;
            let kept = locked(&self.kept);
            if kept.forgets {
                return Ok(Found::CannotTell);
            }
            let there = kept.mutations.iter().any(|(id, _)| *id == *handover.id);
            Ok(if there {
                Found::Accepted(handover.id.clone())
            } else {
                Found::NotThere
            })
        })
    }

    fn result<'a>(
        &'a self,
        handover: &'a Handover,
        upstream: &'a Text,
    ) -> BoxFuture<'a, Result<HandoverResult, Problem>> {
        Box::pin(async move {
            self.pass(STEPS[2]).await;
            self.hear("result", handover)?;
            if locked(&self.kept).discreet && handover.credentials.is_none() {
                return Err(Problem::new("not_found", 404, "no such request"));
            }
            if locked(&self.kept).fails {
                return Ok(HandoverResult {
                    succeeded: false,
                    message: Some("no such luck".into()),
                });
            }
            self.pass(STEPS[3]).await;
            let keys = locked(&self.kept)
                .mutations
                .iter()
                .find(|(id, _)| *id == **upstream)
                .map(|(_, keys)| keys.clone());
            for key in keys.unwrap_or_default() {
                self.hub.commit([Change::Remove {
                    kind: Kind::Cluster,
                    key,
                    reason: "torn down".into(),
                }]);
            }
            Ok(HandoverResult {
                succeeded: true,
                message: None,
            })
        })
    }

    fn detail<'a>(&'a self, _: &'a Entity) -> BoxFuture<'a, Result<Detail, Problem>> {
        Box::pin(async { Ok(Detail::default()) })
    }

    fn logs<'a>(&'a self, _: &'a LogQuery) -> BoxFuture<'a, Result<LogStream, Problem>> {
        Box::pin(async { Err(Problem::new("none", 404, "none")) })
    }
}

fn cluster(name: &str, owner: &str) -> Cluster {
    Cluster {
        key: Key::new("prod", Kind::Cluster, name),
        source: "prod".into(),
        name: name.into(),
        owner: Some(Owner {
            id: owner.into(),
            name: owner.into(),
        }),
        status: "UP".into(),
        phase: Phase::Running,
        ..Cluster::default()
    }
}

fn alice() -> Caller {
    Caller {
        ids: vec!["alice".into()],
        name: "alice".into(),
        role: Role::User,
        ..Caller::default()
    }
}

/// One life of a server.
struct Life {
    hub: Arc<Hub>,
    requests: Arc<Requests>,
    reached: watch::Receiver<Option<&'static str>>,
    stop: CancellationToken,
}

impl Life {
    fn begin(home: &Path, kept: &Arc<Mutex<Kept>>, looked: bool) -> Self {
        let keys = Arc::new(OwnKeys::default());
        Self::begin_with(home, kept, looked, keys, Duration::ZERO)
    }

    fn begin_with(
        home: &Path,
        kept: &Arc<Mutex<Kept>>,
        looked: bool,
        keyring: Arc<dyn Keyring>,
        until_signed_in: Duration,
    ) -> Self {
        let hub = Arc::new(Hub::new());
        let (reached, _) = watch::channel(None);
        let fake = Fake {
            name: "prod".into(),
            kept: kept.clone(),
            hub: hub.clone(),
            reached: reached.clone(),
            caller: watch::Sender::new(None),
        };
        if looked {
            show(&hub);
        }
        let pace = Pace {
            retry_floor: Duration::from_millis(1),
            retry_ceiling: Duration::from_millis(5),
            settle: Duration::from_millis(1),
            until_seen: Duration::from_millis(50),
            look_again: Duration::from_millis(5),
            until_signed_in,
            at_once: 1,
        };
        let sources: Arc<[Arc<dyn Source>]> = Arc::new([Arc::new(fake) as Arc<dyn Source>]);
        let journal = Journal::new(Store::open(&home.join(crate::store::FILE)).unwrap());
        let attention = Attention::new(sources.clone());
        let requests = Requests::new(journal, hub.clone(), sources, attention, keyring, pace);
        let stop = CancellationToken::new();
        tokio::spawn(requests.clone().run(stop.clone()));
        Self {
            hub,
            requests,
            reached: reached.subscribe(),
            stop,
        }
    }

    async fn ended(&self, id: &str) -> Request {
        let id = Uuid::parse_str(id).unwrap();
        let row = self
            .requests
            .get(&alice(), id, Duration::from_mins(1))
            .await
            .unwrap();
        assert!(row.ended_at.is_some(), "{row:?}");
        row
    }
}

/// The first look at the source: two clusters of alice's, one of bob's, a controller.
fn show(hub: &Hub) {
    let mut source = SourceRow {
        key: Key::new("prod", Kind::Source, "prod"),
        source: "prod".into(),
        name: "prod".into(),
        ..SourceRow::default()
    };
    source.fetched_at.insert(Kind::Cluster, EpochMs(1));
    let controller = Cluster {
        controller: true,
        ..cluster("sky-jobs-controller", "alice")
    };
    hub.commit([
        Change::Upsert(cluster("a", "alice").into()),
        Change::Upsert(cluster("b", "alice").into()),
        Change::Upsert(cluster("c", "bob").into()),
        Change::Upsert(controller.into()),
        Change::Upsert(source.into()),
    ]);
}

fn down(names: &[&str]) -> NewRequest {
    NewRequest {
        action: "cluster.down".into(),
        targets: names
            .iter()
            .map(|name| Key::new("prod", Kind::Cluster, name))
            .collect(),
        ..NewRequest::default()
    }
}

async fn accepted(life: &Life, new: &NewRequest) -> Request {
    match life
        .requests
        .accept(&Asker::local(alice()), new, None)
        .await
        .unwrap()
    {
        Answer::Accepted(row) => row,
        Answer::DryRun(row) => panic!("{row:?}"),
    }
}

#[tokio::test]
async fn a_change_that_was_seen_is_a_success() {
    let home = tempfile::tempdir().unwrap();
    let kept = Arc::<Mutex<Kept>>::default();
    let life = Life::begin(home.path(), &kept, true);
    let row = accepted(&life, &down(&["a", "b", "a"])).await;
    assert_eq!((row.status.as_str(), row.results.len()), ("PENDING", 2));
    let row = life.ended(&row.request_id).await;
    assert_eq!(row.status, "SUCCEEDED");
    assert!(
        row.results
            .iter()
            .all(|result| result.outcome == Outcome::Done)
    );
    assert_eq!(locked(&kept).mutations.len(), 2);
}

#[tokio::test]
async fn killed_at_any_step_it_is_sent_exactly_once() {
    for step in STEPS {
        let home = tempfile::tempdir().unwrap();
        let kept = Arc::<Mutex<Kept>>::default();
        locked(&kept).hold = Some(step);
        let mut life = Life::begin(home.path(), &kept, true);
        let row = accepted(&life, &down(&["a"])).await;
        life.reached
            .wait_for(|reached| *reached == Some(step))
            .await
            .unwrap();
        life.stop.cancel();
        drop(life);

        locked(&kept).hold = None;
        // The new life has not looked at its source yet: nothing may be concluded from that.
        let life = Life::begin(home.path(), &kept, false);
        show(&life.hub);
        let mut changes = life.hub.changes();
        while life.hub.get(&row.key).is_none() {
            changes.changed().await.unwrap();
        }
        let row = life.ended(&row.request_id).await;
        assert_eq!(row.status, "SUCCEEDED", "{step}: {row:?}");
        assert_eq!(locked(&kept).mutations.len(), 1, "{step}");
    }
}

#[tokio::test]
async fn a_lost_answer_is_looked_up_and_never_blindly_repeated() {
    let problem = || Problem::new("lost", 502, "the answer was lost");
    for (forgets, status, sent) in [(false, "SUCCEEDED", 1), (true, "FAILED", 0)] {
        let home = tempfile::tempdir().unwrap();
        let kept = Arc::<Mutex<Kept>>::default();
        locked(&kept).say_once = Some(HandoverError::Uncertain(problem()));
        locked(&kept).forgets = forgets;
        let life = Life::begin(home.path(), &kept, true);
        let row = accepted(&life, &down(&["a"])).await;
        let row = life.ended(&row.request_id).await;
        assert_eq!(row.status, status, "{row:?}");
        assert_eq!(locked(&kept).mutations.len(), sent);
        if forgets {
            assert_eq!(row.results[0].outcome, Outcome::Unknown);
        }
    }
}

#[tokio::test]
async fn refusals_failures_and_confirmations() {
    let home = tempfile::tempdir().unwrap();
    let kept = Arc::<Mutex<Kept>>::default();
    locked(&kept).fails = true;
    let life = Life::begin(home.path(), &kept, true);
    let life = &life;
    let refused = |new: NewRequest| async move {
        life.requests
            .accept(&Asker::local(alice()), &new, None)
            .await
            .unwrap_err()
    };
    assert_eq!(refused(down(&[])).await.status, 422);
    assert_eq!(refused(down(&["nothing"])).await.status, 404);
    assert_eq!(
        refused(NewRequest {
            action: "cluster.explode".into(),
            ..down(&["a"])
        })
        .await
        .status,
        422
    );
    let guarded = refused(down(&["a", "c"])).await;
    assert_eq!(guarded.status, 409);
    assert!(guarded.to_string().contains("bob (1)"), "{guarded}");
    let viewer = Caller {
        role: Role::Viewer,
        ..alice()
    };
    assert_eq!(
        life.requests
            .accept(&Asker::local(viewer.clone()), &down(&["a"]), None)
            .await
            .unwrap_err()
            .status,
        403
    );
    let dry = NewRequest {
        dry_run: true,
        ..down(&["a", "c"])
    };
    assert!(matches!(
        life.requests
            .accept(&Asker::local(alice()), &dry, None)
            .await
            .unwrap(),
        Answer::DryRun(_)
    ));
    assert!(locked(&kept).mutations.is_empty());

    let controller = accepted(life, &down(&["sky-jobs-controller"])).await;
    assert_eq!(controller.status, "FAILED");
    assert!(controller.why.unwrap().contains("controller"));
    assert!(locked(&kept).mutations.is_empty());

    let failed = accepted(life, &down(&["a"])).await;
    let failed = life.ended(&failed.request_id).await;
    assert_eq!(failed.results[0].message.as_deref(), Some("no such luck"));
}

#[tokio::test]
async fn a_key_stands_for_one_request() {
    let home = tempfile::tempdir().unwrap();
    let kept = Arc::<Mutex<Kept>>::default();
    let life = Life::begin(home.path(), &kept, true);
    let send = |new: NewRequest| life_accept(&life, new);
    let Answer::Accepted(first) = send(down(&["a"])).await.unwrap() else {
        panic!()
    };
    life.ended(&first.request_id).await;
    let Answer::Accepted(again) = send(down(&["a"])).await.unwrap() else {
        panic!()
    };
    assert_eq!(first.request_id, again.request_id);
    assert_eq!(send(down(&["b"])).await.unwrap_err().status, 422);
    assert_eq!(locked(&kept).mutations.len(), 1);
}

async fn life_accept(life: &Life, new: NewRequest) -> Result<Answer, Problem> {
    life.requests
        .accept(&Asker::local(alice()), &new, Some("one".to_owned()))
        .await
}

#[tokio::test]
async fn what_was_not_handed_over_can_be_withdrawn() {
    let home = tempfile::tempdir().unwrap();
    let kept = Arc::<Mutex<Kept>>::default();
    locked(&kept).hold = Some(STEPS[1]);
    let mut life = Life::begin(home.path(), &kept, true);
    let row = accepted(&life, &down(&["a", "b"])).await;
    life.reached
        .wait_for(std::option::Option::is_some)
        .await
        .unwrap();
    let id = Uuid::parse_str(&row.request_id).unwrap();
    let bob = Caller {
        ids: vec!["bob".into()],
        name: "bob".into(),
        ..alice()
    };
    assert_eq!(
        life.requests
            .withdraw(&Asker::local(bob.clone()), id)
            .await
            .unwrap_err()
            .status,
        403
    );
    let row = life
        .requests
        .withdraw(&Asker::local(alice()), id)
        .await
        .unwrap();
    let outcomes: Vec<Outcome> = row.results.iter().map(|result| result.outcome).collect();
    assert_eq!(
        outcomes
            .iter()
            .filter(|outcome| **outcome == Outcome::Cancelled)
            .count(),
        1
    );
    assert_eq!(locked(&kept).mutations.len(), 1);
}
