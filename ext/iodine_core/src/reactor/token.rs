//! How a connection is named to the poller: its slot in the low bits of a token, and above them as much of its generation
//! as there is room for, never 0. Tokens from [`FIRST_CONN`] on are connections.
//!
//! Where a `usize` has 64 bits that is all of a [`ConnId`]. Where it has 32 the generation is cut short, which is enough to
//! tell an event of this turn from one that was meant for a connection closed in this turn. The arithmetic is that of
//! `u64` on every machine, so that each width is tested on any.

use crate::conn::ConnId;
use mio::Token;

// Below are the tokens of all that is no connection.
const _: () = assert!(FIRST_CONN > super::FIRST_WORKER_LINK && slot_bits(32) > 16);

const WIDTH: u32 = usize::BITS;
/// The smallest token of a connection.
pub(super) const FIRST_CONN: usize = 1 << slot_bits(WIDTH);

/// The token of a connection.
pub(super) fn token_of(id: ConnId) -> Token {
    Token(pack(id, WIDTH) as usize)
}

/// The slot that a token names.
pub(super) fn slot_of(token: usize) -> usize {
    token & (FIRST_CONN - 1)
}

/// Bits for the slot: on small machines as many as it takes for every descriptor that there can be.
const fn slot_bits(width: u32) -> u32 {
    if width >= 64 { 32 } else { 20 }
}

const fn pack(id: ConnId, width: u32) -> u64 {
    let bits = slot_bits(width);
    // Generations count from 1. With 32 bits for them this is the generation itself.
    let most = (1u64 << (width - bits)) - 1;
    let tag = (id.generation as u64).wrapping_sub(1) % most + 1;
    tag << bits | id.slot as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOTS: [u32; 5] = [0, 1, 255, 1 << 17, (1 << 20) - 1];

    #[test]
    fn a_token_fits_its_width_and_keeps_its_slot() {
        for width in [32, 64] {
            let bits = slot_bits(width);
            for slot in SLOTS {
                for generation in [1, 2, 4094, 4095, 4096, 4097, u32::MAX - 1, u32::MAX] {
                    let token = pack(ConnId { slot, generation }, width);
                    assert!(width == 64 || token <= u64::from(u32::MAX), "{slot} {generation}");
                    assert!(token >= 1 << bits, "below are the tokens of others");
                    assert_eq!(token & ((1 << bits) - 1), u64::from(slot));
                }
            }
        }
    }

    #[test]
    fn neighbours_in_time_differ() {
        for width in [32, 64] {
            for generation in [1, 4094, 4095, 4096, u32::MAX - 4000] {
                let token = |generation| pack(ConnId { slot: 7, generation }, width);
                (1..4000).for_each(|later| assert_ne!(token(generation), token(generation + later)));
            }
        }
    }

    #[test]
    fn a_wide_token_is_the_whole_name() {
        for generation in [1, 2, u32::MAX - 1, u32::MAX] {
            let id = ConnId { slot: u32::MAX, generation };
            assert_eq!(pack(id, 64), u64::from(generation) << 32 | u64::from(u32::MAX));
        }
    }

    #[test]
    fn the_tokens_of_this_machine_come_back() {
        for slot in SLOTS {
            let Token(number) = token_of(ConnId { slot, generation: 9 });
            assert_eq!((slot_of(number), number >= FIRST_CONN), (slot as usize, true));
        }
    }
}
