//! What the user says about files: the headers that go with them, and their media types.

use iodine_codec::http::media_type;
use std::collections::HashMap;
use std::sync::{OnceLock, PoisonError, RwLock};

/// Headers for the files whose path fits a pattern.
#[derive(Clone, Debug)]
pub struct Rule {
    pattern: String,
    /// Whether the pattern is about the file's name alone.
    names: bool,
    headers: Vec<(String, String)>,
}

impl Rule {
    /// A rule for `pattern`: with a slash it is about the whole path below the folder, without one about the name of the
    /// file. `*` and `?` stop at slashes, `**` does not; `[a-z]` and `{a,b}` are alternatives.
    pub fn new(pattern: &str, headers: Vec<(String, String)>) -> Rule {
        let names = !pattern.contains('/');
        Rule { pattern: pattern.trim_start_matches('/').to_owned(), names, headers }
    }

    /// Whether it is about the file at `path`, relative to the folder.
    pub fn fits(&self, path: &[u8]) -> bool {
        let subject = if self.names { name_of(path) } else { path };
        fast_glob::glob_match(self.pattern.as_bytes(), subject)
    }

    /// Names in lower case, and values. An empty value takes away what would be there otherwise.
    pub fn headers(&self) -> &[(String, String)] {
        &self.headers
    }
}

/// The last part of a path.
pub fn name_of(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or(path)
}

type Types = RwLock<HashMap<String, String>>;

/// Types of the user's own, by extension in lower case: one table for the process.
fn own_types() -> &'static Types {
    static TYPES: OnceLock<Types> = OnceLock::new();
    TYPES.get_or_init(Types::default)
}

/// From here on files whose name ends with `.extension` are of this type. What is cached already stays as it is for as
/// long as it is believed.
pub fn set_media_type(extension: &str, media_type: &str) {
    let mut types = own_types().write().unwrap_or_else(PoisonError::into_inner);
    types.insert(extension.to_ascii_lowercase(), media_type.to_owned());
}

/// The media type of the file at `path`.
pub fn media_type_of(path: &[u8]) -> String {
    let Some(extension) = media_type::extension(name_of(path)) else { return media_type::UNKNOWN.into() };
    let types = own_types().read().unwrap_or_else(PoisonError::into_inner);
    match types.get(&extension.to_ascii_lowercase()) {
        Some(own) => own.clone(),
        None => media_type::of_extension(extension).unwrap_or(media_type::UNKNOWN).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_paths_or_names() {
        for (pattern, path, fits) in [
            ("*.html", "index.html", true),
            ("*.html", "a/b/index.html", true),
            ("*.html", "a.css", false),
            ("/assets/**", "assets/a/b.js", true),
            ("assets/**", "assets/a.js", true),
            ("/assets/**", "other/assets/a.js", false),
            ("/assets/*", "assets/a/b.js", false),
            ("/assets/*.{js,css}", "assets/a.css", true),
            ("/*", "a.txt", true),
            ("/*", "a/b.txt", false),
            ("**/*.woff2", "f/g/h.woff2", true),
            ("*-????????.*", "app-0a1b2c3d.js", true),
            ("*", "a/b", true),
        ] {
            assert_eq!(Rule::new(pattern, Vec::new()).fits(path.as_bytes()), fits, "{pattern} {path}");
        }
    }

    #[test]
    fn types_may_be_added() {
        assert_eq!(media_type_of(b"a/b.HTML"), "text/html");
        assert_eq!(media_type_of(b"b.x-own-type"), media_type::UNKNOWN);
        set_media_type("X-Own-Type", "text/own");
        assert_eq!(media_type_of(b"b.x-own-TYPE"), "text/own");
        assert_eq!(media_type_of(b"a.html/b"), media_type::UNKNOWN);
    }
}
