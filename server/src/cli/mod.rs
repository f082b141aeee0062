//! `skytower-server user|token|workspace`: accounts from the machine that the server runs on.
//!
//! A server that runs is asked over REST, with its own token from the state folder, so that what changes
//! counts at once for those inside. Where none runs, one is opened for the one command, on loopback.

mod args;
mod desk;
mod print;

use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};
use skytower_api_client::rest::path;

use args::NewRole;
pub use args::{Command, Form, TokenCommand, UserCommand, WorkspaceCommand};
use desk::Desk;
use print::Shown;

/// What went wrong, for people.
#[derive(Debug)]
pub(crate) struct Wrong {
    /// What happened.
    pub(crate) message: String,
    /// What to do.
    pub(crate) hint: Option<String>,
}

impl Wrong {
    fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
        }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Carries a command out; what is wrong goes to standard error.
pub fn run(command: &Command, home: &Path) -> ExitCode {
    if home.as_os_str().is_empty() {
        eprintln!(
            "error: no state folder was named\nhint: use --home FOLDER, or the --config FILE of the server"
        );
        return ExitCode::from(2);
    }
    let runtime = match crate::server::runtime() {
        Ok(runtime) => runtime,
        Err(code) => return code,
    };
    let done = runtime.block_on(async {
        let desk = Desk::open(home).await?;
        let done = carry_out(command, &desk).await;
        desk.close().await;
        done
    });
    runtime.shutdown_background();
    match done {
        Ok(shown) => {
            shown.print();
            ExitCode::SUCCESS
        }
        Err(wrong) => {
            eprintln!("error: {}", wrong.message);
            if let Some(hint) = wrong.hint {
                eprintln!("hint: {hint}");
            }
            ExitCode::FAILURE
        }
    }
}

async fn carry_out(command: &Command, desk: &Desk) -> Result<Shown, Wrong> {
    match command {
        Command::User(command) => user(command, desk).await,
        Command::Token(command) => token(command, desk).await,
        Command::Workspace(command) => workspace(command, desk).await,
    }
}

async fn user(command: &UserCommand, desk: &Desk) -> Result<Shown, Wrong> {
    match command {
        UserCommand::List { output } => {
            let users = desk.get(path::USERS).await?;
            Ok(Shown::users(users, *output))
        }
        UserCommand::Add {
            name,
            role,
            service,
            password_stdin,
        } => {
            let mut body = json!({"name": name, "role": role.word(), "service": service});
            if *password_stdin {
                body["password"] = secret_from_stdin()?;
            }
            let made = desk.post(path::USERS, body).await?;
            Ok(Shown::password(&format!("User {name} is there."), &made))
        }
        UserCommand::Role { name, role } => {
            patch(desk, name, json!({"role": role.word()})).await?;
            Ok(Shown::said(format!("{name} is {} now.", role.article())))
        }
        UserCommand::Password {
            name,
            password_stdin,
        } => {
            let body = if *password_stdin {
                json!({"password": secret_from_stdin()?})
            } else {
                json!({"new_password": true})
            };
            let changed = patch(desk, name, body).await?;
            let sentence =
                format!("{name} has a new password; who signed in with the old one is out.");
            Ok(Shown::password(&sentence, &changed))
        }
        UserCommand::Disable { name } => {
            patch(desk, name, json!({"disabled": true})).await?;
            Ok(Shown::said(format!(
                "{name} may not sign in any more, and is out."
            )))
        }
        UserCommand::Enable { name } => {
            patch(desk, name, json!({"disabled": false})).await?;
            Ok(Shown::said(format!("{name} may sign in again.")))
        }
        UserCommand::Remove { name } => {
            desk.delete(&path::user(name)).await?;
            Ok(Shown::said(format!(
                "{name} is no more, nor are its tokens."
            )))
        }
        UserCommand::Identity { name, add, remove } => {
            let body = json!({"add_identities": add, "remove_identities": remove});
            let changed = patch(desk, name, body).await?;
            let ids = changed["user"]["identities"].clone();
            let ids: Vec<String> = serde_json::from_value(ids).unwrap_or_default();
            Ok(Shown::said(match ids.as_slice() {
                [] => format!("{name} has no ids at the sources."),
                ids => format!("{name} is also {}.", ids.join(", ")),
            }))
        }
    }
}

async fn patch(desk: &Desk, name: &str, body: Value) -> Result<Value, Wrong> {
    desk.patch(&path::user(name), body).await
}

async fn token(command: &TokenCommand, desk: &Desk) -> Result<Shown, Wrong> {
    match command {
        TokenCommand::List { user, output } => {
            let tokens = desk.get(path::TOKENS).await?;
            Ok(Shown::tokens(tokens, user.as_deref(), *output))
        }
        TokenCommand::Create {
            user,
            name,
            scope,
            expires,
        } => {
            let mut body = json!({"name": name, "user": user, "scope": scope.word()});
            if expires != "never" {
                body["expires"] = json!(expires);
            }
            let made = desk.post(path::TOKENS, body).await?;
            Ok(Shown::token(
                &format!("A token of {user}, shown this once:"),
                &made,
            ))
        }
        TokenCommand::Rotate { id, overlap } => {
            let made = desk
                .post(&path::rotate(id), json!({"overlap": overlap}))
                .await?;
            let sentence = format!(
                "The new secret of token {id}, shown this once; the old one counts for {overlap}:"
            );
            Ok(Shown::token(&sentence, &made))
        }
        TokenCommand::Revoke { id } => {
            desk.delete(&path::token(id)).await?;
            Ok(Shown::said(format!(
                "Token {id} is revoked; who is in with it is out."
            )))
        }
    }
}

async fn workspace(command: &WorkspaceCommand, desk: &Desk) -> Result<Shown, Wrong> {
    let change = async |name: &str, body: Value| desk.patch(&path::workspace(name), body).await;
    match command {
        WorkspaceCommand::List { output } => {
            let workspaces = desk.get(path::WORKSPACES).await?;
            Ok(Shown::workspaces(workspaces, *output))
        }
        WorkspaceCommand::Add {
            name,
            private,
            members,
        } => {
            let body = json!({"name": name, "private": private, "members": members});
            desk.post(path::WORKSPACES, body).await?;
            let kind = if *private { "private" } else { "public" };
            Ok(Shown::said(format!(
                "Workspace {name} is there, and {kind}."
            )))
        }
        WorkspaceCommand::Private { name } => {
            change(name, json!({"private": true})).await?;
            Ok(Shown::said(format!(
                "{name} is for its members and administrators now."
            )))
        }
        WorkspaceCommand::Public { name } => {
            change(name, json!({"private": false})).await?;
            Ok(Shown::said(format!("{name} is for everybody now.")))
        }
        WorkspaceCommand::Members { name, add, remove } => {
            let body = json!({"add_members": add, "remove_members": remove});
            let changed = change(name, body).await?;
            let members: Vec<String> =
                serde_json::from_value(changed["members"].clone()).unwrap_or_default();
            Ok(Shown::said(match members.as_slice() {
                [] => format!("{name} has no members."),
                members => format!("Members of {name}: {}.", members.join(", ")),
            }))
        }
        WorkspaceCommand::Remove { name } => {
            desk.delete(&path::workspace(name)).await?;
            Ok(Shown::said(format!(
                "{name} is no more; what is still in it is seen by administrators only."
            )))
        }
    }
}

/// One line of standard input: a secret has no place among the arguments.
fn secret_from_stdin() -> Result<Value, Wrong> {
    let mut line = String::new();
    std::io::stdin()
        .read_line(&mut line)
        .map_err(|error| Wrong::new(format!("standard input cannot be read: {error}")))?;
    let secret = line.trim_end_matches(['\n', '\r']);
    if secret.is_empty() {
        return Err(Wrong::new("there is no password on standard input").hint(
            "write it there as one line, or leave --password-stdin out and have one made up",
        ));
    }
    Ok(json!(secret))
}

impl NewRole {
    fn article(self) -> &'static str {
        match self {
            NewRole::Admin => "an administrator",
            NewRole::User => "a user",
            NewRole::Viewer => "a viewer",
        }
    }
}
