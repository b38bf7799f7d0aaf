//! `If-Match` and `If-None-Match` by RFC 9110; an entity tag is a record's `mod_revision` in quotes.
//!
//! A weak tag, or one that was never issued, is well formed and matches nothing.

use http::header::{HeaderMap, HeaderName, IF_MATCH, IF_NONE_MATCH};
use raftmap_state_machine::command::{Condition, TagMatch};

use super::error::{ApiError, Result};

/// More tags than this in one header are refused.
const TAGS_MAX: usize = 64;

/// What a request wants of the record.
pub(crate) fn condition(headers: &HeaderMap) -> Result<Condition> {
    Ok(Condition {
        if_match: tags(headers, &IF_MATCH, "If-Match")?,
        if_none_match: tags(headers, &IF_NONE_MATCH, "If-None-Match")?,
    })
}

/// Whether a record at `mod_revision` is one of `tags`.
pub(crate) fn matches(tags: &TagMatch, mod_revision: u64) -> bool {
    match tags {
        TagMatch::Any => true,
        TagMatch::Revisions(revisions) => revisions.contains(&mod_revision),
    }
}

fn tags(headers: &HeaderMap, name: &HeaderName, field: &'static str) -> Result<Option<TagMatch>> {
    let mut lines = headers.get_all(name).iter().peekable();
    if lines.peek().is_none() {
        return Ok(None);
    }
    let malformed = || ApiError::invalid(field, "not a list of entity tags");
    let mut any = false;
    let mut count = 0;
    let mut revisions = Vec::new();
    for line in lines {
        let mut rest = line.as_bytes();
        loop {
            rest = skip(rest, b" \t,");
            if rest.is_empty() {
                break;
            }
            let (tag, behind) = tag(rest).ok_or_else(malformed)?;
            // Between two tags there is a comma.
            rest = skip(behind, b" \t");
            if !rest.is_empty() && rest[0] != b',' {
                return Err(malformed());
            }
            count += 1;
            match tag {
                Tag::Any => any = true,
                Tag::Revision(revision) => revisions.push(revision),
                Tag::Other => {}
            }
            if count > TAGS_MAX {
                return Err(ApiError::invalid(field, format!("more than {TAGS_MAX} tags")));
            }
        }
    }
    match (any, count) {
        (_, 0) => Err(malformed()),
        (true, 1) => Ok(Some(TagMatch::Any)),
        (true, _) => Err(ApiError::invalid(field, "`*` stands alone")),
        (false, _) => Ok(Some(TagMatch::Revisions(revisions))),
    }
}

enum Tag {
    Any,
    Revision(u64),
    Other,
}

/// The tag at the beginning of `text`, and what stands behind it.
fn tag(text: &[u8]) -> Option<(Tag, &[u8])> {
    if let Some(rest) = text.strip_prefix(b"*") {
        return Some((Tag::Any, rest));
    }
    let (weak, quoted) = match text.strip_prefix(b"W/") {
        Some(quoted) => (true, quoted),
        None => (false, text),
    };
    let opaque = quoted.strip_prefix(b"\"")?;
    let end = opaque.iter().position(|byte| *byte == b'"')?;
    let (opaque, rest) = (&opaque[..end], &opaque[end + 1..]);
    if !opaque.iter().all(|byte| matches!(byte, 0x21 | 0x23..=0x7e | 0x80..=0xff)) {
        return None;
    }
    let tag = match issued(opaque) {
        Some(revision) if !weak => Tag::Revision(revision),
        _ => Tag::Other,
    };
    Some((tag, rest))
}

/// The revision that a tag of ours names: digits without a leading zero.
fn issued(opaque: &[u8]) -> Option<u64> {
    let canonical = opaque.first().is_some_and(|digit| matches!(digit, b'1'..=b'9'))
        && opaque.iter().all(u8::is_ascii_digit);
    if canonical { std::str::from_utf8(opaque).ok()?.parse().ok() } else { None }
}

fn skip<'a>(text: &'a [u8], what: &[u8]) -> &'a [u8] {
    let count = text.iter().take_while(|byte| what.contains(byte)).count();
    &text[count..]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> Result<Option<TagMatch>> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(IF_MATCH, http::HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        tags(&headers, &IF_MATCH, "If-Match")
    }

    #[test]
    fn lists_of_tags_are_read() {
        let revisions = |list: &[u64]| Some(TagMatch::Revisions(list.to_vec()));
        assert_eq!(read(&[]).unwrap(), None);
        assert_eq!(read(&["*"]).unwrap(), Some(TagMatch::Any));
        assert_eq!(read(&["\"12\""]).unwrap(), revisions(&[12]));
        assert_eq!(read(&["\"12\" ,\t\"13\",, \"14\""]).unwrap(), revisions(&[12, 13, 14]));
        assert_eq!(read(&["\"12\"", "\"13\""]).unwrap(), revisions(&[12, 13]));
    }

    #[test]
    fn a_weak_or_foreign_tag_matches_nothing() {
        for text in [
            "W/\"12\"",
            "\"abc\"",
            "\"\"",
            "\"012\"",
            "\"0\"",
            "\"1,2\"",
            "\"1\u{e9}\"",
            "\"18446744073709551616\"",
        ] {
            assert_eq!(read(&[text]).unwrap(), Some(TagMatch::Revisions(vec![])), "{text}");
        }
    }

    #[test]
    fn a_malformed_list_is_refused() {
        for text in [
            "",
            ",",
            "12",
            "\"12",
            "12\"",
            "\"12\" \"13\"",
            "\"12\"x",
            "w/\"12\"",
            "*, \"12\"",
            "**",
            "W/12",
            "W/*",
            "\"a b\"",
            "'12'",
        ] {
            assert!(read(&[text]).is_err(), "{text}");
        }
        assert!(read(&["*", "*"]).is_err());
        let many = vec!["\"1\""; TAGS_MAX + 1].join(",");
        assert!(read(&[&many]).is_err());
    }
}
