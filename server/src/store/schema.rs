//! The tables, and how older ones become the present ones.

use rusqlite::Connection;

use super::StoreError;
use crate::{accounts, audit, requests};

/// One step per version: the database of version `n` has taken the first `n` steps. Each stands next
/// to what it is for. Never edit a step that was released; add one at the end.
const STEPS: &[&str] = &[
    requests::journal::SCHEMA,
    audit::SCHEMA,
    accounts::rows::SCHEMA,
    requests::journal::FORGET_STARTS,
];

/// Prepares a connection and brings its tables up to date.
pub(super) fn prepare(connection: &mut Connection) -> Result<(), StoreError> {
    // FULL: a 202 promises that the request survives a power cut, not only a crash. What is deleted may have
    // been a secret, and is written over.
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;
         PRAGMA busy_timeout = 5000; PRAGMA trusted_schema = OFF; PRAGMA secure_delete = ON;",
    )?;
    bring_up_to_date(connection, STEPS)?;
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict == "ok" {
        Ok(())
    } else {
        Err(StoreError::Damaged(verdict))
    }
}

/// Takes the steps that the database has not taken yet, each with its number or not at all.
fn bring_up_to_date(connection: &mut Connection, steps: &[&str]) -> Result<(), StoreError> {
    let version: usize = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if version > steps.len() {
        return Err(StoreError::Newer {
            version,
            known: steps.len(),
        });
    }
    for (i, step) in steps.iter().enumerate().skip(version) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "user_version", i + 1)?;
        transaction.commit()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_76_a_step_that_fails_is_not_taken_and_can_be_taken_later() {
        let mut connection = Connection::open_in_memory().unwrap();
        let state = |connection: &Connection| {
            let tables = "SELECT group_concat(name) FROM sqlite_schema WHERE type = 'table'";
            let version = connection.query_row("PRAGMA user_version", [], |row| row.get(0));
            let tables = connection.query_row(tables, [], |row| row.get::<_, String>(0));
            (version.unwrap(), tables.unwrap())
        };
        let first = "CREATE TABLE first (a); INSERT INTO first VALUES (1);";
        let broken = "CREATE TABLE second (a); DELETE FROM first; no SQL at all;";
        bring_up_to_date(&mut connection, &[first, broken]).unwrap_err();
        assert_eq!(state(&connection), (1, "first".to_owned()));
        let kept: i64 = connection
            .query_row("SELECT count(*) FROM first", [], |row| row.get(0))
            .unwrap();
        assert_eq!(kept, 1);
        bring_up_to_date(&mut connection, &[first, "CREATE TABLE second (a);"]).unwrap();
        assert_eq!(state(&connection), (2, "first,second".to_owned()));
    }

    #[test]
    fn what_an_earlier_version_kept_of_finished_starts_is_forgotten() {
        let mut connection = Connection::open_in_memory().unwrap();
        bring_up_to_date(&mut connection, &STEPS[..3]).unwrap();
        let start = r#"{"start":{"file":"a.yaml","yaml":"secrets: {A: hunter2}","secrets":{"A":"hunter2"}}}"#;
        for (id, ended_at) in [("over", Some(1)), ("under way", None)] {
            let insert = "INSERT INTO requests VALUES (?, 'u', NULL, x'00', 'source.launch', ?, '{}', NULL, 0, ?, '')";
            let values = rusqlite::params![id, start, ended_at];
            connection.execute(insert, values).unwrap();
        }
        bring_up_to_date(&mut connection, STEPS).unwrap();
        let kept = |id: &str| {
            let select = "SELECT options FROM requests WHERE id = ?";
            let options = connection.query_row(select, [id], |row| row.get::<_, String>(0));
            options.unwrap()
        };
        assert_eq!(kept("over"), r#"{"start":{"file":"a.yaml"}}"#);
        assert_eq!(kept("under way"), start);
    }
}
