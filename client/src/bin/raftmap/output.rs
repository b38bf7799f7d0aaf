//! Where results go: lines for people, or one JSON object a line.

use std::io::{self, Write};

use serde::Serialize;

use crate::failure::Failure;

/// Stdout in one of its two forms.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Out {
    json: bool,
}

impl Out {
    pub(crate) fn new(json: bool) -> Out {
        Out { json }
    }

    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// One result: `value` for programs, the lines of `text` for people.
    pub(crate) fn result<T: Serialize>(
        self,
        value: &T,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        self.write(&mut stdout, value, text).map_err(Failure::stdout)
    }

    /// The same into a writer, for many results.
    pub(crate) fn write<T: Serialize>(
        self,
        to: &mut impl Write,
        value: &T,
        text: impl FnOnce() -> String,
    ) -> io::Result<()> {
        if self.json {
            serde_json::to_writer(&mut *to, value)?;
            return to.write_all(b"\n");
        }
        let text = text();
        if text.is_empty() { Ok(()) } else { writeln!(to, "{text}") }
    }
}

/// Bytes on one line of text: UTF-8 as it is, control characters and other bytes escaped.
pub(crate) fn printable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => text.push_str("\\\\"),
                c if c.is_control() => text.extend(c.escape_default()),
                c => text.push(c),
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

/// Rows under a heading, in columns as wide as they need.
pub(crate) fn table(heading: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([heading[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..heading.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let padded = cells.iter().zip(&widths).map(|(cell, &w)| format!("{cell:<w$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(heading.to_vec())];
    lines.extend(rows.iter().map(|row| line(row.iter().map(String::as_str).collect())));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stays_on_its_line() {
        assert_eq!(printable("grün/a b".as_bytes()), "grün/a b");
        assert_eq!(printable(b"a\n\t\\\xff"), r"a\n\t\\\xff");
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows =
            [vec!["1".to_owned(), "leader".to_owned()], vec!["10".to_owned(), "x".to_owned()]];
        assert_eq!(table(&["ID", "ROLE"], &rows), "ID  ROLE\n1   leader\n10  x");
    }
}
