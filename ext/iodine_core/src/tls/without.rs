//! What stands in for TLS where iodine was built without it: types that no value can have.

use super::{Handshake, TlsClientConfig};
use crate::stream::Moved;
use crate::sys::Fd;
use std::convert::Infallible;
use std::io::IoSlice;
use std::os::fd::RawFd;

/// Settings that TLS clients share: there are none.
#[derive(Clone, Debug)]
pub struct TlsClient(Infallible);

impl TlsClient {
    /// Always an error.
    pub fn new(_config: &TlsClientConfig) -> Result<TlsClient, String> {
        Err("iodine was built without TLS".into())
    }
}

#[derive(Debug)]
pub(crate) struct Tls(Infallible);

impl Tls {
    pub(crate) fn client(_fd: Fd, settings: &TlsClient, _host: &str) -> Result<Tls, String> {
        match settings.0 {}
    }

    pub(crate) fn socket(&self) -> &Fd {
        match self.0 {}
    }

    pub(crate) fn handshake(&self) -> Handshake {
        match self.0 {}
    }

    pub(crate) fn read(&self, _buffer: &mut [u8]) -> Moved {
        match self.0 {}
    }

    pub(crate) fn read_spare(&self, _buffer: &mut Vec<u8>) -> Moved {
        match self.0 {}
    }

    pub(crate) fn write(&self, _bytes: &[u8]) -> Moved {
        match self.0 {}
    }

    pub(crate) fn write_slices(&self, _slices: &[IoSlice<'_>]) -> Moved {
        match self.0 {}
    }

    pub(crate) fn say_end(&self) {
        match self.0 {}
    }

    pub(crate) fn finish_writing(&self) {
        match self.0 {}
    }

    pub(crate) fn flush_own(&self) {
        match self.0 {}
    }

    pub(crate) fn truncated(&self) -> bool {
        match self.0 {}
    }

    pub(crate) fn why_broken(&self) -> Option<String> {
        match self.0 {}
    }

    pub(crate) fn alpn(&self) -> Option<Vec<u8>> {
        match self.0 {}
    }

    pub(crate) fn into_raw(self) -> RawFd {
        match self.0 {}
    }
}
