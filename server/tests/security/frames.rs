//! Frames that no client should send, as the Autobahn test suite has them, and those that it should.

use serde_json::Value;

use crate::raw::{Raw, close, frame, header};
use crate::support::{Running, start, start_with};

const CONTINUE: u8 = 0x00;
const TEXT: u8 = 0x01;
const BINARY: u8 = 0x02;
const CLOSE: u8 = 0x08;
const PING: u8 = 0x09;
const PONG: u8 = 0x0a;
const WHOLE: u8 = 0x80;
const KIB: usize = 1024;

const SUBSCRIBE: &[u8] = br#"{"type":"subscribe"}"#;

/// What the server says to these bytes: the code of its `error`, and that of its close frame.
async fn said_to(server: &Running, bytes: &[u8]) -> (Option<String>, Option<u16>) {
    let mut raw = Raw::watch(server).await;
    raw.send(bytes).await;
    let mut problem = None;
    while let Some(frame) = raw.frame().await {
        match frame.opcode {
            TEXT => {
                let message: Value = serde_json::from_str(&frame.text()).unwrap();
                if message["type"] == "error" {
                    problem = message["code"].as_str().map(str::to_owned);
                }
            }
            CLOSE => {
                let code = frame.close_code();
                // The answer that lets the server go at once.
                raw.send(&self::frame(WHOLE | CLOSE, &frame.payload)).await;
                return (problem, code);
            }
            _ => {}
        }
    }
    (problem, None)
}

#[tokio::test]
async fn case_20_a_frame_that_breaks_the_protocol_is_answered_with_1002() {
    let server = start().await;
    let mut cases = vec![
        ("unmasked", vec![WHOLE | TEXT, 2, b'h', b'i']),
        ("fragmented ping", frame(PING, b"a")),
        ("fragmented pong", frame(PONG, b"a")),
        ("fragmented close", frame(CLOSE, &close(1000, b""))),
        ("ping of 126 bytes", frame(WHOLE | PING, &[b'a'; 126])),
        (
            "close of 126 bytes",
            frame(WHOLE | CLOSE, &close(1000, &[b'a'; 124])),
        ),
        ("continuation without start", frame(WHOLE | CONTINUE, b"a")),
        ("continuation without start or end", frame(CONTINUE, b"a")),
        (
            "a message within another",
            [frame(TEXT, b"a"), frame(WHOLE | TEXT, b"b")].concat(),
        ),
    ];
    for bit in [0x40, 0x20, 0x10] {
        cases.push(("reserved bit", frame(WHOLE | bit | TEXT, SUBSCRIBE)));
        cases.push(("reserved bit of a ping", frame(WHOLE | bit | PING, b"")));
    }
    for opcode in (3..8).chain(11..16) {
        cases.push(("reserved opcode", frame(WHOLE | opcode, b"")));
    }
    for (name, bytes) in cases {
        let said = said_to(&server, &bytes).await;
        assert_eq!(
            said,
            (Some("bad_message".into()), Some(1002)),
            "{name}: {:x?}",
            &bytes[..2]
        );
    }
    server.stop().await;
}

#[tokio::test]
async fn case_20_a_close_frame_that_is_none_is_answered_with_1002_and_a_right_one_with_itself() {
    let server = start().await;
    let code_of = async |payload: &[u8]| said_to(&server, &frame(WHOLE | CLOSE, payload)).await.1;
    assert_eq!(code_of(b"\x03").await, Some(1002), "half a code");
    for code in [0, 999, 1005, 1006, 1015, 1016, 2999, 5000, 65535] {
        assert_eq!(code_of(&close(code, b"")).await, Some(1002), "{code}");
    }
    for code in [1000, 1001, 1003, 1007, 1011, 3000, 3999, 4000, 4999] {
        assert_eq!(
            code_of(&close(code, "adieu ✓".as_bytes())).await,
            Some(code),
            "{code}"
        );
    }
    let mut raw = Raw::watch(&server).await;
    raw.send(&frame(WHOLE | CLOSE, b"")).await;
    assert_eq!(raw.frame_of(CLOSE).await.unwrap().payload, b"");
    assert!(raw.is_closed().await);
    server.stop().await;
}

#[tokio::test]
async fn case_20_what_is_no_text_is_answered_with_1007() {
    let server = start().await;
    let (half, other) = ("✓".as_bytes().split_at(1).0, b"\xff");
    for (name, bytes) in [
        ("a message", frame(WHOLE | TEXT, b"\"\xc3\x28\"")),
        ("a surrogate", frame(WHOLE | TEXT, b"\xed\xa0\x80")),
        (
            "too large a character",
            frame(WHOLE | TEXT, b"\xf4\x90\x80\x80"),
        ),
        ("an overlong one", frame(WHOLE | TEXT, b"\xc0\xaf")),
        ("an unfinished one", frame(WHOLE | TEXT, half)),
        (
            "within a character that two fragments share",
            [frame(TEXT, half), frame(WHOLE | CONTINUE, other)].concat(),
        ),
        (
            "an unfinished one at the end of fragments",
            [frame(TEXT, b"a"), frame(WHOLE | CONTINUE, half)].concat(),
        ),
        (
            "the reason of a close",
            frame(WHOLE | CLOSE, &close(1000, b"\xc3\x28")),
        ),
    ] {
        let said = said_to(&server, &bytes).await;
        assert_eq!(said, (Some("bad_message".into()), Some(1007)), "{name}");
    }
    server.stop().await;
}

/// The most memory that this process had addresses for, in KiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:"));
    let kib = line.unwrap().trim().trim_end_matches(" kB");
    kib.parse().unwrap()
}

#[tokio::test]
async fn case_19_too_large_a_message_is_answered_with_1009_and_takes_no_memory() {
    let server = start().await;
    let before = peak();
    let large = vec![b'a'; 64 * KIB + 1];
    let half = vec![b'a'; 40 * KIB];
    for (name, bytes) in [
        ("a frame", frame(WHOLE | TEXT, &large)),
        ("a binary frame", frame(WHOLE | BINARY, &large)),
        (
            "fragments",
            [frame(TEXT, &half), frame(WHOLE | CONTINUE, &half)].concat(),
        ),
        ("64 GiB that were announced", header(WHOLE | TEXT, 1 << 36)),
        ("half of everything", header(WHOLE | TEXT, 1 << 63)),
        ("everything", header(WHOLE | BINARY, u64::MAX)),
        ("a ping", header(WHOLE | PING, 1 << 36)),
    ] {
        let said = said_to(&server, &bytes).await;
        assert_eq!(said, (Some("too_large".into()), Some(1009)), "{name}");
    }
    let grown = peak() - before;
    assert!(grown < 32 << 20, "{grown} KiB");
    server.stop().await;
}

#[tokio::test]
async fn case_20_what_is_right_goes_through() {
    let server = start().await;
    let mut raw = Raw::watch(&server).await;
    let (first, rest) = SUBSCRIBE.split_at(7);
    let (second, third) = rest.split_at(1);
    raw.send(
        &[
            frame(WHOLE | PONG, b"unasked"),
            frame(TEXT, first),
            frame(WHOLE | PING, &[b'p'; 125]),
            frame(CONTINUE, b""),
            frame(CONTINUE, second),
            frame(WHOLE | PING, b""),
            frame(WHOLE | CONTINUE, third),
        ]
        .concat(),
    )
    .await;
    assert_eq!(raw.frame_of(PONG).await.unwrap().payload, [b'p'; 125]);
    let ready = loop {
        let frame = raw.frame().await.unwrap();
        if frame.opcode == TEXT {
            break frame.text();
        }
        assert_eq!((frame.opcode, frame.payload.len()), (PONG, 0));
    };
    assert!(ready.contains(r#""type":"ready""#), "{ready}");
    // One byte at a time.
    for byte in frame(WHOLE | PING, "é✓".as_bytes()) {
        raw.send(&[byte]).await;
    }
    assert_eq!(raw.frame_of(PONG).await.unwrap().payload, "é✓".as_bytes());
    server.stop().await;
}

#[tokio::test]
async fn case_20_what_is_well_framed_and_no_message_is_told_and_closed_with_1008() {
    let server = start().await;
    for (bytes, code) in [
        (frame(WHOLE | TEXT, b""), "bad_message"),
        (frame(WHOLE | TEXT, b"[]"), "bad_message"),
        (frame(WHOLE | BINARY, SUBSCRIBE), "bad_message"),
        (
            frame(WHOLE | TEXT, br#"{"type":"refresh","key":"a/job/1"}"#),
            "no_subscription",
        ),
    ] {
        let said = said_to(&server, &bytes).await;
        assert_eq!(said, (Some(code.into()), Some(1008)));
    }
    server.stop().await;
}

#[tokio::test]
async fn case_22_more_messages_than_allowed_of_whatever_kind_end_the_connection() {
    let folder = std::sync::Arc::new(tempfile::tempdir().unwrap());
    let server = start_with(folder, |config| config.limits.messages_per_second = 10).await;
    let server = server.unwrap();
    let ping = frame(WHOLE | PING, b"12345678");
    let pong = frame(WHOLE | PONG, b"");
    let unknown = frame(WHOLE | TEXT, br#"{"type":"dance"}"#);
    for flood in [&ping, &pong, &unknown] {
        let mut raw = Raw::watch(&server).await;
        raw.send(&frame(WHOLE | TEXT, SUBSCRIBE)).await;
        raw.send(&flood.repeat(10_000)).await;
        let (mut pongs, mut problem) = (0, String::new());
        let closed = loop {
            let frame = raw.frame().await.expect("told, and not cut off");
            match frame.opcode {
                PONG => pongs += 1,
                TEXT => problem = frame.text(),
                _ => break frame,
            }
        };
        assert_eq!(closed.close_code(), Some(1008));
        assert!(
            problem.contains("too_many_messages") && problem.contains("hint"),
            "{problem}"
        );
        // The burst, and what time has allowed since: far fewer than were sent.
        assert!(pongs < 5_000, "{pongs} answers");
    }
    server.stop().await;
}

#[tokio::test]
async fn case_23_compression_is_not_agreed_on() {
    let server = start().await;
    let mut raw = Raw::connect(&server).await;
    let offered = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";
    let answer = raw.upgrade(&server, offered).await;
    assert_eq!(answer.status, 101);
    assert!(
        !answer.head.contains("sec-websocket-extensions"),
        "{}",
        answer.head
    );
    // A frame that is compressed all the same has a bit that nobody agreed on.
    raw.frame().await.unwrap();
    raw.send(&frame(WHOLE | 0x40 | TEXT, SUBSCRIBE)).await;
    assert_eq!(raw.frame_of(CLOSE).await.unwrap().close_code(), Some(1002));
    server.stop().await;
}
