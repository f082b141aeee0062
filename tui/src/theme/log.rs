//! The colours of a log, as far as the terminal has them and the eye can read them.
//!
//! The first sixteen are the terminal's own, whose palette is made for its background. All others
//! are fixed and may have been chosen for the opposite background: they are drawn towards the
//! middle until they can be told from white and from black.

use ratatui::style::{Color, Modifier, Style};
use skytower_api_client::log;

use super::Theme;

/// How many colours a terminal has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Depth {
    /// Its own sixteen.
    Sixteen,
    /// The 256 of xterm.
    Indexed,
    /// Red, green and blue in 256 steps each.
    #[default]
    Full,
}

impl Depth {
    /// From the environment: `COLORTERM` and `TERM`.
    pub(super) fn from_env(var: impl Fn(&str) -> Option<String>) -> Self {
        let holds = |name: &str, words: &[&str]| {
            let value = var(name).unwrap_or_default().to_ascii_lowercase();
            words.iter().any(|word| value.contains(word))
        };
        if holds("COLORTERM", &["truecolor", "24bit"]) || holds("TERM", &["direct"]) {
            Self::Full
        } else if holds("TERM", &["256"]) {
            Self::Indexed
        } else {
            Self::Sixteen
        }
    }
}

/// Luminance between which a colour stands out by 3:1 from white and from black alike.
const READABLE: std::ops::RangeInclusive<f32> = 0.1..=0.3;

impl Theme {
    /// A log's style on this terminal.
    pub fn log(self, style: log::Style) -> Style {
        let mut out = Style::new();
        for (on, modifier) in [
            (style.bold, Modifier::BOLD),
            (style.dim, Modifier::DIM),
            (style.italic, Modifier::ITALIC),
            (style.underline, Modifier::UNDERLINED),
            (style.reverse, Modifier::REVERSED),
        ] {
            if on {
                out = out.add_modifier(modifier);
            }
        }
        if self.mono {
            return out;
        }
        match (style.fg, style.bg) {
            (None, None) => out,
            (Some(fg), None) => self.alone(fg, out),
            (None, Some(bg)) => {
                // The terminal's own letters may be as bright as this background.
                let fg = if luminance(rgb(bg)) > 0.18 { 0 } else { 15 };
                out.fg(self.color(log::Color::Indexed(fg)))
                    .bg(self.color(bg))
            }
            // Whoever chose both knew what they look like.
            (Some(fg), Some(bg)) => out.fg(self.color(fg)).bg(self.color(bg)),
        }
    }

    /// Letters of a colour on the terminal's own background, dark or light.
    fn alone(self, fg: log::Color, out: Style) -> Style {
        match fg {
            // Black and white: one of them is the background.
            log::Color::Indexed(0 | 7 | 15) => out,
            log::Color::Indexed(8) => out.add_modifier(Modifier::DIM),
            log::Color::Indexed(1..16) => out.fg(self.color(fg)),
            log::Color::Indexed(16..) | log::Color::Rgb(..) => {
                let wanted = rgb(fg);
                let seen = readable(wanted);
                if seen == wanted {
                    out.fg(self.color(fg))
                } else {
                    let (r, g, b) = seen;
                    out.fg(self.color(log::Color::Rgb(r, g, b)))
                }
            }
        }
    }

    /// A colour as the terminal can show it.
    fn color(self, color: log::Color) -> Color {
        let (r, g, b) = rgb(color);
        match (color, self.depth) {
            (log::Color::Indexed(n), _) if n < 16 => named(n),
            (log::Color::Indexed(n), Depth::Indexed | Depth::Full) => Color::Indexed(n),
            (log::Color::Rgb(..), Depth::Full) => Color::Rgb(r, g, b),
            (log::Color::Rgb(..), Depth::Indexed) => Color::Indexed(nearest((r, g, b), 16..=255)),
            (_, Depth::Sixteen) => named(nearest((r, g, b), 1..=14)),
        }
    }
}

fn named(index: u8) -> Color {
    const NAMES: [Color; 16] = [
        Color::Black,
        Color::Red,
        Color::Green,
        Color::Yellow,
        Color::Blue,
        Color::Magenta,
        Color::Cyan,
        Color::Gray,
        Color::DarkGray,
        Color::LightRed,
        Color::LightGreen,
        Color::LightYellow,
        Color::LightBlue,
        Color::LightMagenta,
        Color::LightCyan,
        Color::White,
    ];
    NAMES
        .get(usize::from(index))
        .copied()
        .unwrap_or(Color::Reset)
}

type Rgb = (u8, u8, u8);

/// Red, green and blue of a colour; of the first sixteen as xterm has them.
fn rgb(color: log::Color) -> Rgb {
    let index = match color {
        log::Color::Rgb(r, g, b) => return (r, g, b),
        log::Color::Indexed(index) => index,
    };
    match index {
        0..16 => {
            let on = match index {
                0..7 => 205,
                7 => 229,
                8 => return (127, 127, 127),
                _ => 255,
            };
            let bit = |n: u8| if index >> n & 1 == 1 { on } else { 0 };
            (bit(0), bit(1), bit(2))
        }
        16..232 => {
            let step = |n: u8| if n == 0 { 0 } else { 55 + 40 * n };
            let n = index - 16;
            (step(n / 36), step(n / 6 % 6), step(n % 6))
        }
        232.. => {
            let grey = 8 + 10 * (index - 232);
            (grey, grey, grey)
        }
    }
}

/// How bright a colour is to the eye, from 0 to 1 (WCAG).
fn luminance((r, g, b): Rgb) -> f32 {
    let linear = |v: u8| (f32::from(v) / 255.0).powf(2.2);
    0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b)
}

/// The colour itself, or one of the same hue that can be read on white and on black.
fn readable(color: Rgb) -> Rgb {
    let towards = |to: f32, share: f32| {
        let mix = |v: u8| (f32::from(v) + (to - f32::from(v)) * share).round() as u8;
        (mix(color.0), mix(color.1), mix(color.2))
    };
    let bright = luminance(color);
    let to = if bright < *READABLE.start() {
        255.0
    } else {
        0.0
    };
    (0..=20)
        .map(|step| towards(to, step as f32 / 20.0))
        .find(|mixed| READABLE.contains(&luminance(*mixed)))
        .unwrap_or(color)
}

/// The colour of xterm's table that is nearest.
fn nearest(wanted: Rgb, of: std::ops::RangeInclusive<u8>) -> u8 {
    let far = |index: &u8| {
        let there = rgb(log::Color::Indexed(*index));
        let square = |a: u8, b: u8| (i32::from(a) - i32::from(b)).pow(2);
        square(wanted.0, there.0) + square(wanted.1, there.1) + square(wanted.2, there.2)
    };
    of.min_by_key(far).unwrap_or(7)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letters(fg: log::Color) -> log::Style {
        log::Style {
            fg: Some(fg),
            ..log::Style::default()
        }
    }

    #[test]
    fn the_terminals_own_colours_stay_and_black_and_white_are_never_on_themselves() {
        let theme = Theme::default();
        assert_eq!(
            theme.log(letters(log::Color::Indexed(1))).fg,
            Some(Color::Red)
        );
        assert_eq!(
            theme.log(letters(log::Color::Indexed(14))).fg,
            Some(Color::LightCyan)
        );
        for index in [0, 7, 15] {
            assert_eq!(
                theme.log(letters(log::Color::Indexed(index))),
                Style::new(),
                "{index}"
            );
        }
    }

    #[test]
    fn every_fixed_colour_can_be_read_on_white_and_on_black() {
        for index in 16..=255 {
            let style = Theme::default().log(letters(log::Color::Indexed(index)));
            let seen = match style.fg {
                Some(Color::Indexed(index)) => rgb(log::Color::Indexed(index)),
                Some(Color::Rgb(r, g, b)) => (r, g, b),
                other => panic!("{index}: {other:?}"),
            };
            let bright = luminance(seen);
            assert!(READABLE.contains(&bright), "{index}: {seen:?} {bright}");
        }
    }

    #[test]
    fn without_colours_the_weight_stays() {
        let mono = Theme {
            mono: true,
            ..Theme::default()
        };
        let style = log::Style {
            bold: true,
            ..letters(log::Color::Rgb(255, 0, 0))
        };
        assert_eq!(mono.log(style), Style::new().add_modifier(Modifier::BOLD));
    }

    #[test]
    fn a_terminal_gets_no_colours_that_it_has_not() {
        let style = letters(log::Color::Rgb(200, 60, 60));
        let at = |depth| {
            let theme = Theme {
                depth,
                ..Theme::default()
            };
            theme.log(style).fg
        };
        assert_eq!(at(Depth::Full), Some(Color::Rgb(200, 60, 60)));
        assert_eq!(at(Depth::Indexed), Some(Color::Indexed(167)));
        assert_eq!(at(Depth::Sixteen), Some(Color::Red));
    }
}
