//! JSON (RFC 8259), read in one pass without a tree in between.
//!
//! [`parse`] tells a [`Builder`] of each value when it is complete, members before what holds them, so that a builder
//! needs a stack of values and nothing else. There is no recursion: a document is as deep as [`Rules`] allow, and its
//! depth costs memory only.
//!
//! Besides the strict grammar there is a lenient one, which reads what people write by hand and what iodine has always
//! read: comments, commas too many or too few, numbers in base 16 and 2, `NaN`.
//!
//! Invariant: the time is linear in the length of the input, whatever the input is (builders keep to it as far as
//! [`Rules::max_digits`] bounds what one big integer costs them).

mod number;
mod parser;
mod text;

pub use parser::{Scratch, parse};

use std::fmt;

/// Takes the values of a document. A container comes after what is in it.
pub trait Builder {
    /// `null`, or a value that is missing behind its colon.
    fn null(&mut self);
    /// `true` or `false`.
    fn boolean(&mut self, value: bool);
    /// An integer that fits.
    fn integer(&mut self, value: i64);
    /// An integer that does not fit, as digits in base `radix`, without sign and prefix.
    fn big_integer(&mut self, negative: bool, digits: &[u8], radix: u32);
    /// Any other number, correctly rounded; too large ones are infinite.
    fn float(&mut self, value: f64);
    /// A string.
    fn string(&mut self, text: Text<'_>);
    /// The name of a member. Its value comes next.
    fn key(&mut self, text: Text<'_>);
    /// The last `count` values are the elements of an array.
    fn array(&mut self, count: usize);
    /// The last `count` pairs of key and value are the members of an object; of equal keys the last one counts.
    fn object(&mut self, count: usize);
}

/// The bytes of a string, without escapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Text<'t> {
    /// Valid UTF-8.
    Utf8(&'t [u8]),
    /// Not UTF-8. Only the lenient escape `\xHH` comes to this.
    Binary(&'t [u8]),
}

impl<'t> Text<'t> {
    /// The bytes of either kind.
    pub fn bytes(self) -> &'t [u8] {
        match self {
            Text::Utf8(bytes) | Text::Binary(bytes) => bytes,
        }
    }
}

/// What counts as JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Reads more than RFC 8259 allows; see `docs/json.md` for the whole of it.
    pub lenient: bool,
    /// How deep arrays and objects may be nested; `[[]]` is 2.
    pub max_nesting: usize,
    /// Takes `NaN` and `Infinity`. Only the lenient grammar looks at it.
    pub allow_nan: bool,
    /// Digits of an integer. Making a number of them takes more than linear time.
    pub max_digits: usize,
}

impl Rules {
    /// Depth that Ruby's json has as its default, too.
    pub const MAX_NESTING: usize = 100;
    /// Four times what Python allows.
    pub const MAX_DIGITS: usize = 16_384;

    /// RFC 8259 and no more.
    pub const STRICT: Rules = Rules {
        lenient: false,
        max_nesting: Self::MAX_NESTING,
        allow_nan: false,
        max_digits: Self::MAX_DIGITS,
    };
    /// With all extensions.
    pub const LENIENT: Rules = Rules { lenient: true, allow_nan: true, ..Self::STRICT };
}

/// Why something is no JSON, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error {
    /// What is wrong.
    pub kind: ErrorKind,
    /// The byte at which it is, from 0. At most the length of the input.
    pub offset: usize,
}

/// What can be wrong with a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the messages below say it")]
pub enum ErrorKind {
    InvalidUtf8,
    ExpectedValue,
    ExpectedKey,
    ExpectedColon,
    ExpectedCommaOrEnd,
    TrailingText,
    TooDeep,
    BadNumber,
    LeadingZero,
    TooManyDigits,
    NanNotAllowed,
    UnterminatedString,
    UnterminatedComment,
    ControlInString,
    BadEscape,
    LoneSurrogate,
}

impl ErrorKind {
    /// The reason in words.
    pub const fn as_str(self) -> &'static str {
        match self {
            ErrorKind::InvalidUtf8 => "the text is not UTF-8",
            ErrorKind::ExpectedValue => "a value is missing",
            ErrorKind::ExpectedKey => "a key in double quotes is missing",
            ErrorKind::ExpectedColon => "a colon is missing behind the key",
            ErrorKind::ExpectedCommaOrEnd => "a comma or the closing bracket is missing",
            ErrorKind::TrailingText => "there is something behind the document",
            ErrorKind::TooDeep => "arrays and objects are nested too deep",
            ErrorKind::BadNumber => "the number is malformed",
            ErrorKind::LeadingZero => "a number begins with a needless zero",
            ErrorKind::TooManyDigits => "an integer has too many digits",
            ErrorKind::NanNotAllowed => "NaN and Infinity are not allowed",
            ErrorKind::UnterminatedString => "a string does not end",
            ErrorKind::UnterminatedComment => "a comment does not end",
            ErrorKind::ControlInString => "a string contains a control character",
            ErrorKind::BadEscape => "an escape is malformed",
            ErrorKind::LoneSurrogate => "half of a surrogate pair is missing",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} at byte {}", self.kind.as_str(), self.offset)
    }
}

impl std::error::Error for Error {}
