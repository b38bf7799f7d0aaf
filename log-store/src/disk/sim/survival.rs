//! Which of the changes that are not durable survive a power cut.

/// Which of the unsynced changes survive a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Survival {
    /// None.
    Nothing,
    /// All, as after a killed process.
    Everything,
    /// Names and lengths, no content.
    NamesOnly,
    /// Content of files whose names were durable, no new names.
    ContentOnly,
    /// This many, those that were made first.
    Oldest(usize),
    /// This many, those that were made last.
    Newest(usize),
    /// The first change if the lowest bit is set, and so on; of more than 64 changes the others do not.
    Subset(u64),
    /// Each change by its own coin; the number chooses the coins.
    Coins(u64),
}

/// One change that may survive or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Unit {
    /// When it was made; no two have the same.
    pub(super) stamp: u64,
    /// Of a file's content, not of its name or length.
    pub(super) is_content: bool,
}

impl Survival {
    /// The stamps of the survivors, ascending. `units` are in the order in which they were made.
    pub(super) fn of(self, units: &[Unit]) -> Vec<u64> {
        let mut coins = Coins(if let Self::Coins(number) = self { number } else { 0 });
        let skipped = units.len().saturating_sub(if let Self::Newest(n) = self { n } else { 0 });
        let mut survives = |i: usize, unit: &Unit| match self {
            Self::Nothing => false,
            Self::Everything => true,
            Self::NamesOnly => !unit.is_content,
            Self::ContentOnly => unit.is_content,
            Self::Oldest(n) => i < n,
            Self::Newest(_) => i >= skipped,
            Self::Subset(bits) => i < 64 && bits >> i & 1 == 1,
            Self::Coins(_) => coins.flip(),
        };
        let survivors = units.iter().enumerate().filter(|&(i, unit)| survives(i, unit));
        survivors.map(|(_, unit)| unit.stamp).collect()
    }
}

/// splitmix64, so that the same number always decides the same.
struct Coins(u64);

impl Coins {
    fn flip(&mut self) -> bool {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) & 1 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_choice_takes_the_changes_that_it_names() {
        let units: Vec<_> =
            (0..4).map(|stamp| Unit { stamp, is_content: stamp % 2 == 0 }).collect();
        let table: [(Survival, &[u64]); 9] = [
            (Survival::Nothing, &[]),
            (Survival::Everything, &[0, 1, 2, 3]),
            (Survival::NamesOnly, &[1, 3]),
            (Survival::ContentOnly, &[0, 2]),
            (Survival::Oldest(1), &[0]),
            (Survival::Newest(3), &[1, 2, 3]),
            (Survival::Newest(9), &[0, 1, 2, 3]),
            (Survival::Subset(0b1010), &[1, 3]),
            (Survival::Subset(0), &[]),
        ];
        for (survival, expected) in table {
            assert_eq!(survival.of(&units), expected, "{survival:?}");
        }
        let tossed: Vec<_> = (0..64).map(|n| Survival::Coins(n).of(&units)).collect();
        assert_eq!(tossed[7], Survival::Coins(7).of(&units));
        let kinds: std::collections::BTreeSet<_> = tossed.into_iter().collect();
        assert!(kinds.len() > 12, "of 16 subsets {}", kinds.len());
    }
}
