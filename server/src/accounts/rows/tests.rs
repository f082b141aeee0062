use rusqlite::Connection;
use skytower_api_client::EpochMs;
use skytower_api_client::wire::Role;

use super::*;
use crate::accounts::model::{NewToken, NewUser};

const HASH: &str = "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

fn database() -> Connection {
    let connection = Connection::open_in_memory().unwrap();
    // What is damaged was not written by rules.
    connection
        .execute_batch("PRAGMA foreign_keys = OFF; PRAGMA ignore_check_constraints = ON")
        .unwrap();
    connection.execute_batch(SCHEMA).unwrap();
    let mut accounts = load(&connection).unwrap();
    let new = NewUser {
        name: "root".to_owned(),
        role: Role::Admin,
        password: PasswordHash::parse(HASH),
        service: false,
    };
    let edits = accounts.add_user(new, EpochMs(1)).unwrap();
    write(&connection, &edits).unwrap();
    for edit in &edits {
        accounts.apply(edit);
    }
    let token = NewToken {
        name: "a".to_owned(),
        scope: Scope::Read,
        expires_at: None,
    };
    let issued = accounts.create_token("root", &token, EpochMs(1)).unwrap();
    write(&connection, &issued.edits).unwrap();
    connection
}

#[test]
fn what_makes_no_sense_is_damage_and_never_passed_over() {
    assert!(load(&database()).is_ok());
    for harm in [
        "UPDATE users SET id = 'root'",
        "UPDATE users SET name = '-rf'",
        "UPDATE users SET name = 'r' || char(27) || 'oot'",
        "UPDATE users SET role = 'emperor'",
        "UPDATE users SET role = 'Admin'",
        "UPDATE users SET password = 'hunter2'",
        "UPDATE users SET password = replace(password, 'm=19456', 'm=4194304')",
        "UPDATE users SET service = 1",
        "INSERT INTO identities VALUES ('', (SELECT id FROM users))",
        "INSERT INTO identities VALUES ('2f1c', 'u-000000000000')",
        "UPDATE tokens SET id = 'x'",
        "UPDATE tokens SET user = 'u-000000000000'",
        "UPDATE tokens SET name = ''",
        "UPDATE tokens SET scope = 'root'",
        "UPDATE tokens SET hash = x'00'",
        "UPDATE tokens SET previous_hash = hash",
        "UPDATE tokens SET previous_until = 1",
        "UPDATE workspaces SET private = 1",
        "DELETE FROM workspaces",
        "INSERT INTO workspaces VALUES ('a b', 0)",
        "INSERT INTO members VALUES ('default', 'u-000000000000')",
        "INSERT INTO members SELECT 'nowhere', id FROM users",
        "DELETE FROM users",
    ] {
        let connection = database();
        let changed = connection.execute(harm, []).unwrap();
        assert!(changed > 0, "{harm} harms nothing");
        let error = load(&connection).unwrap_err();
        assert!(matches!(error, RowsError::Damaged(_)), "{harm}: {error:?}");
        let said = error.to_string();
        assert!(
            said.contains("damaged") && !said.contains("hunter2"),
            "{said}"
        );
    }
}

#[test]
fn a_database_without_tables_is_another_error() {
    let connection = Connection::open_in_memory().unwrap();
    assert!(matches!(load(&connection), Err(RowsError::Database(_))));
    let edit = Edit::RemoveToken("0123456789ab".into());
    assert!(matches!(
        write(&connection, &[edit]),
        Err(RowsError::Database(_))
    ));
}

#[test]
fn names_hold_no_sql() {
    let connection = database();
    let mut accounts = load(&connection).unwrap();
    let token = NewToken {
        name: "a'); DROP TABLE users; --".to_owned(),
        scope: Scope::Admin,
        expires_at: None,
    };
    let issued = accounts.create_token("root", &token, EpochMs(2)).unwrap();
    write(&connection, &issued.edits).unwrap();
    for edit in &issued.edits {
        accounts.apply(edit);
    }
    assert_eq!(load(&connection).unwrap(), accounts);
}
