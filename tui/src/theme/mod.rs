//! Meaning to style. The terminal's own sixteen colours, so that it works on light and dark; no
//! state is told by colour alone.

mod log;

use ratatui::style::{Color, Modifier, Style};
use skytower_api_client::Phase;

pub use log::Depth;

/// How the terminal is drawn on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Theme {
    /// No colour (`NO_COLOR`), only weight and reversal.
    pub mono: bool,
    /// No characters beyond ASCII of our own.
    pub ascii: bool,
    /// How many colours it has.
    pub depth: Depth,
}

/// What something means on the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Names and values.
    Plain,
    /// What is said beside.
    Dim,
    /// Headings.
    Title,
    /// The cursor, the keys, what is focused.
    Accent,
    /// One's own.
    Mine,
    /// Well.
    Good,
    /// Being worked on.
    Busy,
    /// Wants attention.
    Warn,
    /// Failed or destructive.
    Bad,
    /// The active tab, the focused button.
    Active,
    /// A match of the search.
    Match,
}

impl Theme {
    /// From the environment: `NO_COLOR`, `SKYTOWER_ASCII`, the character set of the locale, and the
    /// number of colours.
    pub fn from_env(var: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| var(name).filter(|value| !value.is_empty());
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
            .iter()
            .find_map(|name| set(name));
        let utf8 = locale.is_some_and(|locale| {
            let locale = locale.to_ascii_lowercase();
            locale.contains("utf-8") || locale.contains("utf8")
        });
        let ascii = match set("SKYTOWER_ASCII").as_deref() {
            Some("0") => false,
            Some(_) => true,
            None => !utf8,
        };
        Self {
            mono: set("NO_COLOR").is_some() || set("TERM").as_deref() == Some("dumb"),
            ascii,
            depth: Depth::from_env(var),
        }
    }

    /// The style of a tone.
    pub fn style(self, tone: Tone) -> Style {
        let style = Style::new();
        let colour = |colour: Color| if self.mono { style } else { style.fg(colour) };
        match tone {
            Tone::Plain => style,
            Tone::Dim => style.add_modifier(Modifier::DIM),
            Tone::Title | Tone::Mine => style.add_modifier(Modifier::BOLD),
            Tone::Accent => colour(Color::Cyan).add_modifier(Modifier::BOLD),
            Tone::Good => colour(Color::Green),
            Tone::Busy => colour(Color::Cyan),
            Tone::Warn => colour(Color::Yellow),
            Tone::Bad => colour(Color::Red).add_modifier(Modifier::BOLD),
            Tone::Active => style.add_modifier(Modifier::REVERSED | Modifier::BOLD),
            Tone::Match => style.add_modifier(Modifier::REVERSED),
        }
    }

    /// The tone of a phase.
    pub fn tone_of(phase: Phase) -> Tone {
        match phase {
            Phase::Failed => Tone::Bad,
            Phase::Degraded => Tone::Warn,
            Phase::Running | Phase::Succeeded => Tone::Good,
            Phase::Starting | Phase::Stopping => Tone::Busy,
            Phase::Pending => Tone::Plain,
            Phase::Stopped | Phase::Cancelled | Phase::Gone | Phase::Unknown => Tone::Dim,
        }
    }

    /// The style of a phase's glyph and word.
    pub fn phase(self, phase: Phase) -> Style {
        self.style(Self::tone_of(phase))
    }

    /// The glyph of a phase.
    pub fn glyph(self, phase: Phase) -> char {
        if self.ascii {
            phase.ascii()
        } else {
            phase.glyph()
        }
    }

    /// `fancy` where the terminal has it, `plain` otherwise.
    pub fn pick(self, fancy: &'static str, plain: &'static str) -> &'static str {
        if self.ascii { plain } else { fancy }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn theme(vars: &[(&str, &str)]) -> Theme {
        Theme::from_env(|name| {
            vars.iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_environment_decides() {
        assert!(!theme(&[("LANG", "en_US.UTF-8")]).ascii);
        assert!(theme(&[("LANG", "C")]).ascii);
        assert!(theme(&[("LANG", "en_US.UTF-8"), ("LC_ALL", "C")]).ascii);
        assert!(theme(&[("LANG", "C.utf8"), ("SKYTOWER_ASCII", "1")]).ascii);
        assert!(!theme(&[("SKYTOWER_ASCII", "0")]).ascii);
        assert!(theme(&[("NO_COLOR", "1")]).mono);
        assert_eq!(theme(&[("TERM", "xterm-256color")]).depth, Depth::Indexed);
        assert_eq!(theme(&[("COLORTERM", "truecolor")]).depth, Depth::Full);
        assert_eq!(theme(&[("TERM", "linux")]).depth, Depth::Sixteen);
        assert!(!theme(&[("NO_COLOR", "")]).mono);
    }

    #[test]
    fn without_colour_nothing_is_coloured() {
        let theme = Theme {
            mono: true,
            ..Theme::default()
        };
        for phase in Phase::ALL {
            assert_eq!(theme.phase(*phase).fg, None);
        }
    }
}
