//! Media types of files by the ends of their names.

/// The type of a file that nothing is known of.
pub const UNKNOWN: &str = "application/octet-stream";

/// What follows the last dot of a file's name; `None` without one, or when nothing precedes the dot.
pub fn extension(name: &[u8]) -> Option<&str> {
    let dot = name.iter().rposition(|&byte| byte == b'.').filter(|dot| *dot > 0)?;
    let extension = std::str::from_utf8(name.get(dot.checked_add(1)?..)?).ok()?;
    (!extension.is_empty()).then_some(extension)
}

/// The media type for an extension, in any case.
pub fn of_extension(extension: &str) -> Option<&'static str> {
    let own = OWN.iter().find(|(known, _)| known.eq_ignore_ascii_case(extension));
    match own {
        Some((_, media_type)) => Some(media_type),
        None => mime_guess::from_ext(extension).first_raw(),
    }
}

/// Where the crate's table is silent, or says what is outdated or rarely meant.
const OWN: &[(&str, &str)] = &[
    ("cjs", "text/javascript"),
    ("jsonld", "application/ld+json"),
    ("m3u8", "application/vnd.apple.mpegurl"),
    ("m4a", "audio/mp4"),
    ("map", "application/json"),
    ("mjs", "text/javascript"),
    ("opus", "audio/ogg"),
    ("otf", "font/otf"),
    ("tgz", "application/gzip"),
    ("toml", "application/toml"),
    ("ts", "video/mp2t"),
    ("webmanifest", "application/manifest+json"),
    ("woff", "font/woff"),
    ("xml", "application/xml"),
    ("yaml", "application/yaml"),
    ("yml", "application/yaml"),
    ("zst", "application/zstd"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f_48_what_the_web_is_made_of_has_a_type() {
        for (extension, expected) in [
            ("html", "text/html"),
            ("HTML", "text/html"),
            ("htm", "text/html"),
            ("css", "text/css"),
            ("txt", "text/plain"),
            ("log", "text/plain"),
            ("js", "text/javascript"),
            ("mjs", "text/javascript"),
            ("json", "application/json"),
            ("map", "application/json"),
            ("jsonld", "application/ld+json"),
            ("webmanifest", "application/manifest+json"),
            ("wasm", "application/wasm"),
            ("xml", "application/xml"),
            ("yml", "application/yaml"),
            ("md", "text/markdown"),
            ("csv", "text/csv"),
            ("svg", "image/svg+xml"),
            ("png", "image/png"),
            ("jpg", "image/jpeg"),
            ("gif", "image/gif"),
            ("webp", "image/webp"),
            ("avif", "image/avif"),
            ("ico", "image/x-icon"),
            ("woff", "font/woff"),
            ("woff2", "font/woff2"),
            ("ttf", "font/ttf"),
            ("mp3", "audio/mpeg"),
            ("opus", "audio/ogg"),
            ("mp4", "video/mp4"),
            ("webm", "video/webm"),
            ("vtt", "text/vtt"),
            ("pdf", "application/pdf"),
            ("zip", "application/zip"),
            ("gz", "application/gzip"),
            ("tgz", "application/gzip"),
            ("ics", "text/calendar"),
            ("atom", "application/atom+xml"),
            ("rss", "application/rss+xml"),
        ] {
            assert_eq!(of_extension(extension), Some(expected), "{extension}");
        }
        assert_eq!(of_extension("nothing-known"), None);
    }

    #[test]
    fn extensions_follow_the_last_dot() {
        for (name, expected) in [
            (&b"a.txt"[..], Some("txt")),
            (b"a.tar.gz", Some("gz")),
            (b"a", None),
            (b"a.", None),
            (b".txt", None),
            (b"", None),
            (b"a.\xff", None),
        ] {
            assert_eq!(extension(name), expected, "{name:?}");
        }
    }
}
