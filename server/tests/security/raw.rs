//! Connections on which every byte is the test's own.

use skytower_api_client::wire::SUBPROTOCOL_JSON;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{Running, within};

/// A request's end of line.
const END: &str = "\r\n";
/// The mask of every frame: bits of all kinds.
const MASK: [u8; 4] = [0x5a, 0xc3, 0x0f, 0x91];

pub(crate) struct Raw {
    stream: TcpStream,
    read: Vec<u8>,
}

/// An answer over HTTP.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// In lower case.
    pub(crate) head: String,
    pub(crate) body: String,
}

/// A frame of a websocket.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) opcode: u8,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.payload.clone()).unwrap()
    }

    pub(crate) fn close_code(&self) -> Option<u16> {
        let code = self.payload.get(..2)?.try_into().ok()?;
        (self.opcode == 8).then(|| u16::from_be_bytes(code))
    }
}

pub(crate) fn address(server: &Running) -> String {
    server.url.split_once("://").unwrap().1.to_owned()
}

pub(crate) fn host(server: &Running) -> String {
    format!("Host: {}{END}", address(server))
}

pub(crate) fn token(server: &Running) -> String {
    format!("Authorization: Bearer {}{END}", server.token)
}

/// A whole request without a body.
pub(crate) fn get(server: &Running, path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1{END}{}{headers}{END}", host(server))
}

/// One request on a connection of its own.
pub(crate) async fn ask(server: &Running, path: &str, headers: &str) -> Answer {
    let mut raw = Raw::connect(server).await;
    raw.send(get(server, path, headers).as_bytes()).await;
    raw.answer().await.expect("no answer")
}

pub(crate) const UPGRADE: &str =
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n";
pub(crate) const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

impl Raw {
    pub(crate) async fn connect(server: &Running) -> Self {
        let stream = within(TcpStream::connect(address(server))).await.unwrap();
        let read = Vec::new();
        Self { stream, read }
    }

    /// A websocket after its handshake, and after the server has said hello.
    pub(crate) async fn watch(server: &Running) -> Self {
        let mut raw = Self::connect(server).await;
        let answer = raw.upgrade(server, "").await;
        assert_eq!(answer.status, 101, "{answer:?}");
        let hello = raw.frame().await.unwrap();
        assert!(hello.text().contains(r#""type":"hello""#));
        raw
    }

    /// The status of the answer; none when the server closes instead.
    pub(crate) async fn try_upgrade(&mut self, server: &Running) -> Option<u16> {
        self.begin_upgrade(server, "").await;
        self.answer().await.map(|answer| answer.status)
    }

    pub(crate) async fn upgrade(&mut self, server: &Running, headers: &str) -> Answer {
        self.begin_upgrade(server, headers).await;
        self.answer().await.expect("no answer")
    }

    async fn begin_upgrade(&mut self, server: &Running, headers: &str) {
        let protocol = format!("Sec-WebSocket-Protocol: {SUBPROTOCOL_JSON}{END}");
        let headers = format!("{}{UPGRADE}{KEY}{protocol}{headers}", token(server));
        let request = get(server, "/api/v1/watch", &headers);
        self.send(request.as_bytes()).await;
    }

    /// What is not taken any more is no fault: the server may have closed.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        let _ = within(self.stream.write_all(bytes)).await;
    }

    async fn more(&mut self) -> bool {
        let read = within(self.stream.read_buf(&mut self.read)).await;
        read.is_ok_and(|some| some > 0)
    }

    async fn take(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.read.len() < count {
            if !self.more().await {
                return None;
            }
        }
        Some(self.read.drain(..count).collect())
    }

    /// None when the server closes instead.
    pub(crate) async fn answer(&mut self) -> Option<Answer> {
        let end = loop {
            let end = self.read.windows(4).position(|four| four == b"\r\n\r\n");
            match end {
                Some(end) => break end + 4,
                None if !self.more().await => return None,
                None => {}
            }
        };
        let head: Vec<u8> = self.read.drain(..end).collect();
        let head = String::from_utf8(head).unwrap().to_lowercase();
        let status = head.split(' ').nth(1)?.parse().ok()?;
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |length| length.parse().unwrap());
        let body = String::from_utf8(self.take(length).await?).unwrap();
        Some(Answer { status, head, body })
    }

    /// None when the connection ends.
    pub(crate) async fn frame(&mut self) -> Option<Frame> {
        let head = self.take(2).await?;
        assert_eq!(head[0] & 0xf0, 0x80, "whole, and no bit of an extension");
        assert_eq!(head[1] & 0x80, 0, "servers do not mask");
        let length = match head[1] {
            126 => {
                let bytes = self.take(2).await?.try_into().unwrap();
                usize::from(u16::from_be_bytes(bytes))
            }
            127 => u64::from_be_bytes(self.take(8).await?.try_into().unwrap()) as usize,
            length => usize::from(length),
        };
        Some(Frame {
            opcode: head[0] & 0x0f,
            payload: self.take(length).await?,
        })
    }

    /// The next frame of a kind; heartbeats and what else comes in between are of no concern.
    pub(crate) async fn frame_of(&mut self, opcode: u8) -> Option<Frame> {
        loop {
            let frame = self.frame().await?;
            if frame.opcode == opcode {
                return Some(frame);
            }
        }
    }

    /// Reads one byte, past what else is there; false at the end.
    pub(crate) async fn byte(&mut self) -> bool {
        let read = within(self.stream.read(&mut [0])).await;
        read.is_ok_and(|some| some > 0)
    }

    /// The connection ends without another word.
    pub(crate) async fn is_closed(&mut self) -> bool {
        while self.more().await {}
        self.read.is_empty()
    }

    /// What is left, until the connection ends.
    pub(crate) async fn rest(&mut self) -> String {
        String::from_utf8_lossy(&self.rest_bytes().await).into_owned()
    }

    pub(crate) async fn rest_bytes(&mut self) -> Vec<u8> {
        while self.more().await {}
        std::mem::take(&mut self.read)
    }
}

/// A client's frame: its first byte (final, reserved bits, opcode) as it is.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = header(first, payload.len() as u64);
    let masked = payload.iter().zip(MASK.iter().cycle());
    bytes.extend(masked.map(|(byte, mask)| byte ^ mask));
    bytes
}

/// A frame's beginning, with a length that may not be true.
pub(crate) fn header(first: u8, length: u64) -> Vec<u8> {
    let mut bytes = vec![first];
    match length {
        0..126 => bytes.push(0x80 | length as u8),
        126..0x1_0000 => {
            bytes.push(0x80 | 0x7e);
            bytes.extend((length as u16).to_be_bytes());
        }
        _ => {
            bytes.push(0x80 | 0x7f);
            bytes.extend(length.to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes
}

/// A close frame's payload.
pub(crate) fn close(code: u16, reason: &[u8]) -> Vec<u8> {
    [&code.to_be_bytes()[..], reason].concat()
}
