//! A [`Stream`] as a TLS client, against servers made of the openssl crate, over loopback. The client is used as the reactor uses
//! it: edge-triggered, by the rules that `iodine_core::tls` states.
#![cfg(feature = "tls")]

use iodine_core::outbox::Outbox;
use iodine_core::stream::{Moved, Stream};
use iodine_core::sys::Fd;
use iodine_core::{FilePart, Handshake, Identity, Piece, TlsClient, TlsClientConfig};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{
    AlpnError, ErrorCode, NameType, SslAcceptor, SslAcceptorBuilder, SslMethod, SslStream, SslVerifyMode,
    SslVersion,
};
use openssl::symm::Cipher;
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509Builder, X509NameBuilder};
use std::ffi::{c_int, c_void};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(20);

/// A certificate and its key.
#[derive(Clone)]
struct Pair {
    certificate: X509,
    key: PKey<Private>,
}

/// What a certificate says.
#[derive(Clone, Copy)]
struct Claims<'a> {
    name: &'a str,
    names: &'a [&'a str],
    addresses: &'a [&'a str],
    /// Seconds from now.
    until: i64,
    is_authority: bool,
}

const LEAF: Claims<'static> = Claims {
    name: "leaf",
    names: &["localhost"],
    addresses: &["127.0.0.1"],
    until: 86_400,
    is_authority: false,
};

fn key() -> PKey<Private> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
}

/// A certificate by `issuer`, or by itself.
fn certify(claims: Claims<'_>, issuer: Option<&Pair>) -> Pair {
    let key = key();
    let mut name = X509NameBuilder::new().unwrap();
    name.append_entry_by_text("CN", claims.name).unwrap();
    let name = name.build();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64;
    let at = |seconds| Asn1Time::from_unix(now + seconds).unwrap();
    let mut builder = X509Builder::new().unwrap();
    builder.set_version(2).unwrap();
    let serial = BigNum::from_u32(std::process::id()).unwrap().to_asn1_integer().unwrap();
    builder.set_serial_number(&serial).unwrap();
    builder.set_subject_name(&name).unwrap();
    builder.set_issuer_name(issuer.map_or(&name, |issuer| issuer.certificate.subject_name())).unwrap();
    builder.set_not_before(&at(-200_000)).unwrap();
    builder.set_not_after(&at(claims.until)).unwrap();
    builder.set_pubkey(&key).unwrap();
    if claims.is_authority {
        builder.append_extension(BasicConstraints::new().critical().ca().build().unwrap()).unwrap();
    }
    if !claims.names.is_empty() || !claims.addresses.is_empty() {
        let mut names = SubjectAlternativeName::new();
        for name in claims.names {
            names.dns(name);
        }
        for address in claims.addresses {
            names.ip(address);
        }
        let names = names.build(&builder.x509v3_context(None, None)).unwrap();
        builder.append_extension(names).unwrap();
    }
    builder.sign(issuer.map_or(&key, |issuer| &issuer.key), MessageDigest::sha256()).unwrap();
    Pair { certificate: builder.build(), key }
}

/// An authority, and files.
struct World {
    authority: Pair,
    folder: TempDir,
}

impl World {
    fn new() -> World {
        World::of("authority")
    }

    fn of(name: &str) -> World {
        let claims = Claims { name, names: &[], addresses: &[], is_authority: true, ..LEAF };
        World { authority: certify(claims, None), folder: TempDir::new().unwrap() }
    }

    fn leaf(&self, claims: Claims<'_>) -> Pair {
        certify(claims, Some(&self.authority))
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    fn trust(&self) -> PathBuf {
        self.file("authority.pem", &self.authority.certificate.to_pem().unwrap())
    }

    /// Settings of a client that trusts the authority.
    fn config(&self) -> TlsClientConfig {
        TlsClientConfig { trust: vec![self.trust()], ..TlsClientConfig::default() }
    }

    fn client(&self) -> TlsClient {
        TlsClient::new(&self.config()).unwrap()
    }

    fn identity(&self, pair: &Pair, password: Option<&str>) -> Identity {
        let key = match password {
            Some(password) => {
                pair.key.private_key_to_pem_pkcs8_passphrase(Cipher::aes_128_cbc(), password.as_bytes())
            }
            None => pair.key.private_key_to_pem_pkcs8(),
        };
        Identity {
            certificate: self.file("client.pem", &pair.certificate.to_pem().unwrap()),
            private_key: self.file("client.key", &key.unwrap()),
            password: password.map(Into::into),
        }
    }
}

fn acceptor(pair: &Pair) -> SslAcceptorBuilder {
    let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).unwrap();
    builder.set_certificate(&pair.certificate).unwrap();
    builder.set_private_key(&pair.key).unwrap();
    builder
}

/// A server for one connection, on a thread.
struct Server<T> {
    socket: TcpStream,
    thread: JoinHandle<T>,
}

/// Both ends of a connection have small buffers if `tight`.
fn serve<T: Send + 'static>(tight: bool, work: impl FnOnce(TcpStream) -> T + Send + 'static) -> Server<T> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (accepted, _) = listener.accept().unwrap();
    accepted.set_read_timeout(Some(PATIENCE)).unwrap();
    accepted.set_write_timeout(Some(PATIENCE)).unwrap();
    for socket in [&socket, &accepted].into_iter().filter(|_| tight) {
        socket2::SockRef::from(socket).set_send_buffer_size(4096).unwrap();
        socket2::SockRef::from(socket).set_recv_buffer_size(32 * 1024).unwrap();
        socket.set_nodelay(true).unwrap();
    }
    Server { socket, thread: std::thread::spawn(move || work(accepted)) }
}

/// As [`serve`], with what happens when the handshake is done; the result is `None` when it fails.
fn serve_tls<T: Send + 'static>(
    builder: SslAcceptorBuilder,
    tight: bool,
    work: impl FnOnce(SslStream<TcpStream>) -> T + Send + 'static,
) -> Server<Option<T>> {
    let acceptor = builder.build();
    serve(tight, move |socket| acceptor.accept(socket).ok().map(work))
}

/// A connection as a reactor has it.
struct Client {
    stream: Stream,
    poll: Poll,
    outbox: Outbox,
    /// Bytes of a read.
    room: usize,
    received: Vec<u8>,
    ended: bool,
    broken: bool,
}

impl Client {
    fn new(socket: TcpStream, tls: &TlsClient, host: &str) -> Client {
        socket.set_nonblocking(true).unwrap();
        let stream = Stream::tls_client(Fd::new(socket.into()), tls, host).unwrap();
        let poll = Poll::new().unwrap();
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut SourceFd(&stream.as_raw_fd()), Token(0), interest).unwrap();
        let outbox = Outbox::default();
        Client { stream, poll, outbox, room: 5000, received: Vec::new(), ended: false, broken: false }
    }

    /// A client whose handshake is done.
    fn open(socket: TcpStream, tls: &TlsClient, host: &str) -> Client {
        let mut client = Client::new(socket, tls, host);
        assert_eq!(client.handshake(), Handshake::Done);
        client
    }

    /// What the next event tells: readable, writable.
    fn event(&mut self) -> (bool, bool) {
        let mut events = Events::with_capacity(4);
        self.poll.poll(&mut events, Some(PATIENCE)).unwrap();
        let ready = events.iter().next().expect("no event comes");
        (ready.is_readable() || ready.is_read_closed(), ready.is_writable())
    }

    fn handshake(&mut self) -> Handshake {
        loop {
            match self.stream.handshake() {
                Handshake::WouldBlock => self.event(),
                step => return step,
            };
        }
    }

    /// Lives by the rules until `done`. The first round needs no event.
    fn run(&mut self, done: impl Fn(&Client) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        let (mut readable, mut writable) = (true, true);
        loop {
            if writable {
                self.stream.flush_own();
                self.flush();
            }
            if readable {
                self.read();
            }
            if done(self) {
                return;
            }
            assert!(Instant::now() < deadline && !self.broken, "{:?}", self.stream.why_broken());
            (readable, writable) = self.event();
        }
    }

    fn flush(&mut self) {
        while !self.outbox.is_empty() && !self.broken {
            match self.outbox.write_to(&self.stream, false) {
                Moved::Bytes(_) => {}
                Moved::WouldBlock => return,
                Moved::Broken => self.broken = true,
            }
        }
    }

    fn read(&mut self) {
        let mut buffer = vec![0; self.room];
        while !self.ended && !self.broken {
            match self.stream.read(&mut buffer) {
                Moved::Bytes(0) => self.ended = true,
                Moved::Bytes(count) => {
                    self.received.extend_from_slice(&buffer[..count]);
                    if count < buffer.len() && self.stream.short_read_empties() {
                        return;
                    }
                }
                Moved::WouldBlock => return,
                Moved::Broken => self.broken = true,
            }
        }
    }
}

/// The handshake of a client with these settings for `host`, with a server that has `pair`.
fn meet(pair: &Pair, config: &TlsClientConfig, host: &str) -> Result<(), String> {
    let server = serve_tls(acceptor(pair), false, |mut tls| {
        let _ = tls.read(&mut [0]);
    });
    let mut client = Client::new(server.socket, &TlsClient::new(config).unwrap(), host);
    let met = match client.handshake() {
        Handshake::Done => Ok(()),
        Handshake::Failed(reason) => {
            assert_eq!(client.stream.handshake(), Handshake::Failed(reason.clone()));
            assert_eq!(client.stream.read(&mut [0]), Moved::Broken);
            assert_eq!(client.stream.write(b"x"), Moved::Broken);
            assert_eq!(client.stream.why_broken().as_ref(), Some(&reason));
            Err(reason)
        }
        Handshake::WouldBlock => unreachable!(),
    };
    assert!(ErrorStack::get().errors().is_empty());
    drop(client);
    server.thread.join().unwrap();
    met
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length as u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

#[test]
fn a_server_has_to_prove_who_it_is() {
    let world = World::new();
    let (config, good) = (world.config(), world.leaf(LEAF));
    for host in ["localhost", "localhost.", "127.0.0.1", "[127.0.0.1]"] {
        assert_eq!(meet(&good, &config, host), Ok(()), "{host}");
    }
    let refused = |pair: &Pair, config: &TlsClientConfig, host: &str, why: &str| {
        let reason = meet(pair, config, host).unwrap_err();
        assert!(reason.starts_with(&format!("the certificate of {host} is not accepted: ")), "{reason}");
        assert!(reason.to_lowercase().contains(why), "{reason}");
    };
    refused(&good, &config, "example.com", "hostname mismatch");
    refused(&good, &config, "127.0.0.2", "ip address mismatch");
    let named = world.leaf(Claims { names: &["127.0.0.1"], addresses: &[], ..LEAF });
    refused(&named, &config, "127.0.0.1", "ip address mismatch");
    let nameless = world.leaf(Claims { name: "127.0.0.1", names: &["other"], addresses: &[], ..LEAF });
    refused(&nameless, &config, "127.0.0.1", "ip address mismatch");
    refused(&world.leaf(Claims { until: -1000, ..LEAF }), &config, "localhost", "expired");
    refused(&World::of("another").leaf(LEAF), &config, "localhost", "unable to get local issuer");
    let own = certify(LEAF, None);
    refused(&own, &config, "localhost", "self");
    // The system does not know our authority.
    refused(&good, &TlsClientConfig::default(), "localhost", "unable to get local issuer");

    let leaf = world.file("leaf.pem", &good.certificate.to_pem().unwrap());
    let only = TlsClientConfig { trust: vec![leaf], ..TlsClientConfig::default() };
    assert_eq!(meet(&good, &only, "localhost"), Ok(()));
    refused(&good, &only, "example.com", "hostname mismatch");
    refused(&world.leaf(LEAF), &only, "localhost", "unable to get local issuer");

    let trust = world.file("own.pem", &own.certificate.to_pem().unwrap());
    let both = TlsClientConfig { trust: vec![trust, world.trust()], ..TlsClientConfig::default() };
    assert_eq!(meet(&own, &both, "localhost"), Ok(()));
    assert_eq!(meet(&good, &both, "localhost"), Ok(()));
}

#[test]
fn whoever_does_not_ask_for_a_proof_gets_none() {
    let world = World::new();
    let config = TlsClientConfig { verify: false, ..world.config() };
    let expired = world.leaf(Claims { until: -1000, ..LEAF });
    for pair in [&world.leaf(LEAF), &expired, &World::of("another").leaf(LEAF), &certify(LEAF, None)] {
        for host in ["localhost", "example.com", "127.0.0.2", ""] {
            assert_eq!(meet(pair, &config, host), Ok(()));
        }
    }
}

#[test]
fn the_system_is_asked_whom_to_trust() {
    const CHILD: &str = "IODINE_TEST_SYSTEM_TRUST";
    if std::env::var_os(CHILD).is_some() {
        // The authority of the parent process signs nothing here, but OpenSSL says what it looked at.
        let own =
            X509::from_pem(&std::fs::read(std::env::var_os("SSL_CERT_FILE").unwrap()).unwrap()).unwrap();
        let key = std::fs::read(std::env::var_os(CHILD).unwrap()).unwrap();
        let pair = Pair { certificate: own, key: PKey::private_key_from_pem(&key).unwrap() };
        assert_eq!(meet(&pair, &TlsClientConfig::default(), "localhost"), Ok(()));
        return;
    }
    let (world, own) = (World::new(), certify(LEAF, None));
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_system_is_asked_whom_to_trust"])
        .env("SSL_CERT_FILE", world.file("system.pem", &own.certificate.to_pem().unwrap()))
        .env(CHILD, world.file("system.key", &own.key.private_key_to_pem_pkcs8().unwrap()))
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
}

#[test]
fn names_are_sent_and_addresses_are_not() {
    let world = World::new();
    let pair = world.leaf(LEAF);
    for (host, sent) in
        [("localhost", Some("localhost")), ("localhost.", Some("localhost")), ("127.0.0.1", None)]
    {
        let server = serve_tls(acceptor(&pair), false, |tls| {
            tls.ssl().servername(NameType::HOST_NAME).map(str::to_owned)
        });
        Client::open(server.socket, &world.client(), host).run(|client| client.ended);
        assert_eq!(server.thread.join().unwrap().unwrap().as_deref(), sent);
    }
}

#[test]
fn what_can_not_be_a_host_closes_the_socket() {
    let world = World::new();
    for host in ["", "a\0b", &"x".repeat(300)] {
        let server = serve(false, |mut socket| socket.read(&mut [0]).unwrap());
        let stream = Stream::tls_client(Fd::new(server.socket.into()), &world.client(), host);
        let reason = stream.unwrap_err();
        assert!(reason.contains("can not"), "{reason}");
        assert_eq!(server.thread.join().unwrap(), 0);
    }
}

fn mutual(world: &World, version: SslVersion) -> SslAcceptorBuilder {
    let mut builder = acceptor(&world.leaf(LEAF));
    of_version(&mut builder, version);
    builder.set_ca_file(world.trust()).unwrap();
    builder.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
    builder
}

#[test]
fn a_client_proves_who_it_is() {
    let world = World::new();
    let pair = world.leaf(Claims { name: "a client", ..LEAF });
    for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
        for password in [None, Some("secret")] {
            let identity = Some(world.identity(&pair, password));
            let tls = TlsClient::new(&TlsClientConfig { identity, ..world.config() }).unwrap();
            let server = serve_tls(mutual(&world, version), false, |mut tls| {
                tls.write_all(b"welcome").unwrap();
                tls.ssl().peer_certificate().unwrap().to_der().unwrap()
            });
            let mut client = Client::open(server.socket, &tls, "localhost");
            client.run(|client| client.ended);
            assert_eq!(client.received, b"welcome");
            assert_eq!(server.thread.join().unwrap().unwrap(), pair.certificate.to_der().unwrap());
        }
    }
}

#[test]
fn a_client_without_a_certificate_hears_that_it_needs_one() {
    let world = World::new();
    let server = serve_tls(mutual(&world, SslVersion::TLS1_2), false, drop);
    let mut client = Client::new(server.socket, &world.client(), "localhost");
    let Handshake::Failed(reason) = client.handshake() else { panic!("no failure") };
    assert!(reason.starts_with("the TLS handshake with localhost failed: "), "{reason}");
    assert!(reason.contains("alert"), "{reason}");
    // With TLS 1.3 the client is done before the server has seen what is missing.
    let server = serve_tls(mutual(&world, SslVersion::TLS1_3), false, drop);
    let mut client = Client::open(server.socket, &world.client(), "localhost");
    client.run(|client| client.broken || client.ended);
    assert!(client.broken);
    let reason = client.stream.why_broken().unwrap();
    assert!(reason.contains("certificate required"), "{reason}");
    assert!(ErrorStack::get().errors().is_empty());
}

#[test]
fn wrong_settings_are_told_in_a_sentence() {
    let world = World::new();
    let (pair, other) = (world.leaf(LEAF), world.leaf(LEAF));
    let told = |change: &dyn Fn(&mut TlsClientConfig, &mut Identity), end: &str| {
        let mut identity = world.identity(&pair, Some("secret"));
        let mut config = world.config();
        change(&mut config, &mut identity);
        let reason = TlsClient::new(&TlsClientConfig { identity: Some(identity), ..config }).unwrap_err();
        assert!(reason.replace(world.folder.path().to_str().unwrap(), "F").contains(end), "{reason}");
        assert!(ErrorStack::get().errors().is_empty());
    };
    let none = world.folder.path().join("none");
    let junk = world.file("junk.pem", b"nothing of value");
    let bad = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let bad = world.file("bad.pem", bad);
    let other = world.file("other.pem", &other.certificate.to_pem().unwrap());
    told(
        &|config, _| config.trust.push(none.clone()),
        "the certificate file F/none can not be read: No such file",
    );
    told(
        &|config, _| config.trust.push(world.folder.path().into()),
        "the certificate file F can not be read: ",
    );
    told(&|config, _| config.trust.push(junk.clone()), "there is no certificate in PEM format in F/junk.pem");
    told(&|config, _| config.trust.push(bad.clone()), "a certificate in F/bad.pem can not be used: ");
    told(&|_, identity| identity.certificate = none.clone(), "the certificate file F/none can not be read: ");
    told(
        &|_, identity| identity.certificate = junk.clone(),
        "there is no certificate in PEM format in F/junk.pem",
    );
    told(&|_, identity| identity.private_key = none.clone(), "the private key file F/none can not be read: ");
    told(
        &|_, identity| identity.private_key = junk.clone(),
        "there is no private key in PEM format in F/junk.pem",
    );
    told(&|_, identity| identity.password = None, "the private key in F/client.key needs a password");
    for password in ["wrong", "", &"x".repeat(5000)].map(str::as_bytes) {
        told(
            &|_, identity| identity.password = Some(password.to_vec()),
            "the password does not open the private key in F/client.key",
        );
    }
    told(
        &|_, identity| identity.certificate = other.clone(),
        "the private key in F/client.key does not belong to the certificate in F/other.pem",
    );
    for name in [Vec::new(), vec![b'x'; 256]] {
        told(
            &|config, _| config.alpn.push(name.clone()),
            "the name of a protocol for ALPN has 1 to 255 bytes",
        );
    }
}

#[test]
fn protocols_are_agreed_on() {
    let world = World::new();
    let config = TlsClientConfig { alpn: vec![b"mine".to_vec(), b"http/1.1".to_vec()], ..world.config() };
    for (config, agreed) in [(config, Some(b"http/1.1".to_vec())), (world.config(), None)] {
        let mut builder = acceptor(&world.leaf(LEAF));
        builder.set_alpn_select_callback(|_, offered| {
            assert_eq!(offered, b"\x04mine\x08http/1.1");
            offered.get(6..).ok_or(AlpnError::NOACK)
        });
        let server = serve_tls(builder, false, drop);
        let client = Client::open(server.socket, &TlsClient::new(&config).unwrap(), "localhost");
        assert_eq!(client.stream.alpn(), agreed);
    }
}

#[test]
fn old_versions_are_not_spoken() {
    let world = World::new();
    let mut builder = acceptor(&world.leaf(LEAF));
    builder.clear_options(openssl::ssl::SslOptions::NO_TLSV1_1);
    builder.set_cipher_list("ALL:@SECLEVEL=0").unwrap();
    builder.set_min_proto_version(Some(SslVersion::TLS1_1)).unwrap();
    builder.set_max_proto_version(Some(SslVersion::TLS1_1)).unwrap();
    let server = serve_tls(builder, false, drop);
    let mut client = Client::new(server.socket, &world.client(), "localhost");
    let Handshake::Failed(reason) = client.handshake() else { panic!("no failure") };
    assert!(reason.contains("protocol version"), "{reason}");
}

#[test]
fn a_handshake_with_somebody_else_fails() {
    let world = World::new();
    let failure = |work: fn(TcpStream)| {
        let server = serve(false, work);
        let mut client = Client::new(server.socket, &world.client(), "localhost");
        assert_eq!(client.stream.read(&mut [0]), Moved::WouldBlock);
        assert_eq!(client.stream.write(b"x"), Moved::WouldBlock);
        let Handshake::Failed(reason) = client.handshake() else { panic!("no failure") };
        assert!(ErrorStack::get().errors().is_empty());
        client.stream.finish_writing();
        server.thread.join().unwrap();
        reason
    };
    let plain = failure(|mut socket| {
        socket.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").unwrap();
        let _ = socket.read_to_end(&mut Vec::new());
    });
    assert_eq!(plain, "what localhost answers is not TLS");
    let banner = failure(|mut socket| {
        socket.write_all(b"+\r").unwrap();
        socket.shutdown(std::net::Shutdown::Write).unwrap();
        let _ = socket.read_to_end(&mut Vec::new());
    });
    assert_eq!(banner, "what localhost answers is not TLS");
    let silent = failure(|mut socket| {
        socket.read_exact(&mut [0]).unwrap();
        socket.shutdown(std::net::Shutdown::Write).unwrap();
        let _ = socket.read_to_end(&mut Vec::new());
    });
    assert_eq!(silent, "localhost closed the connection during the TLS handshake");
    let reset = failure(|mut socket| {
        socket.read_exact(&mut [0]).unwrap();
        socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap();
    });
    assert!(reset.starts_with("the TLS handshake with localhost failed: Connection reset"), "{reset}");
}

/// Sends everything back, until it has seen `length` bytes, then ends properly. Every so often it wants new keys.
fn echo(mut tls: SslStream<TcpStream>, length: usize, new_keys_every: Option<usize>) {
    let mut buffer = vec![0; 10_000];
    let (mut seen, mut since) = (0, 0);
    while seen < length {
        let count = tls.read(&mut buffer).unwrap();
        assert_ne!(count, 0, "the client ends early");
        (seen, since) = (seen + count, since + count);
        if new_keys_every.is_some_and(|every| since >= every) {
            since = 0;
            request_new_keys(&mut tls);
        }
        tls.write_all(&buffer[..count]).unwrap();
    }
    // The client's end.
    assert_eq!(tls.ssl_read(&mut buffer).unwrap_err().code(), ErrorCode::ZERO_RETURN);
    tls.shutdown().unwrap();
}

/// The next write begins with a KeyUpdate that asks for one in return (RFC 8446 section 4.6.3).
fn request_new_keys(tls: &mut SslStream<TcpStream>) {
    const REQUESTED: c_int = 1;
    // SAFETY: `tls` has the object exclusively, and the function only notes what is wanted.
    let done = unsafe { SSL_key_update(object(tls), REQUESTED) };
    assert_eq!(done, 1);
}

/// Asks for another handshake, as TLS 1.2 can (RFC 5246 section 7.4.1.1).
fn request_handshake(tls: &mut SslStream<TcpStream>) -> Result<(), openssl::ssl::Error> {
    // SAFETY: as above.
    let done = unsafe { SSL_renegotiate(object(tls)) };
    assert_eq!(done, 1);
    tls.do_handshake()
}

// What the openssl crate has no name for.
unsafe extern "C" {
    fn SSL_key_update(ssl: *mut c_void, kind: c_int) -> c_int;
    fn SSL_renegotiate(ssl: *mut c_void) -> c_int;
}

/// An `SslRef` is at the address of the C object.
fn object(tls: &mut SslStream<TcpStream>) -> *mut c_void {
    std::ptr::from_ref(tls.ssl()).cast_mut().cast()
}

fn megabyte_both_ways(version: SslVersion, room: usize, new_keys_every: Option<usize>) {
    let world = World::new();
    let mut builder = acceptor(&world.leaf(LEAF));
    of_version(&mut builder, version);
    let sent = pattern(1_000_000);
    let length = sent.len();
    let server = serve_tls(builder, true, move |tls| echo(tls, length, new_keys_every));
    let mut client = Client::open(server.socket, &world.client(), "localhost");
    client.room = room;
    let mut pieces = sent.as_slice();
    for size in [1, 3, 9000, 100_000, 7, 20_000, 16_384, 16_385].into_iter().cycle() {
        if pieces.is_empty() {
            break;
        }
        let (piece, rest) = pieces.split_at(size.min(pieces.len()));
        pieces = rest;
        client.outbox.push(piece.to_vec());
    }
    client.run(|client| client.received.len() == length);
    assert!(client.received == sent);
    client.stream.finish_writing();
    client.run(|client| client.ended || client.broken);
    assert!(client.ended && !client.stream.truncated());
    assert!(ErrorStack::get().errors().is_empty());
    server.thread.join().unwrap().unwrap();
}

#[test]
fn a_megabyte_goes_both_ways_at_once() {
    for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
        for room in [1000, 16_384, 100_000] {
            megabyte_both_ways(version, room, None);
        }
    }
}

#[test]
fn keys_may_change_while_both_sides_write() {
    for every in [10_000, 35_000] {
        megabyte_both_ways(SslVersion::TLS1_3, 5000, Some(every));
    }
}

#[test]
fn new_keys_leave_before_what_waits_for_them() {
    // The client's socket is full when the server asks, and the server reads only when all of its own has been read.
    let world = World::new();
    let server = serve_tls(acceptor(&world.leaf(LEAF)), true, |mut tls| {
        for _ in 0..20 {
            request_new_keys(&mut tls);
            tls.write_all(&[b'x'; 10_000]).unwrap();
        }
        let mut received = vec![0; 300_000];
        tls.read_exact(&mut received).unwrap();
        tls.write_all(b"done").unwrap();
        received
    });
    let mut client = Client::open(server.socket, &world.client(), "localhost");
    let sent = pattern(300_000);
    client.outbox.push(sent.clone());
    client.run(|client| client.received.ends_with(b"done"));
    assert_eq!(client.received.len(), 200_004);
    assert!(server.thread.join().unwrap().unwrap() == sent);
}

fn of_version(builder: &mut SslAcceptorBuilder, version: SslVersion) {
    builder.set_min_proto_version(Some(version)).unwrap();
    builder.set_max_proto_version(Some(version)).unwrap();
}

#[test]
fn another_handshake_is_refused() {
    let world = World::new();
    let mut builder = acceptor(&world.leaf(LEAF));
    of_version(&mut builder, SslVersion::TLS1_2);
    let server = serve_tls(builder, false, |mut tls| {
        request_handshake(&mut tls).unwrap();
        tls.write_all(b"afterwards").unwrap();
        tls.ssl_read(&mut [0]).unwrap_err().to_string()
    });
    let mut client = Client::open(server.socket, &world.client(), "localhost");
    client.run(|client| client.received == b"afterwards");
    let answer = server.thread.join().unwrap().unwrap();
    assert!(answer.contains("no renegotiation"), "{answer}");
}

#[test]
fn small_reads_empty_a_record_without_another_event() {
    let world = World::new();
    let server = serve_tls(acceptor(&world.leaf(LEAF)), false, |mut tls| {
        tls.write_all(&pattern(16_000)).unwrap();
        tls.read(&mut [0]).unwrap()
    });
    let mut client = Client::open(server.socket, &world.client(), "localhost");
    client.room = 7;
    client.run(|client| client.received.len() == 16_000);
    assert!(client.received == pattern(16_000));
    let mut spare = Vec::with_capacity(100);
    assert_eq!(client.stream.read_spare(&mut spare), Moved::WouldBlock);
    assert!(spare.is_empty());
    client.stream.finish_writing();
    assert_eq!(server.thread.join().unwrap().unwrap(), 0);
}

#[test]
fn reads_into_spare_memory() {
    let world = World::new();
    let server = serve_tls(acceptor(&world.leaf(LEAF)), false, |mut tls| {
        tls.write_all(&pattern(50_000)).unwrap();
    });
    let mut client = Client::open(server.socket, &world.client(), "localhost");
    let mut body = b"before".to_vec();
    body.reserve_exact(60_000);
    loop {
        match client.stream.read_spare(&mut body) {
            Moved::Bytes(0) => break,
            Moved::Bytes(_) => {}
            Moved::WouldBlock => _ = client.event(),
            Moved::Broken => panic!("broken"),
        }
    }
    assert!(body == [b"before".as_slice(), &pattern(50_000)].concat());
}

#[test]
fn an_end_that_is_not_said_is_remembered() {
    let world = World::new();
    for says_so in [true, false] {
        let server = serve_tls(acceptor(&world.leaf(LEAF)), false, move |mut tls| {
            tls.write_all(b"some").unwrap();
            if says_so {
                tls.shutdown().unwrap();
            }
            tls.get_ref().shutdown(std::net::Shutdown::Write).unwrap();
            let mut answer = Vec::new();
            let _ = tls.get_mut().read_to_end(&mut answer);
            answer.len()
        });
        let mut client = Client::open(server.socket, &world.client(), "localhost");
        client.run(|client| client.ended || client.broken);
        assert_eq!((client.received.as_slice(), client.broken), (b"some".as_slice(), false));
        assert_eq!(client.stream.truncated(), !says_so);
        assert_eq!(client.stream.read(&mut [0]), Moved::Bytes(0));
        // What the peer asked for before is answered all the same.
        assert_eq!(client.stream.write(b"answer"), Moved::Bytes(6));
        client.stream.finish_writing();
        assert!(server.thread.join().unwrap().unwrap() > 6);
    }
}

#[test]
fn the_end_is_said_as_soon_as_there_is_room() {
    let world = World::new();
    let (go, wait) = std::sync::mpsc::channel();
    let server = serve_tls(acceptor(&world.leaf(LEAF)), true, move |mut tls| {
        tls.write_all(b"x").unwrap();
        wait.recv().unwrap();
        let mut received = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            match tls.ssl_read(&mut buffer) {
                Ok(count) => received.extend_from_slice(&buffer[..count]),
                Err(error) => {
                    assert_eq!(error.code(), ErrorCode::ZERO_RETURN);
                    break;
                }
            }
        }
        // The socket's end comes with it.
        assert_eq!(tls.get_mut().read(&mut buffer).unwrap(), 0);
        received
    });
    let mut client = Client::open(server.socket, &world.client(), "localhost");
    client.run(|client| client.received == b"x");
    let mut sent = Vec::new();
    // Until not even the smallest record fits; then one more has room, and the end has not.
    while client.stream.write(b"y") != Moved::WouldBlock {
        sent.push(b'y');
    }
    client.stream.finish_writing();
    go.send(()).unwrap();
    while client.stream.write(b"y") == Moved::WouldBlock {
        client.event();
    }
    sent.push(b'y');
    client.run(|client| client.ended);
    assert!(server.thread.join().unwrap().unwrap() == sent);
}

#[test]
fn only_an_end_that_is_meant_is_said() {
    let world = World::new();
    for meant in [true, false] {
        let server = serve_tls(acceptor(&world.leaf(LEAF)), false, |mut tls| {
            tls.write_all(b"x").unwrap();
            tls.ssl_read(&mut [0]).unwrap_err().code() == ErrorCode::ZERO_RETURN
        });
        let mut client = Client::open(server.socket, &world.client(), "localhost");
        client.run(|client| client.received == b"x");
        if meant {
            client.stream.say_end();
        }
        drop(client);
        assert_eq!(server.thread.join().unwrap(), Some(meant));
    }
}

#[test]
fn a_reset_is_no_end() {
    let world = World::new();
    let server = serve_tls(acceptor(&world.leaf(LEAF)), false, |mut tls| {
        tls.write_all(b"x").unwrap();
        let error = tls.ssl_read(&mut [0]).unwrap_err();
        error.io_error().map(std::io::Error::kind)
    });
    let mut client = Client::open(server.socket, &world.client(), "localhost");
    client.run(|client| client.received == b"x");
    client.stream.reset_on_close();
    drop(client);
    assert_eq!(server.thread.join().unwrap().unwrap(), Some(std::io::ErrorKind::ConnectionReset));
}

#[test]
fn what_is_no_record_breaks_the_connection() {
    let world = World::new();
    let (mut forged, noise) = (vec![23, 3, 3, 0, 100], pattern(40_000));
    forged.extend_from_slice(&noise[..100]);
    for junk in [noise, forged, b"HTTP/1.1 200 OK\r\n\r\n".to_vec()] {
        let server = serve_tls(acceptor(&world.leaf(LEAF)), false, move |mut tls| {
            tls.write_all(b"fine").unwrap();
            let _ = tls.get_mut().write_all(&junk);
            let _ = tls.get_mut().read_to_end(&mut Vec::new());
        });
        let mut client = Client::open(server.socket, &world.client(), "localhost");
        client.run(|client| client.received == b"fine");
        while !client.broken {
            client.read();
            if !client.broken {
                client.event();
            }
        }
        assert!(client.stream.why_broken().is_some());
        assert_eq!(client.stream.write(b"x"), Moved::Broken);
        assert!(ErrorStack::get().errors().is_empty());
        client.stream.finish_writing();
        server.thread.join().unwrap();
    }
}

#[test]
fn files_leave_by_way_of_memory() {
    let world = World::new();
    let content = pattern(700_001);
    let path = world.file("content", &content);
    let file = Arc::new(Fd::new(std::fs::File::open(path).unwrap().into()));
    let expected = [b"head", &content[5..], b"between", &content[..100], b"tail"].concat();
    let length = expected.len();
    let server = serve_tls(acceptor(&world.leaf(LEAF)), true, move |mut tls| {
        let mut received = vec![0; length];
        tls.read_exact(&mut received).unwrap();
        tls.write_all(b"done").unwrap();
        received
    });
    let mut client = Client::open(server.socket, &world.client(), "localhost");
    let part = |offset, len| Piece::File(FilePart { file: file.clone(), offset, len });
    client.outbox.push(b"head".to_vec());
    client.outbox.push(part(5, content.len() as u64 - 5));
    client.outbox.push(b"between".to_vec());
    client.outbox.push(part(0, 100));
    client.outbox.push(b"tail".to_vec());
    client.run(|client| client.received == b"done");
    assert!(client.outbox.is_empty());
    assert!(server.thread.join().unwrap().unwrap() == expected);
}

#[test]
fn a_write_that_can_not_go_on_breaks_the_connection() {
    let world = World::new();
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let server = serve_tls(acceptor(&world.leaf(LEAF)), true, move |_tls| wait.recv().unwrap_err());
    let client = Client::open(server.socket, &world.client(), "localhost");
    while client.stream.write(&[0; 10_000]) != Moved::WouldBlock {}
    assert_eq!(client.stream.write(&[0; 9_999]), Moved::Broken);
    assert!(client.stream.why_broken().is_some());
    drop(go);
    server.thread.join().unwrap();
}

#[test]
fn errors_that_others_left_behind_are_not_ours() {
    let world = World::new();
    let litter = || BigNum::from_dec_str("no number").unwrap_err().put();
    let server = serve_tls(acceptor(&world.leaf(LEAF)), false, |mut tls| {
        let mut buffer = [0; 5];
        tls.read_exact(&mut buffer).unwrap();
        tls.write_all(&buffer).unwrap();
    });
    let mut client = Client::new(server.socket, &world.client(), "localhost");
    loop {
        litter();
        match client.stream.handshake() {
            Handshake::Done => break,
            Handshake::WouldBlock => _ = client.event(),
            Handshake::Failed(reason) => panic!("{reason}"),
        }
    }
    litter();
    assert_eq!(client.stream.write(b"hello"), Moved::Bytes(5));
    loop {
        litter();
        match client.stream.read(&mut [0; 10]) {
            Moved::Bytes(5) => break,
            Moved::WouldBlock => _ = client.event(),
            moved => panic!("{moved:?}"),
        }
    }
    assert!(ErrorStack::get().errors().is_empty());
}

#[test]
fn connections_move_between_threads() {
    let world = World::new();
    let server = serve_tls(acceptor(&world.leaf(LEAF)), false, |mut tls| {
        let mut text = String::new();
        tls.read_to_string(&mut text).unwrap();
        text
    });
    let client = Mutex::new(Client::open(server.socket, &world.client(), "localhost"));
    for _ in 0..4 {
        std::thread::scope(|scope| {
            scope.spawn(|| assert_eq!(client.lock().unwrap().stream.write(b"x"), Moved::Bytes(1)));
        });
    }
    client.into_inner().unwrap().stream.finish_writing();
    assert_eq!(server.thread.join().unwrap().unwrap(), "xxxx");
}

#[test]
fn a_plain_stream_needs_no_handshake() {
    let server = serve(false, |mut socket| socket.read(&mut [0]).unwrap());
    let stream = Stream::new(Fd::new(server.socket.into()));
    assert_eq!(stream.handshake(), Handshake::Done);
    assert!(stream.short_read_empties() && stream.short_write_fills());
    assert_eq!((stream.why_broken(), stream.alpn()), (None, None));
    stream.flush_own();
    stream.say_end();
    stream.finish_writing();
    assert_eq!(server.thread.join().unwrap(), 0);
}
