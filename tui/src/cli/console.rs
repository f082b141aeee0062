//! What this run writes to: colour or not, how wide, which zone.

use std::io::{IsTerminal as _, Write as _};

use skytower_api_client::column::Context;
use skytower_api_client::wire::Caller;
use skytower_api_client::{EpochMs, Phase};

use super::args::{Global, When};

/// Standard output as it is now.
#[derive(Clone, Debug)]
pub struct Console {
    /// Colours are wanted.
    pub colour: bool,
    /// The terminal's width; none when the output goes somewhere else and is never cut.
    pub width: Option<u16>,
    /// Times in UTC.
    pub utc: bool,
}

impl Console {
    /// Looks at standard output, the environment and the flags.
    pub fn detect(global: &Global) -> Self {
        let terminal = std::io::stdout().is_terminal();
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let forced = std::env::var_os("CLICOLOR_FORCE").is_some_and(|value| value != "0");
        let colour = match global.color {
            When::Always => true,
            When::Never => false,
            When::Auto if set("NO_COLOR") => false,
            When::Auto if forced => true,
            When::Auto => terminal && supports_color::on(supports_color::Stream::Stdout).is_some(),
        };
        let width = terminal
            .then(|| crossterm::terminal::size().ok())
            .flatten()
            .map(|(columns, _)| columns)
            .filter(|columns| *columns > 0);
        Self {
            colour,
            width,
            utc: global.utc,
        }
    }

    /// What cells depend on, at this moment.
    pub fn context(&self, caller: Caller) -> Context {
        Context {
            now: EpochMs::now(),
            caller,
            utc: self.utc,
            ..Context::default()
        }
    }

    /// A word in the colour of a phase.
    pub fn paint(&self, phase: Phase, word: &str) -> String {
        let code = match phase {
            Phase::Failed => "31",
            Phase::Degraded => "33",
            Phase::Running | Phase::Succeeded => "32",
            Phase::Starting => "36",
            Phase::Pending => "34",
            Phase::Stopping => "35",
            Phase::Stopped | Phase::Cancelled | Phase::Gone | Phase::Unknown => "2",
        };
        self.style(code, word)
    }

    /// A word in a style, where styles are wanted.
    pub fn style(&self, code: &str, word: &str) -> String {
        if self.colour {
            format!("\u{1b}[{code}m{word}\u{1b}[0m")
        } else {
            word.to_owned()
        }
    }
}

/// Writes to standard output at once. Somebody who stopped reading (`| head`) is no error.
pub fn emit(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        other => other,
    }
}

/// Writes a line to standard output at once.
pub fn emit_line(line: &str) -> std::io::Result<()> {
    emit(&format!("{line}\n"))
}
