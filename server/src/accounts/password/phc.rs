//! How a password is kept: the hash, its salt and what it cost, in one string.

use std::fmt;
use std::sync::Arc;

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use subtle::ConstantTimeEq as _;

const SALT: usize = 16;
const OUTPUT: usize = 32;
/// More passes than anybody would ask for: what a damaged string may cost at most.
const MAX_PASSES: u32 = 16;

/// What one hashing costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cost {
    /// Memory, in KiB.
    pub(super) memory: u32,
    /// How often all of it is gone through.
    pub(super) passes: u32,
}

impl Cost {
    /// The least that OWASP recommends for argon2id: 19 MiB, gone through twice.
    pub(super) const PRESENT: Self = Self {
        memory: 19 * 1024,
        passes: 2,
    };
}

/// The argon2id hash of a password, as a PHC string:
/// `$argon2id$v=19$m=19456,t=2,p=1$<salt>$<hash>`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PasswordHash(Arc<str>);

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

/// The parts of the string.
struct Parts {
    cost: Cost,
    salt: [u8; SALT],
    output: [u8; OUTPUT],
}

impl PasswordHash {
    /// Reads a string that was written here; none when it is another one, or would cost more than is
    /// ever spent here.
    pub fn parse(phc: &str) -> Option<Self> {
        let parts = parts(phc)?;
        // One way to write each: equal strings are equal hashes.
        (write(&parts) == phc).then(|| Self(phc.into()))
    }

    /// The string, to be stored.
    pub(in crate::accounts) fn expose(&self) -> &str {
        &self.0
    }

    /// Hashes a password. This is the costly part.
    pub(super) fn of(password: &str, salt: [u8; SALT], cost: Cost) -> argon2::Result<Self> {
        let output = run(password, &salt, cost)?;
        Ok(Self::from_parts(&Parts { cost, salt, output }))
    }

    /// A hash that no password has, which costs as much as any.
    pub(super) fn of_nobody(random: [u8; SALT + OUTPUT], cost: Cost) -> Self {
        let (mut salt, mut output) = ([0; SALT], [0; OUTPUT]);
        salt.copy_from_slice(&random[..SALT]);
        output.copy_from_slice(&random[SALT..]);
        Self::from_parts(&Parts { cost, salt, output })
    }

    fn from_parts(parts: &Parts) -> Self {
        Self(write(parts).into())
    }

    /// Is this the password. This is the costly part.
    pub(super) fn is_of(&self, password: &str) -> argon2::Result<bool> {
        // Whatever is here was parsed or written here before.
        let Some(parts) = parts(&self.0) else {
            return Ok(false);
        };
        let output = run(password, &parts.salt, parts.cost)?;
        Ok(output.ct_eq(&parts.output).into())
    }
}

fn run(password: &str, salt: &[u8; SALT], cost: Cost) -> argon2::Result<[u8; OUTPUT]> {
    let params = Params::new(cost.memory, cost.passes, 1, Some(OUTPUT))?;
    let mut output = [0; OUTPUT];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params).hash_password_into(
        password.as_bytes(),
        salt,
        &mut output,
    )?;
    Ok(output)
}

fn write(parts: &Parts) -> String {
    format!(
        "$argon2id$v=19$m={},t={},p=1${}${}",
        parts.cost.memory,
        parts.cost.passes,
        BASE64.encode(parts.salt),
        BASE64.encode(parts.output),
    )
}

fn parts(phc: &str) -> Option<Parts> {
    let (numbers, coded) = phc.strip_prefix("$argon2id$v=19$m=")?.split_once(",p=1$")?;
    let (memory, passes) = numbers.split_once(",t=")?;
    let (salt, output) = coded.split_once('$')?;
    let cost = Cost {
        memory: memory.parse().ok()?,
        passes: passes.parse().ok()?,
    };
    let is_bearable = (8..=Cost::PRESENT.memory).contains(&cost.memory)
        && (1..=MAX_PASSES).contains(&cost.passes);
    is_bearable.then_some(Parts {
        cost,
        salt: BASE64.decode(salt).ok()?.try_into().ok()?,
        output: BASE64.decode(output).ok()?.try_into().ok()?,
    })
}
