//! The `Authorization` header.

use base64::Engine as _;
use skytower_api_client::credentials::Secret;

/// What follows the scheme of an `Authorization` header.
pub(super) fn scheme<'a>(value: &'a str, wanted: &str) -> Option<&'a str> {
    let (scheme, rest) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case(wanted).then(|| rest.trim())
}

/// The user and the password of HTTP Basic.
pub(super) fn basic(encoded: &str) -> Option<(String, Secret)> {
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(encoded)
        .ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (user, password) = text.split_once(':')?;
    (!user.is_empty()).then(|| (user.to_owned(), Secret::new(password)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_as_people_write_them() {
        assert_eq!(scheme("bearer  abc ", "bearer"), Some("abc"));
        assert_eq!(scheme("Basic x", "bearer"), None);
        let (user, password) = basic("YWxpY2U6cGE6c3M=").unwrap();
        assert_eq!((user.as_str(), password.expose()), ("alice", "pa:ss"));
        assert!(basic("OnBhc3M=").is_none() && basic("!").is_none());
    }
}
