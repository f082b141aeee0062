//! Two kinds of client behind a wire that breaks: one that speaks the protocol by hand, and the feed.

use std::sync::LazyLock;

use futures_util::{SinkExt as _, StreamExt as _};
use skytower_api_client::endpoint::{Credentials, Endpoint, Origin, Secret};
use skytower_api_client::feed::{Feed, FeedEvent, FeedHandle, Link};
use skytower_api_client::session::Session;
use skytower_api_client::wire::{
    Caller, ClientMessage, SUBPROTOCOL_JSON, SUBPROTOCOL_ZSTD, ServerMessage,
};
use skytower_api_client::{Kind, Text};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{self, Message};

use super::oracle::{Mirror, World};
use super::proxy::Proxy;
use super::{Running, Socket, within};

static DICTIONARY: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../assets/wire-v1.dict");
    std::fs::read(path).unwrap()
});

/// The text that a frame carries, unpacked without the code under test.
pub fn text_of(frame: &Message) -> Option<String> {
    match frame {
        Message::Text(text) => Some(text.to_string()),
        Message::Binary(bytes) => {
            let mut unpacked = zstd::bulk::Decompressor::with_dictionary(&DICTIONARY).unwrap();
            let text = unpacked.decompress(bytes, 64 << 20).unwrap();
            Some(String::from_utf8(text).unwrap())
        }
        _ => None,
    }
}

/// Somebody who watches.
pub struct Client {
    pub mirror: Mirror,
    pub proxy: Proxy,
    token: String,
    speaker: Speaker,
}

enum Speaker {
    Raw {
        protocol: &'static str,
        socket: Option<Box<Socket>>,
    },
    Feed {
        handle: FeedHandle,
        events: mpsc::Receiver<FeedEvent>,
        greeted: bool,
    },
}

fn feed(url: &str, token: &str, kinds: &[Kind]) -> Speaker {
    let endpoint = Endpoint {
        url: url.to_owned(),
        credentials: Credentials::Bearer(Secret::new(token)),
        origin: Origin::Flag,
    };
    let (handle, events) = Feed::spawn(Session::new(endpoint), kinds.to_vec());
    Speaker::Feed {
        handle,
        events,
        greeted: false,
    }
}

impl Client {
    pub async fn json(server: &Running, kinds: Vec<Kind>) -> Self {
        Self::raw(server, SUBPROTOCOL_JSON, kinds).await
    }

    pub async fn zstd(server: &Running, kinds: Vec<Kind>) -> Self {
        Self::raw(server, SUBPROTOCOL_ZSTD, kinds).await
    }

    async fn raw(server: &Running, protocol: &'static str, kinds: Vec<Kind>) -> Self {
        Self {
            proxy: Proxy::to(&server.url).await,
            mirror: Mirror::new(kinds),
            token: server.token.clone(),
            speaker: Speaker::Raw {
                protocol,
                socket: None,
            },
        }
    }

    pub async fn feed(server: &Running, kinds: Vec<Kind>) -> Self {
        let proxy = Proxy::to(&server.url).await;
        Self {
            speaker: feed(&proxy.url, &server.token, &kinds),
            mirror: Mirror::new(kinds),
            token: server.token.clone(),
            proxy,
        }
    }

    /// Other kinds: a cursor does not name them, so the copy is brought anew.
    pub fn want(&mut self, kinds: Vec<Kind>) {
        self.mirror.cursor = None;
        match &mut self.speaker {
            Speaker::Raw { socket, .. } => *socket = None,
            speaker @ Speaker::Feed { .. } => {
                *speaker = feed(&self.proxy.url, &self.token, &kinds);
            }
        }
        self.mirror.kinds = kinds;
        self.mirror.you = None;
    }

    /// Takes what comes next, over as many connections as it takes.
    pub async fn hear(&mut self, world: &World) {
        match &mut self.speaker {
            Speaker::Feed {
                handle,
                events,
                greeted,
            } => match within(events.recv()).await.unwrap() {
                FeedEvent::Hello(hello) => {
                    self.mirror.greet(&hello, !*greeted);
                    *greeted = true;
                }
                FeedEvent::Message(message) => {
                    let json = serde_json::to_string(&message).unwrap();
                    self.mirror.take(message, &json, world);
                }
                FeedEvent::Link(Link::Lost { .. }) => {
                    *greeted = false;
                    handle.retry_now();
                }
                FeedEvent::Link(Link::Refused(problem)) => panic!("{problem}"),
                FeedEvent::Link(_) => {}
            },
            Speaker::Raw { protocol, socket } => {
                let Some(open) = socket else {
                    let opened = connect(&self.proxy, &self.token, protocol, &mut self.mirror);
                    // Where the wire was cut in the handshake: again.
                    *socket = within(opened).await.ok().map(Box::new);
                    return;
                };
                match within(open.next()).await {
                    None | Some(Err(_) | Ok(Message::Close(_))) => *socket = None,
                    Some(Ok(frame)) => {
                        let Some(json) = text_of(&frame) else { return };
                        let message = ServerMessage::decode(&json).unwrap().unwrap();
                        self.mirror.take(message, &json, world);
                    }
                }
            }
        }
    }

    /// Reads until the server has told who the caller is now.
    pub async fn knows(&mut self, caller: &Caller, world: &World) {
        while self.mirror.you.as_ref() != Some(caller) {
            self.hear(world).await;
        }
    }

    /// Reads until the copy has everything up to a milestone.
    pub async fn reaches(&mut self, milestone: &Text, world: &World) {
        while !self.mirror.has_reached(milestone) {
            self.hear(world).await;
        }
    }
}

async fn connect(
    proxy: &Proxy,
    token: &str,
    protocol: &'static str,
    mirror: &mut Mirror,
) -> Result<Socket, tungstenite::Error> {
    let url = format!("{}/api/v1/watch", proxy.url.replace("http", "ws"));
    let mut request = url.into_client_request()?;
    let headers = request.headers_mut();
    headers.insert("sec-websocket-protocol", HeaderValue::from_static(protocol));
    let token = HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
    headers.insert("authorization", token);
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await?;
    let hello = loop {
        let frame = socket.next().await;
        let frame = frame.unwrap_or(Err(tungstenite::Error::ConnectionClosed))?;
        if let Some(json) = text_of(&frame) {
            break ServerMessage::decode(&json).unwrap().unwrap();
        }
    };
    let ServerMessage::Hello(hello) = hello else {
        panic!("no hello first but {hello:?}");
    };
    mirror.greet(&hello, true);
    let subscribe = ClientMessage::Subscribe {
        kinds: mirror.kinds.clone(),
        since: mirror.cursor.clone(),
    };
    let subscribe = serde_json::to_string(&subscribe).unwrap();
    socket.send(Message::text(subscribe)).await?;
    Ok(socket)
}
