//! What messages cost in memory: nothing that was only announced, and nothing beyond the limit.

use allocation_counter::{AllocationInfo, measure};
use iodine_codec::check::websocket::deflate;
use iodine_codec::websocket::{
    DeflateConfig, Deflater, Kind, Receiver, Role, Step, Violation, encode_message,
};

const MASK: Option<[u8; 4]> = Some([0x37, 0xfa, 0x21, 0x3d]);
/// The inflater, and the first room of a message.
const CONSTANT: u64 = 128 * 1024;

/// What it costs to receive a stream in pieces of that size, as the server; and what came of it.
fn receiving(
    stream: &[u8],
    size: usize,
    limit: usize,
    config: Option<&DeflateConfig>,
) -> (AllocationInfo, Result<usize, Violation>) {
    let mut outcome = Ok(0);
    let info = measure(|| {
        let mut receiver = Receiver::new(Role::Server, limit, config.map(deflate));
        for mut piece in stream.chunks(size) {
            loop {
                match receiver.decode(piece) {
                    Ok((_, Step::NeedMore)) => break,
                    Ok((used, _)) => {
                        piece = &piece[used..];
                        outcome = outcome.map(|steps| steps + 1);
                    }
                    Err(violation) => {
                        outcome = Err(violation);
                        return;
                    }
                }
            }
        }
    });
    (info, outcome)
}

#[test]
fn a_message_that_is_there_costs_its_own_data() {
    for length in [1, 100, 10_000, 200_000] {
        let mut stream = Vec::new();
        encode_message(&mut stream, Kind::Text, &vec![b'a'; length], MASK);
        let (info, outcome) = receiving(&stream, stream.len(), length, None);
        assert_eq!((outcome, info.count_total, info.bytes_total), (Ok(1), 1, length as u64));
    }
    let mut stream = Vec::new();
    encode_message(&mut stream, Kind::Binary, b"", MASK);
    iodine_codec::websocket::encode_ping(&mut stream, b"", MASK);
    iodine_codec::websocket::encode_close(&mut stream, None, MASK);
    let (info, outcome) = receiving(&stream, stream.len(), 0, None);
    assert_eq!((outcome, info.count_total), (Ok(3), 0));
}

#[test]
fn what_is_announced_costs_nothing() {
    let header = b"\x82\xff\x00\x00\x00\x7f\xff\xff\xff\xff\0\0\0\0";
    let (info, outcome) = receiving(header, header.len(), usize::MAX, None);
    assert_eq!((outcome, info.count_total), (Ok(0), 0));
    let (info, outcome) = receiving(&[&header[..], &[0; 1000]].concat(), 100, usize::MAX, None);
    assert_eq!((outcome, info.bytes_max), (Ok(0), 64 * 1024));
    let compressed = b"\xc2\xff\x00\x00\x00\x00\x00\x01\x00\x00\0\0\0\0";
    let config = DeflateConfig::default();
    let (info, outcome) = receiving(compressed, compressed.len(), 1 << 30, Some(&config));
    assert_eq!((outcome, info.count_total), (Ok(0), 0));
    let (info, outcome) = receiving(header, header.len(), 1 << 30, None);
    assert_eq!((outcome, info.count_total), (Err(Violation::TooBig), 0));
}

#[test]
fn what_comes_in_pieces_costs_at_most_twice_what_came() {
    let mut stream = Vec::new();
    encode_message(&mut stream, Kind::Binary, &vec![0; 1_000_000], MASK);
    let (info, outcome) = receiving(&stream, 5000, 1_000_000, None);
    assert_eq!(outcome, Ok(1));
    assert!(info.bytes_max <= 2_000_000, "{info:?}");
}

#[test]
fn a_bomb_costs_no_more_than_the_limit() {
    let config = DeflateConfig { level: 9, ..DeflateConfig::default() };
    let mut bomb = Vec::new();
    Deflater::new(deflate(&config), Role::Client).encode_message(
        &mut bomb,
        Kind::Binary,
        &vec![0; 5_000_000],
        MASK,
    );
    assert!(bomb.len() < 10_000);
    for takeover in [false, true] {
        for limit in [0, 100_000, 3_000_000] {
            for size in [1000, bomb.len()] {
                let config = DeflateConfig { context_takeover: takeover, ..config };
                let (info, outcome) = receiving(&bomb, size, limit, Some(&config));
                assert_eq!(outcome, Err(Violation::TooBig));
                // While it grows, the old and the new room may exist side by side.
                assert!(info.bytes_max <= limit as u64 * 2 + CONSTANT, "{limit} {info:?}");
                assert_eq!(info.bytes_current, 0);
            }
        }
    }
}

#[test]
fn between_messages_only_a_context_taken_over_is_kept() {
    for context_takeover in [false, true] {
        let config = DeflateConfig { context_takeover, ..DeflateConfig::default() };
        let mut stream = Vec::new();
        Deflater::new(deflate(&config), Role::Client).encode_message(
            &mut stream,
            Kind::Text,
            &[b'a'; 1000],
            MASK,
        );
        let mut receiver = Receiver::new(Role::Server, 1000, Some(deflate(&config)));
        let info = measure(|| {
            let step = receiver.decode(&stream);
            assert!(matches!(step, Ok((_, Step::Message { .. }))));
            drop(step);
            assert!(receiver.is_idle());
        });
        assert_eq!(info.bytes_current > 0, context_takeover, "{info:?}");
        assert!(info.bytes_current < CONSTANT as i64, "{info:?}");
    }
}
