//! How a command fails: a sentence, what to do next, and an exit code.

use skytower_api_client::Text;
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
