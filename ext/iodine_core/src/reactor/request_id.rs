//! Ids of requests, on listeners that want them: a trusted proxy's, or one of ours, from the head's arrival on.

use super::Reactor;
use crate::conn::ConnId;
use iodine_codec::http::RequestHead;
use iodine_codec::http::request_id::{self, Sequence};
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::Read;
use std::time::SystemTime;

impl Reactor {
    /// Sees to it that the request which is arriving has an id.
    pub(super) fn identify(&mut self, id: ConnId) {
        let Some(conn) = self.conn(id) else { return };
        let trusted = conn.shared().is_trusted();
        let Some(mut message) = conn.message.take() else { return };
        self.give_id(&mut message.head, trusted);
        if let Some(conn) = self.conn(id) {
            conn.message = Some(message);
        }
    }

    /// The same for any head; its peer may be `trusted` to have given it one.
    pub(super) fn give_id(&mut self, head: &mut RequestHead, trusted: bool) {
        if !trusted || request_id::given(head).is_none() {
            let ids = self.request_ids.get_or_insert_with(|| Sequence::new(seed()));
            request_id::assign(head, &ids.next_id());
        }
    }
}

/// Bytes that no other process has. A reactor asks once, behind the fork that made its process.
fn seed() -> [u8; 16] {
    let mut seed = [0; 16];
    match File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut seed)) {
        Ok(()) => seed,
        // A process that is confined may not see the device.
        Err(_) => {
            let facts = |number: u8| (number, std::process::id(), SystemTime::now());
            let state = RandomState::new();
            let [first, second] = [0, 1].map(|number| state.hash_one(facts(number)));
            (u128::from(first) << 64 | u128::from(second)).to_le_bytes()
        }
    }
}
