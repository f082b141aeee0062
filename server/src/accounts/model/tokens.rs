//! What can be done with tokens, and whether one is good.

use std::time::Duration;

use skytower_api_client::credentials::Secret;
use skytower_api_client::wire::Problem;
use skytower_api_client::{EpochMs, Text};

use super::name::{self, ID_DIGITS, conflict, invalid};
use super::{Accounts, Edit, Edits, Previous, Scope, SecretHash, Token, User};
use crate::accounts::random;

/// How long the old secret stays good after a rotation, unless something else is asked for.
pub const DEFAULT_OVERLAP: Duration = Duration::from_secs(3600);
/// The most tokens of one user.
pub const MAX_TOKENS: usize = 100;
/// The longest overlap: a rotation that never ends is none.
const MAX_OVERLAP: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long an expired token can still be looked up.
const KEEP_EXPIRED_MS: i64 = 30 * 24 * 3600 * 1000;
/// The use of a token is written down this often at most.
const USE_EVERY_MS: i64 = 60 * 1000;

const PREFIX: &str = "st_";
const SECRET_BYTES: usize = 32;
/// As long as a secret is: hashed where none was given.
const NO_SECRET: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// A token to be.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// What it is for.
    pub name: String,
    /// What it may be used for.
    pub scope: Scope,
    /// Good before this moment; for good when there is none.
    pub expires_at: Option<EpochMs>,
}

/// A token with its secret, which is nowhere else and never shown again.
#[derive(Clone, Debug)]
pub struct Issued {
    /// Its id.
    pub id: Text,
    /// All of it, as it is sent: `st_<id>_<secret>`.
    pub written: Secret,
    /// What has to be written down for it to be good.
    pub edits: Vec<Edit>,
}

/// Why a token is not good. For the audit: whoever brought it learns no more than that it is not, which
/// is all that is shown of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this token is not good: it may be mistyped, expired or revoked")]
pub enum TokenRefusal {
    /// There is no such token, or its secret is another one.
    Unknown,
    /// It was good once.
    Expired,
    /// Its user is disabled.
    Disabled,
}

impl TokenRefusal {
    /// The word for the audit.
    pub const fn word(self) -> &'static str {
        match self {
            TokenRefusal::Unknown => "unknown",
            TokenRefusal::Expired => "expired",
            TokenRefusal::Disabled => "disabled",
        }
    }
}

impl Accounts {
    /// A new token of a user.
    pub fn create_token(&self, who: &str, new: &NewToken, now: EpochMs) -> Result<Issued, Problem> {
        let user = self.find_user(who)?;
        let name = name::token_name(&new.name)?;
        if user.disabled {
            return Err(conflict(
                format!("`{}` is disabled, and so would the token be", user.name),
                "enable the user first",
            ));
        }
        if self.tokens_of(user).any(|token| token.name == name) {
            return Err(conflict(
                format!("`{}` has a token `{name}` already", user.name),
                "rotate or revoke that one, or choose another name",
            ));
        }
        if self.tokens_of(user).count() >= MAX_TOKENS {
            return Err(conflict(
                format!("`{}` has {MAX_TOKENS} tokens already", user.name),
                "revoke those that nobody uses",
            ));
        }
        if new.expires_at.is_some_and(|end| end <= now) {
            return Err(invalid(
                "the token would have expired before it was made",
                "give a moment that is still to come",
            ));
        }
        let (written, hash, id) = loop {
            let id = random::hex(&random::bytes::<{ ID_DIGITS / 2 }>()?);
            if !self.tokens.contains_key(id.as_str()) {
                let (written, hash) = secret(&id)?;
                break (written, hash, Text::from(id));
            }
        };
        let token = Token {
            id: id.clone(),
            user: user.id.clone(),
            name,
            scope: new.scope,
            hash,
            previous: None,
            created_at: now,
            expires_at: new.expires_at,
            last_used_at: None,
        };
        Ok(Issued {
            id,
            written,
            edits: vec![Edit::PutToken(token)],
        })
    }

    /// The token has another secret; the old one stays good for `overlap`.
    pub fn rotate_token(
        &self,
        id: &str,
        overlap: Duration,
        now: EpochMs,
    ) -> Result<Issued, Problem> {
        let token = self.find_token(id)?;
        if token.is_expired(now) {
            return Err(conflict(
                format!("the token `{}` has expired", token.name),
                "revoke it and make a new one",
            ));
        }
        if overlap > MAX_OVERLAP {
            return Err(invalid(
                "the old secret cannot stay good for more than seven days",
                "give a shorter overlap, or make a second token",
            ));
        }
        let (written, hash) = secret(&token.id)?;
        let previous = (!overlap.is_zero()).then(|| Previous {
            hash: token.hash,
            until: EpochMs(now.0.saturating_add(overlap.as_millis() as i64)),
        });
        Ok(Issued {
            id: token.id.clone(),
            written,
            edits: vec![Edit::PutToken(Token {
                hash,
                previous,
                ..token.clone()
            })],
        })
    }

    /// The token is good for nothing from now on.
    pub fn revoke_token(&self, id: &str) -> Edits {
        let token = self.find_token(id)?;
        Ok(vec![Edit::RemoveToken(token.id.clone())])
    }

    /// Tokens that expired long ago are forgotten.
    pub fn prune_tokens(&self, now: EpochMs) -> Vec<Edit> {
        let is_old = |token: &&Token| {
            token
                .expires_at
                .is_some_and(|end| now.since(end) > KEEP_EXPIRED_MS)
        };
        self.tokens()
            .filter(is_old)
            .map(|token| Edit::RemoveToken(token.id.clone()))
            .collect()
    }

    /// What is kept of the secret of a token as it is sent.
    pub fn seal(written: &str) -> SecretHash {
        SecretHash::of(parse(written).map_or(NO_SECRET, |(_, secret)| secret))
    }

    /// The token was used: an edit where that is news, which it is once a minute.
    pub fn use_token(&self, id: &str, now: EpochMs) -> Option<Edit> {
        let token = self.tokens.get(id)?;
        let is_news = token
            .last_used_at
            .is_none_or(|before| now.since(before) >= USE_EVERY_MS);
        is_news.then(|| Edit::UseToken(token.id.clone(), now))
    }

    /// Whose token this is, if it is good. Costs the same whether there is such a token or not.
    pub fn check_token(
        &self,
        written: &str,
        now: EpochMs,
    ) -> Result<(&User, &Token), TokenRefusal> {
        let (id, secret) = parse(written).unwrap_or(("", NO_SECRET));
        let given = SecretHash::of(secret);
        let token = self.tokens.get(id);
        let nobodys = SecretHash([0; 32]);
        let present = token.map_or(&nobodys, |token| &token.hash);
        let previous = token.and_then(|token| token.previous.as_ref());
        let before = previous.map_or(&nobodys, |previous| &previous.hash);
        let (is_present, is_before) = (given.is(present), given.is(before));
        let Some(token) = token.filter(|_| bool::from(is_present | is_before)) else {
            return Err(TokenRefusal::Unknown);
        };
        let user = self.users.get(&token.user).ok_or(TokenRefusal::Unknown)?;
        let is_over =
            !bool::from(is_present) && previous.is_none_or(|previous| previous.until <= now);
        if is_over || token.is_expired(now) {
            Err(TokenRefusal::Expired)
        } else if user.disabled {
            Err(TokenRefusal::Disabled)
        } else {
            Ok((user, token))
        }
    }

    /// The token that somebody claims to have, be it good or not: for the audit of a refusal.
    pub fn claimed_token(&self, written: &str) -> Option<&Token> {
        self.tokens.get(parse(written)?.0)
    }
}

/// A new secret for the token of that id: as it is sent, and as it is kept.
fn secret(id: &str) -> Result<(Secret, SecretHash), Problem> {
    let secret = random::hex(&random::bytes::<SECRET_BYTES>()?);
    let hash = SecretHash::of(&secret);
    Ok((Secret::new(format!("{PREFIX}{id}_{secret}")), hash))
}

/// The id and the secret, where it looks like a token at all.
fn parse(written: &str) -> Option<(&str, &str)> {
    let (id, secret) = written.strip_prefix(PREFIX)?.split_once('_')?;
    let is_secret = secret.len() == 2 * SECRET_BYTES;
    (name::is_token_id(id) && is_secret).then_some((id, secret))
}
