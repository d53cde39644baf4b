//! Lines by a template: text with fields such as `%{path}` in it, compiled once.

use super::{Entry, escape, number};
use crate::http::{RequestHead, token};
use std::fmt;

/// What can stand in a line. The names are those of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    Client,
    Date,
    HttpDate,
    Time,
    Method,
    Path,
    Query,
    Target,
    Version,
    Scheme,
    Host,
    Referer,
    UserAgent,
    RequestId,
    Status,
    Bytes,
    Size,
    Micros,
    Millis,
    Header(Box<str>),
}

const FIELDS: [(&str, Field); 19] = [
    ("client", Field::Client),
    ("time", Field::Time),
    ("date", Field::Date),
    ("http_date", Field::HttpDate),
    ("method", Field::Method),
    ("path", Field::Path),
    ("query", Field::Query),
    ("target", Field::Target),
    ("version", Field::Version),
    ("scheme", Field::Scheme),
    ("host", Field::Host),
    ("referer", Field::Referer),
    ("user_agent", Field::UserAgent),
    ("request_id", Field::RequestId),
    ("status", Field::Status),
    ("bytes", Field::Bytes),
    ("size", Field::Size),
    ("duration_us", Field::Micros),
    ("duration_ms", Field::Millis),
];
/// The field for any header: its name follows.
const HEADER: &str = "header:";

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    /// A field, and the byte that must not occur in it because it ends it; 0 where there is no such byte.
    Field(Field, u8),
}

/// A compiled template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Box<[Part]>);

/// What can not be used as a format, told in a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadFormat(pub(super) String);

impl fmt::Display for BadFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadFormat {}

impl Template {
    /// Compiles a template. A `%` that begins no field is written twice.
    pub fn parse(template: &str) -> Result<Template, BadFormat> {
        if template.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') {
            return Err(BadFormat("a template is one line, without control characters".into()));
        }
        let mut parts = Vec::new();
        let mut text = String::new();
        let mut rest = template;
        while let Some((before, after)) = rest.split_once('%') {
            text.push_str(before);
            if let Some(after) = after.strip_prefix('%') {
                text.push('%');
                rest = after;
                continue;
            }
            let (name, after) = after
                .strip_prefix('{')
                .ok_or_else(|| BadFormat("a % that begins no %{field} must be doubled".into()))?
                .split_once('}')
                .ok_or_else(|| BadFormat("the last %{ is not closed".into()))?;
            if !text.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut text).into()));
            }
            parts.push(Part::Field(field(name)?, 0));
            rest = after;
        }
        text.push_str(rest);
        if !text.is_empty() {
            parts.push(Part::Text(text.into()));
        }
        guard(&mut parts);
        Ok(Template(parts.into()))
    }

    /// Whether the field is in it.
    pub(crate) fn has(&self, field: &Field) -> bool {
        self.0.iter().any(|part| matches!(part, Part::Field(here, _) if here == field))
    }

    /// Appends a line, without its end.
    pub(crate) fn write(&self, out: &mut Vec<u8>, entry: &Entry<'_>) {
        for part in &self.0 {
            match part {
                Part::Text(text) => out.extend_from_slice(text.as_bytes()),
                Part::Field(field, stop) => write_field(out, entry, field, *stop),
            }
        }
    }

    /// The text that is the template's own.
    pub(crate) fn own_text(&self) -> String {
        let text = |part: &Part| match part {
            Part::Text(text) => text.to_string(),
            Part::Field(..) => String::new(),
        };
        self.0.iter().map(text).collect()
    }

    /// For each field of the client's: what stands before it in the line of `entry`, the byte that ends it (a line feed
    /// for the last one, 0 where there is none), and what the client sent.
    pub(crate) fn pieces<'e>(&'e self, entry: &'e Entry<'_>) -> Vec<(String, u8, Vec<u8>)> {
        let mut pieces = Vec::new();
        let mut before = String::new();
        for (index, part) in self.0.iter().enumerate() {
            match part {
                Part::Text(text) => before.push_str(text),
                Part::Field(field, stop) => match client_text(entry, field) {
                    Some(sent) => {
                        let is_last = index.saturating_add(1) == self.0.len();
                        let stop = if is_last { b'\n' } else { *stop };
                        pieces.push((std::mem::take(&mut before), stop, sent.unwrap_or_default().to_vec()));
                    }
                    None => {
                        let mut own = Vec::new();
                        write_field(&mut own, entry, field, 0);
                        before.push_str(&String::from_utf8_lossy(&own));
                    }
                },
            }
        }
        pieces
    }
}

/// Has each field know what ends it. Letters, digits and backslashes can not: they are what escapes are made of.
fn guard(parts: &mut [Part]) {
    for index in 0..parts.len() {
        let stop = match parts.get(index.saturating_add(1)) {
            Some(Part::Text(text)) => {
                text.bytes().next().filter(|byte| !byte.is_ascii_alphanumeric() && *byte != b'\\')
            }
            _ => None,
        };
        if let Some(Part::Field(_, place)) = parts.get_mut(index) {
            *place = stop.unwrap_or(0);
        }
    }
}

fn field(name: &str) -> Result<Field, BadFormat> {
    if let Some(header) = name.strip_prefix(HEADER) {
        return match token::is_token(header.as_bytes()) {
            true => Ok(Field::Header(header.into())),
            false => Err(BadFormat(format!("%{{{name}}} names no header"))),
        };
    }
    let known = FIELDS.iter().find(|(known, _)| *known == name);
    known.map(|(_, field)| field.clone()).ok_or_else(|| {
        let known: Vec<&str> = FIELDS.iter().map(|(name, _)| *name).collect();
        let known = known.join(", ");
        BadFormat(format!("%{{{name}}} is no field of a log line; known are {known} and {HEADER}NAME"))
    })
}

/// What the client has sent of a field, if it did; `None` for fields that are the server's to say.
fn client_text<'e>(entry: &'e Entry<'_>, field: &Field) -> Option<Option<&'e [u8]>> {
    Some(match field {
        Field::Client => Some(entry.client.as_bytes()),
        Field::Method => entry.head.map(RequestHead::method),
        Field::Path => entry.head.map(RequestHead::path),
        Field::Query => entry.head.map(RequestHead::query),
        Field::Target => entry.head.map(RequestHead::target),
        Field::Host => entry.head.and_then(RequestHead::host),
        Field::Referer => entry.header("referer"),
        Field::UserAgent => entry.header("user-agent"),
        Field::RequestId => entry.request_id,
        Field::Header(name) => entry.header(name),
        Field::Date | Field::HttpDate | Field::Time | Field::Version | Field::Scheme => return None,
        Field::Status | Field::Bytes | Field::Size | Field::Micros | Field::Millis => return None,
    })
}

fn write_field(out: &mut Vec<u8>, entry: &Entry<'_>, field: &Field, stop: u8) {
    // What stands for nothing must not be taken for the end of the field, either.
    let absent = |out: &mut Vec<u8>| escape::quoted(out, b"-", stop);
    match field {
        Field::Date => out.extend_from_slice(&entry.dates.clf),
        Field::HttpDate => out.extend_from_slice(&entry.dates.http),
        Field::Time => entry.write_time(out),
        Field::Status => number(out, u64::from(entry.status)),
        Field::Size if entry.bytes == 0 => absent(out),
        Field::Bytes | Field::Size => number(out, entry.bytes),
        Field::Micros => number(out, entry.micros()),
        Field::Millis => number(out, entry.millis()),
        Field::Version | Field::Scheme if entry.head.is_none() => absent(out),
        Field::Version => {
            out.extend_from_slice(entry.head.map_or("", |head| head.version().as_str()).as_bytes())
        }
        Field::Scheme => out.extend_from_slice(entry.scheme.as_str().as_bytes()),
        _ => match client_text(entry, field).flatten() {
            None | Some(b"") => absent(out),
            Some(text) => escape::quoted(out, text, stop),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_template_is_refused_by_name() {
        for (template, reason) in [
            ("%{paht} x", "%{paht} is no field of a log line; known are client, time, "),
            ("%{} x", "%{} is no field of a log line; "),
            ("%{Path}", "%{Path} is no field of a log line; "),
            ("%{header:}", "%{header:} names no header"),
            ("%{header:a b}", "%{header:a b} names no header"),
            ("%{path} 100%", "a % that begins no %{field} must be doubled"),
            ("%{path} %h", "a % that begins no %{field} must be doubled"),
            ("%{path} %{status", "the last %{ is not closed"),
            ("%{path}\n", "a template is one line, without control characters"),
        ] {
            let refused = Template::parse(template).unwrap_err().to_string();
            assert!(refused.starts_with(reason), "{template}: {refused}");
        }
    }

    #[test]
    fn each_field_knows_what_ends_it() {
        for (template, stops) in [
            ("%{path}", &[0][..]),
            ("%{path} %{query}", b" \0"),
            ("\"%{path}\" [%{host}] %{status}%%", b"\"]%"),
            ("%{host}%{path}, %{duration_ms}ms", b"\0,\0"),
            ("%{path}\\%{host}ä", b"\0\xc3"),
        ] {
            let parts = Template::parse(template).unwrap().0;
            let found: Vec<u8> = parts
                .iter()
                .filter_map(|part| if let Part::Field(_, stop) = part { Some(*stop) } else { None })
                .collect();
            assert_eq!(found, stops, "{template}");
        }
    }
}
