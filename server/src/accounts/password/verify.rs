//! The costly work of hashing: bounded in memory, equal for everybody, and done once for each password.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest as _, Sha256};
use skytower_api_client::Text;
use skytower_api_client::credentials::Secret;
use skytower_api_client::wire::Problem;
use subtle::ConstantTimeEq as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::phc::{Cost, PasswordHash};
use crate::accounts::model::User;
use crate::accounts::random;

/// The most hashings at once, however many cores there are: each holds 19 MiB.
const MOST_AT_ONCE: usize = 4;
/// So many may wait for their turn.
const WAITING: usize = 64;

/// Hashes and verifies passwords.
pub struct Passwords {
    cost: Cost,
    /// A place in the queue or at work.
    seats: Arc<Semaphore>,
    /// A place at work.
    turns: Arc<Semaphore>,
    runs: Arc<AtomicU64>,
    /// What is verified where there is nothing to verify.
    nobodys: PasswordHash,
    /// Of this process alone: what is remembered is worth nothing elsewhere.
    key: [u8; 32],
    /// By user: the digest of the password that was right. One for each user there ever was.
    remembered: Mutex<HashMap<Text, [u8; 32]>>,
}

impl std::fmt::Debug for Passwords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Passwords")
            .field("runs", &self.argon2_runs())
            .finish_non_exhaustive()
    }
}

impl Passwords {
    /// As many hashings at once as there are cores, four at most.
    pub fn new() -> Result<Self, Problem> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self::with(Cost::PRESENT, cores.min(MOST_AT_ONCE))
    }

    pub(super) fn with(cost: Cost, at_once: usize) -> Result<Self, Problem> {
        Ok(Self {
            cost,
            seats: Arc::new(Semaphore::new(at_once + WAITING)),
            turns: Arc::new(Semaphore::new(at_once)),
            runs: Arc::default(),
            nobodys: PasswordHash::of_nobody(random::bytes()?, cost),
            key: random::bytes()?,
            remembered: Mutex::default(),
        })
    }

    /// How often a password was really hashed.
    pub fn argon2_runs(&self) -> u64 {
        self.runs.load(Ordering::Relaxed)
    }

    /// The hash of a password, to be kept. Whether it may be one is for [`super::check_password`] to say.
    pub async fn hash(&self, password: &Secret) -> Result<PasswordHash, Problem> {
        let turn = self.turn().await?;
        let (password, salt, cost) = (password.clone(), random::bytes()?, self.cost);
        self.work(turn, move || {
            PasswordHash::of(password.expose(), salt, cost)
        })
        .await
    }

    /// Is this the password of that user. An unknown user, one without a password and a disabled one cost
    /// as much as a wrong password. Whoever asks has to look at the user again afterwards: this may have
    /// waited, and the user may not be what he was.
    pub async fn verify(&self, user: Option<&User>, password: &Secret) -> Result<bool, Problem> {
        let known = user
            .filter(|user| !user.disabled)
            .and_then(|user| Some((user.id.clone(), user.password.clone()?)));
        if self.remembers(known.as_ref(), password) {
            return Ok(true);
        }
        let turn = self.turn().await?;
        // Many connections of one client come at once; the first has done the work for all.
        if self.remembers(known.as_ref(), password) {
            return Ok(true);
        }
        let (hash, given) = (
            known
                .as_ref()
                .map_or(&self.nobodys, |(_, hash)| hash)
                .clone(),
            password.clone(),
        );
        let is_right = self.work(turn, move || hash.is_of(given.expose())).await?;
        match known {
            Some((id, hash)) if is_right => {
                let digest = self.digest(&id, &hash, password);
                self.remembered
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .insert(id, digest);
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    fn remembers(&self, known: Option<&(Text, PasswordHash)>, password: &Secret) -> bool {
        let Some((id, hash)) = known else {
            return false;
        };
        let remembered = self
            .remembered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(id)
            .copied();
        remembered.is_some_and(|right| self.digest(id, hash, password).ct_eq(&right).into())
    }

    /// Another user, another hash or another process: another digest.
    fn digest(&self, id: &Text, hash: &PasswordHash, password: &Secret) -> [u8; 32] {
        let mut digest = Sha256::new();
        digest.update(self.key);
        for part in [id.as_str(), hash.expose(), password.expose()] {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
        digest.finalize().into()
    }

    pub(super) async fn turn(&self) -> Result<Turn, Problem> {
        let busy = || {
            Problem::new(
                "busy",
                503,
                "too many passwords are being checked at the moment",
            )
            .hint("try again in a second")
        };
        // Neither is ever closed.
        let seat = self.seats.clone().try_acquire_owned().map_err(|_| busy())?;
        let place = self.turns.clone().acquire_owned().await;
        Ok(Turn {
            _place: place.map_err(|_| busy())?,
            _seat: seat,
        })
    }

    /// The turn goes with the work: it is held until the memory is free again, whoever still waits for it.
    pub(super) async fn work<T: Send + 'static>(
        &self,
        turn: Turn,
        work: impl FnOnce() -> argon2::Result<T> + Send + 'static,
    ) -> Result<T, Problem> {
        let runs = self.runs.clone();
        let done = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            runs.fetch_add(1, Ordering::Relaxed);
            work()
        });
        let failed = |reason: String| {
            Problem::new(
                "internal",
                500,
                format!("a password could not be hashed: {reason}"),
            )
        };
        done.await
            .map_err(|error| failed(error.to_string()))?
            .map_err(|error| failed(error.to_string()))
    }

    #[cfg(test)]
    pub(super) fn turns(&self) -> Arc<Semaphore> {
        self.turns.clone()
    }

    #[cfg(test)]
    pub(super) fn free_seats(&self) -> usize {
        self.seats.available_permits()
    }
}

/// A place at work, and in the queue to it.
pub(super) struct Turn {
    _place: OwnedSemaphorePermit,
    _seat: OwnedSemaphorePermit,
}
