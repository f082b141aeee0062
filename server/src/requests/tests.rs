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
    store: Store,
    audit: Arc<Audit>,
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
        let store = Store::open(&home.join(crate::store::FILE)).unwrap();
        let journal = Journal::new(store.clone());
        let audit = Audit::open(store.clone(), hub.clone(), None);
        let attention = Attention::new(sources.clone());
        let requests = Requests::new(
            journal,
            audit.clone(),
            hub.clone(),
            sources,
            attention,
            keyring,
            pace,
        );
        let stop = CancellationToken::new();
        tokio::spawn(audit.clone().run(stop.clone()));
        tokio::spawn(requests.clone().run(stop.clone()));
        Self {
            store,
            audit,
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

/// `action target outcome` of every entry that is there, oldest first.
async fn audited(life: &Life) -> Vec<String> {
    let entries = life.audit.since(0, 1000).await.unwrap();
    let word = |entry: &skytower_api_client::entity::AuditEntry| {
        format!("{} {} {}", entry.action, entry.target, entry.status)
    };
    entries.iter().map(word).collect()
}

/// Waits until so many entries are there, and shown.
async fn shown(life: &Life, entries: usize) {
    let mut changes = life.hub.changes();
    while life.hub.read(|table| table.len(Kind::Audit)) < entries {
        changes.changed().await.unwrap();
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
    // Accepted, not withdrawn by bob, withdrawn by alice.
    shown(&life, 3).await;
    let mut told = audited(&life).await;
    told[1..].sort();
    assert_eq!(
        told,
        [
            "cluster.down cluster/a, cluster/b accepted".to_owned(),
            format!("request.cancel request/{id} refused"),
            format!("request.cancel request/{id} succeeded"),
        ]
    );
}

#[tokio::test]
async fn the_audit_says_who_asked_for_what_and_what_came_of_it() {
    let home = tempfile::tempdir().unwrap();
    let kept = Arc::<Mutex<Kept>>::default();
    let life = Life::begin(home.path(), &kept, true);
    let confirmed = NewRequest {
        others_confirmed: true,
        ..down(&["a", "c"])
    };
    let asker = Asker {
        proof: "token 1f2e".into(),
        address: Some("10.1.2.3".parse().unwrap()),
        ..Asker::local(alice())
    };
    let answer = life.requests.accept(&asker, &confirmed, Some("k".into()));
    let Answer::Accepted(row) = answer.await.unwrap() else {
        panic!()
    };
    life.ended(&row.request_id).await;
    // The same again is the same request: nothing new was accepted.
    let again = life.requests.accept(&asker, &confirmed, Some("k".into()));
    assert!(again.await.is_ok());
    // On disk a moment after it is known.
    shown(&life, 2).await;
    assert_eq!(
        audited(&life).await,
        [
            "cluster.down cluster/a, cluster/c of bob accepted",
            "cluster.down cluster/a, cluster/c of bob succeeded",
        ]
    );
    let entries = life.audit.since(0, 2).await.unwrap();
    let first = &entries[0];
    assert_eq!(first.owner.as_ref().unwrap().name.as_str(), "alice");
    assert_eq!(first.proof.as_str(), "token 1f2e");
    assert_eq!(first.address.as_str(), "10.1.2.3");
    assert_eq!(first.role.as_str(), "user");
    assert!(entries.iter().all(|entry| entry.request == row.request_id));
    shown(&life, 2).await;

    // What is refused as a whole is accepted by nobody.
    let controller = accepted(&life, &down(&["sky-jobs-controller"])).await;
    assert_eq!(controller.status, "FAILED");
    assert_eq!(
        audited(&life).await[2..],
        [
            "cluster.down cluster/sky-jobs-controller accepted",
            "cluster.down cluster/sky-jobs-controller failed",
        ]
    );
    assert_eq!(life.audit.verify().await.unwrap().broken, None);
}

#[tokio::test]
async fn refusals_are_in_the_audit_and_a_flood_of_them_is_not() {
    let home = tempfile::tempdir().unwrap();
    let kept = Arc::<Mutex<Kept>>::default();
    let life = Life::begin(home.path(), &kept, true);
    let viewer = Asker::local(Caller {
        ids: vec!["vera".into()],
        role: Role::Viewer,
        ..alice()
    });
    let refused = async |asker: &Asker, new: NewRequest| {
        life.requests.accept(asker, &new, None).await.unwrap_err()
    };
    for _ in 0..50 {
        refused(&viewer, down(&["a"])).await;
    }
    let guarded = refused(&Asker::local(alice()), down(&["c"])).await;
    assert_eq!(guarded.code.as_str(), "others_unconfirmed");
    // Nothing was to be done by this one.
    let dry = NewRequest {
        dry_run: true,
        ..down(&["nothing"])
    };
    refused(&Asker::local(alice()), dry).await;
    let stop = life.stop.clone();
    shown(&life, 1).await;
    stop.cancel();
    let mut commits = life.store.commits();
    while audited(&life).await.len() < 3 {
        commits.changed().await.unwrap();
    }
    let entries = life.audit.since(0, 10).await.unwrap();
    let mut told: Vec<(&str, &str)> = entries
        .iter()
        .map(|entry| {
            (
                entry.target.as_str(),
                entry.why.as_deref().unwrap_or_default(),
            )
        })
        .collect();
    told.sort_unstable();
    let reason = "your role is viewer: you may look, not act";
    let more = format!("49 times more within a minute; the last: {reason}");
    assert_eq!(
        told,
        [
            ("cluster/a of alice", &*more),
            ("cluster/a of alice", reason),
            ("cluster/c of bob", "it belongs to bob (1)"),
        ]
    );
    assert!(entries.iter().all(|entry| entry.status == "refused"));
}

#[tokio::test]
async fn without_the_audit_nothing_is_done_and_reading_goes_on() {
    let home = tempfile::tempdir().unwrap();
    let kept = Arc::<Mutex<Kept>>::default();
    let life = Life::begin(home.path(), &kept, true);
    let before = accepted(&life, &down(&["a"])).await;
    life.ended(&before.request_id).await;
    let execute = async |sql: &'static str| {
        let run = life
            .store
            .run(move |connection| Ok(connection.execute_batch(sql)?));
        run.await.unwrap();
    };
    let failures = [
        // Somebody, or the disk, lets nothing more be written to it.
        (
            "CREATE TRIGGER stuck BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'read-only'); END",
            "DROP TRIGGER stuck",
        ),
        (
            "ALTER TABLE audit RENAME TO lost",
            "ALTER TABLE lost RENAME TO audit",
        ),
    ];
    for (breaks, mends) in failures {
        execute(breaks).await;
        let asker = Asker::local(alice());
        let refused = life.requests.accept(&asker, &down(&["b"]), None).await;
        let problem = refused.unwrap_err();
        assert_eq!(
            (problem.status, problem.code.as_str()),
            (503, "journal_unavailable")
        );
        let requests = life.store.read(|connection| {
            let count = "SELECT count(*) FROM requests";
            Ok(connection.query_row(count, [], |row| row.get::<_, i64>(0))?)
        });
        assert_eq!(requests.await.unwrap(), 1, "{breaks}");
        let known = Uuid::parse_str(&before.request_id).unwrap();
        let read = life.requests.get(&alice(), known, Duration::ZERO).await;
        assert_eq!(read.unwrap().status, "SUCCEEDED");
        execute(mends).await;
    }
    assert_eq!(locked(&kept).mutations.len(), 1);
    let after = accepted(&life, &down(&["b"])).await;
    assert_eq!(life.ended(&after.request_id).await.status, "SUCCEEDED");
    assert_eq!(life.audit.verify().await.unwrap().broken, None);
}

#[tokio::test]
async fn on_a_full_disk_what_was_accepted_is_there_with_its_entry_and_nothing_else() {
    let home = tempfile::tempdir().unwrap();
    let kept = Arc::<Mutex<Kept>>::default();
    locked(&kept).hold = Some(STEPS[0]);
    let life = Life::begin(home.path(), &kept, true);
    let quota = async |pages: i64| {
        let run = life.store.run(move |connection| {
            let now: i64 = connection.query_row("PRAGMA page_count", [], |row| row.get(0))?;
            let quota = format!("PRAGMA max_page_count = {}", now + pages);
            Ok(connection.query_row(&quota, [], |_| Ok(()))?)
        });
        run.await.unwrap();
    };
    quota(8).await;
    let mut all = JoinSet::new();
    for n in 0..100 {
        let requests = life.requests.clone();
        all.spawn(async move {
            let (asker, key) = (Asker::local(alice()), Some(format!("{n}")));
            requests.accept(&asker, &down(&["a", "b"]), key).await
        });
    }
    let mut promised = Vec::new();
    for answer in all.join_all().await {
        match answer {
            Ok(Answer::Accepted(row)) => promised.push(row.request_id.to_string()),
            Ok(Answer::DryRun(row)) => panic!("{row:?}"),
            Err(problem) => assert_eq!(problem.status, 503, "{problem}"),
        }
    }
    assert!(!promised.is_empty() && promised.len() < 100);
    promised.sort();
    let column = async |select: &'static str| {
        let read = life.store.read(move |connection| {
            let mut select = connection.prepare(select)?;
            let rows = select.query_map([], |row| row.get::<_, String>(0))?;
            Ok(rows.collect::<rusqlite::Result<Vec<_>>>()?)
        });
        read.await.unwrap()
    };
    assert_eq!(
        column("SELECT id FROM requests ORDER BY id").await,
        promised
    );
    let accepted_entries = "SELECT request FROM audit WHERE outcome = 'accepted' ORDER BY request";
    assert_eq!(column(accepted_entries).await, promised);
    quota(10_000).await;
    accepted(&life, &down(&["a"])).await;
    assert_eq!(column("PRAGMA integrity_check").await, ["ok"]);
    assert_eq!(life.audit.verify().await.unwrap().broken, None);
}
