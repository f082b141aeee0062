//! The accounts in `SQLite`: their tables, and what is read from and written to them.

use std::collections::BTreeSet;
use std::sync::Arc;

use rusqlite::{Connection, params};
use skytower_api_client::wire::Role;
use skytower_api_client::{EpochMs, Text};

use super::model::{
    Accounts, DEFAULT_WORKSPACE, Edit, Previous, Scope, SecretHash, Token, User, Workspace,
    identity, is_token_id, is_user_id, token_name, user_name, workspace_name,
};
use super::password::PasswordHash;

#[cfg(test)]
mod tests;

/// The tables, as one step of a migration.
pub const SCHEMA: &str = "
    CREATE TABLE users (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        role TEXT NOT NULL,
        password TEXT,
        disabled INTEGER NOT NULL CHECK (disabled IN (0, 1)),
        service INTEGER NOT NULL CHECK (service IN (0, 1)),
        created_at INTEGER NOT NULL,
        password_changed_at INTEGER,
        CHECK (service = 0 OR password IS NULL)
    ) STRICT;
    CREATE UNIQUE INDEX users_by_name ON users (name COLLATE NOCASE);
    CREATE TABLE identities (
        identity TEXT PRIMARY KEY,
        user TEXT NOT NULL REFERENCES users (id)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX identities_by_user ON identities (user);
    CREATE TABLE tokens (
        id TEXT PRIMARY KEY,
        user TEXT NOT NULL REFERENCES users (id),
        name TEXT NOT NULL,
        scope TEXT NOT NULL,
        hash BLOB NOT NULL CHECK (length(hash) = 32),
        previous_hash BLOB CHECK (length(previous_hash) = 32),
        previous_until INTEGER,
        created_at INTEGER NOT NULL,
        expires_at INTEGER,
        last_used_at INTEGER,
        CHECK ((previous_hash IS NULL) = (previous_until IS NULL))
    ) STRICT;
    CREATE UNIQUE INDEX tokens_by_name ON tokens (user, name);
    CREATE TABLE workspaces (
        name TEXT PRIMARY KEY,
        private INTEGER NOT NULL CHECK (private IN (0, 1)),
        CHECK (name != 'default' OR private = 0)
    ) STRICT, WITHOUT ROWID;
    INSERT INTO workspaces VALUES ('default', 0);
    CREATE TABLE members (
        workspace TEXT NOT NULL REFERENCES workspaces (name),
        user TEXT NOT NULL REFERENCES users (id),
        PRIMARY KEY (workspace, user)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX members_by_user ON members (user);
";

/// The accounts could not be read or written.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RowsError {
    /// `SQLite` or the disk said no.
    #[error("the accounts could not be read or written: {0}")]
    Database(Arc<rusqlite::Error>),
    /// What stands there makes no sense. Nothing is passed over: an account that is left out would be one
    /// that nobody can disable.
    #[error("the database of accounts is damaged ({0}): restore it from a copy")]
    Damaged(String),
}

impl From<rusqlite::Error> for RowsError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::Error as E;
        match error {
            // Values that do not fit are in the database already.
            E::FromSqlConversionFailure(..)
            | E::IntegralValueOutOfRange(..)
            | E::Utf8Error(..)
            | E::InvalidColumnType(..) => Self::Damaged(error.to_string()),
            error => Self::Database(Arc::new(error)),
        }
    }
}

/// The message may name a row by its id, never what is in it.
fn damaged(error: impl Into<String>) -> RowsError {
    RowsError::Damaged(error.into())
}

/// Reads all accounts.
pub fn load(connection: &Connection) -> Result<Accounts, RowsError> {
    let mut accounts = Accounts::nothing();
    load_users(connection, &mut accounts)?;
    load_tokens(connection, &mut accounts)?;
    load_workspaces(connection, &mut accounts)?;
    Ok(accounts)
}

fn load_users(connection: &Connection, accounts: &mut Accounts) -> Result<(), RowsError> {
    let mut identities = connection.prepare("SELECT identity FROM identities WHERE user = ?")?;
    let mut select = connection.prepare(
        "SELECT id, name, role, password, disabled, service, created_at, password_changed_at FROM users",
    )?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let id: String = row.get(0)?;
        if !is_user_id(&id) {
            return Err(damaged("a user has an id that was never given"));
        }
        let (name, role): (String, String) = (row.get(1)?, row.get(2)?);
        let password: Option<String> = row.get(3)?;
        let own = identities
            .query_map([&id], |row| row.get(0))?
            .collect::<rusqlite::Result<Vec<String>>>()?;
        let user = User {
            name: user_name(&name).map_err(|_| damaged(format!("the name of {id}")))?,
            role: role_of(&role).ok_or_else(|| damaged(format!("the role of {id}")))?,
            password: password
                .map(|phc| {
                    PasswordHash::parse(&phc)
                        .ok_or_else(|| damaged(format!("the password of {id}")))
                })
                .transpose()?,
            disabled: row.get(4)?,
            service: row.get(5)?,
            created_at: EpochMs(row.get(6)?),
            password_changed_at: row.get::<_, Option<i64>>(7)?.map(EpochMs),
            identities: own
                .iter()
                .map(|raw| identity(raw))
                .collect::<Result<_, _>>()
                .map_err(|_| damaged(format!("an id of {id} at a source")))?,
            id: id.into(),
        };
        if user.service && user.password.is_some() {
            return Err(damaged(format!(
                "the service account {} has a password",
                user.id
            )));
        }
        if accounts.user_named(&user.name).is_some() {
            return Err(damaged(format!("the name of {} is another's", user.id)));
        }
        accounts.apply(&Edit::PutUser(user));
    }
    let nobodys: bool = connection.query_row(
        "SELECT EXISTS (SELECT 1 FROM identities WHERE user NOT IN (SELECT id FROM users))",
        [],
        |row| row.get(0),
    )?;
    if nobodys {
        return Err(damaged("an id at a source is of a user who is not there"));
    }
    Ok(())
}

fn load_tokens(connection: &Connection, accounts: &mut Accounts) -> Result<(), RowsError> {
    let mut select = connection.prepare(
        "SELECT id, user, name, scope, hash, previous_hash, previous_until, created_at, expires_at, last_used_at
         FROM tokens",
    )?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let id: String = row.get(0)?;
        if !is_token_id(&id) {
            return Err(damaged("a token has an id that was never given"));
        }
        let (user, name, scope): (String, String, String) = (row.get(1)?, row.get(2)?, row.get(3)?);
        if accounts.user(&user).is_none() {
            return Err(damaged(format!("the user of token {id} is not there")));
        }
        let previous: (Option<[u8; 32]>, Option<i64>) = (row.get(5)?, row.get(6)?);
        let token = Token {
            user: user.into(),
            name: token_name(&name).map_err(|_| damaged(format!("the name of token {id}")))?,
            scope: Scope::of(&scope).ok_or_else(|| damaged(format!("the scope of token {id}")))?,
            hash: SecretHash(row.get(4)?),
            previous: match previous {
                (None, None) => None,
                (Some(hash), Some(until)) => Some(Previous {
                    hash: SecretHash(hash),
                    until: EpochMs(until),
                }),
                _ => return Err(damaged(format!("the rotation of token {id}"))),
            },
            created_at: EpochMs(row.get(7)?),
            expires_at: row.get::<_, Option<i64>>(8)?.map(EpochMs),
            last_used_at: row.get::<_, Option<i64>>(9)?.map(EpochMs),
            id: id.into(),
        };
        accounts.apply(&Edit::PutToken(token));
    }
    Ok(())
}

fn load_workspaces(connection: &Connection, accounts: &mut Accounts) -> Result<(), RowsError> {
    let mut select = connection.prepare("SELECT name, private FROM workspaces")?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let name: String = row.get(0)?;
        let workspace = Workspace {
            name: workspace_name(&name).map_err(|_| damaged("the name of a workspace"))?,
            private: row.get(1)?,
            members: BTreeSet::new(),
        };
        accounts.apply(&Edit::PutWorkspace(workspace));
    }
    match accounts.find_workspace(DEFAULT_WORKSPACE) {
        Ok(default) if !default.private => {}
        _ => {
            return Err(damaged(
                "the workspace `default` is not there for everybody",
            ));
        }
    }
    let mut select = connection.prepare("SELECT workspace, user FROM members")?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let (name, user): (String, String) = (row.get(0)?, row.get(1)?);
        let Ok(workspace) = accounts.find_workspace(&name) else {
            return Err(damaged("a member is in a workspace that is not there"));
        };
        if accounts.user(&user).is_none() {
            return Err(damaged("a member is a user who is not there"));
        }
        let mut workspace = workspace.clone();
        workspace.members.insert(user.into());
        accounts.apply(&Edit::PutWorkspace(workspace));
    }
    Ok(())
}

/// An unknown word is damage here, not the least of roles.
fn role_of(word: &str) -> Option<Role> {
    [Role::Admin, Role::User, Role::Viewer]
        .into_iter()
        .find(|role| role.word() == word)
}

/// Writes edits. The transaction is the caller's: all of them, or none.
pub fn write(connection: &Connection, edits: &[Edit]) -> Result<(), RowsError> {
    for edit in edits {
        match edit {
            Edit::PutUser(user) => put_user(connection, user)?,
            Edit::RemoveUser(id) => {
                run(connection, "DELETE FROM identities WHERE user = ?", id)?;
                run(connection, "DELETE FROM users WHERE id = ?", id)?;
            }
            Edit::PutToken(token) => put_token(connection, token)?,
            Edit::RemoveToken(id) => run(connection, "DELETE FROM tokens WHERE id = ?", id)?,
            Edit::UseToken(id, at) => {
                connection
                    .prepare_cached("UPDATE tokens SET last_used_at = ? WHERE id = ?")?
                    .execute(params![at.0, id.as_str()])?;
            }
            Edit::PutWorkspace(workspace) => put_workspace(connection, workspace)?,
            Edit::RemoveWorkspace(name) => {
                run(connection, "DELETE FROM members WHERE workspace = ?", name)?;
                run(connection, "DELETE FROM workspaces WHERE name = ?", name)?;
            }
        }
    }
    Ok(())
}

fn run(connection: &Connection, sql: &str, key: &Text) -> Result<(), RowsError> {
    connection.prepare_cached(sql)?.execute([key.as_str()])?;
    Ok(())
}

fn put_user(connection: &Connection, user: &User) -> Result<(), RowsError> {
    connection
        .prepare_cached(
            "INSERT INTO users (id, name, role, password, disabled, service, created_at, password_changed_at)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?)
             ON CONFLICT (id) DO UPDATE SET name = excluded.name, role = excluded.role,
                password = excluded.password, disabled = excluded.disabled, service = excluded.service,
                created_at = excluded.created_at, password_changed_at = excluded.password_changed_at",
        )?
        .execute(params![
            user.id.as_str(),
            user.name.as_str(),
            user.role.word(),
            user.password.as_ref().map(PasswordHash::expose),
            user.disabled,
            user.service,
            user.created_at.0,
            user.password_changed_at.map(|at| at.0),
        ])?;
    run(
        connection,
        "DELETE FROM identities WHERE user = ?",
        &user.id,
    )?;
    let mut insert =
        connection.prepare_cached("INSERT INTO identities (identity, user) VALUES (?, ?)")?;
    for identity in &user.identities {
        insert.execute([identity.as_str(), user.id.as_str()])?;
    }
    Ok(())
}

fn put_token(connection: &Connection, token: &Token) -> Result<(), RowsError> {
    let previous = token.previous.as_ref();
    connection
        .prepare_cached(
            "INSERT INTO tokens (id, user, name, scope, hash, previous_hash, previous_until, created_at,
                expires_at, last_used_at)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
             ON CONFLICT (id) DO UPDATE SET user = excluded.user, name = excluded.name,
                scope = excluded.scope, hash = excluded.hash, previous_hash = excluded.previous_hash,
                previous_until = excluded.previous_until, created_at = excluded.created_at,
                expires_at = excluded.expires_at, last_used_at = excluded.last_used_at",
        )?
        .execute(params![
            token.id.as_str(),
            token.user.as_str(),
            token.name.as_str(),
            token.scope.word(),
            token.hash.0,
            previous.map(|previous| previous.hash.0),
            previous.map(|previous| previous.until.0),
            token.created_at.0,
            token.expires_at.map(|at| at.0),
            token.last_used_at.map(|at| at.0),
        ])?;
    Ok(())
}

fn put_workspace(connection: &Connection, workspace: &Workspace) -> Result<(), RowsError> {
    connection
        .prepare_cached(
            "INSERT INTO workspaces (name, private) VALUES (?, ?)
             ON CONFLICT (name) DO UPDATE SET private = excluded.private",
        )?
        .execute(params![workspace.name.as_str(), workspace.private])?;
    run(
        connection,
        "DELETE FROM members WHERE workspace = ?",
        &workspace.name,
    )?;
    let mut insert =
        connection.prepare_cached("INSERT INTO members (workspace, user) VALUES (?, ?)")?;
    for member in &workspace.members {
        insert.execute([workspace.name.as_str(), member.as_str()])?;
    }
    Ok(())
}
