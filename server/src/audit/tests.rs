//! The audit on a disk, and what is noted without holding anybody up.

use rusqlite::Connection;

use super::*;
use crate::store::FILE;
use skytower_api_client::Kind;

struct Stage {
    home: tempfile::TempDir,
    store: Store,
    audit: Arc<Audit>,
}

fn stage() -> Stage {
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(&home.path().join(FILE)).unwrap();
    let audit = Audit::open(store.clone(), Arc::new(Hub::new()), None);
    Stage { home, store, audit }
}

fn entry(n: usize) -> Entry {
    Entry::server("test.count", Outcome::Succeeded).target(&n.to_string())
}

impl Stage {
    async fn write(&self, entries: impl IntoIterator<Item = Entry>) {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let written = self.store.run(move |connection| {
            for entry in &entries {
                append(connection, entry)?;
            }
            Ok(())
        });
        written.await.unwrap();
    }

    async fn execute(&self, sql: &'static str) -> Result<usize, StoreError> {
        let run = self
            .store
            .run(move |connection| Ok(connection.execute(sql, [])?));
        run.await
    }

    async fn all(&self) -> Vec<AuditEntry> {
        self.audit.since(0, 100_000).await.unwrap()
    }

    /// As somebody would who has the file.
    fn tamper(&self, sql: &str) {
        let connection = Connection::open(self.home.path().join(FILE)).unwrap();
        connection.execute_batch(sql).unwrap();
    }
}

#[tokio::test]
async fn entries_are_only_ever_added() {
    let stage = stage();
    stage.write((0..10).map(entry)).await;
    for sql in [
        "UPDATE audit SET actor = 'eve' WHERE seq = 3",
        "UPDATE audit SET seq = 30 WHERE seq = 3",
        "DELETE FROM audit WHERE seq = 3",
        "DELETE FROM audit",
        "INSERT OR REPLACE INTO audit SELECT * FROM audit WHERE seq = 3",
        "REPLACE INTO audit SELECT 3, at, 'eve', actor_name, role, proof, address, action, target, request, outcome, detail, previous, hash FROM audit WHERE seq = 3",
        "INSERT INTO audit SELECT 20, at, actor, actor_name, role, proof, address, action, target, request, outcome, detail, previous, hash FROM audit WHERE seq = 3",
        "DELETE FROM audit_anchor",
        "UPDATE audit_anchor SET seq = -1",
        "UPDATE audit_anchor SET seq = 11",
        "INSERT INTO audit_anchor VALUES (2, 5, zeroblob(32))",
    ] {
        assert!(stage.execute(sql).await.is_err(), "{sql}");
    }
    assert_eq!(stage.all().await.len(), 10);
    let verdict = stage.audit.verify().await.unwrap();
    assert_eq!(
        (verdict.entries, verdict.head.seq, verdict.broken),
        (10, 10, None)
    );
}

#[tokio::test]
async fn whoever_has_the_file_cannot_change_it_unnoticed() {
    for (tampering, first) in [
        ("UPDATE audit SET actor_name = 'eve' WHERE seq = 7", 7),
        // To the eye the same: what cannot be shown is shown as the same sign.
        ("UPDATE audit SET detail = char(27) WHERE seq = 7", 7),
        ("DELETE FROM audit WHERE seq = 4", 5),
        ("DELETE FROM audit WHERE seq <= 4", 5),
        (
            "UPDATE audit SET outcome = 'refused', hash = previous WHERE seq = 9",
            9,
        ),
    ] {
        let stage = stage();
        let sign = |n| entry(n).detail("\u{1b}\u{7}");
        stage.write((0..10).map(sign)).await;
        let triggers = "DROP TRIGGER audit_is_not_changed; DROP TRIGGER audit_is_kept;";
        stage.tamper(&format!("{triggers} {tampering}"));
        let broken = stage.audit.verify().await.unwrap().broken;
        assert_eq!(broken.map(|broken| broken.seq), Some(first), "{tampering}");
    }
}

#[tokio::test]
async fn what_is_old_is_forgotten_and_the_rest_can_still_be_verified() {
    let stage = stage();
    let day = |n: i64| EpochMs(n * 24 * 3600 * 1000);
    let old = |n: usize| Entry {
        at: day(n as i64 / 100),
        ..entry(n)
    };
    stage.write((0..3000).map(old)).await;
    let whole = stage.audit.verify().await.unwrap();
    assert_eq!(stage.audit.prune(day(12)).await.unwrap(), 1200);
    assert_eq!(stage.audit.prune(day(12)).await.unwrap(), 0);
    assert_eq!(stage.all().await[0].seq, 1201);
    let verdict = stage.audit.verify().await.unwrap();
    assert_eq!((verdict.entries, verdict.anchor.seq), (1800, 1200));
    assert_eq!((&verdict.head, &verdict.broken), (&whole.head, &None));
    // All of it may be old: the chain goes on where it ended.
    stage.audit.prune(day(1000)).await.unwrap();
    stage.write([entry(0)]).await;
    let verdict = stage.audit.verify().await.unwrap();
    assert_eq!(
        (verdict.entries, verdict.head.seq, verdict.broken),
        (1, 3001, None)
    );
}

#[tokio::test]
async fn pages_lead_through_all_of_it() {
    let stage = stage();
    stage.write((0..2500).map(entry)).await;
    let (mut before, mut found) = (i64::MAX, Vec::new());
    loop {
        let page = stage
            .audit
            .before(before, None, 100, |entry| entry.seq % 2 == 0)
            .await
            .unwrap();
        assert!(page.rows.len() <= 100);
        found.extend(page.rows.iter().map(|entry| entry.seq));
        match page.next {
            Some(next) => before = next,
            None => break,
        }
    }
    let wanted: Vec<i64> = (1..=2500).rev().filter(|seq| seq % 2 == 0).collect();
    assert_eq!(found, wanted);
    let latest = stage.audit.latest(2).await.unwrap();
    assert_eq!((latest[0].seq, latest[1].seq), (2500, 2499));
}

#[tokio::test]
async fn the_newest_entries_are_shown_and_floods_are_folded_and_counted() {
    let stage = stage();
    // More than there is room for, before anybody takes them.
    let (eve, lost) = (400, WAITING + 7);
    for n in 0..eve + lost {
        let who = if n < eve { "eve" } else { "mallory" };
        let note = Entry::stranger(None, "sign_in", Outcome::Refused)
            .actor(who, who)
            .detail("the password is wrong");
        stage.audit.note(note);
    }
    let stop = CancellationToken::new();
    let running = tokio::spawn(stage.audit.clone().run(stop.clone()));
    let mut changes = stage.audit.hub.changes();
    let shown = || stage.audit.hub.read(|table| table.len(Kind::Audit));
    while shown() < 3 {
        changes.changed().await.unwrap();
    }
    stop.cancel();
    running.await.unwrap();
    let told: Vec<(String, String)> = stage
        .all()
        .await
        .iter()
        .map(|entry| {
            let detail = entry.why.clone().unwrap_or_default().to_string();
            (entry.action.to_string(), detail)
        })
        .collect();
    let told: Vec<(&str, &str)> = told.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    let wrong = "the password is wrong";
    let dropped = eve + lost - WAITING;
    assert_eq!(
        told,
        [
            ("sign_in", wrong),
            ("sign_in", wrong),
            (
                "audit.dropped",
                &*format!("{dropped} events found no room and are not here")
            ),
            (
                "sign_in",
                &*format!("{} times more within a minute; the last: {wrong}", eve - 1)
            ),
            (
                "sign_in",
                &*format!(
                    "{} times more within a minute; the last: {wrong}",
                    WAITING - eve - 1
                )
            ),
        ]
    );
}

#[tokio::test]
async fn only_so_many_are_shown_and_what_is_forgotten_is_shown_no_more() {
    let stage = stage();
    stage.write((0..700).map(entry)).await;
    let stop = CancellationToken::new();
    let running = tokio::spawn(stage.audit.clone().run(stop.clone()));
    let mut changes = stage.audit.hub.changes();
    let first = || {
        stage.audit.hub.read(|table| {
            let seqs = table.rows(Kind::Audit).filter_map(|row| row.as_audit());
            seqs.map(|entry| entry.seq).min()
        })
    };
    while first() != Some(700 - watch::SHOWN as i64 + 1) {
        changes.changed().await.unwrap();
    }
    stage.write([entry(0)]).await;
    while first() != Some(701 - watch::SHOWN as i64 + 1) {
        changes.changed().await.unwrap();
    }
    stage.audit.prune(EpochMs(i64::MAX)).await.unwrap();
    while first().is_some() {
        changes.changed().await.unwrap();
    }
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn what_could_not_be_written_is_counted_until_there_is_room() {
    let stage = stage();
    let full = "CREATE TRIGGER full BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'full'); END";
    stage.execute(full).await.unwrap();
    assert!(!stage.audit.write((0..3).map(entry).collect(), 2).await);
    assert_eq!(stage.all().await, []);
    stage.execute("DROP TRIGGER full").await.unwrap();
    let lost = stage.audit.dropped.swap(0, Ordering::Relaxed);
    assert!(stage.audit.write(vec![entry(3)], lost).await);
    let told: Vec<String> = stage
        .all()
        .await
        .iter()
        .map(|entry| {
            format!(
                "{} {}",
                entry.action,
                entry.why.as_deref().unwrap_or_default()
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            "test.count ",
            "audit.dropped 5 events found no room and are not here",
        ]
    );
}
