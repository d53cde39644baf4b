//! From the path of a request to the path of a file below some folder.

/// Why a path names no file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathFault {
    /// It does not begin with a slash (F-02).
    NotAbsolute,
    /// A percent sign without two hexadecimal digits.
    BadEscape,
    /// A NUL byte (F-08).
    Nul,
    /// A slash or backslash that was escaped, or a backslash: what follows could be taken for a file of its own.
    Separator,
    /// `..`, however it is written.
    Upwards,
    /// Two slashes in a row.
    EmptySegment,
    /// A name that begins with a dot.
    Hidden,
}

/// The only folder whose name may begin with a dot even where hidden files are not served (RFC 8615).
const WELL_KNOWN: &[u8] = b".well-known";
/// What a folder is asked for.
const INDEX: &[u8] = b"index.html";

/// Decodes the path of a request target, without the query, into a path relative to a folder: no slash at either end, and
/// every segment the name of something in the one before it. A path that ends with a slash names the folder's
/// `index.html`. A plus sign is a plus sign.
pub fn decode(path: &[u8], hidden: bool) -> Result<Vec<u8>, PathFault> {
    let mut rest = path.strip_prefix(b"/").ok_or(PathFault::NotAbsolute)?;
    let mut decoded = Vec::with_capacity(path.len().saturating_add(INDEX.len()));
    loop {
        let end = rest.iter().position(|&byte| byte == b'/');
        let (segment, behind) = rest.split_at(end.unwrap_or(rest.len()));
        let start = decoded.len();
        decode_segment(segment, &mut decoded)?;
        let name = decoded.get(start..).unwrap_or_default();
        match (name, end) {
            (b"..", _) => return Err(PathFault::Upwards),
            (b"", Some(_)) => return Err(PathFault::EmptySegment),
            (b"" | b".", None) => {
                decoded.truncate(start);
                decoded.extend_from_slice(INDEX);
                return Ok(decoded);
            }
            (b".", Some(_)) => decoded.truncate(start),
            ([b'.', ..], _) if !hidden && (start > 0 || name != WELL_KNOWN) => return Err(PathFault::Hidden),
            (_, Some(_)) => decoded.push(b'/'),
            (_, None) => return Ok(decoded),
        }
        rest = behind.get(1..).unwrap_or_default();
    }
}

fn decode_segment(segment: &[u8], decoded: &mut Vec<u8>) -> Result<(), PathFault> {
    let mut bytes = segment.iter();
    while let Some(&byte) = bytes.next() {
        let byte = match byte {
            b'%' => match (bytes.next().and_then(hex), bytes.next().and_then(hex)) {
                (Some(high), Some(low)) => high << 4 | low,
                _ => return Err(PathFault::BadEscape),
            },
            byte => byte,
        };
        match byte {
            0 => return Err(PathFault::Nul),
            b'/' | b'\\' => return Err(PathFault::Separator),
            byte => decoded.push(byte),
        }
    }
    Ok(())
}

fn hex(byte: &u8) -> Option<u8> {
    char::from(*byte).to_digit(16).map(|digit| digit as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(path: &str) -> Result<String, PathFault> {
        decode(path.as_bytes(), false).map(|path| String::from_utf8_lossy(&path).into_owned())
    }

    #[test]
    fn paths_name_files() {
        for (path, expected) in [
            ("/a.txt", "a.txt"),
            ("/a/b/c.txt", "a/b/c.txt"),
            ("/a%20b+c.txt", "a b+c.txt"),
            ("/%c3%A4", "ä"),
            ("/", "index.html"),
            ("/a/", "a/index.html"),
            ("/./a.txt", "a.txt"),
            ("/a/./b", "a/b"),
            ("/a/.", "a/index.html"),
            ("/%2e", "index.html"),
            ("/a..b", "a..b"),
            ("/...", ".../"),
            ("/.well-known/acme-challenge/x", ".well-known/acme-challenge/x"),
            ("/.well-known/", ".well-known/index.html"),
            ("/a%25b", "a%b"),
        ] {
            match expected {
                ".../" => assert_eq!(read(path), Err(PathFault::Hidden)),
                _ => assert_eq!(read(path).as_deref(), Ok(expected), "{path:?}"),
            }
        }
    }

    #[test]
    fn f_02_f_08_and_what_else_names_no_file() {
        use PathFault::*;
        for (path, expected) in [
            ("", NotAbsolute),
            ("*", NotAbsolute),
            ("-private/secret.txt", NotAbsolute),
            ("../etc/passwd", NotAbsolute),
            ("%2fetc/passwd", NotAbsolute),
            ("/..", Upwards),
            ("/../etc/passwd", Upwards),
            ("/a/../b", Upwards),
            ("/a/..", Upwards),
            ("/a/../", Upwards),
            ("/%2e%2e/etc/passwd", Upwards),
            ("/.%2E/etc/passwd", Upwards),
            ("/%2e./etc/passwd", Upwards),
            ("//etc/passwd", EmptySegment),
            ("/a//b", EmptySegment),
            ("/a//", EmptySegment),
            ("/.//a", EmptySegment),
            ("/..%2fetc/passwd", Separator),
            ("/a%2fb", Separator),
            ("/a%2Fb", Separator),
            ("/..%5cetc", Separator),
            ("/..\\etc", Separator),
            ("/a.txt%00", Nul),
            ("/a.txt%00.png", Nul),
            ("/a.txt\0.png", Nul),
            ("/%", BadEscape),
            ("/%4", BadEscape),
            ("/%4g", BadEscape),
            ("/%+1", BadEscape),
            ("/%u002e", BadEscape),
            ("/.git/config", Hidden),
            ("/a/.env", Hidden),
            ("/%2egit/config", Hidden),
            ("/./.env", Hidden),
            ("/a/.well-known/x", Hidden),
            ("/.well-known2/x", Hidden),
            ("/.well-known/.x", Hidden),
        ] {
            assert_eq!(read(path), Err(expected), "{path:?}");
        }
        // Decoded once, not twice.
        assert_eq!(read("/%252e%252e/x").as_deref(), Ok("%2e%2e/x"));
    }

    #[test]
    fn hidden_files_are_served_where_that_is_wanted() {
        assert_eq!(decode(b"/a/.env", true).as_deref(), Ok(&b"a/.env"[..]));
        assert_eq!(decode(b"/..", true), Err(PathFault::Upwards));
        assert_eq!(decode(b"/.", true).as_deref(), Ok(&b"index.html"[..]));
    }

    proptest! {
        #[test]
        fn no_path_leads_out(path in "/?([a.%/\\\\\0]|%2[eEfF5]|%5c|%00|\\.\\.|[.]well-known/){0,12}") {
            crate::check::file_path(path.as_bytes());
        }
    }
}
