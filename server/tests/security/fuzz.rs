//! Whatever comes from elsewhere is read or refused, and never ends the process or fills its memory.
//! `SKYTOWER_FUZZ_CASES` says how long to go on.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use proptest::prelude::*;
use skytower_api_client::codec::{self, DecodeError};
use skytower_api_client::endpoint::{Endpoint, Origin};
use skytower_api_client::query::Query;
use skytower_api_client::task::{self, Given};
use skytower_api_client::wire::ClientMessage;
use skytower_api_client::{Key, Kind};
use skytower_server::Config;
use skytower_server::config::{Network, ProxyConfig};
use skytower_server::http::address::{self, Own};
use skytower_server::http::proxy;
use skytower_server::logs::clean::Cleaner;

fn cases() -> ProptestConfig {
    let asked = std::env::var("SKYTOWER_FUZZ_CASES").ok();
    ProptestConfig {
        cases: asked.and_then(|asked| asked.parse().ok()).unwrap_or(256),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// Bytes of no kind.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..600)
}

/// Text out of pieces that mean something to one reader or another.
fn pieces() -> impl Strategy<Value = String> {
    let meant = proptest::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        "(",
        ")",
        ":",
        ",",
        "\"",
        "'",
        "\\",
        "\n",
        "\r",
        "\t",
        " ",
        "  ",
        "-",
        "- ",
        "~",
        "!",
        "!=",
        "<",
        ">=",
        "=",
        "@me",
        "f:",
        "or",
        "|",
        "*",
        "&a",
        "*a",
        "<<: ",
        "%YAML",
        "---\n",
        "...\n",
        "!!binary ",
        "name",
        "status",
        "age",
        "gpus",
        "1e999",
        "-0",
        "NaN",
        "null",
        "true",
        "80G",
        "2h",
        "9223372036854775808",
        "18446744073709551616",
        "0x1F",
        "run: ",
        "envs:\n",
        "  A: ",
        "setup: |\n",
        "resources:\n  ",
        "num_nodes: ",
        "\"type\":\"subscribe\"",
        "\"kinds\"",
        "\"since\":",
        "lab/job/1/0",
        "http://",
        "https://",
        "a:b@",
        "[::1]",
        "localhost",
        ":46590",
        "%00",
        "%",
        "?",
        "#",
        "/",
        "..",
        "é",
        "\u{202e}",
        "\u{1b}[31m",
        "\u{1b}]0;",
        "\u{7}",
        "\u{9b}",
        "\0",
        "😀",
        "(?i)",
        "a{9}",
        "[^",
        "$",
    ]);
    let piece = prop_oneof![
        6 => meant.prop_map(str::to_owned),
        1 => any::<String>(),
        1 => any::<char>().prop_map(String::from),
    ];
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

/// JSON that has the right form and odd contents.
fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<i64>().prop_map(|number| number.to_string()),
        any::<u64>().prop_map(|number| number.to_string()),
        any::<f64>().prop_map(|number| format!("{number:?}")),
        any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
        Just("99999999999999999999999999".to_owned()),
    ];
    let value = leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4)
                .prop_map(|all| format!("[{}]", all.join(","))),
            proptest::collection::vec((name(), inner), 0..4).prop_map(|all| {
                let all: Vec<_> = all.iter().map(|(k, v)| format!("\"{k}\":{v}")).collect();
                format!("{{{}}}", all.join(","))
            }),
        ]
    });
    // Names may come twice.
    let fields = proptest::collection::vec((name(), value), 0..6);
    let tag = proptest::sample::select(vec![
        "subscribe",
        "focus",
        "refresh",
        "hello",
        "snapshot",
        "delta",
        "heartbeat",
        "error",
        "dance",
    ]);
    (tag, fields).prop_map(|(tag, fields)| {
        let fields = fields.iter().map(|(k, v)| format!(",\"{k}\":{v}"));
        format!("{{\"type\":\"{tag}\"{}}}", fields.collect::<String>())
    })
}

fn name() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(vec![
        "type", "kinds", "since", "key", "revision", "epoch", "view", "changes", "upsert", "rows",
        "kind", "at", "code", "status", "you", "protocol", "name", "job_id",
    ])
}

fn compressed(json: &str) -> Vec<u8> {
    let dictionary = concat!(env!("CARGO_MANIFEST_DIR"), "/../assets/wire-v1.dict");
    let dictionary = std::fs::read(dictionary).unwrap();
    let mut packer = zstd::bulk::Compressor::with_dictionary(1, &dictionary).unwrap();
    packer.compress(json.as_bytes()).unwrap()
}

/// A cleaned log without `ESC [ … m`; any other escape sequence stays.
fn without_colours(clean: &str) -> String {
    let mut parts = clean.split("\u{1b}[");
    let mut rest = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let parameters = |c: char| c.is_ascii_digit() || matches!(c, ';' | ':');
        match part.trim_start_matches(parameters).strip_prefix('m') {
            Some(text) => rest += text,
            None => rest += &format!("\u{1b}[{part}"),
        }
    }
    rest
}

fn read_all(text: &str) {
    let _ = ClientMessage::decode(text);
    let _ = codec::decode_text(text);
    for kind in Kind::ALL {
        let _ = Query::parse(text, *kind);
    }
    let _ = Key::parse(text);
    if let Ok(endpoint) = Endpoint::parse(text, Origin::Flag) {
        let shown = format!("{:?} {}", endpoint, endpoint.shown());
        assert!(!shown.contains('\u{1b}'), "{shown:?}");
    }
    let _ = text.parse::<Network>();
    let given = Given {
        folder: "/tmp",
        envs: BTreeMap::new(),
        secrets: BTreeMap::new(),
    };
    let _ = task::parse("task.yaml", text, &given);
}

fn read_headers(values: &[Vec<u8>]) {
    let config = Config {
        hosts: vec!["tower.example.com".to_owned()],
        proxy: Some(ProxyConfig {
            addresses: vec!["127.0.0.0/8".parse().unwrap()],
            secret: Some(skytower_api_client::credentials::Secret::new("s")),
            user_header: Some("X-User".to_owned()),
            ..ProxyConfig::default()
        }),
        ..Config::default()
    };
    let names = [
        header::HOST,
        header::ORIGIN,
        HeaderName::from_static("x-forwarded-for"),
        HeaderName::from_static("x-forwarded-proto"),
        HeaderName::from_static("x-user"),
    ];
    let mut headers = HeaderMap::new();
    headers.insert(proxy::SECRET, HeaderValue::from_static("s"));
    for (i, value) in values.iter().enumerate() {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append(&names[i % names.len()], value);
        }
    }
    let peer: SocketAddr = "127.0.0.1:1".parse().unwrap();
    let before = config.proxy.as_ref();
    let own = Own::new(peer, &config);
    for secure in [true, false] {
        let _ = own.check(&headers, peer.ip(), secure);
    }
    let _ = address::check_single(&headers);
    let _ = proxy::client_address(peer, &headers, before);
    if let Some(Ok(person)) = proxy::identity(peer, &headers, before) {
        assert!(person.is_ascii() && person.trim() == person && !person.is_empty());
        assert!(!person.contains(char::is_control));
    }
    proxy::strip(&mut headers, "192.0.2.1".parse().unwrap(), before);
    assert!(!headers.keys().any(|name| name.as_str().starts_with("x-")));
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn case_27_bytes_of_no_kind_are_refused(bytes in bytes()) {
        let _ = codec::decode_binary(&bytes);
        read_all(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn case_27_text_that_nearly_means_something_is_read_or_refused(text in pieces()) {
        read_all(&text);
    }

    #[test]
    fn case_27_messages_of_the_right_form_are_read_or_refused(json in json()) {
        let _ = ClientMessage::decode(&json);
        let (text, binary) = (codec::decode_text(&json), codec::decode_binary(&compressed(&json)));
        prop_assert_eq!(text.is_ok(), binary.is_ok());
    }

    #[test]
    fn case_27_a_frame_with_a_few_other_bytes_is_read_or_refused(
        json in json(), changed in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        kept in any::<prop::sample::Index>(),
    ) {
        let mut frame = compressed(&json);
        for (at, byte) in changed {
            let at = at.index(frame.len());
            frame[at] = byte;
        }
        frame.truncate(kept.index(frame.len()) + 1);
        let _ = codec::decode_binary(&frame);
    }

    #[test]
    fn case_27_a_log_of_whatever_bytes_is_safe_and_the_same_in_any_pieces(
        bytes in prop_oneof![bytes(), pieces().prop_map(String::into_bytes)],
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..5),
    ) {
        let mut whole = Cleaner::new();
        let clean = whole.push(&bytes) + &whole.finish();
        let mut cuts: Vec<_> = cuts.iter().map(|at| at.index(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let mut pieces = Cleaner::new();
        let mut again = String::new();
        for two in cuts.windows(2) {
            again += &pieces.push(&bytes[two[0]..two[1]]);
        }
        again += &pieces.finish();
        prop_assert_eq!(&clean, &again);
        // Nothing that a terminal would obey but colours.
        let obeyed = |c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t');
        prop_assert!(!without_colours(&clean).contains(obeyed), "{:?}", clean);
        // Tabs and signs for what was taken out are longer than what they stand for, and not by much.
        prop_assert!(clean.len() <= bytes.len() * 8 + 64, "{} of {}", clean.len(), bytes.len());
    }

    #[test]
    fn case_27_headers_of_whatever_bytes_are_read_or_refused(
        values in proptest::collection::vec(
            prop_oneof![bytes(), pieces().prop_map(String::into_bytes)], 0..12,
        ),
    ) {
        read_headers(&values);
    }
}

/// The head of a zstd frame that says how long its contents are.
fn announced(length: u64) -> Vec<u8> {
    let magic = [0x28, 0xb5, 0x2f, 0xfd];
    // The length takes eight bytes; one segment, so that no window is told.
    let descriptor = 0xe0;
    [&magic[..], &[descriptor], &length.to_le_bytes()].concat()
}

#[test]
fn case_27_a_frame_that_announces_too_much_is_not_believed() {
    for length in [
        1 << 32,
        1 << 40,
        u64::MAX - 2,
        codec::MAX_MESSAGE as u64 + 1,
    ] {
        let refused = codec::decode_binary(&announced(length));
        assert!(matches!(refused, Err(DecodeError::Zstd(_))), "{length}");
    }
    // Less than there is: it stops where it said.
    let mut bomb = zstd::bulk::compress(&vec![b' '; 1 << 24], 3).unwrap();
    let told = announced(1 << 24);
    let head = zstd::zstd_safe::get_frame_content_size(&bomb).unwrap();
    assert_eq!(head, Some(1 << 24));
    bomb.splice(
        0..9,
        told[..4]
            .iter()
            .copied()
            .chain([0xa0])
            .chain(100_u32.to_le_bytes()),
    );
    assert!(codec::decode_binary(&bomb).is_err());
}

#[test]
fn case_27_deep_double_and_boundless_values_are_read_or_refused() {
    let deep = |open: &str, close: &str| open.repeat(10_000) + &close.repeat(10_000);
    let subscribe = |since: &str| format!(r#"{{"type":"subscribe","since":{since}}}"#);
    for json in [
        deep("[", "]"),
        deep(r#"{"a":"#, "}"),
        subscribe(&deep("[", "]")),
        subscribe("NaN"),
        subscribe("Infinity"),
        subscribe(r#"{"epoch":"e","view":"v","revision":9223372036854775808999}"#),
        subscribe(r#"{"epoch":"e","view":"v","revision":-1}"#),
        subscribe(r#"{"epoch":"e","epoch":"f","view":"v","revision":1}"#),
        r#"{"type":"subscribe","type":"focus"}"#.to_owned(),
        r#"{"type":"focus","key":"a/job/1","key":"b/job/2"}"#.to_owned(),
    ] {
        assert!(ClientMessage::decode(&json).is_err(), "{json:.80}");
        let _ = codec::decode_binary(&compressed(&json));
    }
    for text in [
        deep("(", ")"),
        "-".repeat(50_000),
        "!".repeat(50_000),
        "a or ".repeat(10_000),
        deep("[", "]"),
        deep("{a: ", "}"),
        "- ".repeat(10_000),
        (0..2_000)
            .map(|depth| format!("{}a:\n", " ".repeat(depth)))
            .collect(),
        format!(
            "a: &a [x]\n{}",
            (0..40)
                .map(|i| format!("b{i}: &b{i} [*a, *a]\n"))
                .collect::<String>()
        ),
        "http://".to_owned() + &"a:b@".repeat(10_000),
    ] {
        read_all(&text);
    }
}
