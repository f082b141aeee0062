//! The arguments.

use clap::{Subcommand, ValueEnum};

/// Commands about accounts.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Who may sign in
    #[command(subcommand)]
    User(UserCommand),
    /// Tokens of people and service accounts
    #[command(subcommand)]
    Token(TokenCommand),
    /// Workspaces of the server's own, and who is in them
    #[command(subcommand)]
    Workspace(WorkspaceCommand),
}

/// What is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

/// What somebody may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum NewRole {
    /// Everything, accounts included
    Admin,
    /// Look and act
    #[default]
    User,
    /// Look
    Viewer,
}

/// What a token is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Wanted {
    /// `/metrics` and nothing else
    Metrics,
    /// To look
    Read,
    /// To look and act
    #[default]
    Act,
    /// Whatever its user may do
    Admin,
}

impl NewRole {
    pub(super) fn word(self) -> &'static str {
        match self {
            NewRole::Admin => "admin",
            NewRole::User => "user",
            NewRole::Viewer => "viewer",
        }
    }
}

impl Wanted {
    pub(super) fn word(self) -> &'static str {
        match self {
            Wanted::Metrics => "metrics",
            Wanted::Read => "read",
            Wanted::Act => "act",
            Wanted::Admin => "admin",
        }
    }
}

/// Users.
#[derive(Clone, Debug, Subcommand)]
pub enum UserCommand {
    /// Everybody who may sign in
    List {
        /// What to print
        #[arg(short, long, value_enum, default_value_t)]
        output: Form,
    },
    /// Somebody new; a password is made up and shown once, unless one is given
    Add {
        /// Letters, digits and . _ - @ +
        name: String,
        /// What the user may do
        #[arg(long, value_enum, default_value_t)]
        role: NewRole,
        /// A service account: it has tokens and no password
        #[arg(long, conflicts_with = "password_stdin")]
        service: bool,
        /// Read the password from standard input
        #[arg(long)]
        password_stdin: bool,
    },
    /// What somebody may do from now on
    Role {
        /// Whose
        name: String,
        /// The new role
        #[arg(value_enum)]
        role: NewRole,
    },
    /// A new password, made up and shown once, or given
    Password {
        /// Whose
        name: String,
        /// Read it from standard input
        #[arg(long)]
        password_stdin: bool,
    },
    /// May not sign in any more; whoever is inside is out at once
    Disable {
        /// Who
        name: String,
    },
    /// May sign in again
    Enable {
        /// Who
        name: String,
    },
    /// No user of that name any more, nor any token of it
    Remove {
        /// Who
        name: String,
    },
    /// Ids at the sources that are the same person
    Identity {
        /// Whose
        name: String,
        /// An id as the source writes it
        #[arg(long, value_name = "ID")]
        add: Vec<String>,
        /// An id that is somebody else's
        #[arg(long, value_name = "ID")]
        remove: Vec<String>,
    },
}

/// Tokens.
#[derive(Clone, Debug, Subcommand)]
pub enum TokenCommand {
    /// All tokens, without their secrets
    List {
        /// Of this user only
        #[arg(long, value_name = "NAME")]
        user: Option<String>,
        /// What to print
        #[arg(short, long, value_enum, default_value_t)]
        output: Form,
    },
    /// A new token of somebody, shown once
    Create {
        /// Whose
        user: String,
        /// What it is called
        #[arg(long, default_value = "made by an administrator")]
        name: String,
        /// What it is for
        #[arg(long, value_enum, default_value_t)]
        scope: Wanted,
        /// How long it counts, such as 90d, or never
        #[arg(long, default_value = "90d", value_name = "SPAN")]
        expires: String,
    },
    /// A new secret under the same id
    Rotate {
        /// The token's id: what stands between `st_` and the next `_`
        id: String,
        /// How long the old secret still counts
        #[arg(long, default_value = "1h", value_name = "SPAN")]
        overlap: String,
    },
    /// A token counts no more; whoever is inside with it is out at once
    Revoke {
        /// The token's id: what stands between `st_` and the next `_`
        id: String,
    },
}

/// Workspaces.
#[derive(Clone, Debug, Subcommand)]
pub enum WorkspaceCommand {
    /// All workspaces and who is in them
    List {
        /// What to print
        #[arg(short, long, value_enum, default_value_t)]
        output: Form,
    },
    /// A new workspace
    Add {
        /// Letters, digits, - and _
        name: String,
        /// Only for its members and administrators
        #[arg(long)]
        private: bool,
        /// Somebody who is in it
        #[arg(long = "member", value_name = "NAME")]
        members: Vec<String>,
    },
    /// From now on for its members and administrators only
    Private {
        /// Which
        name: String,
    },
    /// From now on for everybody
    Public {
        /// Which
        name: String,
    },
    /// Who is in it
    Members {
        /// Which
        name: String,
        /// Somebody who comes in
        #[arg(long, value_name = "NAME")]
        add: Vec<String>,
        /// Somebody who leaves
        #[arg(long, value_name = "NAME")]
        remove: Vec<String>,
    },
    /// No such workspace any more
    Remove {
        /// Which
        name: String,
    },
}
