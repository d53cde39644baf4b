//! The settings that TLS clients share, checked: files are read here and nowhere else, and what is wrong with them is said in
//! one sentence.

use super::{Identity, TlsClientConfig};
use openssl::error::ErrorStack;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{
    Ssl, SslConnector, SslConnectorBuilder, SslMethod, SslOptions, SslVerifyMode, SslVersion,
};
use openssl::x509::X509;
use openssl::x509::store::X509StoreBuilder;
use openssl::x509::verify::X509VerifyFlags;
use std::fmt;
use std::net::IpAddr;
use std::path::Path;

/// Settings that TLS clients share. Clones share them, too.
///
/// TLS 1.2 and 1.3 are spoken, with OpenSSL's usual ciphers but for the weak ones. Renegotiation is refused: only the older of the
/// two has it, and it would make reads wait for writes and writes for reads.
#[derive(Clone)]
pub struct TlsClient {
    connector: SslConnector,
    verify: bool,
}

impl fmt::Debug for TlsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsClient").field("verify", &self.verify).finish_non_exhaustive()
    }
}

impl TlsClient {
    /// Checks `config` and reads its files.
    pub fn new(config: &TlsClientConfig) -> Result<TlsClient, String> {
        let mut builder = in_general(SslConnector::builder(SslMethod::tls_client()))?;
        in_general(builder.set_min_proto_version(Some(SslVersion::TLS1_2)))?;
        builder.set_options(SslOptions::NO_RENEGOTIATION);
        // One receive for a whole record and more, not two for each.
        builder.set_read_ahead(true);
        builder.set_verify(if config.verify { SslVerifyMode::PEER } else { SslVerifyMode::NONE });
        if !config.trust.is_empty() {
            trust_only(&mut builder, config)?;
        }
        if let Some(identity) = &config.identity {
            identify(&mut builder, identity)?;
        }
        if !config.alpn.is_empty() {
            in_general(builder.set_alpn_protos(&alpn_list(&config.alpn)?))?;
        }
        Ok(TlsClient { connector: builder.build(), verify: config.verify })
    }

    /// Whether servers have to prove who they are.
    pub(super) fn verifies(&self) -> bool {
        self.verify
    }

    /// A session with `host`, a name or an address, that has not begun.
    pub(super) fn session(&self, host: &str) -> Result<Ssl, String> {
        if host.is_empty() && self.verify {
            return Err("a TLS client can not verify a server that has no name".into());
        }
        // The crate panics.
        if host.contains('\0') {
            return Err(format!("{host:?} can not be a host: it has a NUL byte"));
        }
        let is_name = !host.is_empty() && host.parse::<IpAddr>().is_err();
        let configured = self.connector.configure().and_then(|configuration| {
            configuration.use_server_name_indication(is_name).verify_hostname(self.verify).into_ssl(host)
        });
        let mut ssl =
            configured.map_err(|error| format!("{host:?} can not be a host: {}", reason(&error)))?;
        ssl.set_connect_state();
        Ok(ssl)
    }
}

/// Has `builder` trust the certificates of the files of `config`, and no other.
fn trust_only(builder: &mut SslConnectorBuilder, config: &TlsClientConfig) -> Result<(), String> {
    let mut store = in_general(X509StoreBuilder::new())?;
    // Whom the application names is trusted, also where others have signed for them.
    in_general(store.set_flags(X509VerifyFlags::PARTIAL_CHAIN))?;
    for path in &config.trust {
        for certificate in certificates(path)? {
            store.add_cert(certificate).map_err(|error| refused_certificate(path, &error))?;
        }
    }
    builder.set_cert_store(store.build());
    Ok(())
}

fn identify(builder: &mut SslConnectorBuilder, identity: &Identity) -> Result<(), String> {
    let Identity { certificate: path, private_key: key_path, password } = identity;
    let mut chain = certificates(path)?.into_iter();
    let Some(certificate) = chain.next() else { return Err(no_certificate(path)) };
    let key = private_key(key_path, password.as_deref())?;
    let public = certificate.public_key().map_err(|error| refused_certificate(path, &error))?;
    if !public.public_eq(&key) {
        let (key_path, path) = (key_path.display(), path.display());
        return Err(format!("the private key in {key_path} does not belong to the certificate in {path}"));
    }
    builder.set_certificate(&certificate).map_err(|error| refused_certificate(path, &error))?;
    for between in chain {
        builder.add_extra_chain_cert(between).map_err(|error| refused_certificate(path, &error))?;
    }
    builder.set_private_key(&key).map_err(|error| {
        format!("the private key in {} can not be used: {}", key_path.display(), reason(&error))
    })
}

/// All certificates in a PEM file, at least one.
fn certificates(path: &Path) -> Result<Vec<X509>, String> {
    let pem = read("certificate", path)?;
    let certificates = X509::stack_from_pem(&pem).map_err(|error| refused_certificate(path, &error))?;
    match certificates.is_empty() {
        true => Err(no_certificate(path)),
        false => Ok(certificates),
    }
}

fn private_key(path: &Path, password: Option<&[u8]>) -> Result<PKey<Private>, String> {
    let pem = read("private key", path)?;
    let mut asked = false;
    // Without a function of ours OpenSSL would ask whoever sits at the terminal.
    let key = PKey::private_key_from_pem_callback(&pem, |buffer| {
        asked = true;
        let password = password.unwrap_or_default();
        let room = buffer.get_mut(..password.len()).ok_or_else(ErrorStack::get)?;
        room.copy_from_slice(password);
        Ok(password.len())
    });
    key.map_err(|_| {
        let path = path.display();
        match (asked, password) {
            (true, None) => format!("the private key in {path} needs a password"),
            (true, Some(_)) => format!("the password does not open the private key in {path}"),
            (false, _) => format!("there is no private key in PEM format in {path}"),
        }
    })
}

fn read(what: &str, path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path)
        .map_err(|error| format!("the {what} file {} can not be read: {error}", path.display()))
}

fn no_certificate(path: &Path) -> String {
    format!("there is no certificate in PEM format in {}", path.display())
}

fn refused_certificate(path: &Path, error: &ErrorStack) -> String {
    format!("a certificate in {} can not be used: {}", path.display(), reason(error))
}

/// The names as they are sent (RFC 7301 section 3.1): each behind its length.
fn alpn_list(names: &[Vec<u8>]) -> Result<Vec<u8>, String> {
    let mut list = Vec::new();
    for name in names {
        let length = u8::try_from(name.len()).ok().filter(|length| *length > 0);
        let Some(length) = length else {
            return Err("the name of a protocol for ALPN has 1 to 255 bytes".into());
        };
        list.push(length);
        list.extend_from_slice(name);
    }
    Ok(list)
}

/// What the application can do nothing about.
fn in_general<T>(done: Result<T, ErrorStack>) -> Result<T, String> {
    done.map_err(|error| format!("TLS can not be set up: {}", reason(&error)))
}

/// What OpenSSL says first: what comes behind it are consequences.
pub(super) fn reason(error: &ErrorStack) -> &'static str {
    error.errors().iter().find_map(|error| error.reason()).unwrap_or("OpenSSL gives no reason")
}
