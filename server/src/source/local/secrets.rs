//! A task file's text as it may be kept and shown: without the values of its secrets.

use std::collections::BTreeMap;

use skytower_api_client::action::Start;
use skytower_api_client::task::{Given, parse};

/// Stands where a value stood.
const TAKEN_OUT: &str = "<redacted>";
/// Stands for a text of which nobody can be sure.
const NOT_SHOWN: &str =
    "# not shown: its secrets are written in a form that they cannot be taken out of\n";

/// The text without the values of its secrets. What is left is read again: only when no secret of it has
/// another value than the mark is it shown, so that a form nobody thought of shows nothing.
pub(super) fn taken_out(start: &Start) -> String {
    let text = without_values(&start.yaml);
    let given = Given {
        folder: &start.folder,
        envs: start.envs.clone(),
        secrets: BTreeMap::new(),
    };
    let safe = parse(&start.file, &text, &given).is_ok_and(|file| {
        let mut values = file.tasks.iter().flat_map(|task| task.secrets.values());
        values.all(|value| value == TAKEN_OUT)
    });
    if safe { text } else { NOT_SHOWN.to_owned() }
}

/// Takes out what stands below `secrets:` in block style.
fn without_values(yaml: &str) -> String {
    let mut inside = false;
    let mut out = String::with_capacity(yaml.len());
    for line in yaml.split_inclusive('\n') {
        let top = !line.starts_with([' ', '\t', '#', '\r', '\n']);
        if top {
            let name = line.split(':').next().unwrap_or_default();
            inside = name.trim_matches(['"', '\'', ' ']) == "secrets";
            if inside {
                out.push_str("secrets:\n");
                continue;
            }
        }
        if !inside {
            out.push_str(line);
            continue;
        }
        // Whatever else stands there (a long value, a flow mapping) is left out whole.
        let name = line.split(':').next().unwrap_or_default();
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ' ';
        let is_name = line.contains(':') && !name.trim().is_empty() && name.chars().all(plain);
        if is_name {
            out.push_str(&format!("{name}: {TAKEN_OUT}\n"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(yaml: &str) -> String {
        taken_out(&Start {
            file: "t.yaml".into(),
            yaml: yaml.to_owned(),
            folder: "/tmp".to_owned(),
            secrets: [("GIVEN".to_owned(), "hunter2".to_owned())].into(),
            ..Start::default()
        })
    }

    #[test]
    fn values_of_secrets_are_taken_out_and_nothing_else() {
        let yaml = "name: x\nsecrets:\n  TOKEN: hunter2\n  GIVEN:\nrun: |\n  echo secrets: 1\n";
        assert_eq!(
            shown(yaml),
            "name: x\nsecrets:\n  TOKEN: <redacted>\n  GIVEN: <redacted>\nrun: |\n  echo secrets: 1\n"
        );
        assert_eq!(shown("run: echo $GIVEN\n"), "run: echo $GIVEN\n");
    }

    #[test]
    fn a_form_that_nobody_thought_of_shows_nothing() {
        for yaml in [
            "{name: x, secrets: {TOKEN: hunter2}, run: echo}",
            "{\"secrets\": {\"TOKEN\": \"hunter2\"}, \"run\": \"echo\"}",
            "  name: x\n  secrets:\n    TOKEN: hunter2\n  run: echo\n",
            "? secrets\n: TOKEN: hunter2\nrun: echo\n",
            "\"\\x73ecrets\":\n  TOKEN: hunter2\nrun: echo\n",
            "secrets: {TOKEN: hunter2}\nrun: echo\n",
            "secrets:\n  TOKEN: |\n    hunter2\nrun: echo\n",
            "secrets:\n  TOKEN: \"a\n\n  hunter2\"\nrun: echo\n",
        ] {
            let shown = shown(yaml);
            assert!(!shown.contains("hunter2"), "{yaml:?}: {shown:?}");
        }
    }
}
