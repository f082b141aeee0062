//! `skytower token …`.

use clap::{Args, Subcommand, ValueEnum};
use skytower_api_client::rest::accounts::Scope;

use super::Form;

/// `skytower token …`.
#[derive(Debug, Subcommand)]
pub enum Token {
    /// Your tokens; for administrators everybody's.
    List {
        /// The form of the output.
        #[arg(short, long, value_enum, default_value_t)]
        output: Form,
    },
    /// Make a token. It is printed this once, alone on standard output.
    Create(NewTokenArgs),
    /// Revoke tokens: they count no more, and connections that they opened end.
    Revoke {
        /// Their ids, as `token list` shows them.
        #[arg(value_name = "ID", required = true)]
        ids: Vec<String>,
    },
    /// Give a token a new secret. It is printed this once, alone on standard output.
    Rotate(RotateArgs),
}

/// `skytower token create`.
#[derive(Clone, Debug, Args)]
pub struct NewTokenArgs {
    /// What to call it: after what it is for, such as `ci`.
    pub name: String,
    /// What it is for. It never gives more than its user has.
    #[arg(long, value_enum, default_value_t, value_name = "SCOPE")]
    pub scope: TokenScope,
    /// How long it counts: `90d`, `12h` or `never`.
    #[arg(long, value_name = "DURATION", default_value = "90d")]
    pub expires: String,
    /// Whose it is to be (administrators only).
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// The form of the output.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Form,
}

/// `skytower token rotate`.
#[derive(Clone, Debug, Args)]
pub struct RotateArgs {
    /// Its id, as `token list` shows it.
    pub id: String,
    /// How long the old secret still counts (1h when nothing is said; `0s` for not at all).
    #[arg(long, value_name = "DURATION")]
    pub overlap: Option<String>,
    /// The form of the output.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Form,
}

/// What a token is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum TokenScope {
    /// To look.
    Read,
    /// To look and act.
    #[default]
    Act,
    /// Whatever its user may do, accounts included.
    Admin,
    /// `/metrics` and nothing else.
    Metrics,
}

impl From<TokenScope> for Scope {
    fn from(scope: TokenScope) -> Self {
        match scope {
            TokenScope::Read => Scope::Read,
            TokenScope::Act => Scope::Act,
            TokenScope::Admin => Scope::Admin,
            TokenScope::Metrics => Scope::Metrics,
        }
    }
}
