//! What a path stands for: a file, and its encoded forms beside it, each with the header lines that go with it.

use super::folder::{Facts, Folder, OpenFile};
use super::rules::{self, Rule};
use crate::sys::Fd;
use iodine_codec::http::Coding;
use iodine_codec::http::conditional::Validators;
use iodine_codec::http1::prepare_line;
use rustix::io::Result;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Files up to this size are read into memory and leave with their head in one write.
pub const SMALL: u64 = 32 * 1024;
/// What is said about caches where no rule says otherwise; as in iodine 0.7.
const CACHE_CONTROL: &str = "max-age=3600";
/// A file that was changed less than this ago may change again without its time showing it.
const SETTLED: Duration = Duration::from_secs(1);

/// See the module's text. At least one form is there.
#[derive(Debug)]
pub struct Resource {
    pub(super) plain: Option<Form>,
    /// As [`Coding::ALL`].
    pub(super) coded: [Option<Form>; 3],
    /// What was found beside it, whether or not it is served.
    seen: [Option<Facts>; 4],
    /// False if it must be loaded anew for the next request.
    pub(super) settled: bool,
}

/// A file as it is sent.
#[derive(Debug)]
pub struct Form {
    pub(super) content: Content,
    pub(super) len: u64,
    tag: Vec<u8>,
    modified: Option<u64>,
    pub(super) media_type: String,
    pub(super) lines: Lines,
}

/// The bytes of a file.
#[derive(Debug)]
pub enum Content {
    /// All of them.
    Memory(Vec<u8>),
    /// Where they are.
    File(Arc<Fd>),
}

/// What opening a file came to.
pub type Opened = Result<Option<OpenFile>>;

/// Header lines, ready to be sent.
#[derive(Debug, Default)]
pub struct Lines {
    /// Those that a 304 has, too (RFC 9110 section 15.4.5).
    pub(super) always: Vec<u8>,
    /// Those that only go with the file, but for its type.
    pub(super) with_content: Vec<u8>,
    /// Its type.
    pub(super) content_type: Vec<u8>,
}

impl Lines {
    pub(super) fn len(&self) -> usize {
        self.always.len() + self.with_content.len() + self.content_type.len()
    }
}

/// What is to be said about a file beyond what it says itself.
#[derive(Debug)]
pub struct Wishes<'w> {
    /// Headers that the application gave: lines of their own, which take the place of ours.
    pub given: &'w [u8],
    /// The rule that is for it.
    pub rule: Option<&'w Rule>,
    /// The status that the application gave.
    pub status: u16,
}

impl Form {
    pub(super) fn validators(&self) -> Validators<'_> {
        Validators { tag: (!self.tag.is_empty()).then_some(&self.tag[..]), modified: self.modified }
    }

    fn new(
        file: OpenFile,
        path: &[u8],
        coding: Option<Coding>,
        varies: bool,
        wishes: &Wishes<'_>,
    ) -> Result<(Form, bool)> {
        let facts = file.facts;
        let settled = is_settled(facts.modified, SystemTime::now());
        let (content, len, settled) = match facts.len {
            0..=SMALL => {
                let bytes = file.read(0, facts.len as usize)?;
                let settled = settled && file.is_unchanged() && bytes.len() as u64 == facts.len;
                let len = bytes.len() as u64;
                (Content::Memory(bytes), len, settled)
            }
            len => (Content::File(Arc::new(file.fd)), len, settled),
        };
        let modified = u64::try_from(facts.modified.0).ok().filter(|seconds| *seconds <= now_seconds());
        let tag = tag(len, facts.modified, coding, settled);
        let media_type = rules::media_type_of(path);
        let mut form = Form { content, len, tag, modified, media_type, lines: Lines::default() };
        form.lines = form.write_lines(coding, varies, wishes);
        // Its own tag and date are what the client will ask by.
        if let Some(tag) = given_value(wishes.given, b"etag") {
            form.tag = tag.to_vec();
        }
        if let Some(date) = given_value(wishes.given, b"last-modified") {
            form.modified = iodine_codec::http::conditional::date(date);
        }
        Ok((form, settled))
    }

    fn write_lines(&self, coding: Option<Coding>, varies: bool, wishes: &Wishes<'_>) -> Lines {
        let own = wishes.rule.map_or(&[][..], Rule::headers);
        let mut lines = Lines::default();
        // The date is for the encoder. Which part of a 200 is sent is for us to say, of anything else for the application.
        let is_ours = |name: &[u8]| name == b"date" || name == b"content-range" && wishes.status == 200;
        for (name, value) in lines_of(wishes.given).filter(|(name, _)| !is_ours(name)) {
            let part = if name.starts_with(b"content-type") {
                &mut lines.content_type
            } else if name.starts_with(b"content-") && name != b"content-location" {
                &mut lines.with_content
            } else {
                &mut lines.always
            };
            // An encoder has written it, and nothing in it frames the answer.
            [name, b": ", value, b"\r\n"].iter().for_each(|bytes| part.extend_from_slice(bytes));
        }
        let is_given = |name: &str| given_value(wishes.given, name.as_bytes()).is_some();
        let is_ruled = |name: &str| own.iter().any(|(candidate, _)| candidate == name);
        let mut add = |part: fn(&mut Lines) -> &mut Vec<u8>, name: &str, value: &[u8]| {
            if !is_given(name) && !is_ruled(name) && !value.is_empty() {
                put(part(&mut lines), name.as_bytes(), value);
            }
        };
        // An error, or what is meant for one client, is not for caches unless the application says so (RFC 9111 section
        // 7.3).
        let may_be_kept = wishes.status == 200 && !is_given("set-cookie") && !is_given("expires");
        let cache_control = if may_be_kept { CACHE_CONTROL } else { "" };
        add(|lines| &mut lines.always, "cache-control", cache_control.as_bytes());
        add(|lines| &mut lines.always, "etag", &self.tag);
        let modified =
            self.modified.map(|seconds| httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds)));
        add(|lines| &mut lines.with_content, "last-modified", modified.unwrap_or_default().as_bytes());
        add(|lines| &mut lines.with_content, "accept-ranges", b"bytes");
        add(|lines| &mut lines.with_content, "content-encoding", coding.map_or("", Coding::name).as_bytes());
        add(|lines| &mut lines.content_type, "content-type", self.media_type.as_bytes());
        for (name, value) in own.iter().filter(|(name, value)| !is_given(name) && !value.is_empty()) {
            let part = if name == "content-type" { &mut lines.content_type } else { &mut lines.always };
            put(part, name.as_bytes(), value.as_bytes());
        }
        if varies {
            // Beside what others say: lines of this name add up.
            put(&mut lines.always, b"vary", b"accept-encoding");
        }
        lines
    }
}

impl Resource {
    /// Loads what `path` stands for, with `open` to open files. `None` when there is nothing to serve. With `coded` the
    /// encoded forms beside it count, too.
    pub(super) fn load(
        open: &dyn Fn(&Path) -> Opened,
        path: &[u8],
        coded: bool,
        wishes: &Wishes<'_>,
    ) -> Result<Option<Resource>> {
        let plain = open(Path::new(OsStr::from_bytes(path)))?;
        // Most paths that name no file are the application's, and have no extension: they cost one look.
        if plain.is_none() && !rules::name_of(path).contains(&b'.') {
            return Ok(None);
        }
        let mut seen = [plain.as_ref().map(|plain| plain.facts), None, None, None];
        let oldest = plain.as_ref().map_or(i64::MIN, |plain| plain.facts.modified.0);
        let mut beside = [const { None }; 3];
        let slots = beside.iter_mut().zip(&mut seen[1..]);
        for (name, (sibling, seen)) in siblings(path).filter(|_| coded).zip(slots) {
            let Some(name) = name else { continue };
            // One that can not be read is as good as none.
            let file = open(Path::new(&name)).unwrap_or_default();
            *seen = file.as_ref().map(|file| file.facts);
            // One that is older than the file was made of what is no longer there (F-35).
            *sibling = file.filter(|file| file.facts.modified.0 >= oldest);
        }
        let varies = beside.iter().any(Option::is_some);
        if plain.is_none() && !varies {
            return Ok(None);
        }
        let mut settled = true;
        let mut form = |file: Option<OpenFile>, coding| -> Result<Option<Form>> {
            let Some(file) = file else { return Ok(None) };
            let (form, is_settled) = Form::new(file, path, coding, varies, wishes)?;
            settled &= is_settled;
            Ok(Some(form))
        };
        let plain = form(plain, None)?;
        let [first, second, third] = beside;
        let [brotli, zstandard, gzip] = Coding::ALL;
        let coded = [form(first, Some(brotli))?, form(second, Some(zstandard))?, form(third, Some(gzip))?];
        Ok(Some(Resource { plain, coded, seen, settled }))
    }

    /// Whether all that was found is still there, and nothing else.
    pub(super) fn is_current(&self, folder: &Folder, root: &Fd, path: &[u8]) -> bool {
        let same = |facts: &Option<Facts>, path: &OsStr| folder.facts(root, Path::new(path)) == *facts;
        let mut beside = siblings(path).zip(&self.seen[1..]);
        same(&self.seen[0], OsStr::from_bytes(path))
            && beside.all(|(name, facts)| name.is_none_or(|name| same(facts, &name)))
    }

    /// Whether it keeps descriptors.
    pub(super) fn keeps_open(&self) -> bool {
        self.cost().1 > 0
    }

    /// Memory and descriptors that it keeps.
    pub(super) fn cost(&self) -> (usize, usize) {
        let forms = self.plain.iter().chain(self.coded.iter().flatten());
        forms.fold((0, 0), |(memory, files), form| match &form.content {
            Content::Memory(bytes) => (memory + bytes.len(), files),
            Content::File(_) => (memory, files + 1),
        })
    }
}

/// The names of the encoded forms of a file, as [`Coding::ALL`]. What is encoded already has none of its own kind.
fn siblings(path: &[u8]) -> impl Iterator<Item = Option<OsString>> {
    Coding::ALL.into_iter().map(move |coding| {
        let suffix = coding.suffix().as_bytes();
        (!path.ends_with(suffix)).then(|| OsString::from_vec([path, suffix].concat()))
    })
}

/// Length and time of change tell the states of a file apart, and are the same on every machine that the file is
/// deployed to, which its inode is not. A tag is per form (RFC 9110 section 8.8.3.3), and weak as long as the file may
/// change without a trace (section 8.8.1).
fn tag(len: u64, (seconds, nanoseconds): (i64, u32), coding: Option<Coding>, settled: bool) -> Vec<u8> {
    let weak = if settled { "" } else { "W/" };
    let suffix = coding.map_or("", Coding::suffix).replace('.', "-");
    format!("{weak}\"{len:x}-{seconds:x}-{nanoseconds:x}{suffix}\"").into_bytes()
}

fn is_settled((seconds, nanoseconds): (i64, u32), now: SystemTime) -> bool {
    let Some(since) = u64::try_from(seconds).ok() else { return true };
    let Some(modified) = UNIX_EPOCH.checked_add(Duration::new(since, nanoseconds)) else { return true };
    match now.duration_since(modified) {
        Ok(age) => age >= SETTLED,
        // Somebody has set it.
        Err(ahead) => ahead.duration() >= SETTLED,
    }
}

fn now_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn put(lines: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    let written = prepare_line(lines, name, value);
    debug_assert!(written.is_ok(), "{} was checked before", name.escape_ascii());
}

/// Names and values of lines that an encoder has written.
pub(super) fn lines_of(lines: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    lines.split(|&byte| byte == b'\n').filter_map(|line| {
        let line = line.strip_suffix(b"\r")?;
        let colon = line.windows(2).position(|two| two == b": ")?;
        Some((&line[..colon], &line[colon + 2..]))
    })
}

pub(super) fn given_value<'l>(lines: &'l [u8], wanted: &[u8]) -> Option<&'l [u8]> {
    lines_of(lines).find(|(name, _)| *name == wanted).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f_34_a_tag_tells_states_apart() {
        let tag = |len, time| tag(len, time, None, true);
        assert_eq!(tag(10, (1, 2)), b"\"a-1-2\"");
        // In 0.7, one byte and one second more made the same tag.
        assert_ne!(tag(10, (100, 0)), tag(11, (101, 0)));
        assert_ne!(tag(10, (100, 0)), tag(10, (100, 1)));
        assert_eq!(super::tag(10, (1, 2), Some(Coding::Gzip), false), b"W/\"a-1-2-gz\"");
    }

    #[test]
    fn a_file_settles_after_a_second() {
        let now = UNIX_EPOCH + Duration::from_secs(1000);
        for (modified, expected) in [
            ((998, 0), true),
            ((999, 0), true),
            ((999, 1), false),
            ((1000, 0), false),
            ((1000, 999_999_999), false),
            ((1001, 0), true),
            ((-5, 0), true),
            ((i64::MAX, 0), true),
        ] {
            assert_eq!(is_settled(modified, now), expected, "{modified:?}");
        }
    }
}
