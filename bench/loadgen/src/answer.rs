//! Finds the end of each HTTP/1.1 answer in a stream of bytes. It checks framing, not manners.

use std::str;

/// A whole answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Answer {
    pub status: u16,
    pub close: bool,
}

#[derive(Clone, Copy)]
enum State {
    Head,
    Body(usize),
    UntilClose,
    ChunkSize,
    ChunkData(usize),
    Trailer,
}

/// What one step through the input came to.
enum Step {
    Starved,
    Going,
    Done,
}

pub struct AnswerDecoder {
    state: State,
    answer: Answer,
}

type Stepped = Result<(usize, Step), String>;

impl AnswerDecoder {
    pub fn new() -> AnswerDecoder {
        AnswerDecoder { state: State::Head, answer: Answer { status: 0, close: false } }
    }

    /// Takes input until one answer is complete. Returns the bytes used, and the answer if there is one.
    pub fn next(&mut self, input: &[u8]) -> Result<(usize, Option<Answer>), String> {
        let mut used = 0;
        loop {
            let (taken, step) = self.step(&input[used..])?;
            used += taken;
            match step {
                Step::Going => {}
                Step::Starved => return Ok((used, None)),
                Step::Done => return Ok((used, Some(self.answer))),
            }
        }
    }

    /// The server closed the connection: that completes an answer without a length.
    pub fn end(&mut self) -> Option<Answer> {
        let ended = matches!(self.state, State::UntilClose);
        self.state = State::Head;
        ended.then_some(self.answer)
    }

    fn step(&mut self, input: &[u8]) -> Stepped {
        if input.is_empty() {
            return Ok((0, Step::Starved));
        }
        match self.state {
            State::Head => self.head(input),
            State::Body(left) => Ok(self.body(input.len(), left)),
            State::UntilClose => Ok((input.len(), Step::Starved)),
            State::ChunkSize => self.chunk_size(input),
            State::ChunkData(left) => Ok(self.chunk_data(input.len(), left)),
            State::Trailer => Ok(self.trailer(input)),
        }
    }

    fn head(&mut self, input: &[u8]) -> Stepped {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut response = httparse::Response::new(&mut headers);
        let parsed = response.parse(input).map_err(|e| format!("bad answer: {e}"))?;
        let httparse::Status::Complete(length) = parsed else { return Ok((0, Step::Starved)) };
        self.answer = Answer { status: response.code.unwrap_or(0), close: false };
        self.state = State::UntilClose;
        for header in response.headers.iter() {
            self.header(header)?;
        }
        let bodyless =
            matches!(self.state, State::Body(0)) || matches!(self.answer.status, 100..=199 | 204 | 304);
        Ok((length, if bodyless { self.done() } else { Step::Going }))
    }

    fn header(&mut self, header: &httparse::Header) -> Result<(), String> {
        if header.name.eq_ignore_ascii_case("content-length") {
            let length = str::from_utf8(header.value).ok().and_then(|text| text.trim().parse().ok());
            self.state = State::Body(length.ok_or("bad content-length")?);
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            self.state = State::ChunkSize;
        } else if header.name.eq_ignore_ascii_case("connection") {
            self.answer.close |= header.value.eq_ignore_ascii_case(b"close");
        }
        Ok(())
    }

    fn body(&mut self, available: usize, left: usize) -> (usize, Step) {
        if available >= left {
            return (left, self.done());
        }
        self.state = State::Body(left - available);
        (available, Step::Starved)
    }

    fn chunk_size(&mut self, input: &[u8]) -> Stepped {
        let Some(end) = line_end(input) else { return Ok((0, Step::Starved)) };
        let digits = str::from_utf8(&input[..end]).unwrap_or("").split(';').next().unwrap_or("");
        let size = usize::from_str_radix(digits.trim(), 16).map_err(|_| "bad chunk size".to_string())?;
        self.state = match size {
            0 => State::Trailer,
            _ => State::ChunkData(size + 2), // with the line end after it
        };
        Ok((end + 2, Step::Going))
    }

    fn chunk_data(&mut self, available: usize, left: usize) -> (usize, Step) {
        let taken = available.min(left);
        self.state = match left - taken {
            0 => State::ChunkSize,
            rest => State::ChunkData(rest),
        };
        (taken, Step::Going)
    }

    fn trailer(&mut self, input: &[u8]) -> (usize, Step) {
        match line_end(input) {
            None => (0, Step::Starved),
            Some(0) => (2, self.done()),
            Some(end) => (end + 2, Step::Going),
        }
    }

    fn done(&mut self) -> Step {
        self.state = State::Head;
        Step::Done
    }
}

fn line_end(input: &[u8]) -> Option<usize> {
    input.windows(2).position(|pair| pair == b"\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc\
        HTTP/1.1 204 No Content\r\n\r\n\
        HTTP/1.1 500 Oops\r\ntransfer-encoding: chunked\r\nConnection: close\r\n\r\n2;x=y\r\nab\r\n0\r\nA: b\r\n\r\n";

    fn decode(pieces: &[&[u8]]) -> Vec<Answer> {
        let mut decoder = AnswerDecoder::new();
        let (mut buffer, mut answers) = (Vec::new(), Vec::new());
        for piece in pieces {
            buffer.extend_from_slice(piece);
            loop {
                let (used, answer) = decoder.next(&buffer).expect("a good stream");
                buffer.drain(..used);
                let Some(answer) = answer else { break };
                answers.push(answer);
            }
        }
        answers
    }

    #[test]
    fn every_cut_gives_the_same_answers() {
        let expected =
            [(200, false), (204, false), (500, true)].map(|(status, close)| Answer { status, close });
        for cut in 0..=STREAM.len() {
            assert_eq!(decode(&[&STREAM[..cut], &STREAM[cut..]]), expected, "cut at {cut}");
        }
    }

    #[test]
    fn an_answer_without_a_length_ends_with_the_connection() {
        let mut decoder = AnswerDecoder::new();
        assert_eq!(decoder.next(b"HTTP/1.1 200 OK\r\n\r\nabc"), Ok((22, None)));
        assert_eq!(decoder.end(), Some(Answer { status: 200, close: false }));
        assert_eq!(decoder.end(), None);
    }
}
