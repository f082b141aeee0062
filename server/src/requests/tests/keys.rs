//! Requests that go to their source with the credentials of whoever asked.

use std::io::Write;

use skytower_api_client::credentials::Secret;

use super::*;
use crate::requests::keyring::Key as Keys;

/// A keyring that the test fills.
struct Ring {
    key: Mutex<Keys>,
    /// How often it was asked.
    asked: watch::Sender<u64>,
    changes: watch::Sender<u64>,
}

impl Ring {
    fn with(key: Keys) -> Arc<Self> {
        Arc::new(Self {
            key: Mutex::new(key),
            asked: watch::Sender::new(0),
            changes: watch::Sender::new(0),
        })
    }

    fn put(&self, key: Keys) {
        *locked(&self.key) = key;
        self.changes.send_modify(|changes| *changes += 1);
    }
}

impl Keyring for Ring {
    fn key(&self, caller: &Caller, source: &Text) -> Keys {
        assert_eq!((caller.name.as_str(), source.as_str()), ("alice", "prod"));
        self.asked.send_modify(|asked| *asked += 1);
        locked(&self.key).clone()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

const SECRET: &str = "hunter2-correct-horse";

fn hers() -> Credentials {
    Credentials::Basic {
        user: "alice".to_owned(),
        password: Secret::new(SECRET),
    }
}

/// Bounds a hang.
const PATIENT: Duration = Duration::from_mins(5);
/// Over as soon as it has begun.
const IMPATIENT: Duration = Duration::from_millis(20);

fn begin(home: &Path, kept: &Arc<Mutex<Kept>>, ring: &Arc<Ring>, patience: Duration) -> Life {
    Life::begin_with(home, kept, true, ring.clone(), patience)
}

/// Kills a server with a request at `step`; the next one begins without alice.
async fn killed_at(
    step: &'static str,
    home: &Path,
    kept: &Arc<Mutex<Kept>>,
    patience: Duration,
) -> (Life, Arc<Ring>, Request) {
    locked(kept).hold = Some(step);
    let mut life = begin(home, kept, &Ring::with(Keys::Callers(hers())), PATIENT);
    let row = accepted(&life, &down(&["a"])).await;
    life.reached
        .wait_for(|reached| *reached == Some(step))
        .await
        .unwrap();
    life.stop.cancel();
    drop(life);
    {
        let mut kept = locked(kept);
        kept.hold = None;
        kept.heard.clear();
    }
    let ring = Ring::with(Keys::Missing);
    (begin(home, kept, &ring, patience), ring, row)
}

/// The same, killed before anything was sent.
async fn killed_while_planned(
    home: &Path,
    kept: &Arc<Mutex<Kept>>,
    patience: Duration,
) -> (Life, Arc<Ring>, Request) {
    let ring = Ring::with(Keys::Missing);
    let life = begin(home, kept, &ring, PATIENT);
    let row = accepted(&life, &down(&["a"])).await;
    life.says(&row, "waits for alice to sign in again").await;
    life.stop.cancel();
    drop(life);
    (begin(home, kept, &ring, patience), ring, row)
}

impl Life {
    /// Waits until a request says so.
    async fn says(&self, row: &Request, words: &str) {
        let mut changes = self.hub.changes();
        loop {
            let now = self.hub.get(&row.key);
            let why = now.as_ref().and_then(|row| row.why());
            if why.is_some_and(|why| why.contains(words)) {
                return;
            }
            let over = now.as_ref().is_some_and(|row| row.phase().is_over());
            assert!(!over, "it is over and never said `{words}`: {now:?}");
            changes.changed().await.unwrap();
        }
    }
}

fn said(row: &Request) -> (Outcome, &str) {
    let result = &row.results[0];
    (
        result.outcome,
        result.message.as_deref().unwrap_or_default(),
    )
}

#[tokio::test]
async fn a_request_goes_to_its_source_with_the_credentials_of_whoever_asked() {
    for (key, sent) in [(Keys::Callers(hers()), Some(hers())), (Keys::Own, None)] {
        let home = tempfile::tempdir().unwrap();
        let kept = Arc::<Mutex<Kept>>::default();
        let life = begin(home.path(), &kept, &Ring::with(key), PATIENT);
        let row = accepted(&life, &down(&["a"])).await;
        assert_eq!(life.ended(&row.request_id).await.status, "SUCCEEDED");
        let heard = locked(&kept).heard.clone();
        assert_eq!(heard[0], ("submit", sent.clone()));
        // The effect may be seen before the source is asked how it ended.
        assert!(
            heard[1..]
                .iter()
                .all(|call| *call == ("result", sent.clone()))
        );
    }
}

#[tokio::test]
async fn what_was_not_sent_waits_for_whoever_asked_and_goes_on_when_they_come() {
    let home = tempfile::tempdir().unwrap();
    let kept = Arc::<Mutex<Kept>>::default();
    let (life, ring, row) = killed_while_planned(home.path(), &kept, PATIENT).await;
    life.says(&row, "waits for alice to sign in again").await;
    // Something else changed.
    ring.put(Keys::Missing);
    assert_eq!(locked(&kept).heard, []);
    ring.put(Keys::Callers(hers()));
    assert_eq!(life.ended(&row.request_id).await.status, "SUCCEEDED");
    assert_eq!(locked(&kept).heard[0], ("submit", Some(hers())));
    assert_eq!(locked(&kept).mutations.len(), 1);
}

#[tokio::test]
async fn what_was_not_sent_fails_when_whoever_asked_does_not_come() {
    let home = tempfile::tempdir().unwrap();
    let kept = Arc::<Mutex<Kept>>::default();
    let (life, _, row) = killed_while_planned(home.path(), &kept, IMPATIENT).await;
    let row = life.ended(&row.request_id).await;
    let (outcome, message) = said(&row);
    assert_eq!(outcome, Outcome::Failed);
    assert!(message.contains("nothing was sent"), "{message}");
    assert_eq!(locked(&kept).heard, []);
}

#[tokio::test]
async fn what_waits_for_whoever_asked_can_be_withdrawn() {
    let home = tempfile::tempdir().unwrap();
    let kept = Arc::<Mutex<Kept>>::default();
    let (life, _, row) = killed_while_planned(home.path(), &kept, PATIENT).await;
    life.says(&row, "waits for alice").await;
    let id = Uuid::parse_str(&row.request_id).unwrap();
    let asker = Asker::local(alice());
    let row = life.requests.withdraw(&asker, id).await.unwrap();
    assert_eq!(row.results[0].outcome, Outcome::Cancelled);
    let mut running = life.requests.running();
    running.wait_for(|running| *running == 0).await.unwrap();
    assert_eq!(locked(&kept).heard, []);
}

#[tokio::test]
async fn a_lost_answer_is_looked_up_with_the_credentials_that_it_was_sent_with() {
    for (step, sent) in [(STEPS[0], 2), (STEPS[1], 1)] {
        let home = tempfile::tempdir().unwrap();
        let kept = Arc::<Mutex<Kept>>::default();
        let (life, ring, row) = killed_at(step, home.path(), &kept, PATIENT).await;
        life.says(&row, "waits for alice to sign in again, to look")
            .await;
        assert_eq!(locked(&kept).heard, []);
        ring.put(Keys::Callers(hers()));
        assert_eq!(life.ended(&row.request_id).await.status, "SUCCEEDED");
        let heard = locked(&kept).heard.clone();
        assert_eq!(heard[0].0, "find", "{step}");
        assert!(
            heard.iter().all(|(_, with)| *with == Some(hers())),
            "{heard:?}"
        );
        assert_eq!(locked(&kept).mutations.len(), 1, "{step}");
        let submits = heard.iter().filter(|(call, _)| *call == "submit").count();
        assert_eq!(submits + 1, sent, "{step}");
    }
}

#[tokio::test]
async fn what_may_have_been_sent_is_unknown_when_nobody_comes_who_could_look() {
    let home = tempfile::tempdir().unwrap();
    let kept = Arc::<Mutex<Kept>>::default();
    let (life, _, row) = killed_at(STEPS[1], home.path(), &kept, IMPATIENT).await;
    let row = life.ended(&row.request_id).await;
    let (outcome, message) = said(&row);
    assert_eq!(outcome, Outcome::Unknown);
    assert!(
        message.contains("nobody knows whether prod got it"),
        "{message}"
    );
    assert!(message.contains("alice did not sign in again"), "{message}");
    assert_eq!(locked(&kept).heard, []);
}

#[tokio::test]
async fn an_effect_that_is_seen_needs_nobody_to_look() {
    let home = tempfile::tempdir().unwrap();
    let kept = Arc::<Mutex<Kept>>::default();
    let (life, _, row) = killed_at(STEPS[1], home.path(), &kept, PATIENT).await;
    life.says(&row, "waits for alice").await;
    life.hub.commit([Change::Remove {
        kind: Kind::Cluster,
        key: Key::new("prod", Kind::Cluster, "a"),
        reason: "torn down".into(),
    }]);
    assert_eq!(life.ended(&row.request_id).await.status, "SUCCEEDED");
    assert_eq!(locked(&kept).heard, []);
}

#[tokio::test]
async fn credentials_that_are_not_taken_fail_what_was_not_sent_in_the_sources_words() {
    let home = tempfile::tempdir().unwrap();
    let kept = Arc::<Mutex<Kept>>::default();
    locked(&kept).revoked = vec![hers()];
    let life = begin(
        home.path(),
        &kept,
        &Ring::with(Keys::Callers(hers())),
        PATIENT,
    );
    let row = accepted(&life, &down(&["a"])).await;
    let row = life.ended(&row.request_id).await;
    assert_eq!(said(&row), (Outcome::Failed, "token revoked"));
    assert_eq!(locked(&kept).heard, [("submit", Some(hers()))]);
}

#[tokio::test]
async fn a_look_with_credentials_that_are_not_taken_waits_for_others() {
    let home = tempfile::tempdir().unwrap();
    let kept = Arc::<Mutex<Kept>>::default();
    let new = Credentials::Bearer(Secret::new(SECRET));
    let (mut life, ring, row) = killed_at(STEPS[1], home.path(), &kept, PATIENT).await;
    locked(&kept).revoked = vec![hers()];
    life.says(&row, "waits for alice").await;
    let mut asked = ring.asked.subscribe();
    let before = *asked.borrow();
    ring.put(Keys::Callers(hers()));
    life.reached
        .wait_for(|reached| *reached == Some("find"))
        .await
        .unwrap();
    // Once to look, and once more for others.
    asked.wait_for(|asked| *asked >= before + 2).await.unwrap();
    ring.put(Keys::Callers(new.clone()));
    assert_eq!(life.ended(&row.request_id).await.status, "SUCCEEDED");
    let finds: Vec<_> = locked(&kept)
        .heard
        .iter()
        .filter(|(call, _)| *call == "find")
        .map(|(_, with)| with.clone())
        .collect();
    assert_eq!(finds, [Some(hers()), Some(new)]);
    assert_eq!(locked(&kept).mutations.len(), 1);
}

#[tokio::test]
async fn how_it_ended_is_asked_with_the_sources_credentials_while_whoever_asked_is_away() {
    for discreet in [false, true] {
        let home = tempfile::tempdir().unwrap();
        let kept = Arc::<Mutex<Kept>>::default();
        locked(&kept).discreet = discreet;
        locked(&kept).fails = true;
        let (life, ring, row) = killed_at(STEPS[2], home.path(), &kept, PATIENT).await;
        let mut asked = vec![("result", None)];
        if discreet {
            life.says(&row, "waits for alice to sign in again, to ask")
                .await;
            ring.put(Keys::Callers(hers()));
            asked.push(("result", Some(hers())));
        }
        let row = life.ended(&row.request_id).await;
        assert_eq!(said(&row), (Outcome::Failed, "no such luck"));
        assert_eq!(locked(&kept).heard, asked);
    }
}

/// What was logged, for a look at it.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        locked(&self.0).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn credentials_are_in_no_file_and_no_line_of_the_log() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    // For every thread: what one of them finds that nobody listens to is remembered for all.
    tracing::subscriber::set_global_default(subscriber).unwrap();
    tracing::callsite::rebuild_interest_cache();
    let home = tempfile::tempdir().unwrap();
    let kept = Arc::<Mutex<Kept>>::default();
    let (life, ring, row) = killed_at(STEPS[1], home.path(), &kept, PATIENT).await;
    life.says(&row, "waits for alice").await;
    ring.put(Keys::Callers(hers()));
    let row = life.ended(&row.request_id).await;
    assert!(!format!("{row:?}").contains(SECRET));
    let (_, value) = hers().header().unwrap();
    let encoded = value.trim_start_matches("Basic ").as_bytes();
    let has = |bytes: &[u8], needle: &[u8]| bytes.windows(needle.len()).any(|at| at == needle);
    let mut files = 0;
    for file in std::fs::read_dir(home.path()).unwrap() {
        let path = file.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        assert!(
            !has(&bytes, SECRET.as_bytes()) && !has(&bytes, encoded),
            "{path:?}"
        );
        files += usize::from(has(&bytes, b"alice"));
    }
    assert!(files > 0, "the request is written down somewhere");
    let logged = locked(&lines.0).clone();
    assert!(has(&logged, b"request accepted"), "the log is looked at");
    assert!(!has(&logged, SECRET.as_bytes()) && !has(&logged, encoded));
}
