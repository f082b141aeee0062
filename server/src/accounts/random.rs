//! Random bytes from the system.

use std::fs::File;
use std::io::Read as _;

use skytower_api_client::wire::Problem;

/// Bytes that nobody can guess.
pub(crate) fn bytes<const N: usize>() -> Result<[u8; N], Problem> {
    let mut random = [0; N];
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut random))
        .map_err(|error| {
            Problem::new(
                "internal",
                500,
                format!("the system has no random numbers to give: {error}"),
            )
            .hint("the server has to be able to read /dev/urandom")
        })?;
    Ok(random)
}

/// Bytes as lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
