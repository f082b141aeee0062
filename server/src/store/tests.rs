use super::*;

fn store(home: &tempfile::TempDir) -> Store {
    Store::open(&home.path().join(FILE)).unwrap()
}

async fn numbers(store: &Store, select: &'static str) -> Vec<i64> {
    let read = store.run(move |connection| {
        let mut select = connection.prepare(select)?;
        let all = select.query_map([], |row| row.get(0))?;
        Ok(all.collect::<rusqlite::Result<Vec<_>>>()?)
    });
    read.await.unwrap()
}

async fn execute(store: &Store, sql: String) -> Result<(), StoreError> {
    store
        .run(move |connection| Ok(connection.execute_batch(&sql)?))
        .await
}

#[tokio::test]
async fn the_file_is_for_the_servers_eyes_and_newer_ones_are_left_alone() {
    use std::os::unix::fs::PermissionsExt;
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join(FILE);
    let opened = store(&home);
    assert!(numbers(&opened, "SELECT 1 FROM requests").await.is_empty());
    for entry in std::fs::read_dir(home.path()).unwrap() {
        let mode = entry.unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    drop(opened);
    let connection = Connection::open(&path).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    assert!(matches!(
        Store::open(&path).unwrap_err(),
        StoreError::Newer { version: 99, .. }
    ));
}

#[tokio::test]
async fn one_failure_does_not_take_its_commit_down() {
    let home = tempfile::tempdir().unwrap();
    let store = store(&home);
    let good = store.run(|connection| Ok(connection.execute("CREATE TABLE good (a)", [])?));
    let bad = store.run(|connection| {
        connection.execute("CREATE TABLE half (a)", [])?;
        Ok(connection.execute("no SQL at all", [])?)
    });
    let (good, bad) = tokio::join!(good, bad);
    assert!(good.is_ok() && bad.is_err());
    let tables = "SELECT count(*) FROM sqlite_schema WHERE name IN ('good', 'half')";
    assert_eq!(numbers(&store, tables).await, [1]);
}

#[tokio::test]
async fn what_answers_well_is_there_and_nothing_else_however_full_the_disk_becomes() {
    const KEPT: &str = "SELECT n FROM kept ORDER BY n";
    let home = tempfile::tempdir().unwrap();
    let store = store(&home);
    let table = "CREATE TABLE kept (n INTEGER, ballast BLOB)".to_owned();
    execute(&store, table).await.unwrap();
    let pages = numbers(&store, "PRAGMA page_count").await[0];
    let quota = |pages: i64| format!("PRAGMA max_page_count = {pages}");
    execute(&store, quota(pages + 20)).await.unwrap();
    let insert = |n: i64| format!("INSERT INTO kept VALUES ({n}, zeroblob(2000))");
    let mut all = tokio::task::JoinSet::new();
    for n in 0..200 {
        let (store, insert) = (store.clone(), insert(n));
        all.spawn(async move { execute(&store, insert).await.is_ok().then_some(n) });
    }
    let mut promised: Vec<i64> = all.join_all().await.into_iter().flatten().collect();
    promised.sort_unstable();
    assert!(!promised.is_empty() && promised.len() < 200);
    assert_eq!(numbers(&store, KEPT).await, promised);
    // There is room again: nothing has to be started anew.
    execute(&store, quota(100_000)).await.unwrap();
    execute(&store, insert(1000)).await.unwrap();
    promised.push(1000);
    assert_eq!(numbers(&store, KEPT).await, promised);
}

#[tokio::test]
async fn a_reader_sees_what_was_answered_cannot_write_and_holds_nobody_up() {
    const COUNT: &str = "SELECT count(*) FROM kept";
    fn count(connection: &Connection) -> Result<i64, StoreError> {
        Ok(connection.query_row(COUNT, [], |row| row.get(0))?)
    }
    let home = tempfile::tempdir().unwrap();
    let store = store(&home);
    let table = "CREATE TABLE kept (n); INSERT INTO kept VALUES (1)".to_owned();
    execute(&store, table).await.unwrap();
    let refused = store.read(|connection| Ok(connection.execute("DELETE FROM kept", [])?));
    assert!(refused.await.is_err());
    let (begins, begun) = oneshot::channel();
    let (go_on, may_go_on) = oneshot::channel();
    let slow = tokio::spawn({
        let store = store.clone();
        async move {
            let read = store.read(move |connection| {
                let first = count(connection)?;
                begins.send(()).unwrap();
                may_go_on.blocking_recv().unwrap();
                Ok((first, count(connection)?))
            });
            read.await.unwrap()
        }
    });
    begun.await.unwrap();
    let insert = "INSERT INTO kept VALUES (2)".to_owned();
    execute(&store, insert).await.unwrap();
    go_on.send(()).unwrap();
    assert_eq!(slow.await.unwrap(), (1, 1));
    assert_eq!(store.read(count).await.unwrap(), 2);
}

#[test]
fn the_command_line_waits_for_its_work() {
    let home = tempfile::tempdir().unwrap();
    let store = store(&home);
    let run =
        |sql: &'static str| store.run_blocking(move |connection| Ok(connection.execute(sql, [])?));
    run("CREATE TABLE a (b)").unwrap();
    assert_eq!(run("INSERT INTO a VALUES (1)").unwrap(), 1);
    assert!(run("INSERT INTO nowhere VALUES (1)").is_err());
}

#[test]
fn the_file_of_an_older_version_is_taken_over_with_what_was_written_last() {
    let (alive, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let writer = Connection::open(alive.path().join("requests.db")).unwrap();
    writer
        .execute_batch(
            "PRAGMA journal_mode = WAL; CREATE TABLE promised (n);
             INSERT INTO promised VALUES (7);",
        )
        .unwrap();
    // As after a kill: the last writes are only in the log next to it. And the server that took it
    // over was killed half way.
    for (from, to) in [
        ("requests.db", "requests.db"),
        ("requests.db-wal", "skytower.db-wal"),
    ] {
        std::fs::copy(alive.path().join(from), home.path().join(to)).unwrap();
    }
    let (before, after) = (home.path().join("requests.db"), home.path().join(FILE));
    let store = Store::open(&after).unwrap();
    let promised = store.run_blocking(|connection| {
        Ok(connection.query_row("SELECT n FROM promised", [], |row| row.get::<_, i64>(0))?)
    });
    assert_eq!(promised.unwrap(), 7);
    assert!(!before.exists());
    // A file under the old name that appears later is somebody else's.
    std::fs::write(&before, "not ours").unwrap();
    drop(store);
    assert!(Store::open(&after).is_ok());
    assert!(before.exists());
}
