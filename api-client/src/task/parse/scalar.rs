//! What a value without quotes means: as `PyYAML` (YAML 1.1) reads it, since that is what `SkyPilot` reads with.

use std::sync::LazyLock;

use regex::Regex;

use super::tree::Scalar;

/// The meaning of a scalar.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Meaning {
    Nothing,
    Flag(bool),
    Whole(i128),
    Fraction(f64),
    Text,
}

#[expect(clippy::expect_used, reason = "constant expressions, which tests use")]
fn pattern(expression: &str) -> Regex {
    Regex::new(expression).expect("an expression that compiles")
}

static DECIMAL: LazyLock<Regex> = LazyLock::new(|| pattern(r"^[-+]?(?:0|[1-9][0-9_]*)$"));
static RADIX: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"^[-+]?0(?:b[01_]+|x[0-9a-fA-F_]+|[0-7_]+)$"));
/// Numbers to the base of 60: `1:30` is 90.
static SIXTIES: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"^[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?$"));
static FRACTION: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"^(?:[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+][0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?)$",
    )
});

/// What a scalar means.
pub(super) fn meaning(scalar: &Scalar<'_>) -> Meaning {
    if !scalar.plain {
        return Meaning::Text;
    }
    let text = &*scalar.text;
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Meaning::Nothing,
        "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            return Meaning::Flag(true);
        }
        "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Meaning::Flag(false);
        }
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => {
            return Meaning::Fraction(f64::INFINITY);
        }
        "-.inf" | "-.Inf" | "-.INF" => return Meaning::Fraction(f64::NEG_INFINITY),
        ".nan" | ".NaN" | ".NAN" => return Meaning::Fraction(f64::NAN),
        _ => {}
    }
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.')) {
        return Meaning::Text;
    }
    let digits = text.replace('_', "");
    if DECIMAL.is_match(text) {
        // More digits than fit are more than anything here can be.
        let edge = if digits.starts_with('-') {
            i128::MIN
        } else {
            i128::MAX
        };
        return Meaning::Whole(digits.parse().unwrap_or(edge));
    }
    if RADIX.is_match(text) {
        return whole(&digits).map_or(Meaning::Text, Meaning::Whole);
    }
    if FRACTION.is_match(text) {
        return digits.parse().map_or(Meaning::Text, Meaning::Fraction);
    }
    if SIXTIES.is_match(text) {
        return sixties(&digits);
    }
    Meaning::Text
}

/// A whole number in the base that its prefix says.
fn whole(digits: &str) -> Option<i128> {
    let (sign, digits) = signed(digits);
    let (base, digits) = match digits.as_bytes() {
        [b'0', b'b', ..] => (2, &digits[2..]),
        [b'0', b'x', ..] => (16, &digits[2..]),
        _ => (8, digits),
    };
    i128::from_str_radix(digits, base)
        .ok()
        .map(|number| number * i128::from(sign))
}

fn signed(digits: &str) -> (i8, &str) {
    match digits.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, digits.strip_prefix('+').unwrap_or(digits)),
    }
}

fn sixties(digits: &str) -> Meaning {
    let (sign, digits) = signed(digits);
    if digits.contains('.') {
        let sum = digits.split(':').try_fold(0.0, |sum, part| {
            part.parse::<f64>().ok().map(|part| sum * 60.0 + part)
        });
        return sum.map_or(Meaning::Text, |sum| {
            Meaning::Fraction(sum * f64::from(sign))
        });
    }
    // As PyYAML: one that begins with a zero is a text, such as `07:30`.
    if digits.starts_with('0') {
        return Meaning::Text;
    }
    let sum = digits.split(':').try_fold(0_i128, |sum, part| {
        sum.checked_mul(60)?.checked_add(part.parse().ok()?)
    });
    sum.map_or(Meaning::Text, |sum| Meaning::Whole(sum * i128::from(sign)))
}

/// The text that `SkyPilot` makes of a value of `envs`: `str()` of what `PyYAML` read. `true` becomes `True`,
/// `1.50` becomes `1.5`, `010` becomes `8`. Only points in time stay as they are written. None for nothing.
pub(super) fn as_text(scalar: &Scalar<'_>) -> Option<String> {
    let text = &*scalar.text;
    Some(match meaning(scalar) {
        Meaning::Nothing => return None,
        Meaning::Flag(true) => "True".to_owned(),
        Meaning::Flag(false) => "False".to_owned(),
        // Digit by digit, as there may be more of them than fit a number.
        Meaning::Whole(_) if DECIMAL.is_match(text) => {
            let digits = text.replace('_', "");
            match signed(&digits) {
                (_, "0") => "0".to_owned(),
                (-1, rest) => format!("-{rest}"),
                (_, rest) => rest.to_owned(),
            }
        }
        Meaning::Whole(number) => number.to_string(),
        Meaning::Fraction(number) => fraction(number),
        Meaning::Text => text.to_owned(),
    })
}

/// Python's `repr` of a float.
fn fraction(number: f64) -> String {
    if number.is_nan() {
        return "nan".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let plain = number.to_string();
        return if plain.contains('.') {
            plain
        } else {
            format!("{plain}.0")
        };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;

    fn plain(text: &str) -> Scalar<'_> {
        Scalar {
            text: Cow::Borrowed(text),
            plain: true,
        }
    }

    /// Each pair is what Python prints for `str(yaml.safe_load(text))`.
    #[test]
    fn values_become_the_text_that_python_prints() {
        for (text, expected) in [
            ("true", Some("True")),
            ("off", Some("False")),
            ("y", Some("y")),
            ("~", None),
            ("", None),
            ("1", Some("1")),
            ("+1", Some("1")),
            ("-0", Some("0")),
            ("1_000", Some("1000")),
            ("010", Some("8")),
            ("0x1F", Some("31")),
            ("0b101", Some("5")),
            ("-0x10", Some("-16")),
            ("08", Some("08")),
            ("1:30", Some("90")),
            ("-1:30", Some("-90")),
            ("07:30", Some("07:30")),
            ("1:30.5", Some("90.5")),
            ("1.50", Some("1.5")),
            ("1.", Some("1.0")),
            (".5", Some("0.5")),
            ("1.0e+20", Some("1e+20")),
            ("1.5e-07", Some("1.5e-07")),
            ("0.0001", Some("0.0001")),
            ("0.00001", Some("1e-05")),
            ("1e3", Some("1e3")),
            ("1.5e3", Some("1.5e3")),
            ("-.inf", Some("-inf")),
            (".nan", Some("nan")),
            ("2024-01-31", Some("2024-01-31")),
            ("1.2.3", Some("1.2.3")),
            ("-", Some("-")),
            (
                "123456789012345678901234567890123456789012345",
                Some("123456789012345678901234567890123456789012345"),
            ),
        ] {
            assert_eq!(as_text(&plain(text)).as_deref(), expected, "{text}");
        }
        let quoted = Scalar {
            text: Cow::Borrowed("true"),
            plain: false,
        };
        assert_eq!(as_text(&quoted).as_deref(), Some("true"));
    }
}
