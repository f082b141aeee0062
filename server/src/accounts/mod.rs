//! Accounts: who may come in, and what the server holds against those who only try.
//!
//! - [`model`]: users, tokens and workspaces as values. Pure: operations answer with edits.
//! - [`rows`]: those values and edits in `SQLite`.
//! - [`password`]: what a password has to be, and the costly work of checking one.
//! - [`throttle`]: how fast passwords may be tried. Pure: time is passed in.
//!
//! ```text
//! operation ─▶ Accounts (checks) ─▶ edits ─▶ rows::write, committed ─▶ Accounts::apply
//! name, password, address ─▶ Throttle::ask ─▶ Passwords::verify ─▶ Throttle::failed | succeeded | withdrawn
//! ```
//!
//! **Invariant: somebody can let others in.** Once there is an enabled administrator with a password, there
//! always is one. **A secret is nowhere**: not in the database, not in what is printed, not in a message.
//! **A refusal tells nothing**: an unknown name, a disabled user and a wrong password cost the same work and
//! are told in the same words.

pub mod model;
pub mod password;
pub(crate) mod random;
pub mod rows;
pub mod throttle;

pub use model::{
    Accounts, DEFAULT_OVERLAP, DEFAULT_WORKSPACE, Edit, Edits, Issued, NewToken, NewUser, Scope,
    SecretHash, Token, TokenRefusal, User, Workspace,
};
pub use password::{PasswordHash, Passwords, check_password, generate_password};
pub use rows::RowsError;
pub use throttle::{Admission, Throttle};
