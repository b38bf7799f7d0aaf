//! `Accept`: which of the forms that a call offers the client likes best (RFC 9110 §12.5.1).

use http::header::{ACCEPT, HeaderMap};
use raftmap_client::api::Code;

use super::error::{ApiError, Result};

/// A form in which a reply can be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Raw,
    Json,
    Lines,
}

impl Form {
    pub(crate) const fn media_type(self) -> &'static str {
        match self {
            Form::Raw => "application/octet-stream",
            Form::Json => "application/json",
            Form::Lines => "application/x-ndjson",
        }
    }

    fn subtype(self) -> &'static str {
        self.media_type().strip_prefix("application/").unwrap_or_default()
    }
}

/// The form that fits best; of equally good ones the first that is offered.
///
/// `offered` is never empty. Without an `Accept` the first is taken.
pub(crate) fn choose(headers: &HeaderMap, offered: &[Form]) -> Result<Form> {
    let mut lines = headers.get_all(ACCEPT).iter().peekable();
    if lines.peek().is_none() {
        return Ok(offered[0]);
    }
    let ranges: Vec<Range<'_>> = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .filter_map(Range::parse)
        .collect();
    let mut best: Option<(u16, Form)> = None;
    for form in offered {
        let quality = quality(&ranges, *form);
        if quality > best.map_or(0, |(quality, _)| quality) {
            best = Some((quality, *form));
        }
    }
    best.map(|(_, form)| form).ok_or_else(|| {
        let names: Vec<&str> = offered.iter().map(|form| form.media_type()).collect();
        ApiError::new(Code::NotAcceptable, format!("this call answers with {}", names.join(" or ")))
    })
}

/// How much the most specific range that fits wants `form`, in thousandths.
fn quality(ranges: &[Range<'_>], form: Form) -> u16 {
    let fitting = ranges.iter().filter_map(|range| Some((range.fits(form)?, range.quality)));
    fitting.max_by_key(|(specific, _)| *specific).map_or(0, |(_, quality)| quality)
}

/// One media range with its weight.
struct Range<'a> {
    main: &'a str,
    sub: &'a str,
    quality: u16,
}

impl<'a> Range<'a> {
    /// `None`: not a media range; it fits nothing.
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';');
        let (main, sub) = parts.next()?.trim().split_once('/')?;
        let mut quality = 1000;
        for parameter in parts {
            if let Some((name, value)) = parameter.split_once('=')
                && name.trim().eq_ignore_ascii_case("q")
            {
                quality = weight(value.trim())?;
            }
        }
        Some(Range { main, sub, quality })
    }

    /// How specifically this range names `form`; `None`: not at all.
    fn fits(&self, form: Form) -> Option<u8> {
        if self.main == "*" {
            return (self.sub == "*").then_some(0);
        }
        if !self.main.eq_ignore_ascii_case("application") {
            return None;
        }
        if self.sub == "*" {
            return Some(1);
        }
        self.sub.eq_ignore_ascii_case(form.subtype()).then_some(2)
    }
}

/// A weight of 0 to 1 with at most three digits behind the point, in thousandths.
fn weight(text: &str) -> Option<u16> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 3 || !fraction.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let thousandths: u16 = format!("{fraction:0<3}").parse().ok()?;
    match whole {
        "0" => Some(thousandths),
        "1" if thousandths == 0 => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(accept: &str, offered: &[Form]) -> Option<Form> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, accept.parse().unwrap());
        choose(&headers, offered).ok()
    }

    #[test]
    fn the_best_liked_form_is_given() {
        let offered = [Form::Raw, Form::Json];
        for (accept, form) in [
            ("*/*", Some(Form::Raw)),
            ("application/*", Some(Form::Raw)),
            ("application/json", Some(Form::Json)),
            ("Application/JSON; charset=utf-8", Some(Form::Json)),
            ("application/json, */*", Some(Form::Raw)),
            ("application/json, */*;q=0.8", Some(Form::Json)),
            ("application/octet-stream;q=0.5, application/json;q=0.9", Some(Form::Json)),
            ("text/html, application/json;q=0.1", Some(Form::Json)),
            ("application/octet-stream;q=0, */*", Some(Form::Json)),
            ("text/plain", None),
            ("application/json;q=0", None),
            ("application/json;q=2", None),
            ("nonsense", None),
            ("", None),
        ] {
            assert_eq!(choice(accept, &offered), form, "{accept}");
        }
        assert_eq!(choose(&HeaderMap::new(), &offered).unwrap(), Form::Raw);
        assert_eq!(choice("application/x-ndjson", &[Form::Json, Form::Lines]), Some(Form::Lines));
    }
}
