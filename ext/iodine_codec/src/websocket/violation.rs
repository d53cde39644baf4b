//! What a peer can do wrong, and the one function that says which close code that earns.

use std::fmt;

/// The rule of the protocol that the peer broke. The connection fails (RFC 6455 section 7.1.7): a Close frame with
/// [`close_code`](Self::close_code) is the last that is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "`reason` tells each in a sentence")]
pub enum Violation {
    ReservedBits,
    ReservedOpcode,
    Unmasked,
    Masked,
    LengthNotMinimal,
    LengthOver63Bits,
    ControlFragmented,
    ControlTooLong,
    NothingToContinue,
    MessageInterrupted,
    CloseTooShort,
    BadCloseCode,
    NotUtf8,
    BadCompression,
    TooBig,
}

impl Violation {
    /// The status code of the Close frame that answers it (RFC 6455 section 7.4.1).
    pub const fn close_code(self) -> u16 {
        use Violation::*;
        match self {
            ReservedBits | ReservedOpcode | Unmasked | Masked | LengthNotMinimal | LengthOver63Bits => 1002,
            ControlFragmented | ControlTooLong | NothingToContinue | MessageInterrupted => 1002,
            CloseTooShort | BadCloseCode => 1002,
            NotUtf8 | BadCompression => 1007,
            TooBig => 1009,
        }
    }

    /// In words, for the log and for the Close frame.
    pub const fn reason(self) -> &'static str {
        use Violation::*;
        match self {
            ReservedBits => "a reserved bit is set that no extension gave a meaning",
            ReservedOpcode => "the opcode is reserved",
            Unmasked => "a frame of a client is not masked",
            Masked => "a frame of a server is masked",
            LengthNotMinimal => "the length of a frame has a shorter form",
            LengthOver63Bits => "the length of a frame has its highest bit set",
            ControlFragmented => "a control frame is fragmented",
            ControlTooLong => "a control frame is longer than 125 bytes",
            NothingToContinue => "a continuation continues nothing",
            MessageInterrupted => "a message begins inside another",
            CloseTooShort => "the payload of a close frame is one byte",
            BadCloseCode => "the code of a close frame must not be sent",
            NotUtf8 => "the text is not UTF-8",
            BadCompression => "the compressed message can not be inflated",
            TooBig => "the message is too big",
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for Violation {}
