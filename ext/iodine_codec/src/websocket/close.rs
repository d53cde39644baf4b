//! The payload of a Close frame (RFC 6455 section 5.5.1).

use super::Violation;
use tungstenite::protocol::frame::coding::CloseCode;

/// Why the peer closes (RFC 6455 section 7.1.5 and 7.1.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseReason {
    /// The status code, one that [`is_close_code`].
    pub code: u16,
    /// What the peer says to it; often empty.
    pub reason: String,
}

/// Whether a Close frame may hold the code (RFC 6455 section 7.4, and IANA's registry): 1000 to 1003, 1007 to 1014, and
/// from 3000 to 4999.
pub fn is_close_code(code: u16) -> bool {
    // 1014 (bad gateway) was registered later than the others that tungstenite knows.
    code == 1014 || CloseCode::from(code).is_allowed()
}

/// Reads the unmasked payload.
pub(super) fn parse(payload: &[u8]) -> Result<Option<CloseReason>, Violation> {
    let (code, reason) = match payload {
        [] => return Ok(None),
        [_] => return Err(Violation::CloseTooShort),
        [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
    };
    if !is_close_code(code) {
        return Err(Violation::BadCloseCode);
    }
    let reason = std::str::from_utf8(reason).map_err(|_| Violation::NotUtf8)?;
    Ok(Some(CloseReason { code, reason: reason.to_owned() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_6455_7_4_codes_that_may_be_sent() {
        for code in 0..=u16::MAX {
            let expected = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
            assert_eq!(is_close_code(code), expected, "{code}");
        }
    }
}
