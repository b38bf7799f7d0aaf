//! The numbers as a Markdown table.

use std::fmt;

use crate::forms::{Form, Turn};

/// A size's turns, by contestant.
pub(crate) struct Row {
    pub(crate) form: Form,
    pub(crate) size: u64,
    pub(crate) turns: Vec<Vec<Turn>>,
}

pub(crate) fn head(form: Form) -> String {
    let names = form.names();
    let what = match form {
        Form::Batch => "entries a batch",
        Form::Threads => "threads",
        Form::Caller => "waiting, of one caller",
    };
    let mut cells = vec![what.to_owned()];
    cells.extend(names.iter().map(|name| format!("{name}, entries/s")));
    if form == Form::Batch {
        cells.push("ours / bare loop".to_owned());
    }
    cells.push("ours / fastest peer: quarter, **half**, three quarters".to_owned());
    cells.push(format!("bytes written an entry: {}", names.join(" / ")));
    cells.push("bytes to disk an entry, the same order".to_owned());
    let rule = vec!["--:"; cells.len()].join(" | ");
    format!("| {} |\n| {rule} |", cells.join(" | "))
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cells = vec![self.size.to_string()];
        cells.extend(self.turns.iter().map(|turns| format!("{:.0}", median(turns, rate))));
        if self.form == Form::Batch {
            cells.push(format!("{:.2}", self.ratios(|name| name == "bare loop").1));
        }
        let (lower, median_ratio, upper) = self.ratios(Form::is_peer);
        cells.push(format!("{lower:.2} **{median_ratio:.2}** {upper:.2}"));
        let each = |value: fn(&Turn) -> f64| {
            let values = self.turns.iter().map(|turns| format!("{:.0}", median(turns, value)));
            values.collect::<Vec<_>>().join(" / ")
        };
        cells.push(each(|turn| turn.written));
        cells.push(each(|turn| turn.to_disk));
        write!(f, "| {} |", cells.join(" | "))
    }
}

impl Row {
    /// Ours over the fastest by median of those chosen, round by round: what a quarter, half and three
    /// quarters of the rounds are below.
    fn ratios(&self, chosen: impl Fn(&str) -> bool) -> (f64, f64, f64) {
        let contestants = self.form.names().iter().zip(&self.turns);
        let chosen = contestants.filter(|(name, _)| chosen(name)).map(|(_, turns)| turns);
        let by_median =
            |a: &&Vec<Turn>, b: &&Vec<Turn>| median(a, rate).total_cmp(&median(b, rate));
        let fastest = chosen.max_by(by_median).expect("someone to compare with");
        let ratio = |(ours, peer): (&Turn, &Turn)| rate(ours) / rate(peer);
        let mut ratios: Vec<f64> = self.turns[0].iter().zip(fastest).map(ratio).collect();
        ratios.sort_by(f64::total_cmp);
        let quantile = |quarters| ratios[(ratios.len() - 1) * quarters / 4];
        (quantile(1), quantile(2), quantile(3))
    }
}

fn rate(turn: &Turn) -> f64 {
    turn.entries_per_second
}

fn median(turns: &[Turn], value: impl Fn(&Turn) -> f64) -> f64 {
    let mut values: Vec<f64> = turns.iter().map(value).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
