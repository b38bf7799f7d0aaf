//! Sizes as people write them: `64MiB`. Durations are the interface's (`raftmap_client::api`).

/// Reads a size in bytes: a whole number, alone or with `B`, `KiB`, `MiB`, `GiB`, `TiB`.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    let shift = match unit {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        _ => return Err(format!("{text:?} is not a size such as 64MiB")),
    };
    number
        .and_then(|n: u64| n.checked_mul(1 << shift))
        .ok_or_else(|| format!("{text:?} is not a size such as 64MiB"))
}

/// Writes a size in the largest unit that divides it.
pub(crate) fn format_bytes(bytes: u64) -> String {
    for (unit, shift) in [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)] {
        if bytes > 0 && bytes.trailing_zeros() >= shift {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    bytes.to_string()
}

fn split(text: &str) -> (Option<u64>, &str) {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    (number.parse().ok(), unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_may_go_without_a_unit() {
        assert_eq!(parse_bytes("64MiB"), Ok(64 << 20));
        assert_eq!(parse_bytes("17"), Ok(17));
        for wrong in ["", "MiB", "1MB", "1.5GiB", "18446744073709551615KiB"] {
            assert!(parse_bytes(wrong).is_err(), "{wrong:?} passed");
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        for bytes in [0, 1, 1 << 10, 3 << 20, (1 << 30) + 1] {
            assert_eq!(parse_bytes(&format_bytes(bytes)), Ok(bytes));
        }
    }
}
