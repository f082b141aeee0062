//! Encryption by the server itself.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use skytower_api_client::endpoint::{Credentials, Endpoint, Origin, Secret};
use skytower_api_client::rest::Client;
use skytower_api_client::session::Session;
use skytower_api_client::wire::SUBPROTOCOL_JSON;
use skytower_server::config::TlsConfig;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::{Connector, connect_async_tls_with_config};

use crate::raw::{Raw, address};
use crate::support::{Running, job, start_with, upsert, within};

/// A certificate for localhost, in files.
struct Authority {
    certificate: String,
    key: String,
}

impl Authority {
    fn new() -> Self {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        Self {
            certificate: made.cert.pem(),
            key: made.signing_key.serialize_pem(),
        }
    }

    fn write(&self, folder: &Path) -> TlsConfig {
        let files = TlsConfig {
            certificate: folder.join("fullchain.pem"),
            key: folder.join("key.pem"),
        };
        // As tools do it: the one is there before the other.
        fs::write(&files.certificate, &self.certificate).unwrap();
        fs::write(&files.key, &self.key).unwrap();
        fs::set_permissions(&files.key, fs::Permissions::from_mode(0o600)).unwrap();
        files
    }

    fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap()
    }
}

/// A client that trusts these and nobody else.
fn trusting(all: &[&Authority], versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for authority in all {
        roots.add(authority.der()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

const BOTH: &[&SupportedProtocolVersion] = rustls::ALL_VERSIONS;

async fn server(authority: &Authority, folder: &TempDir, handshake: Duration) -> Running {
    let tls = authority.write(folder.path());
    let home = Arc::new(tempfile::tempdir().unwrap());
    let server = start_with(home, |config| {
        config.tls = Some(tls);
        config.deadlines.certificate = Duration::from_millis(20);
        config.deadlines.handshake = handshake;
    });
    server.await.unwrap()
}

async fn handshake(
    server: &Running,
    config: ClientConfig,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address(server)).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    within(TlsConnector::from(Arc::new(config)).connect(name, stream)).await
}

const A_MINUTE: Duration = Duration::from_mins(1);

#[tokio::test]
async fn case_16_new_protocols_are_spoken_and_old_ones_refused() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let server = server(&authority, &folder, A_MINUTE).await;
    assert!(
        server.url.starts_with("https://127.0.0.1:"),
        "{}",
        server.url
    );
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut config = trusting(&[&authority], &[version]);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let mut stream = handshake(&server, config).await.unwrap();
        let agreed = stream.get_ref().1;
        assert_eq!(agreed.protocol_version(), Some(version.version));
        assert_eq!(agreed.alpn_protocol(), Some(&b"http/1.1"[..]));
        let host = address(&server);
        let request =
            format!("GET /api/health HTTP/1.1\r\nHost: {host}\r\nOrigin: https://{host}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = [0; 15];
        within(stream.read_exact(&mut answer)).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200 OK");
    }
    // A client's hello of TLS 1.1, 1.0 and SSL 3, as it was written then: no extension, and the ciphers of the time.
    for minor in [2, 1, 0] {
        let body = [
            &[3, minor][..],
            &[7; 32],
            &[0],
            &[0, 4, 0xc0, 0x13, 0x00, 0x2f],
            &[1, 0],
        ]
        .concat();
        let hello = [&[1, 0, 0, body.len() as u8][..], &body].concat();
        let record = [&[22, 3, minor.min(1), 0, hello.len() as u8][..], &hello].concat();
        let mut raw = Raw::connect(&server).await;
        raw.send(&record).await;
        let said = raw.rest_bytes().await;
        // An alert (21), fatal (2), and no server's hello.
        assert!(
            said.is_empty() || (said[0] == 21 && said[5] == 2),
            "{said:?}"
        );
    }
    // And plain HTTP is not mistaken for anything.
    let mut raw = Raw::connect(&server).await;
    raw.send(b"GET /api/health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await;
    let said = raw.rest_bytes().await;
    assert!(!said.starts_with(b"HTTP"), "{said:?}");
    server.stop().await;
}

#[tokio::test]
async fn case_16_a_handshake_that_never_ends_is_cut_off() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let server = server(&authority, &folder, Duration::from_millis(50)).await;
    let mut raw = Raw::connect(&server).await;
    raw.send(&[22, 3, 1, 2, 0]).await;
    assert!(raw.is_closed().await);
    server.stop().await;
}

#[tokio::test]
async fn case_16_a_certificate_that_changes_is_read_again_and_open_websockets_go_on() {
    let (old, new) = (Authority::new(), Authority::new());
    let folder = tempfile::tempdir().unwrap();
    let server = server(&old, &folder, A_MINUTE).await;
    let mut request = format!("{}/api/v1/watch", server.url.replace("https", "wss"))
        .into_client_request()
        .unwrap();
    for (name, value) in [
        ("sec-websocket-protocol", SUBPROTOCOL_JSON.to_owned()),
        ("authorization", format!("Bearer {}", server.token)),
    ] {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    let connector = Connector::Rustls(Arc::new(trusting(&[&old], BOTH)));
    let (mut socket, _) = within(connect_async_tls_with_config(
        request,
        None,
        false,
        Some(connector),
    ))
    .await
    .unwrap();
    let hello = within(socket.next()).await.unwrap().unwrap();
    assert!(hello.to_text().unwrap().contains("hello"));
    futures_util::SinkExt::send(&mut socket, Message::text(r#"{"type":"subscribe"}"#))
        .await
        .unwrap();

    // A pair that does not fit changes nothing.
    fs::write(folder.path().join("fullchain.pem"), &new.certificate).unwrap();
    assert!(handshake(&server, trusting(&[&old], BOTH)).await.is_ok());
    new.write(folder.path());
    let turned = async {
        while handshake(&server, trusting(&[&new], BOTH)).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    within(turned).await;
    assert!(handshake(&server, trusting(&[&old], BOTH)).await.is_err());

    server
        .hub
        .commit([upsert(job(1, "default", "after the change"))]);
    let heard = async {
        loop {
            let message = socket.next().await.unwrap().unwrap();
            if message.to_text().unwrap().contains("after the change") {
                break;
            }
        }
    };
    within(heard).await;
    drop(socket);
    server.stop().await;
}

#[tokio::test]
async fn case_16_a_client_that_does_not_trust_it_is_told_so() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let server = server(&authority, &folder, A_MINUTE).await;
    let client = |url: String| {
        let endpoint = Endpoint {
            url,
            credentials: Credentials::Bearer(Secret::new(&*server.token)),
            origin: Origin::Flag,
        };
        Client::new(Session::new(endpoint)).unwrap()
    };
    let error = within(client(server.url.clone()).health())
        .await
        .unwrap_err();
    let told = error.to_string();
    assert!(
        told.contains("no secure connection") && told.contains("certificate"),
        "{told}"
    );
    // Without encryption it is told what is there instead.
    let plain = server.url.replace("https", "http");
    let error = within(client(plain).health()).await.unwrap_err();
    assert!(error.to_string().contains("https://"), "{error}");
    let other = Authority::new();
    let refused = handshake(&server, trusting(&[&other], BOTH))
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("certificate"), "{refused}");
    server.stop().await;
}
