//! Where in the catalogue: `A/purge-3/op-17/s5`, group, case, operation of the disk, what survived. The
//! same words lead there again: `--only A/purge-3/op-17/s5`.

use std::fmt;

use raftmap_log_store::disk::Survival;

/// One place, from its group inwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    group: &'static str,
    parts: Vec<String>,
    /// What was about to happen there.
    what: Option<String>,
}

impl Place {
    pub(crate) fn of(group: &'static str, case: impl fmt::Display) -> Self {
        Self { group, parts: vec![case.to_string()], what: None }
    }

    /// A place inside of this one.
    pub(crate) fn at(&self, part: impl fmt::Display) -> Self {
        let mut inner = self.clone();
        inner.parts.push(part.to_string());
        inner
    }

    /// The same place, with a word about it for people.
    pub(crate) fn before(self, what: &str) -> Self {
        Self { what: Some(what.to_owned()), ..self }
    }

    /// That word.
    pub(crate) fn what(&self) -> &str {
        self.what.as_deref().unwrap_or_default()
    }

    /// What a power cut left here.
    pub(crate) fn after(&self, survival: Survival) -> Self {
        self.at(match survival {
            Survival::Nothing => "none".to_owned(),
            Survival::Everything => "all".to_owned(),
            Survival::NamesOnly => "names".to_owned(),
            Survival::ContentOnly => "content".to_owned(),
            Survival::Oldest(n) => format!("oldest-{n}"),
            Survival::Newest(n) => format!("newest-{n}"),
            Survival::Subset(bits) => format!("s{bits}"),
            Survival::Coins(number) => format!("coins-{number}"),
        })
    }

    /// Group and case.
    pub(crate) fn case(&self) -> String {
        format!("{}/{}", self.group, self.parts[0])
    }

    pub(crate) fn group(&self) -> &'static str {
        self.group
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.group)?;
        self.parts.iter().try_for_each(|part| write!(f, "/{part}"))
    }
}

/// The name of no group.
const NO_GROUP: &str = "";

/// A choice of places: those inside of one, and those on the way to it. By default all.
#[derive(Debug, Clone, Default)]
pub(crate) struct Only(Vec<String>);

impl Only {
    pub(crate) fn new(place: &str) -> Self {
        Self(place.split('/').map(str::to_owned).collect())
    }

    /// None of all places.
    pub(crate) fn of_another_test() -> Self {
        Self(vec![NO_GROUP.to_owned()])
    }

    pub(crate) fn is_of_another_test(&self) -> bool {
        self.0 == [NO_GROUP]
    }

    /// Nothing inside of a case was asked for.
    pub(crate) fn is_of_cases(&self) -> bool {
        self.0.len() <= 2
    }

    /// The one case that was asked for.
    pub(crate) fn case(&self) -> Option<&str> {
        self.0.get(1).map(String::as_str)
    }

    pub(crate) fn admits(&self, place: &Place) -> bool {
        let own = std::iter::once(place.group).chain(place.parts.iter().map(String::as_str));
        self.0.iter().zip(own).all(|(wanted, own)| wanted == own)
    }
}
