//! The PROXY header, on listeners that want one: read before the first byte of HTTP, within the time for a head.
//!
//! There is nobody to answer: a connection that does not begin as it must is closed, and the log says why.

use super::Reactor;
use super::conn::Conn;
use crate::conn::{ConnId, Shared};
use crate::log::{self, Level};
use iodine_codec::proxy_protocol::Progress;
use std::sync::Arc;

impl Reactor {
    /// Takes the PROXY header, if one is still to come, and returns what follows it. `None` when nothing does, or when
    /// the connection is closed.
    pub(super) fn take_proxy_header<'i>(&mut self, id: ConnId, fresh: &'i [u8]) -> Option<&'i [u8]> {
        let conn = self.conn(id)?;
        let Some(decoder) = &mut conn.proxy else { return Some(fresh) };
        match decoder.decode(fresh) {
            Ok(Progress::NeedMore) => None,
            Ok(Progress::Done { used, client }) => {
                conn.proxy = None;
                if let Some(client) = client {
                    // Nobody else has seen the connection yet, as no request came from it.
                    let Some(shared) = conn.shared_alone() else {
                        debug_assert!(false, "a connection is in use before its PROXY header has come");
                        self.remove(id);
                        return None;
                    };
                    shared.stand_for(client);
                }
                fresh.get(used..).filter(|rest| !rest.is_empty())
            }
            Err(bad) => {
                self.refuse_without_proxy(id, bad.reason());
                None
            }
        }
    }

    /// Closes a connection whose PROXY header is bad, or does not come.
    pub(super) fn refuse_without_proxy(&mut self, id: ConnId, reason: &str) {
        let Some(conn) = self.conn(id) else { return };
        let peer = conn.shared().peer_text();
        log::message(Level::Warning, &format!("connection from {peer} closed: {reason}."));
        self.remove(id);
    }

    /// The time for the header is over, or the peer has hung up.
    pub(super) fn give_up_proxy_header(&mut self, id: ConnId, ended: bool) {
        let draining = self.is_draining();
        let Some(decoder) = self.conn(id).and_then(|conn| conn.proxy.as_ref()) else { return };
        match decoder.is_untouched() {
            // Health checks often connect and say nothing, and who has said nothing when the server ends loses nothing.
            true if ended || draining => self.remove(id),
            _ if ended => self.refuse_without_proxy(id, "it ended within its PROXY header"),
            _ => self.refuse_without_proxy(id, "its PROXY header took too long"),
        }
    }
}

impl Conn {
    /// The shared half, as long as nobody shares it.
    fn shared_alone(&mut self) -> Option<&mut Shared> {
        Arc::get_mut(self.shared_mut())
    }
}
