//! The chunked transfer coding, decoded (RFC 9112 section 7.1).
//!
//! A decoder of many small states that looks at one byte at a time outside of the data. It keeps no byte, so neither
//! extensions nor trailers cost memory: both are checked and dropped.

use super::{Limits, Rejection};
use crate::http::token;

/// Decodes one chunked body.
#[derive(Clone, Copy, Debug)]
pub struct ChunkedDecoder {
    state: State,
    /// Bytes to go in this chunk; while its size line is read, the size so far.
    chunk: u64,
    /// Bytes of all chunks whose size is known.
    body: u64,
    /// Bytes of all extensions.
    extensions: u64,
    /// Bytes of this line.
    line: u32,
    /// Bytes of the trailer section.
    trailers: u32,
    /// Trailer lines.
    trailer_lines: u16,
    /// Digits of this chunk's size.
    digits: u8,
}

/// What came of some input.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'i> {
    /// All input is consumed and more is needed.
    NeedMore,
    /// Data of the body, never empty.
    Data(&'i [u8]),
    /// The body is complete; what follows belongs to the next message.
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before or in the digits of a size.
    Size,
    /// Blanks behind the size or behind an extension.
    Blank,
    /// Behind a semicolon.
    ExtensionStart,
    ExtensionName,
    /// Blanks behind an extension's name.
    ExtensionNameBlank,
    /// Behind an equals sign.
    ExtensionValueStart,
    ExtensionValue,
    Quoted,
    QuotedEscape,
    QuotedEnd,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
    Done,
}

impl ChunkedDecoder {
    /// A decoder at the start of a body.
    pub const fn new() -> ChunkedDecoder {
        ChunkedDecoder {
            state: State::Size,
            chunk: 0,
            body: 0,
            extensions: 0,
            line: 0,
            trailers: 0,
            trailer_lines: 0,
            digits: 0,
        }
    }

    /// Decodes from the start of `input`; returns how many bytes were consumed and what came of them.
    pub fn decode<'i>(&mut self, input: &'i [u8], limits: &Limits) -> Result<(usize, Piece<'i>), Rejection> {
        let mut rest = input;
        loop {
            if self.state == State::Data && !rest.is_empty() {
                let (data, after) = self.take_data(rest);
                return Ok((input.len().saturating_sub(after.len()), Piece::Data(data)));
            }
            if self.state == State::Done {
                return Ok((input.len().saturating_sub(rest.len()), Piece::End));
            }
            let Some((&byte, after)) = rest.split_first() else {
                return Ok((input.len(), Piece::NeedMore));
            };
            self.state = self.step(byte, limits)?;
            rest = after;
        }
    }

    fn take_data<'i>(&mut self, rest: &'i [u8]) -> (&'i [u8], &'i [u8]) {
        let take = usize::try_from(self.chunk).unwrap_or(usize::MAX).min(rest.len());
        self.chunk = self.chunk.saturating_sub(take as u64);
        if self.chunk == 0 {
            self.state = State::DataCr;
        }
        rest.split_at_checked(take).unwrap_or((rest, b""))
    }

    fn step(&mut self, byte: u8, limits: &Limits) -> Result<State, Rejection> {
        match self.state {
            State::Size
            | State::Blank
            | State::ExtensionStart
            | State::ExtensionName
            | State::ExtensionNameBlank
            | State::ExtensionValueStart
            | State::ExtensionValue
            | State::Quoted
            | State::QuotedEscape
            | State::QuotedEnd
            | State::SizeLf => self.step_size_line(byte, limits),
            State::DataCr if byte == b'\r' => Ok(State::DataLf),
            State::DataLf if byte == b'\n' => {
                self.begin_line();
                Ok(State::Size)
            }
            State::DataCr | State::DataLf => Err(Rejection::BadChunkEnd),
            State::TrailerStart
            | State::TrailerName
            | State::TrailerValue
            | State::TrailerLf
            | State::EndLf => self.step_trailer(byte, limits),
            // `decode` never steps in these two.
            State::Data | State::Done => Err(Rejection::BadChunkEnd),
        }
    }

    fn begin_line(&mut self) {
        self.chunk = 0;
        self.digits = 0;
        self.line = 0;
    }

    fn step_size_line(&mut self, byte: u8, limits: &Limits) -> Result<State, Rejection> {
        self.line = self.line.saturating_add(1);
        if self.line > MAX_SIZE_LINE {
            return Err(Rejection::ChunkLineTooLong);
        }
        match self.state {
            State::Size => self.step_size(byte),
            State::SizeLf if byte == b'\n' => self.end_size_line(limits),
            State::SizeLf => Err(Rejection::BadChunkSize),
            _ => self.step_extension(byte),
        }
    }

    /// One to sixteen hex digits: no sign, no prefix, and always within 64 bits.
    fn step_size(&mut self, byte: u8) -> Result<State, Rejection> {
        if let Some(digit) = char::from(byte).to_digit(16) {
            self.digits = self.digits.saturating_add(1);
            if self.digits > MAX_DIGITS {
                return Err(Rejection::BadChunkSize);
            }
            self.chunk = self.chunk << 4 | u64::from(digit);
            return Ok(State::Size);
        }
        match byte {
            _ if self.digits == 0 => Err(Rejection::BadChunkSize),
            b'\r' => Ok(State::SizeLf),
            b';' => Ok(State::ExtensionStart),
            b' ' | b'\t' => Ok(State::Blank),
            _ => Err(Rejection::BadChunkSize),
        }
    }

    /// RFC 9112 section 7.1.1: `; name`, `; name=token` and `; name="quoted"`, with blanks around each part. Blanks
    /// at the end of the line pass too: some senders pad the size with them.
    fn step_extension(&mut self, byte: u8) -> Result<State, Rejection> {
        use State::*;
        let blank = token::is_blank(byte);
        match (self.state, byte) {
            (ExtensionStart | ExtensionNameBlank | ExtensionValueStart, _) if blank => {
                Ok(self.state_after_blank())
            }
            (Blank | ExtensionName | ExtensionValue | QuotedEnd, _) if blank => Ok(self.state_after_blank()),
            (Blank | ExtensionName | ExtensionNameBlank | ExtensionValue | QuotedEnd, b'\r') => Ok(SizeLf),
            (Blank | ExtensionName | ExtensionNameBlank | ExtensionValue | QuotedEnd, b';') => {
                Ok(ExtensionStart)
            }
            (ExtensionName | ExtensionNameBlank, b'=') => Ok(ExtensionValueStart),
            (ExtensionStart | ExtensionName, _) if token::is_tchar(byte) => Ok(ExtensionName),
            (ExtensionValueStart | ExtensionValue, _) if token::is_tchar(byte) => Ok(ExtensionValue),
            (ExtensionValueStart, b'"') => Ok(Quoted),
            (Quoted, b'"') => Ok(QuotedEnd),
            (Quoted, b'\\') => Ok(QuotedEscape),
            (Quoted | QuotedEscape, _) if is_text(byte) => Ok(Quoted),
            _ => Err(Rejection::BadChunkExtension),
        }
    }

    fn state_after_blank(&self) -> State {
        match self.state {
            State::ExtensionName => State::ExtensionNameBlank,
            State::ExtensionValue | State::QuotedEnd => State::Blank,
            state => state,
        }
    }

    fn end_size_line(&mut self, limits: &Limits) -> Result<State, Rejection> {
        let extension = u64::from(self.line).saturating_sub(u64::from(self.digits).saturating_add(2));
        self.extensions = self.extensions.saturating_add(extension);
        self.body = self.body.checked_add(self.chunk).ok_or(Rejection::BodyTooLarge)?;
        if self.body > limits.body {
            return Err(Rejection::BodyTooLarge);
        }
        if self.extensions > self.body.saturating_add(FREE_EXTENSIONS) {
            return Err(Rejection::ChunkOverhead);
        }
        self.line = 0;
        Ok(if self.chunk == 0 { State::TrailerStart } else { State::Data })
    }

    /// Trailer lines obey the rules of header lines (RFC 9112 section 7.1.2).
    fn step_trailer(&mut self, byte: u8, limits: &Limits) -> Result<State, Rejection> {
        self.judge_trailer_size(limits)?;
        match (self.state, byte) {
            (State::TrailerStart, b'\r') => Ok(State::EndLf),
            (State::TrailerStart, _) if token::is_tchar(byte) => self.begin_trailer(limits),
            (State::TrailerName, b':') => Ok(State::TrailerValue),
            (State::TrailerName, _) if token::is_tchar(byte) => Ok(State::TrailerName),
            (State::TrailerValue, b'\r') => Ok(State::TrailerLf),
            (State::TrailerValue, _) if is_text(byte) => Ok(State::TrailerValue),
            (State::TrailerLf, b'\n') => {
                self.line = 0;
                Ok(State::TrailerStart)
            }
            (State::EndLf, b'\n') => Ok(State::Done),
            _ => Err(Rejection::BadTrailer),
        }
    }

    fn begin_trailer(&mut self, limits: &Limits) -> Result<State, Rejection> {
        self.trailer_lines = self.trailer_lines.saturating_add(1);
        if usize::from(self.trailer_lines) > limits.headers {
            return Err(Rejection::TrailersTooLarge);
        }
        Ok(State::TrailerName)
    }

    fn judge_trailer_size(&mut self, limits: &Limits) -> Result<(), Rejection> {
        self.line = self.line.saturating_add(1);
        self.trailers = self.trailers.saturating_add(1);
        if self.line as usize > limits.line || self.trailers as usize > limits.head {
            return Err(Rejection::TrailersTooLarge);
        }
        Ok(())
    }
}

impl Default for ChunkedDecoder {
    fn default() -> ChunkedDecoder {
        ChunkedDecoder::new()
    }
}

/// Visible bytes, blanks, tabs and high bytes: what field values and quoted strings are made of.
fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// Sixteen hex digits fill 64 bits.
const MAX_DIGITS: u8 = 16;

/// Bytes of one size line, extensions and line end included.
const MAX_SIZE_LINE: u32 = 4096;

/// Extension bytes that need no data to justify them. Beyond this they may not outweigh the body, or a small body could
/// cost any amount of traffic.
const FREE_EXTENSIONS: u64 = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { line: 30, head: 60, headers: 2, body: 100 };

    /// The body and what is left behind it, `None` if it is not complete.
    fn decoded(input: &str) -> Result<(String, Option<&str>), Rejection> {
        let mut decoder = ChunkedDecoder::new();
        let mut body = Vec::new();
        let mut rest = input.as_bytes();
        let left = loop {
            let (consumed, piece) = decoder.decode(rest, &LIMITS)?;
            rest = &rest[consumed..];
            match piece {
                Piece::NeedMore => break None,
                Piece::Data(data) => body.extend_from_slice(data),
                Piece::End => break Some(std::str::from_utf8(rest).unwrap()),
            }
        };
        Ok((String::from_utf8(body).unwrap(), left))
    }

    #[test]
    fn rfc_9112_7_1_accepted() {
        for (input, body) in [
            ("0\r\n\r\n", ""),
            ("5\r\nhello\r\n0\r\n\r\n", "hello"),
            ("5\r\nhello\r\n1\r\n!\r\n000\r\n\r\n", "hello!"),
            ("a\r\n0123456789\r\n0\r\n\r\n", "0123456789"),
            ("A\r\n0123456789\r\n0\r\n\r\n", "0123456789"),
            ("0000000000000005\r\nhello\r\n0\r\n\r\n", "hello"),
            ("2\r\n\r\n\r\n0\r\n\r\n", "\r\n"),
            // F-45: extensions
            ("5;x=y\r\nhello\r\n0\r\n\r\n", "hello"),
            ("5;x\r\nhello\r\n0;last\r\n\r\n", "hello"),
            ("5 ; x = y ;z\r\nhello\r\n0\r\n\r\n", "hello"),
            ("5;x=\"a;b \\\"\\\\ \u{e4}\"\r\nhello\r\n0\r\n\r\n", "hello"),
            ("5;x=\"\";y\r\nhello\r\n0\r\n\r\n", "hello"),
            ("5 \t\r\nhello\r\n0 \r\n\r\n", "hello"),
            // trailers are checked and dropped
            ("0\r\nX: y\r\n\r\n", ""),
            ("0\r\nHost: evil\r\nCookie:\ta=b \r\n\r\n", ""), // F-13
            ("0\r\nX:\r\n\r\n", ""),
        ] {
            assert_eq!(decoded(input), Ok((body.to_owned(), Some(""))), "{input:?}");
            let followed = format!("{input}GET /");
            assert_eq!(decoded(&followed), Ok((body.to_owned(), Some("GET /"))), "{input:?}");
            let cut = &input[..input.len() - 1];
            assert_eq!(decoded(cut), Ok((body.to_owned(), None)), "{input:?}");
        }
    }

    #[test]
    fn rfc_9112_7_1_refused() {
        use Rejection::*;
        let long = format!("5;{}", "x".repeat(4096));
        for (input, expected) in [
            ("\r\n", BadChunkSize),
            ("g", BadChunkSize),
            ("+5\r\n", BadChunkSize),
            ("-5\r\n", BadChunkSize),
            ("0x5\r\n", BadChunkSize),
            (" 5\r\n", BadChunkSize),
            (";x\r\n", BadChunkSize),
            ("5_0\r\n", BadChunkSize),
            ("5\n", BadChunkSize),
            ("5\rx", BadChunkSize),
            ("00000000000000005", BadChunkSize),
            ("10000000000000000", BadChunkSize),
            ("fffffffffffffff0\r\n", BodyTooLarge), // F-15
            ("ffffffffffffffff\r\n", BodyTooLarge),
            ("65\r\n", BodyTooLarge),
            ("5\r\nhellox", BadChunkEnd),
            ("5\r\nhello\n", BadChunkEnd),
            ("5\r\nhello\rx", BadChunkEnd),
            ("5\r\nhello0\r\n\r\n", BadChunkEnd), // iodine 0.7 let it pass
            ("5;\r\n", BadChunkExtension),
            ("5;=x\r\n", BadChunkExtension),
            ("5;x=\r\n", BadChunkExtension),
            ("5;x y\r\n", BadChunkExtension),
            ("5;x=y z\r\n", BadChunkExtension),
            ("5;x=\"y\"z\r\n", BadChunkExtension),
            ("5;x=\"y\r\n", BadChunkExtension),
            ("5;x=y\n", BadChunkExtension),
            ("5;x\0", BadChunkExtension),
            ("5;x=\"\n", BadChunkExtension),
            ("5 5\r\n", BadChunkExtension),
            (&long, ChunkLineTooLong),
            ("0\r\n X: y\r\n", BadTrailer),
            ("0\r\n: y\r\n", BadTrailer),
            ("0\r\nX : y\r\n", BadTrailer),
            ("0\r\nX\r\n", BadTrailer),
            ("0\r\nX: y\n", BadTrailer),
            ("0\r\nX: y\rz", BadTrailer),
            ("0\r\nX: \0", BadTrailer),
            ("0\r\n\n", BadTrailer),
            ("0\r\n\rx", BadTrailer),
            ("0\r\nA:\r\nB:\r\nC:\r\n", TrailersTooLarge),
            ("0\r\nX: 45678901234567890123456789\r\n", TrailersTooLarge),
        ] {
            assert_eq!(decoded(input), Err(expected), "{input:?}");
        }
    }

    #[test]
    fn the_sum_of_all_chunks_counts() {
        let input = "32\r\n".to_owned() + &"x".repeat(50) + "\r\n";
        assert!(decoded(&input.repeat(2)).is_ok());
        assert_eq!(decoded(&(input.repeat(2) + "1\r\n")), Err(Rejection::BodyTooLarge));
    }

    #[test]
    fn extensions_may_not_outweigh_the_body() {
        let chunk = format!("1;{}\r\nx\r\n", "x".repeat(4000));
        assert!(decoded(&chunk.repeat(4)).is_ok());
        assert_eq!(decoded(&chunk.repeat(5)), Err(Rejection::ChunkOverhead));
        let plain = "1\r\nx\r\n".repeat(100);
        assert!(decoded(&plain).is_ok());
    }

    #[test]
    fn the_trailer_section_counts_as_a_whole() {
        let lines = "A: 456789012345678901234567\r\n".repeat(2); // 58 bytes
        assert!(decoded(&format!("0\r\n{lines}\r\n")).is_ok());
        assert_eq!(decoded(&format!("0\r\n{lines}B:\r\n")), Err(Rejection::TrailersTooLarge));
    }
}
