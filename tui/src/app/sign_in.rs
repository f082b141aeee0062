//! The box that asks who one is: at the start, and when what one signed in with counts no more.

use std::time::Duration;

use skytower_api_client::credentials::{Credentials, Secret};
use skytower_api_client::{EpochMs, Text, human};

use super::typing::edit;
use crate::keys::{Chord, Code};

/// Bytes that a field takes by pasting: SkyPilot's tokens are long, and a whole file is a mistake.
const LONGEST: usize = 8192;

/// A field of the box.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// The user's name.
    User,
    /// The password that belongs to it.
    Password,
    /// A token, instead of both.
    Token,
}

impl Field {
    /// Every field, from top to bottom.
    pub const ALL: &'static [Field] = &[Field::User, Field::Password, Field::Token];

    /// What stands before it.
    pub const fn label(self) -> &'static str {
        match self {
            Field::User => "User",
            Field::Password => "Password",
            Field::Token => "or Token",
        }
    }

    /// What is typed there is not shown.
    pub const fn is_secret(self) -> bool {
        matches!(self, Field::Password | Field::Token)
    }

    fn step(self, forward: bool) -> Self {
        let (count, at) = (Self::ALL.len(), self as usize);
        Self::ALL[(at + if forward { 1 } else { count - 1 }) % count]
    }
}

/// How far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It is being filled in.
    Open,
    /// The server is asked, under this number.
    Checking(u64),
    /// It was not right.
    Wrong(Text),
    /// The server wants not to be asked until then.
    Wait(EpochMs),
}

/// The box. Its secrets cannot be printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignIn {
    /// The server, for people.
    pub server: Text,
    /// Why it asks.
    pub reason: Text,
    /// Where one types.
    pub field: Field,
    /// How far it is.
    pub stage: Stage,
    user: String,
    password: Secret,
    token: Secret,
    /// The cursor, in bytes.
    at: usize,
}

/// What a key did to the box.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// It stays.
    Nothing,
    /// It goes.
    Close,
    /// Ask the server about these.
    Send(Credentials),
}

impl SignIn {
    /// Asks who one is; `user` is who one was.
    pub(crate) fn new(server: Text, reason: Text, user: &str) -> Self {
        let field = if user.is_empty() {
            Field::User
        } else {
            Field::Password
        };
        Self {
            server,
            reason,
            field,
            stage: Stage::Open,
            user: user.to_owned(),
            password: Secret::default(),
            token: Secret::default(),
            at: 0,
        }
    }

    /// What a field shows: the user's name as it is, of secrets how long they are.
    pub fn shown(&self, field: Field, dot: char) -> String {
        match field {
            Field::User => self.user.clone(),
            field => self.text(field).chars().map(|_| dot).collect(),
        }
    }

    /// The cursor, in bytes of what the field shows.
    pub fn cursor(&self, dot: char) -> usize {
        if self.field.is_secret() {
            let before = self.text(self.field).get(..self.at).unwrap_or_default();
            before.chars().count() * dot.len_utf8()
        } else {
            self.at
        }
    }

    /// How long the server still wants not to be asked.
    pub fn wait(&self, now: EpochMs) -> Option<String> {
        match self.stage {
            Stage::Wait(until) if until > now => {
                // A part of a second is a second to wait.
                Some(human::span((until.since(now) + 999) / 1000 * 1000))
            }
            _ => None,
        }
    }

    fn text(&self, field: Field) -> &str {
        match field {
            Field::User => &self.user,
            Field::Password => self.password.expose(),
            Field::Token => self.token.expose(),
        }
    }

    fn set(&mut self, text: String) {
        match self.field {
            Field::User => self.user = text,
            Field::Password => self.password = Secret::new(text),
            Field::Token => self.token = Secret::new(text),
        }
    }

    fn go(&mut self, field: Field) {
        self.field = field;
        self.at = self.text(field).len();
    }

    pub(crate) fn key(&mut self, chord: Chord, now: EpochMs, number: u64) -> Asked {
        match chord.code {
            Code::Esc => return Asked::Close,
            Code::Char('c') if chord.ctrl => return Asked::Close,
            _ if matches!(self.stage, Stage::Checking(_)) => {}
            Code::Tab | Code::Down | Code::Up => {
                self.go(self.field.step(!chord.shift && chord.code != Code::Up));
            }
            Code::Enter => return self.send(now, number),
            _ => {
                let (mut text, mut at) = (self.text(self.field).to_owned(), self.at);
                if edit(&mut text, &mut at, chord) {
                    self.set(text);
                    self.at = at;
                    if matches!(self.stage, Stage::Wrong(_)) {
                        self.stage = Stage::Open;
                    }
                }
            }
        }
        Asked::Nothing
    }

    /// Pasted: of a secret only the end of its line does not belong to it.
    pub(crate) fn paste(&mut self, text: &str) {
        if matches!(self.stage, Stage::Checking(_)) {
            return;
        }
        let line = text.trim_end_matches(['\r', '\n']);
        let line = if self.field.is_secret() {
            line.to_owned()
        } else {
            Text::new(line).to_string()
        };
        let mut text = self.text(self.field).to_owned();
        let at = self.at.min(text.len());
        if text.len() + line.len() <= LONGEST && text.is_char_boundary(at) {
            text.insert_str(at, &line);
            self.set(text);
            self.at = at + line.len();
        }
    }

    fn send(&mut self, now: EpochMs, number: u64) -> Asked {
        if self.wait(now).is_some() {
            return Asked::Nothing;
        }
        let credentials = match self.field {
            Field::Token if self.token.expose().trim().is_empty() => return Asked::Nothing,
            Field::Token => Credentials::Bearer(Secret::new(self.token.expose().trim())),
            _ if self.user.trim().is_empty() => {
                self.go(Field::User);
                return Asked::Nothing;
            }
            _ if self.password.expose().is_empty() => {
                self.go(Field::Password);
                return Asked::Nothing;
            }
            _ => Credentials::Basic {
                user: self.user.trim().to_owned(),
                password: self.password.clone(),
            },
        };
        self.stage = Stage::Checking(number);
        Asked::Send(credentials)
    }

    /// It was not right: who one is stays, the secret is typed anew.
    pub(crate) fn refused(&mut self, why: Text) {
        self.stage = Stage::Wrong(why);
        self.forget();
    }

    /// The server wants not to be asked for a while.
    pub(crate) fn wait_for(&mut self, wait: Duration, now: EpochMs) {
        self.stage = Stage::Wait(EpochMs(now.0 + wait.as_millis() as i64));
        self.forget();
    }

    fn forget(&mut self) {
        self.password = Secret::default();
        self.token = Secret::default();
        if self.field == Field::User {
            self.field = Field::Password;
        }
        self.at = 0;
    }
}
