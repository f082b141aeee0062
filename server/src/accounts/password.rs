//! Passwords: what one has to be, how it is kept, and how a new one is made up.

mod phc;
mod verify;

#[cfg(test)]
mod tests;

use skytower_api_client::credentials::Secret;
use skytower_api_client::wire::Problem;

use super::model::invalid;
use super::random;

pub use phc::PasswordHash;
pub use verify::Passwords;

/// The shortest password, in characters.
pub const MIN_LENGTH: usize = 10;
/// The longest password, in characters.
pub const MAX_LENGTH: usize = 1024;

/// Letters and digits that nobody mistakes for each other, read aloud or copied by hand.
const ALPHABET: &[u8; 31] = b"abcdefghjkmnpqrstuvwxyz23456789";
/// So many groups of so many letters: 20 of 31 letters are 99 bits.
const GROUPS: usize = 4;
const GROUP: usize = 5;

/// May this be the password of the user of that name.
pub fn check_password(name: &str, password: &Secret) -> Result<(), Problem> {
    let password = password.expose();
    let length = password.chars().count();
    if length < MIN_LENGTH {
        return Err(invalid(
            format!("a password has at least {MIN_LENGTH} characters"),
            "a few words that have nothing to do with each other are easy to keep in mind",
        ));
    }
    if length > MAX_LENGTH {
        return Err(invalid(
            format!("a password has at most {MAX_LENGTH} characters"),
            "choose a shorter one",
        ));
    }
    if password.to_lowercase() == name.to_lowercase() {
        return Err(invalid(
            "the password is the name of the user",
            "choose one that others do not know",
        ));
    }
    Ok(())
}

/// A password that nobody can guess, in groups that can be read aloud.
pub fn generate_password() -> Result<Secret, Problem> {
    let mut password = String::with_capacity(GROUPS * (GROUP + 1));
    let mut letters = 0;
    while letters < GROUPS * GROUP {
        for byte in random::bytes::<32>()? {
            // What is left over above a multiple would make some letters likelier than others.
            let whole = 256 - 256 % ALPHABET.len();
            if letters == GROUPS * GROUP || usize::from(byte) >= whole {
                continue;
            }
            if letters > 0 && letters % GROUP == 0 {
                password.push('-');
            }
            password.push(char::from(ALPHABET[usize::from(byte) % ALPHABET.len()]));
            letters += 1;
        }
    }
    Ok(Secret::new(password))
}
