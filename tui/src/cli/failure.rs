//! How a command fails: a sentence, what to do next, and an exit code.

use skytower_api_client::Text;
use skytower_api_client::endpoint::redacted;
use skytower_api_client::rest::ClientError;

/// Why a command did not do what it was asked for. The exit codes are those of `skytower --help`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What happened, to what.
    pub message: Text,
    /// What to do next.
    pub hint: Option<Text>,
    /// The exit code.
    pub code: u8,
}

impl Failure {
    /// A failure with its exit code.
    pub fn new(code: u8, message: impl Into<Text>) -> Self {
        Self {
            message: message.into(),
            hint: None,
            code,
        }
    }

    /// The command was used wrongly.
    pub fn usage(message: impl Into<Text>, hint: impl Into<Text>) -> Self {
        Self::new(2, message).hint(hint)
    }

    /// Adds what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<Text>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says it on standard error.
    pub fn print(&self) {
        eprintln!("error: {}", self.message);
        if let Some(hint) = &self.hint {
            eprintln!("hint: {hint}");
        }
    }
}

/// Words of a command line without what may be a secret in them: an address' user and password, and
/// tokens. A mistake is quoted in what is said about it, and that is kept in more places than it was
/// typed in.
pub fn without_secrets(words: &str) -> String {
    let word = |word: &str| {
        let bare = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        if bare.starts_with("sky_") || bare.starts_with("st_") {
            word.replace(bare, "<redacted>")
        } else if word.contains("://") || bare.contains(':') {
            redacted(word).to_string()
        } else {
            word.to_owned()
        }
    };
    words.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

impl From<clap::Error> for Failure {
    /// What the parser has to say, in our form: its first paragraph is the sentence.
    fn from(error: clap::Error) -> Self {
        let said = error.render().to_string();
        let said = said.strip_prefix("error: ").unwrap_or(&said);
        let sentence: Vec<&str> = said
            .lines()
            .map(str::trim)
            .take_while(|line| !line.is_empty())
            .collect();
        let tip = said
            .lines()
            .find_map(|line| line.trim().strip_prefix("tip: "));
        let hint = tip.map_or_else(
            || {
                let usage = said.lines().find_map(|line| line.strip_prefix("Usage: "));
                let command: Vec<&str> = usage
                    .unwrap_or("skytower")
                    .split(' ')
                    .take_while(|word| word.starts_with(|c: char| c.is_ascii_lowercase()))
                    .collect();
                format!("see {} --help", command.join(" "))
            },
            str::to_owned,
        );
        Failure::usage(without_secrets(&sentence.join(" ")), without_secrets(&hint))
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self {
            message: error.to_string().into(),
            hint: error.hint(),
            code: error.exit_code(),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(1, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_quoted_holds_no_secret() {
        for (words, shown) in [
            (
                "no 'http://al:pw@h:1' here",
                "no 'http://<redacted>@h:1' here",
            ),
            ("al:pw@h", "<redacted>@h"),
            (
                "unexpected argument 'sky_abc' found",
                "unexpected argument '<redacted>' found",
            ),
            ("st_1_abc", "<redacted>"),
            (
                "'owner:bob' and bob@example.com",
                "'owner:bob' and bob@example.com",
            ),
        ] {
            assert_eq!(without_secrets(words), shown);
        }
    }
}
