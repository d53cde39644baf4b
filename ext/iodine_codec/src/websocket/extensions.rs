//! The lists of `Sec-WebSocket-Extensions` (RFC 6455 section 9.1).

use crate::http::token;
use std::borrow::Cow;

/// An extension as one side names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Extension<'h> {
    pub(super) name: &'h [u8],
    /// In their order, values without quotes.
    pub(super) parameters: Vec<Parameter<'h>>,
}

/// A name and perhaps a value.
type Parameter<'h> = (&'h [u8], Option<Cow<'h, [u8]>>);

/// The extensions of one header line; `None` if it does not conform to the grammar. Empty elements are skipped.
pub(super) fn parse(line: &[u8]) -> Option<Vec<Extension<'_>>> {
    token::split_unquoted(line, b',').filter(|element| !element.is_empty()).map(extension).collect()
}

fn extension(element: &[u8]) -> Option<Extension<'_>> {
    let mut parts = token::split_unquoted(element, b';');
    let name = parts.next().filter(|name| token::is_token(name))?;
    let parameters = parts.map(parameter).collect::<Option<_>>()?;
    Some(Extension { name, parameters })
}

fn parameter(text: &[u8]) -> Option<Parameter<'_>> {
    let Some(equals) = text.iter().position(|&byte| byte == b'=') else {
        return token::is_token(text).then_some((text, None));
    };
    let name = token::trim(text.get(..equals)?);
    let value = token::trim(text.get(equals.checked_add(1)?..)?);
    if value.starts_with(b"\"") && token::quoted_len(value) != Some(value.len()) {
        return None;
    }
    // What the quotes hold must be a token, too.
    let value = token::unquote(value)?;
    (token::is_token(name) && token::is_token(&value)).then_some((name, Some(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(line: &str) -> String {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let Some(extensions) = parse(line.as_bytes()) else { return "malformed".to_owned() };
        let told = |extension: &Extension<'_>| {
            let parameters = extension.parameters.iter().map(|(name, value)| match value {
                Some(value) => format!(" {}:{}", text(name), text(value)),
                None => format!(" {}", text(name)),
            });
            text(extension.name) + &parameters.collect::<String>()
        };
        extensions.iter().map(told).collect::<Vec<_>>().join(" | ")
    }

    #[test]
    fn rfc_6455_9_1_lists() {
        for (line, expected) in [
            ("", ""),
            (" , ,", ""),
            ("foo", "foo"),
            ("foo, bar; baz=2", "foo | bar baz:2"),
            ("bar; baz=2, foo; a ; b = \"c\"", "bar baz:2 | foo a b:c"),
            ("a;b=\"\\c\"", "a b:c"),
            ("permessage-deflate; client_max_window_bits", "permessage-deflate client_max_window_bits"),
            ("a;", "malformed"),
            (";a", "malformed"),
            ("a b", "malformed"),
            ("a;b=", "malformed"),
            ("a;=b", "malformed"),
            ("a;b=\"c", "malformed"),
            ("a;b=\"c\"d", "malformed"),
            ("a;b=\"c,d\"", "malformed"),
            ("a;b=\"\"", "malformed"),
            ("a;b=\"", "malformed"),
            ("a;b=c\"d\"", "malformed"),
            ("a, b;c d", "malformed"),
            ("a/b", "malformed"),
        ] {
            assert_eq!(told(line), expected, "{line:?}");
        }
    }
}
