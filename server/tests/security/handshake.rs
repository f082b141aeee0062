//! Who may talk to the server at all: origins, hosts, heads of requests, and what answers carry.

use std::io::Write;
use std::sync::{Arc, Mutex};

use skytower_api_client::wire::SUBPROTOCOL_JSON;
use skytower_server::config::{ProxyConfig, TlsConfig};
use skytower_server::{Config, StartError};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::fmt::MakeWriter;

use crate::raw::{Answer, KEY, Raw, UPGRADE, ask, get, host, token};
use crate::support::{Running, administrator, start, start_with};

#[tokio::test]
async fn case_01_a_page_of_another_site_gets_no_further() {
    let server = start().await;
    for origin in ["http://evil.example", "null", "https://localhost"] {
        let origin = format!("Origin: {origin}\r\n");
        let mut raw = Raw::connect(&server).await;
        let answer = raw.upgrade(&server, &origin).await;
        assert_eq!(answer.status, 403, "{answer:?}");
        assert!(answer.body.contains("foreign_origin"));
        let answer = ask(&server, "/api/v1/status", &(origin + &token(&server))).await;
        assert_eq!(answer.status, 403);
    }
    // What a page's own name leads to here after it was changed.
    let rebound = format!(
        "GET /api/v1/status HTTP/1.1\r\nHost: evil.example\r\n{}\r\n",
        token(&server)
    );
    let mut raw = Raw::connect(&server).await;
    raw.send(rebound.as_bytes()).await;
    assert_eq!(raw.answer().await.unwrap().status, 421);
    server.stop().await;
}

#[tokio::test]
async fn case_03_a_client_without_an_origin_comes_in_with_its_token_and_not_with_a_cookie() {
    let server = start().await;
    let mut raw = Raw::connect(&server).await;
    assert_eq!(raw.upgrade(&server, "").await.status, 101);
    let cookie = format!("Cookie: token={}\r\n", server.token);
    let answer = ask(&server, "/api/v1/status", &cookie).await;
    assert_eq!(answer.status, 401);
    server.stop().await;
}

/// Everything that is logged in this process, at every level.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn case_04_a_token_in_the_address_is_no_credential_and_in_no_log() {
    let log = Log::default();
    // For the whole process: what one thread sets up for itself, the others' may keep from it.
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(log.clone())
        .init();
    let server = start().await;
    let secret = &server.token;
    for path in [
        "/api/v1/status",
        "/api/v1/jobs",
        "/api/v1/watch",
        "/no/such",
        "/metrics",
    ] {
        for name in ["token", "access_token", "authorization"] {
            let path = format!("{path}?{name}={secret}");
            let answer = ask(&server, &path, "").await;
            assert_eq!(answer.status, 401, "{answer:?}");
            assert!(!answer.body.contains(secret) && !answer.head.contains(secret));
            let both = ask(&server, &path, &token(&server)).await;
            assert!(!both.body.contains(secret), "{}", both.body);
        }
    }
    let secret = secret.clone();
    server.stop().await;
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("serving") && !log.contains(&secret), "{log}");
}

/// One request, as its bytes are; the answer, and whatever comes after it.
async fn exchange(server: &Running, bytes: &[u8]) -> (Option<Answer>, String) {
    let mut raw = Raw::connect(server).await;
    raw.send(bytes).await;
    let answer = raw.answer().await;
    (answer, raw.rest().await)
}

#[tokio::test]
async fn case_15_a_head_that_two_servers_could_read_in_two_ways_is_refused() {
    let server = start_with(Arc::new(tempfile::tempdir().unwrap()), |config| {
        config.deadlines.head = std::time::Duration::from_millis(500);
    })
    .await
    .unwrap();
    let known = token(&server);
    let health = |headers: &str| get(&server, "/api/health", &(known.clone() + headers));
    let post = |headers: &str, body: &str| {
        let line = "POST /api/v1/requests HTTP/1.1\r\n";
        let json = "Content-Type: application/json\r\n";
        format!("{line}{}{known}{json}{headers}\r\n{body}", host(&server))
    };
    let hidden = get(&server, "/api/health", "");
    let chunked = format!("0\r\n\r\n{hidden}");
    let watch = |version: &str, more: &str| {
        let upgrade = UPGRADE.replace("13", version);
        let protocol = format!("Sec-WebSocket-Protocol: {SUBPROTOCOL_JSON}\r\n");
        get(
            &server,
            "/api/v1/watch",
            &format!("{known}{upgrade}{KEY}{protocol}{more}"),
        )
    };
    let cases = [
        (
            "64 KiB in one header",
            health(&format!("X-A: {}\r\n", "a".repeat(70_000))),
            431,
        ),
        (
            "thousands of headers",
            health(&"X-A: b\r\n".repeat(5_000)),
            431,
        ),
        ("a folded line", health("X-A: b\r\n c\r\n"), 400),
        ("a space before the colon", health("X-A : b\r\n"), 400),
        (
            "a bare line feed in a value",
            health("X-A: b\nX-B\r\n"),
            400,
        ),
        ("a NUL", health("X-A: \0\r\n"), 400),
        ("two hosts", health(&host(&server)), 400),
        ("two credentials", health(&known), 400),
        ("two keys of a websocket", watch("13", KEY), 400),
        ("a websocket of another version", watch("12", ""), 400),
        (
            "no host",
            "GET /api/health HTTP/1.1\r\n\r\n".to_owned(),
            421,
        ),
        (
            "two lengths",
            post("Content-Length: 3\r\nContent-Length: 5\r\n", "{}"),
            400,
        ),
        ("no length", post("Content-Length: +2\r\n", "{}"), 400),
        (
            "a length and chunks",
            post(
                "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
                &chunked,
            ),
            411,
        ),
        (
            "chunks and a length",
            post(
                "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
                &chunked,
            ),
            411,
        ),
        (
            "chunks",
            post("Transfer-Encoding: chunked\r\n", &chunked),
            411,
        ),
        (
            "no chunks",
            post("Transfer-Encoding: xchunked\r\n", &chunked),
            400,
        ),
    ];
    for (name, request, status) in cases {
        let (answer, after) = exchange(&server, request.as_bytes()).await;
        let answer = answer.unwrap_or_else(|| panic!("{name}: no answer"));
        assert_eq!(answer.status, status, "{name}: {answer:?}");
        assert!(
            after.is_empty(),
            "{name}: something was read as a second request: {after}"
        );
    }
    server.stop().await;
}

#[tokio::test]
async fn case_15_other_protocols_and_endless_heads_get_no_further() {
    let server = start().await;
    let mut endless = format!("GET /api/health HTTP/1.1\r\n{}", host(&server));
    endless.extend(std::iter::repeat_n("X-Long: aaaaaaaaaaaaaaaa\r\n", 50_000));
    let old = get(
        &server,
        "/api/v1/watch",
        &format!("{}{UPGRADE}{KEY}", token(&server)),
    );
    for (name, request) in [
        (
            "HTTP/2 that was not asked for",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
        ),
        (
            "a websocket over HTTP/1.0",
            old.replace("HTTP/1.1", "HTTP/1.0"),
        ),
        ("HTTP/3", old.replace("HTTP/1.1", "HTTP/3.0")),
        ("TLS on a plain port", "\x16\x03\x01\x02".to_owned()),
        ("a megabyte of headers", endless),
    ] {
        let (answer, after) = exchange(&server, request.as_bytes()).await;
        let status = answer.map(|answer| answer.status);
        assert!(
            status.is_none_or(|status| (400..600).contains(&status)),
            "{name}: {status:?}"
        );
        assert!(after.is_empty(), "{name}: {after}");
    }
    assert_eq!(ask(&server, "/api/health", "").await.status, 200);
    server.stop().await;
}

#[tokio::test]
async fn case_17_an_address_that_others_can_reach_wants_accounts_and_encryption() {
    let try_with = async |change: &dyn Fn(&mut Config)| {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config {
            listen: Some("0.0.0.0:0".parse().unwrap()),
            home: folder.path().to_owned(),
            accounts: true,
            ..Config::default()
        };
        change(&mut config);
        let stop = CancellationToken::new();
        stop.cancel();
        skytower_server::run(config, stop).await
    };
    let refused = try_with(&|_| {}).await.unwrap_err();
    assert!(matches!(refused, StartError::InTheClear(_)));
    let told = refused.to_string();
    for way in [
        "[tls]",
        "--tls-certificate",
        "[proxy]",
        "plain_http",
        "--plain-http",
    ] {
        assert!(told.contains(way), "{told}");
    }
    let six = try_with(&|config| config.listen = Some("[::]:0".parse().unwrap())).await;
    assert!(matches!(six, Err(StartError::InTheClear(_))));
    for alone in [
        &(|config: &mut Config| config.plain_http = true) as &dyn Fn(&mut Config),
        &|config| config.tls = Some(TlsConfig::default()),
        &|config| config.proxy = Some(proxy()),
    ] {
        let without = try_with(&|config| {
            alone(config);
            config.accounts = false;
        })
        .await;
        assert!(matches!(without, Err(StartError::NoAccounts(_))));
    }
    try_with(&|config| config.plain_http = true).await.unwrap();
    try_with(&|config| config.proxy = Some(proxy()))
        .await
        .unwrap();
    // Loopback in the other family is nobody else's either.
    let six = try_with(&|config| {
        config.listen = Some("[::1]:0".parse().unwrap());
        config.accounts = false;
    })
    .await;
    assert!(matches!(six, Ok(()) | Err(StartError::Listen { .. })));
}

fn proxy() -> ProxyConfig {
    ProxyConfig {
        addresses: vec!["127.0.0.1".parse().unwrap()],
        ..ProxyConfig::default()
    }
}

#[tokio::test]
async fn case_34_what_a_proxy_says_counts_from_the_proxy_alone() {
    let folder = || Arc::new(tempfile::tempdir().unwrap());
    let behind = start_with(folder(), |config| {
        config.proxy = Some(proxy());
        config.hosts = vec!["tower.example.com".to_owned()];
    })
    .await
    .unwrap();
    let open = start_with(folder(), |config| {
        config.hosts = vec!["tower.example.com".to_owned()];
    })
    .await
    .unwrap();
    let status = async |server: &Running, origin: &str, proto: &str| {
        let mut raw = Raw::connect(server).await;
        let request = format!(
            "GET /api/v1/status HTTP/1.1\r\nHost: tower.example.com\r\nOrigin: {origin}\r\n{proto}{}\r\n",
            token(server)
        );
        raw.send(request.as_bytes()).await;
        raw.answer().await.unwrap().status
    };
    let (secure, said) = ("https://tower.example.com", "X-Forwarded-Proto: https\r\n");
    assert_eq!(status(&behind, secure, said).await, 200);
    assert_eq!(status(&behind, secure, "").await, 403);
    assert_eq!(status(&behind, "http://tower.example.com", said).await, 403);
    assert_eq!(status(&open, secure, said).await, 403);
    assert_eq!(
        status(&open, secure, "X_Forwarded_Proto: https\r\n").await,
        403
    );
    behind.stop().await;
    open.stop().await;
}

#[tokio::test]
async fn case_45_no_other_site_is_given_leave() {
    let server = start().await;
    let origin = "Origin: http://evil.example\r\nAccess-Control-Request-Method: POST\r\n";
    for headers in [origin.to_owned(), origin.to_owned() + &token(&server)] {
        let request = get(&server, "/api/v1/requests", &headers).replace("GET", "OPTIONS");
        let (answer, _) = exchange(&server, request.as_bytes()).await;
        let answer = answer.unwrap();
        assert_eq!(answer.status, 403);
        assert!(!answer.head.contains("access-control"), "{}", answer.head);
    }
    let own = format!("Origin: {}\r\n{}", server.url, token(&server));
    let answer = ask(&server, "/api/v1/status", &own).await;
    assert_eq!(answer.status, 200);
    assert!(!answer.head.contains("access-control"), "{}", answer.head);
    server.stop().await;
}

#[tokio::test]
async fn case_46_every_answer_says_that_it_is_no_page() {
    let server = start().await;
    server.caller_is(&administrator()).await;
    let known = token(&server);
    let evil = "Origin: http://evil.example\r\n";
    for (path, headers, status) in [
        ("/api/health", "", 200),
        ("/api/health", &known, 200),
        ("/api/v1/status", &known, 200),
        ("/api/v1/status", "", 401),
        ("/metrics", &known, 200),
        ("/no/such", &known, 404),
        ("/api/health", evil, 403),
        ("/api/v1/watch", &known, 400),
    ] {
        let answer = ask(&server, path, headers).await;
        assert_eq!(answer.status, status, "{path} {answer:?}");
        for line in [
            "x-content-type-options: nosniff\r\n",
            "cache-control: no-store\r\n",
            "content-security-policy: default-src 'none'; frame-ancestors 'none'\r\n",
        ] {
            assert!(answer.head.contains(line), "{path}: {}", answer.head);
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn case_47_nobody_reads_measurements_without_being_let_in() {
    let server = start().await;
    for path in ["/metrics", "/debug", "/openapi.json", "/"] {
        assert_eq!(ask(&server, path, "").await.status, 401, "{path}");
    }
    server.stop().await;
}
