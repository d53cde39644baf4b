//! Answers made of files: whole or in parts, and those that say why there is none.

use super::resource::{Content, Form, Opened, Resource, Wishes, given_value, lines_of};
use super::{Folder, OpenFile, StaticFiles, resource};
use crate::clock::http_date;
use crate::config::HttpConfig;
use crate::conn::Answer;
use crate::outbox::{FilePart, Piece};
use crate::overload::RETRY_AFTER;
use iodine_codec::http::conditional::Verdict;
use iodine_codec::http::range::{ByteRange, Ranges};
use iodine_codec::http::{FileMethod, FileRequest, RequestHead, file_path};
use iodine_codec::http1::{BodySize, RequestFacts, ResponseEncoder, simple_response};
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// An answer, and what the log wants to know of it.
#[derive(Debug, Default)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The head, and behind it what is small.
    pub head: Vec<u8>,
    /// What is not.
    pub body: Option<Piece>,
    /// Bytes of the body that the client gets.
    pub length: u64,
    /// Whether the connection closes behind it.
    pub close: bool,
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Answer {
        Answer { head: reply.head, body: reply.body, close: reply.close }
    }
}

/// Who asks, and what the server has to say about the connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asking<'a> {
    pub request: FileRequest<'a>,
    pub facts: RequestFacts,
    pub closing: bool,
    /// The date that the application gave the answer, in place of the present.
    pub date: Option<&'a [u8]>,
    /// Where pages for errors are.
    pub files: Option<&'a StaticFiles>,
}

impl Resource {
    /// The answer to a GET, HEAD or OPTIONS. `None` when there are only forms that the client does not accept.
    pub(crate) fn reply(&self, asking: &Asking<'_>) -> Option<Reply> {
        let form = self.choose(asking)?;
        Some(match asking.request.method() {
            Some(FileMethod::Options) => form.options(asking),
            _ if asking.request.is_plain() => form.whole(asking, 200),
            _ => form.conditional(asking),
        })
    }

    fn choose(&self, asking: &Asking<'_>) -> Option<&Form> {
        if self.coded.iter().all(Option::is_none) {
            return self.plain.as_ref();
        }
        let form = |coding| self.coded.get(coding as usize).and_then(Option::as_ref);
        match asking.request.accepted().choose(|coding| form(coding).is_some()) {
            Some(coding) => form(coding),
            None => self.plain.as_ref(),
        }
    }
}

impl Form {
    fn conditional(&self, asking: &Asking<'_>) -> Reply {
        match asking.request.verdict(self.validators()) {
            Verdict::NotModified => self.not_modified(asking),
            Verdict::Failed => error(asking, 412, &[]),
            Verdict::Proceed => match asking.request.range(self.len, self.validators()) {
                Ranges::Whole => self.whole(asking, 200),
                Ranges::Parts(parts) => match parts[..] {
                    [part] => self.part(asking, part),
                    _ => self.parts(asking, &parts),
                },
                Ranges::Unsatisfiable => {
                    error(asking, 416, &[("content-range", &format!("bytes */{}", self.len))])
                }
            },
        }
    }

    fn options(&self, asking: &Asking<'_>) -> Reply {
        let size = BodySize::Known(0);
        self.encode(asking, 200, size, |encoder, lines| {
            put(encoder, "allow", "GET, HEAD");
            encoder.prepared(&lines.always);
            encoder.prepared(&lines.with_content);
        })
        .0
    }

    /// RFC 9110 section 15.4.5.
    fn not_modified(&self, asking: &Asking<'_>) -> Reply {
        self.encode(asking, 304, BodySize::Known(0), |encoder, lines| encoder.prepared(&lines.always)).0
    }

    fn whole(&self, asking: &Asking<'_>, status: u16) -> Reply {
        let (mut reply, send_body) = self.encode(asking, status, BodySize::Known(self.len), with_all);
        if send_body {
            self.append(&mut reply, ByteRange { start: 0, len: self.len });
        }
        reply
    }

    fn part(&self, asking: &Asking<'_>, part: ByteRange) -> Reply {
        let (mut reply, send_body) = self.encode(asking, 206, BodySize::Known(part.len), |encoder, lines| {
            with_all(encoder, lines);
            put(encoder, "content-range", &self.content_range(part));
        });
        if send_body {
            self.append(&mut reply, part);
        }
        reply
    }

    /// RFC 9110 section 14.6.
    fn parts(&self, asking: &Asking<'_>, parts: &[ByteRange]) -> Reply {
        let boundary = boundary();
        let heads: Vec<String> = parts.iter().map(|part| self.part_head(&boundary, *part)).collect();
        let end = format!("\r\n--{boundary}--\r\n");
        let content: u64 = parts.iter().map(|part| part.len).sum();
        let around = heads.iter().map(String::len).sum::<usize>() + end.len();
        let size = BodySize::Known(content.saturating_add(around as u64));
        let (mut reply, send_body) = self.encode(asking, 206, size, |encoder, lines| {
            encoder.prepared(&lines.always);
            encoder.prepared(&lines.with_content);
            put(encoder, "content-type", &format!("multipart/byteranges; boundary={boundary}"));
        });
        if send_body {
            for (head, part) in heads.iter().zip(parts) {
                append_bytes(&mut reply, head.as_bytes());
                self.append(&mut reply, *part);
            }
            append_bytes(&mut reply, end.as_bytes());
        }
        reply
    }

    fn part_head(&self, boundary: &str, part: ByteRange) -> String {
        let content_type = String::from_utf8_lossy(&self.lines.content_type);
        let range = self.content_range(part);
        format!("\r\n--{boundary}\r\n{content_type}content-range: {range}\r\n\r\n")
    }

    fn content_range(&self, part: ByteRange) -> String {
        format!("bytes {}-{}/{}", part.start, part.end().saturating_sub(1), self.len)
    }

    fn encode(
        &self,
        asking: &Asking<'_>,
        status: u16,
        size: BodySize,
        write: impl FnOnce(&mut ResponseEncoder<'_>, &resource::Lines),
    ) -> (Reply, bool) {
        let in_memory = match (&self.content, size) {
            (Content::Memory(_), BodySize::Known(length)) => length as usize,
            _ => 0,
        };
        let mut head = Vec::with_capacity(512 + self.lines.len() + in_memory);
        let mut encoder = ResponseEncoder::new(&mut head, asking.facts, status);
        write(&mut encoder, &self.lines);
        let finished = match asking.date {
            Some(date) => encoder.finish(size, date, asking.closing),
            None => encoder.finish(size, &http_date(), asking.closing),
        };
        let length = match size {
            BodySize::Known(length) if finished.send_body => length,
            _ => 0,
        };
        (Reply { status, head, body: None, length, close: !finished.keep_alive }, finished.send_body)
    }

    /// Adds a part of the file to the body.
    fn append(&self, reply: &mut Reply, part: ByteRange) {
        match &self.content {
            Content::Memory(bytes) => {
                let end = usize::try_from(part.end()).unwrap_or(bytes.len());
                append_bytes(reply, bytes.get(part.start as usize..end).unwrap_or_default());
            }
            Content::File(file) => {
                let part = FilePart { file: file.clone(), offset: part.start, len: part.len };
                append_piece(reply, Piece::File(part));
            }
        }
    }
}

fn with_all(encoder: &mut ResponseEncoder<'_>, lines: &resource::Lines) {
    encoder.prepared(&lines.always);
    encoder.prepared(&lines.with_content);
    encoder.prepared(&lines.content_type);
}

fn append_bytes(reply: &mut Reply, bytes: &[u8]) {
    match &reply.body {
        None => reply.head.extend_from_slice(bytes),
        Some(_) => append_piece(reply, bytes.to_vec().into()),
    }
}

fn append_piece(reply: &mut Reply, piece: Piece) {
    reply.body = Some(match reply.body.take() {
        None => piece,
        Some(Piece::Many(mut pieces)) => {
            pieces.push(piece);
            Piece::Many(pieces)
        }
        Some(first) => Piece::Many(vec![first, piece]),
    });
}

/// A line that nobody can guess beforehand, so that no file holds it.
fn boundary() -> String {
    let state = RandomState::new();
    format!("{:016x}{:016x}", state.hash_one(1), state.hash_one(2))
}

fn put(encoder: &mut ResponseEncoder<'_>, name: &str, value: &str) {
    let written = encoder.header(name.as_bytes(), value.as_bytes());
    debug_assert!(written.is_ok(), "the server's own header {name} is invalid");
}

fn error(asking: &Asking<'_>, status: u16, extra: &[(&str, &str)]) -> Reply {
    refuse(asking.files, asking.facts, status, asking.closing, extra)
}

/// The answer to a request that goes wrong in the server's hands: the page of the folder for that status, or a line of
/// text. Unlike in iodine 0.7, nothing about the request makes anything else of it, and no cache keeps it (F-36).
pub fn refusal(http: &HttpConfig, facts: RequestFacts, status: u16, closing: bool) -> Reply {
    refuse(http.files.as_deref(), facts, status, closing, extra_of(status))
}

/// The same without a look at the file system: a line of text.
pub(crate) fn plain_refusal(facts: RequestFacts, status: u16, closing: bool) -> Reply {
    refuse(None, facts, status, closing, extra_of(status))
}

fn extra_of(status: u16) -> &'static [(&'static str, &'static str)] {
    if status == 503 { &[RETRY_AFTER] } else { &[] }
}

fn refuse(
    files: Option<&StaticFiles>,
    facts: RequestFacts,
    status: u16,
    closing: bool,
    extra: &[(&str, &str)],
) -> Reply {
    let mut head = Vec::new();
    let page = files.and_then(|files| files.error_page(status));
    let finished = match page.as_ref().and_then(|page| page.page()) {
        Some((content, media_type)) => {
            let mut encoder = ResponseEncoder::new(&mut head, facts, status);
            extra.iter().for_each(|(name, value)| put(&mut encoder, name, value));
            put(&mut encoder, "content-type", media_type);
            put(&mut encoder, "cache-control", "no-store");
            let finished = encoder.finish(BodySize::Known(content.len() as u64), &http_date(), closing);
            if finished.send_body {
                head.extend_from_slice(content);
            }
            finished
        }
        None => simple_response(&mut head, facts, status, &http_date(), closing, extra),
    };
    let length = if finished.send_body { body_length(&head) } else { 0 };
    Reply { status, head, body: None, length, close: !finished.keep_alive }
}

/// Bytes behind the head of an answer.
fn body_length(answer: &[u8]) -> u64 {
    let head = answer.windows(4).position(|window| window == b"\r\n\r\n").map_or(answer.len(), |at| at + 4);
    (answer.len() - head) as u64
}

/// A file that the application names in place of a body.
#[derive(Debug)]
pub struct Sendfile<'a> {
    /// The path as the application wrote it.
    pub path: &'a [u8],
    /// Whether the path is that of a request (`X-Accel-Redirect`), and not one of the file system (`X-Sendfile`).
    pub is_request_path: bool,
    /// The status that the application gave.
    pub status: u16,
    /// The header lines that the application gave, as an encoder wrote them.
    pub given: &'a [u8],
    /// Where such files may be; anywhere if there is none.
    pub roots: &'a [Arc<Folder>],
}

/// The answer with the file that `named` names. Conditions and ranges are for an answer that is a 200 to a GET or HEAD.
pub fn send_file(
    named: &Sendfile<'_>,
    head: &RequestHead,
    facts: RequestFacts,
    closing: bool,
    http: &HttpConfig,
) -> Reply {
    let files = http.files.as_deref();
    let date = given_value(named.given, b"date");
    let asking = Asking { request: FileRequest::new(head), facts, closing, date, files };
    let wishes = Wishes { given: named.given, rule: None, status: named.status };
    // A tag of its own is one form's tag.
    let coded = !lines_of(named.given).any(|(name, _)| name == b"content-encoding" || name == b"etag");
    let path = match named.is_request_path {
        true => file_path::decode(named.path, true).unwrap_or_default(),
        false => named.path.to_vec(),
    };
    let missing = || error(&asking, 404, &[]);
    if path.is_empty() {
        return missing();
    }
    let now = Instant::now();
    let loaded = Resource::load(&|path| named.open(path, files, now), &path, coded, &wishes);
    let resource = match loaded {
        Ok(Some(resource)) => resource,
        Ok(None) => return missing(),
        Err(cause) => {
            let status = super::report(&String::from_utf8_lossy(&path), cause);
            return refusal(http, facts, status, closing);
        }
    };
    let Some(form) = resource.choose(&asking) else { return missing() };
    match (named.status, asking.request.method()) {
        (200, Some(FileMethod::Get | FileMethod::Head)) if !asking.request.is_plain() => {
            form.conditional(&asking)
        }
        (status, _) => form.whole(&asking, status),
    }
}

impl Sendfile<'_> {
    /// In the first of the roots that has it; without roots, a request's path is below the folder of static files, and a
    /// path of the file system may be any.
    fn open(&self, path: &Path, files: Option<&StaticFiles>, now: Instant) -> Opened {
        let public = files.map(StaticFiles::folder).filter(|_| self.roots.is_empty());
        let folders = self.roots.iter().map(Arc::as_ref).chain(public);
        match (self.is_request_path, self.roots) {
            (false, []) => OpenFile::at(path),
            (true, _) => first(folders, |folder| match folder.root(now) {
                Some(root) => folder.open(&root, path),
                None => Ok(None),
            }),
            (false, _) => first(folders, |folder| folder.open_absolute(path, now)),
        }
    }
}

fn first<'f>(folders: impl Iterator<Item = &'f Folder>, open: impl Fn(&Folder) -> Opened) -> Opened {
    for folder in folders {
        if let Some(file) = open(folder)? {
            return Ok(Some(file));
        }
    }
    Ok(None)
}
