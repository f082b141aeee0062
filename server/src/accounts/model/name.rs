//! What may be called how, and what is said when nothing is called so.

use skytower_api_client::Text;
use skytower_api_client::nearest::nearest;
use skytower_api_client::wire::Problem;

/// The longest name, of whatever.
const MAX_NAME: usize = 64;
/// The longest id at a source.
const MAX_IDENTITY: usize = 256;
/// So many are named where one was not found; beyond it only the nearest.
const FEW: usize = 8;
/// Digits in the random part of an id.
pub(super) const ID_DIGITS: usize = 12;

/// Something about an account that cannot be.
pub(crate) fn invalid(detail: impl Into<Text>, hint: impl Into<Text>) -> Problem {
    Problem::new("invalid_account", 422, detail).hint(hint)
}

/// Something that is so already, or is in the way.
pub(super) fn conflict(detail: impl Into<Text>, hint: impl Into<Text>) -> Problem {
    Problem::new("conflict", 409, detail).hint(hint)
}

/// What was given, in a length that a message can bear.
fn shown(raw: &str) -> Text {
    if raw.chars().count() <= MAX_NAME {
        return Text::from(raw);
    }
    let start: String = raw.chars().take(MAX_NAME).collect();
    Text::from(start + "…")
}

/// No `what` is called `name`; `there` are those that could have been meant.
pub(super) fn not_found<'a>(
    what: &str,
    name: &str,
    there: impl ExactSizeIterator<Item = &'a str>,
) -> Problem {
    let problem = Problem::new(
        "not_found",
        404,
        format!("there is no {what} `{}`", shown(name)),
    );
    let count = there.len();
    let names: Vec<&str> = there.collect();
    if count == 0 {
        problem.hint(format!("there is no {what} at all yet"))
    } else if count <= FEW {
        problem.hint(format!("there is: {}", names.join(", ")))
    } else if let Some(near) = nearest(&shown(name), names) {
        problem.hint(format!("did you mean `{near}`?"))
    } else {
        problem.hint(format!("list them to see all {count}"))
    }
}

fn of_alphabet(what: &str, raw: &str, others: &str) -> Result<Text, Problem> {
    let spaced = others
        .chars()
        .map(String::from)
        .collect::<Vec<_>>()
        .join(" ");
    let alphabet = format!(
        "the name of a {what} has 1 to {MAX_NAME} of: letters and digits (a-z, A-Z, 0-9), {spaced}"
    );
    if let Some(c) = raw
        .chars()
        .find(|c| !(c.is_ascii_alphanumeric() || others.contains(*c)))
    {
        let shape = if c.is_ascii() {
            ""
        } else {
            " (it may look like a plain letter; it is another one)"
        };
        return Err(invalid(
            format!("`{c}` cannot be in the name of a {what}{shape}"),
            alphabet,
        ));
    }
    if raw.is_empty() || raw.len() > MAX_NAME {
        return Err(invalid(
            format!(
                "the name of a {what} cannot have {} characters",
                raw.chars().count()
            ),
            alphabet,
        ));
    }
    Ok(Text::from(raw))
}

/// Only plain ASCII: what merely looks like somebody's name is nobody's.
pub(in crate::accounts) fn user_name(raw: &str) -> Result<Text, Problem> {
    let name = of_alphabet("user", raw, "._-@+")?;
    if raw.starts_with('-') {
        return Err(invalid(
            "the name of a user cannot begin with `-`",
            "it would be taken for an option on a command line",
        ));
    }
    // Whoever is looked for is looked for by either.
    if is_user_id(&raw.to_ascii_lowercase()) {
        return Err(invalid(
            format!("`{name}` is how ids of users look"),
            "choose another name",
        ));
    }
    Ok(name)
}

/// As `SkyPilot` names workspaces.
pub(in crate::accounts) fn workspace_name(raw: &str) -> Result<Text, Problem> {
    of_alphabet("workspace", raw, "-_")
}

/// Whatever people find fit to tell their tokens apart.
pub(in crate::accounts) fn token_name(raw: &str) -> Result<Text, Problem> {
    let name = Text::from(raw);
    if raw.trim().is_empty() || raw.chars().count() > MAX_NAME || name != *raw {
        return Err(invalid(
            "the name of a token is one line of 1 to 64 characters",
            "name it after what it is for, such as `ci`",
        ));
    }
    Ok(name)
}

/// An id at a source, as the source writes it.
pub(in crate::accounts) fn identity(raw: &str) -> Result<Text, Problem> {
    let plain = raw.bytes().all(|b| b.is_ascii_graphic());
    if raw.is_empty() || raw.len() > MAX_IDENTITY || !plain {
        return Err(invalid(
            format!("`{}` cannot be the id of somebody at a source", shown(raw)),
            "an id has 1 to 256 visible ASCII characters; the list of users shows those that the sources know",
        ));
    }
    Ok(Text::from(raw))
}

/// The random part of an id.
pub(in crate::accounts) fn is_token_id(raw: &str) -> bool {
    raw.len() == ID_DIGITS && raw.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// The id of a user.
pub(in crate::accounts) fn is_user_id(raw: &str) -> bool {
    raw.strip_prefix("u-").is_some_and(is_token_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_ascii_and_no_options() {
        for good in ["a", "alice", "a.b_c-d@e+f", "U-1", &"x".repeat(64)] {
            assert_eq!(user_name(good).unwrap(), *good);
        }
        let long = "x".repeat(65);
        for bad in [
            "",
            "-rf",
            "a b",
            "a\n",
            "alic\u{435}",
            "ali\u{200b}ce",
            "u-0123456789ab",
            "U-0123456789AB",
            &long,
        ] {
            let problem = user_name(bad).unwrap_err();
            assert_eq!((&*problem.code, problem.status), ("invalid_account", 422));
            assert!(problem.hint.is_some(), "{bad}");
        }
    }

    #[test]
    fn a_letter_that_only_looks_right_is_named() {
        let said = user_name("alic\u{435}").unwrap_err().to_string();
        assert!(said.contains('\u{435}') && said.contains("look"), "{said}");
    }

    #[test]
    fn what_is_there_is_named_when_it_is_few() {
        let few = not_found("user", "alcie", ["alice", "bob"].into_iter());
        assert_eq!(few.status, 404);
        assert_eq!(few.hint.unwrap(), "there is: alice, bob");
        let many: Vec<String> = (0..20)
            .map(|i| format!("somebody-{i}"))
            .chain(["alice".into()])
            .collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let near = not_found("user", "alcie", many.iter().copied());
        assert_eq!(near.hint.unwrap(), "did you mean `alice`?");
        let long = not_found("user", &"\u{1b}x".repeat(10_000), many.into_iter());
        assert!(long.to_string().len() < 400);
    }
}
