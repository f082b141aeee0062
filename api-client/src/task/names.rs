//! Which names are possible: the rules are `SkyPilot`'s, so that a file that works here works there.

/// A name becomes part of the names of folders, so it cannot be longer.
const LONGEST: usize = 100;

/// Whether a task, a managed job or a pipeline can be called so: letters and digits, and between them one or
/// two of `.`, `_` and `-`.
pub fn is_task_name(name: &str) -> bool {
    let mut between = 2;
    for byte in name.bytes() {
        match byte {
            b'.' | b'_' | b'-' if between < 2 => between += 1,
            byte if byte.is_ascii_alphanumeric() => between = 0,
            _ => return false,
        }
    }
    // Nothing, or a sign at the end.
    between == 0 && name.len() <= LONGEST
}

/// Whether a cluster or a service can be called so: a letter, then letters, digits, `.`, `_` and `-`, and at
/// the end a letter or digit.
pub fn is_cluster_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.ends_with(|c: char| c.is_ascii_alphanumeric())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
        && name.len() <= LONGEST
}

/// Whether an environment variable can be called so.
pub fn is_variable_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_tasks_are_as_skypilot_has_them() {
        for name in ["a", "7", "some_name", "some--name", "a.b-c_d", "a__b"] {
            assert!(is_task_name(name), "{name}");
        }
        for name in ["", "-a", "a-", "a---b", "a b", "_a", "ä", "a/b", ".."] {
            assert!(!is_task_name(name), "{name}");
        }
        assert!(is_task_name(&"a".repeat(100)));
        assert!(!is_task_name(&"a".repeat(101)));
    }

    #[test]
    fn names_of_clusters_begin_with_a_letter() {
        for name in ["a", "a-----b", "Train.2"] {
            assert!(is_cluster_name(name), "{name}");
        }
        for name in ["", "7", "a-", "-a", "a b", "a/b", "é"] {
            assert!(!is_cluster_name(name), "{name}");
        }
    }

    #[test]
    fn names_of_variables_are_those_of_a_shell() {
        assert!(is_variable_name("_HF_TOKEN2"));
        for name in ["", "2A", "A-B", "A=B", "Ä"] {
            assert!(!is_variable_name(name), "{name}");
        }
    }
}
