use super::*;

#[tokio::test]
async fn the_file_is_for_the_servers_eyes_and_newer_ones_are_left_alone() {
    use std::os::unix::fs::PermissionsExt;
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("requests.db");
    let journal = Journal::open(&path).unwrap();
    assert_eq!(journal.unfinished().await.unwrap().len(), 0);
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    drop(journal);
    let connection = Connection::open(&path).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    assert!(matches!(
        Journal::open(&path).unwrap_err(),
        JournalError::Newer { version: 99, .. }
    ));
}

#[tokio::test]
async fn one_failure_does_not_take_its_commit_down() {
    let home = tempfile::tempdir().unwrap();
    let journal = Journal::open(&home.path().join("requests.db")).unwrap();
    let good = journal.run(|connection| Ok(connection.execute("CREATE TABLE good (a)", [])?));
    let bad = journal.run(|connection| {
        connection.execute("CREATE TABLE half (a)", [])?;
        Ok(connection.execute("no SQL at all", [])?)
    });
    let (good, bad) = tokio::join!(good, bad);
    assert!(good.is_ok() && bad.is_err());
    let tables = journal.run(|connection| {
        Ok(connection.query_row(
            "SELECT count(*) FROM sqlite_schema WHERE name IN ('good', 'half')",
            [],
            |row| row.get::<_, i64>(0),
        )?)
    });
    assert_eq!(tables.await.unwrap(), 1);
}
