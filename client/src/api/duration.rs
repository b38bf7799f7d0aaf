//! Durations as the interface writes them: a whole number with one unit, `500ms`, `30s`, `5m`, `2h`, `1d`.

use std::fmt;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Units by their names, in milliseconds, the longest first.
const UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Reads a duration in whole milliseconds.
///
/// # Errors
/// A text for people: no number, no unit (a bare number is an error), or too long for 64 bits.
pub fn parse(text: &str) -> Result<Duration, &'static str> {
    const SHAPE: &str = "not a duration: a whole number with one of ms, s, m, h, d";
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let Some((_, unit_ms)) = UNITS.iter().find(|(name, _)| *name == unit) else {
        return Err(SHAPE);
    };
    if number.is_empty() {
        return Err(SHAPE);
    }
    let total = number.parse::<u64>().ok().and_then(|number| number.checked_mul(*unit_ms));
    total.map(Duration::from_millis).ok_or("a duration beyond 64 bits of milliseconds")
}

/// Writes a duration in its longest unit without a remainder; what is below a millisecond is cut.
#[must_use]
pub fn format(duration: Duration) -> String {
    let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if ms == 0 {
        return "0ms".to_owned();
    }
    let unit = UNITS.iter().find(|(_, unit_ms)| ms.is_multiple_of(*unit_ms));
    let (name, unit_ms) = unit.unwrap_or(&("ms", 1));
    format!("{}{name}", ms / unit_ms)
}

/// A TTL as a write names it. In text: a duration of at least 1 ms, or `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ttl {
    /// No deadline, also under a default TTL.
    Never,
    /// Ends this long after the write, in cluster time; never zero.
    After(Duration),
}

impl Ttl {
    /// Reads a TTL.
    ///
    /// # Errors
    /// As [`parse`]; and zero, because a key that is already over cannot be written.
    pub fn parse(text: &str) -> Result<Ttl, &'static str> {
        if text == "none" {
            return Ok(Ttl::Never);
        }
        match parse(text)? {
            Duration::ZERO => Err("a TTL of zero"),
            duration => Ok(Ttl::After(duration)),
        }
    }
}

impl fmt::Display for Ttl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ttl::Never => f.write_str("none"),
            Ttl::After(duration) => f.write_str(&format(*duration)),
        }
    }
}

impl Serialize for Ttl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Ttl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Ttl::parse(&text).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_read_and_written_back() {
        let cases = [("500ms", 500), ("30s", 30_000), ("5m", 300_000), ("2h", 7_200_000)];
        for (text, ms) in cases {
            assert_eq!(parse(text), Ok(Duration::from_millis(ms)), "{text}");
            assert_eq!(format(Duration::from_millis(ms)), text);
        }
        assert_eq!(format(Duration::from_millis(86_400_000)), "1d");
        assert_eq!(format(Duration::from_millis(1_500)), "1500ms");
        assert_eq!(format(Duration::ZERO), "0ms");
    }

    #[test]
    fn a_bare_number_a_fraction_a_sign_and_an_overflow_are_refused() {
        for text in ["", "5", "s", "1.5s", "-1s", "+1s", "1 s", "1S", "1s5", "1sm", "0x1s"] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse("18446744073709551615ms").is_ok());
        assert!(parse("18446744073709551616ms").is_err());
        assert!(parse("18446744073709551615d").is_err());
    }

    #[test]
    fn a_ttl_is_never_zero() {
        assert!(Ttl::parse("0s").is_err());
        assert_eq!(Ttl::parse("none"), Ok(Ttl::Never));
        assert_eq!(Ttl::parse("30s"), Ok(Ttl::After(Duration::from_secs(30))));
    }
}
