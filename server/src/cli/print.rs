//! What is printed: sentences on standard error, what is to be used on standard output.

use serde_json::Value;
use skytower_api_client::{EpochMs, Text, human};

use super::Form;

/// What a command has to say.
pub(super) struct Shown {
    /// For people, beside what is to be used.
    sentence: Option<String>,
    /// What is to be used.
    text: String,
}

impl Shown {
    pub(super) fn print(self) {
        if let Some(sentence) = self.sentence {
            eprintln!("{sentence}");
        }
        if !self.text.is_empty() {
            println!("{}", self.text.trim_end());
        }
    }

    pub(super) fn said(sentence: String) -> Self {
        Self {
            sentence: None,
            text: sentence,
        }
    }

    /// A password that was made up stands alone on standard output.
    pub(super) fn password(sentence: &str, answer: &Value) -> Self {
        match answer["password"].as_str() {
            Some(password) => Self {
                sentence: Some(format!("{sentence} The password, shown this once:")),
                text: password.to_owned(),
            },
            None => Self::said(sentence.to_owned()),
        }
    }

    pub(super) fn token(sentence: &str, answer: &Value) -> Self {
        Self {
            sentence: Some(sentence.to_owned()),
            text: answer["token"].as_str().unwrap_or_default().to_owned(),
        }
    }

    pub(super) fn users(users: Value, form: Form) -> Self {
        Self::table(
            users,
            form,
            &["NAME", "ROLE", "SIGN-IN", "TOKENS", "CREATED", "ALSO"],
            |user| {
                let sign_in = match (
                    flag(user, "disabled"),
                    flag(user, "service"),
                    flag(user, "has_password"),
                ) {
                    (true, ..) => "disabled",
                    (_, true, _) => "tokens",
                    (_, _, true) => "password",
                    _ => "no password",
                };
                vec![
                    word(user, "name"),
                    word(user, "role"),
                    sign_in.to_owned(),
                    user["tokens"].to_string(),
                    ago(&user["created_at"]),
                    list(&user["identities"]),
                ]
            },
        )
    }

    pub(super) fn tokens(tokens: Value, of: Option<&str>, form: Form) -> Self {
        let tokens: Vec<Value> = serde_json::from_value(tokens).unwrap_or_default();
        let kept = tokens
            .into_iter()
            .filter(|token| of.is_none_or(|of| word(token, "user").eq_ignore_ascii_case(of)));
        Self::table(
            Value::Array(kept.collect()),
            form,
            &["ID", "USER", "SCOPE", "CREATED", "EXPIRES", "USED", "NAME"],
            |token| {
                let expires = match token["expires_at"].as_i64() {
                    None => "never".to_owned(),
                    Some(at) if at <= EpochMs::now().0 => "expired".to_owned(),
                    Some(at) => format!("in {}", human::age(EpochMs(at).since(EpochMs::now()))),
                };
                vec![
                    word(token, "id"),
                    word(token, "user"),
                    word(token, "scope"),
                    ago(&token["created_at"]),
                    expires,
                    ago(&token["last_used_at"]),
                    word(token, "name"),
                ]
            },
        )
    }

    pub(super) fn workspaces(workspaces: Value, form: Form) -> Self {
        Self::table(workspaces, form, &["NAME", "FOR", "MEMBERS"], |workspace| {
            let private = flag(workspace, "private");
            vec![
                word(workspace, "name"),
                if private { "members" } else { "everybody" }.to_owned(),
                list(&workspace["members"]),
            ]
        })
    }

    fn table(
        rows: Value,
        form: Form,
        heads: &[&str],
        cells: impl Fn(&Value) -> Vec<String>,
    ) -> Self {
        if form == Form::Json {
            return Self::said(format!("{rows:#}"));
        }
        let rows: Vec<Value> = serde_json::from_value(rows).unwrap_or_default();
        let mut lines = vec![heads.iter().map(|head| (*head).to_owned()).collect()];
        lines.extend(rows.iter().map(cells));
        Self::said(aligned(&lines))
    }
}

fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for line in lines {
        let mut row = String::new();
        for (cell, width) in line.iter().zip(&widths) {
            row.push_str(&format!("{cell:width$}  "));
        }
        out.push_str(row.trim_end());
        out.push('\n');
    }
    out
}

/// What a server says is shown as one line without anything that moves the terminal.
fn word(value: &Value, field: &str) -> String {
    Text::new(value[field].as_str().unwrap_or("-")).to_string()
}

fn flag(value: &Value, field: &str) -> bool {
    value[field].as_bool().unwrap_or_default()
}

fn list(value: &Value) -> String {
    let all: Vec<Text> = serde_json::from_value(value.clone()).unwrap_or_default();
    match all.as_slice() {
        [] => "-".to_owned(),
        all => all.iter().map(Text::as_str).collect::<Vec<_>>().join(", "),
    }
}

fn ago(value: &Value) -> String {
    value.as_i64().filter(|at| *at > 0).map_or_else(
        || "-".to_owned(),
        |at| format!("{} ago", human::age(EpochMs::now().since(EpochMs(at)))),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_each_other() {
        let lines = [
            vec!["NAME".to_owned(), "ROLE".to_owned()],
            vec!["al".to_owned(), "admin".to_owned()],
            vec!["someone-long".to_owned(), "user".to_owned()],
        ];
        assert_eq!(
            aligned(&lines),
            "NAME          ROLE\nal            admin\nsomeone-long  user\n"
        );
    }

    #[test]
    fn a_secret_stands_alone_on_standard_output() {
        let shown = Shown::token("A token:", &serde_json::json!({"token": "st_1_2"}));
        assert_eq!(shown.text, "st_1_2");
        assert_eq!(shown.sentence.as_deref(), Some("A token:"));
    }
}
