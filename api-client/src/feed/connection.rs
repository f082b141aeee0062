//! One connection after another.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::{HeaderValue, Request, header};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::cursor::{Gap, Progress};
use super::{Command, FeedEvent, Link};
use crate::backoff::Backoff;
use crate::codec::{self, MAX_MESSAGE};
use crate::endpoint::Endpoint;
use crate::key::Key;
use crate::kind::Kind;
use crate::rest::{ClientError, path};
use crate::session::Session;
use crate::text::Text;
use crate::time::EpochMs;
use crate::wire::{
    CLOSE_SIGNED_OUT, ClientMessage, Hello, PROTOCOL, Problem, SUBPROTOCOL_JSON, SUBPROTOCOL_ZSTD,
    ServerMessage,
};

/// A connection has to be there, and the server has to have said hello, within this time.
const CONNECT: Duration = Duration::from_secs(10);
/// How often the round trip is measured.
const PING: Duration = Duration::from_secs(5);
/// The server speaks at least every five seconds: three missed heartbeats are a lost link.
const SILENCE: Duration = Duration::from_secs(15);
/// A refusal is looked at again this much later: an account may have been made meanwhile.
const REFUSED_AGAIN: Duration = Duration::from_secs(30);
/// And at last only so often: a password that is wrong counts as an attempt each time.
const REFUSED_LAST: Duration = Duration::from_mins(10);
/// Compressed frames are smaller than what they hold.
const MAX_FRAME: usize = MAX_MESSAGE / 4;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// How a connection ended.
enum End {
    /// Nobody listens to the feed any more.
    Unwanted,
    /// It broke, or the server closed it.
    Lost(Text),
    /// The server does not want it.
    Refused(Problem),
    /// The reader asked for a new one.
    Again,
}

impl From<Gap> for End {
    fn from(gap: Gap) -> Self {
        End::Lost(gap.0.into())
    }
}

pub(super) struct Watcher {
    session: Session,
    kinds: Vec<Kind>,
    events: mpsc::Sender<FeedEvent>,
    commands: mpsc::UnboundedReceiver<Command>,
    progress: Progress,
    focused: BTreeSet<Key>,
    backoff: Backoff,
    /// For what the server refuses.
    refusals: Backoff,
}

impl Watcher {
    pub(super) fn new(
        session: Session,
        kinds: Vec<Kind>,
        events: mpsc::Sender<FeedEvent>,
        commands: mpsc::UnboundedReceiver<Command>,
    ) -> Self {
        Self {
            session,
            kinds,
            events,
            commands,
            progress: Progress::default(),
            focused: BTreeSet::new(),
            backoff: Backoff::new(Duration::from_millis(250), Duration::from_secs(15)),
            refusals: Backoff::new(REFUSED_AGAIN, REFUSED_LAST),
        }
    }

    pub(super) async fn run(mut self) {
        let mut refused = false;
        loop {
            // While refused, the refusal stays on the screen through the quiet tries.
            let attempt = self.backoff.attempt() + 1;
            if !refused && !self.tell(Link::Connecting { attempt }).await {
                return;
            }
            let wait = match self.connect_and_watch().await {
                End::Unwanted => return,
                End::Again => continue,
                End::Refused(problem) => {
                    refused = true;
                    if !self.tell(Link::Refused(problem)).await {
                        return;
                    }
                    self.refusals.next(random())
                }
                End::Lost(reason) => {
                    refused = false;
                    let wait = self.backoff.next(random());
                    let now = EpochMs::now();
                    let link = Link::Lost {
                        reason,
                        since: now,
                        retry_at: EpochMs(now.0 + wait.as_millis() as i64),
                        attempt: self.backoff.attempt(),
                    };
                    if !self.tell(link).await {
                        return;
                    }
                    wait
                }
            };
            if !self.pause(wait).await {
                return;
            }
        }
    }

    async fn tell(&self, link: Link) -> bool {
        self.events.send(FeedEvent::Link(link)).await.is_ok()
    }

    /// Waits for the next try, or until the reader does not want to wait. False when it is gone.
    async fn pause(&mut self, wait: Duration) -> bool {
        let until = Instant::now() + wait;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(until) => return true,
                () = self.events.closed() => return false,
                command = self.commands.recv() => match command {
                    None => return false,
                    Some(Command::Retry) => return true,
                    Some(command) => { self.note(&command); }
                },
            }
        }
    }

    /// Remembers what outlives a connection.
    fn note(&mut self, command: &Command) {
        match command {
            Command::Focus(key) => {
                self.focused.insert(key.clone());
            }
            Command::Unfocus(key) => {
                self.focused.remove(key);
            }
            Command::StartOver => self.progress.forget(),
            Command::Refresh(_) | Command::Retry => {}
        }
    }

    async fn connect_and_watch(&mut self) -> End {
        // From the second try on, the server may have to be found anew.
        if self.backoff.attempt() > 0
            && let Err(error) = self.session.relocate().await
        {
            return ended(&error);
        }
        let ended = match self.connect().await {
            Ok((socket, hello)) => match self.watch(socket, hello).await {
                Ok(never) => match never {},
                Err(end) => end,
            },
            Err(end) => end,
        };
        // A server that took the place of the old one has other credentials, and somebody may have
        // signed in anew beside this.
        match ended {
            End::Refused(problem) if problem.status != 429 && self.session.refused().await => {
                End::Again
            }
            ended => ended,
        }
    }

    async fn connect(&mut self) -> Result<(Socket, Hello), End> {
        let endpoint = self.session.endpoint();
        let opening = async {
            let request = handshake(&endpoint).map_err(End::Refused)?;
            let config = WebSocketConfig::default()
                .read_buffer_size(16 * 1024)
                .write_buffer_size(0)
                .max_write_buffer_size(256 * 1024)
                .max_message_size(Some(MAX_FRAME))
                .max_frame_size(Some(MAX_FRAME));
            let (mut socket, _) =
                tokio_tungstenite::connect_async_with_config(request, Some(config), true)
                    .await
                    .map_err(|error| failed(&endpoint, error))?;
            loop {
                match next(&mut socket, &endpoint).await? {
                    Frame::Message(ServerMessage::Hello(hello)) => return Ok((socket, hello)),
                    Frame::Message(ServerMessage::Error(problem)) => return Err(given_up(problem)),
                    Frame::Message(_) => {
                        return Err(End::Lost("the server did not say hello first".into()));
                    }
                    Frame::Pong(_) | Frame::Nothing => {}
                }
            }
        };
        tokio::select! {
            () = self.events.closed() => Err(End::Unwanted),
            opened = tokio::time::timeout(CONNECT, opening) => opened.unwrap_or_else(|_| {
                Err(End::Lost(format!("{} does not answer", endpoint.shown()).into()))
            }),
        }
    }

    async fn watch(
        &mut self,
        mut socket: Socket,
        hello: Hello,
    ) -> Result<std::convert::Infallible, End> {
        if hello.protocol != PROTOCOL {
            let detail = format!(
                "the server {} speaks version {} of the protocol, this client version {PROTOCOL}",
                hello.version, hello.protocol
            );
            return Err(End::Refused(
                Problem::new("version_mismatch", 400, detail).hint("upgrade the older of the two"),
            ));
        }
        let endpoint = self.session.endpoint();
        let continues = self.progress.begin(&hello);
        let mut clock_offset_ms = hello.at.since(EpochMs::now());
        let mut round_trip = None;
        let mut live = continues;
        self.hand_over(FeedEvent::Hello(hello)).await?;
        let since = self.progress.cursor().cloned();
        let kinds = self.kinds.clone();
        send(&mut socket, &ClientMessage::Subscribe { kinds, since }).await?;
        for key in self.focused.clone() {
            send(&mut socket, &ClientMessage::Focus { key }).await?;
        }
        if live {
            self.live(round_trip, clock_offset_ms).await?;
        }

        let mut pings = tokio::time::interval(PING);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut asked: Option<(u64, Instant)> = None;
        let mut number = 0u64;
        let mut heard = Instant::now();
        loop {
            tokio::select! {
                () = self.events.closed() => {
                    let _ = socket.close(None).await;
                    return Err(End::Unwanted);
                }
                command = self.commands.recv() => {
                    let Some(command) = command else {
                        let _ = socket.close(None).await;
                        return Err(End::Unwanted);
                    };
                    self.note(&command);
                    let message = match command {
                        Command::Focus(key) => ClientMessage::Focus { key },
                        Command::Unfocus(key) => ClientMessage::Unfocus { key },
                        Command::Refresh(key) => ClientMessage::Refresh { key },
                        Command::Retry => continue,
                        Command::StartOver => return Err(End::Again),
                    };
                    send(&mut socket, &message).await?;
                }
                _ = pings.tick() => {
                    number += 1;
                    asked = Some((number, Instant::now()));
                    let ping = Message::Ping(number.to_be_bytes().to_vec().into());
                    socket.send(ping).await.map_err(|error| failed(&endpoint, error))?;
                }
                () = tokio::time::sleep_until(heard + SILENCE) => {
                    let silence = format!("nothing heard for {} s", SILENCE.as_secs());
                    return Err(End::Lost(silence.into()));
                }
                frame = next(&mut socket, &endpoint) => {
                    match frame? {
                        Frame::Message(message) => {
                            if let ServerMessage::Error(problem) = message {
                                return Err(given_up(problem));
                            }
                            if let ServerMessage::Heartbeat { at, .. } = message {
                                let way = round_trip.unwrap_or(Duration::ZERO) / 2;
                                clock_offset_ms =
                                    at.since(EpochMs::now()) + way.as_millis() as i64;
                            }
                            let complete = self.progress.follow(&message)?;
                            self.backoff.reset();
                            self.refusals.reset();
                            let event = match message {
                                ServerMessage::Hello(hello) => FeedEvent::Hello(hello),
                                message => FeedEvent::Message(message),
                            };
                            self.hand_over(event).await?;
                            if complete && !live {
                                live = true;
                                self.live(round_trip, clock_offset_ms).await?;
                            }
                        }
                        Frame::Pong(answered) => {
                            if let Some((number, at)) = asked.take_if(|(number, _)| *number == answered) {
                                let _ = number;
                                round_trip = Some(at.elapsed());
                                if live {
                                    self.live(round_trip, clock_offset_ms).await?;
                                }
                            }
                        }
                        Frame::Nothing => {}
                    }
                    // Taken after the hand-over: a slow reader is not a silent server.
                    heard = Instant::now();
                }
            }
        }
    }

    async fn live(&self, round_trip: Option<Duration>, clock_offset_ms: i64) -> Result<(), End> {
        self.hand_over(FeedEvent::Link(Link::Live {
            round_trip,
            clock_offset_ms,
        }))
        .await
    }

    async fn hand_over(&self, event: FeedEvent) -> Result<(), End> {
        self.events.send(event).await.map_err(|_| End::Unwanted)
    }
}

/// What came in.
enum Frame {
    Message(ServerMessage),
    Pong(u64),
    /// Something that is not for us.
    Nothing,
}

async fn next(socket: &mut Socket, endpoint: &Endpoint) -> Result<Frame, End> {
    let Some(frame) = socket.next().await else {
        return Err(End::Lost("the server closed the connection".into()));
    };
    let decoded = match frame.map_err(|error| failed(endpoint, error))? {
        Message::Text(text) => codec::decode_text(&text),
        Message::Binary(bytes) => codec::decode_binary(&bytes),
        Message::Pong(payload) => {
            return Ok(
                <[u8; 8]>::try_from(&payload[..]).map_or(Frame::Nothing, |number| {
                    Frame::Pong(u64::from_be_bytes(number))
                }),
            );
        }
        Message::Close(Some(frame)) if u16::from(frame.code) == CLOSE_SIGNED_OUT => {
            let reason = frame.reason.to_string();
            return Err(End::Refused(signed_out(endpoint, &reason)));
        }
        Message::Close(frame) => {
            let reason = frame.map_or_else(String::new, |frame| frame.reason.to_string());
            return Err(End::Lost(if reason.is_empty() {
                "the server closed the connection".into()
            } else {
                format!("the server closed the connection: {reason}").into()
            }));
        }
        Message::Ping(_) | Message::Frame(_) => return Ok(Frame::Nothing),
    };
    match decoded {
        Ok(Some(message)) => Ok(Frame::Message(message)),
        Ok(None) => Ok(Frame::Nothing),
        Err(error) => Err(End::Lost(format!("the server sent {error}").into())),
    }
}

async fn send(socket: &mut Socket, message: &ClientMessage) -> Result<(), End> {
    // Our own types: maps have string keys and nothing fails to serialise.
    let json = serde_json::to_string(message).unwrap_or_default();
    socket
        .send(Message::text(json))
        .await
        .map_err(|error| End::Lost(format!("the connection broke: {error}").into()))
}

fn handshake(endpoint: &Endpoint) -> Result<Request<()>, Problem> {
    let wrong =
        |what: &str| Problem::new("bad_endpoint", 400, format!("{what}: {}", endpoint.shown()));
    let tail = endpoint
        .url
        .strip_prefix("http")
        .ok_or_else(|| wrong("not an http address"))?;
    let mut request = format!("ws{tail}{}", path::WATCH)
        .into_client_request()
        .map_err(|_| wrong("not an address"))?;
    let headers = request.headers_mut();
    headers.extend(crate::rest::own_headers());
    let offered = HeaderValue::from_str(&format!("{SUBPROTOCOL_ZSTD}, {SUBPROTOCOL_JSON}"));
    if let Ok(offered) = offered {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, offered);
    }
    if let Some((name, value)) = endpoint.credentials.header() {
        let mut value =
            HeaderValue::from_str(&value).map_err(|_| wrong("credentials that cannot be sent"))?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(request)
}

/// The credentials of an open connection count no more.
fn signed_out(endpoint: &Endpoint, reason: &str) -> Problem {
    let detail = match reason {
        "" => "your credentials count no more",
        reason => reason,
    };
    Problem::new("not_signed_in", 401, detail).hint(format!(
        "sign in again: skytower api login -e {}",
        endpoint.shown()
    ))
}

/// The server said why it ends this.
fn given_up(problem: Problem) -> End {
    match problem.status {
        401 | 403 => End::Refused(problem),
        _ => End::Lost(problem.to_string().into()),
    }
}

fn ended(error: &ClientError) -> End {
    if error.is_passing() {
        return End::Lost(error.to_string().into());
    }
    End::Refused(match error {
        ClientError::Problem(problem) => problem.clone(),
        other => {
            let problem = Problem::new("not_connected", 0, other.to_string());
            match other.hint() {
                Some(hint) => problem.hint(hint),
                None => problem,
            }
        }
    })
}

fn failed(endpoint: &Endpoint, error: tungstenite::Error) -> End {
    let url = endpoint.shown();
    match error {
        tungstenite::Error::Http(response) => {
            let body = response.body().as_deref().unwrap_or_default();
            let body = String::from_utf8_lossy(&body[..body.len().min(64 * 1024)]);
            let status = response.status();
            let error = crate::rest::refusal(&url, status, response.headers(), &body);
            match error {
                ClientError::NotSignedIn { ref detail, .. } => End::Refused(
                    Problem::new("not_signed_in", 401, detail.clone())
                        .hint(error.hint().unwrap_or_default()),
                ),
                // To be asked less often is what it wants.
                ClientError::TooMany { ref detail, .. } => End::Refused(
                    Problem::new("too_many_attempts", 429, detail.clone())
                        .hint(error.hint().unwrap_or_default()),
                ),
                ClientError::Problem(problem) if !status.is_server_error() => End::Refused(problem),
                other => End::Lost(other.to_string().into()),
            }
        }
        tungstenite::Error::Io(error) => {
            let error = ClientError::of_socket(&url, &error);
            ended(&error)
        }
        tungstenite::Error::Tls(error) => ended(&ClientError::Unreachable {
            url,
            why: crate::rest::Unreachable::Tls,
            detail: error.to_string().into(),
        }),
        tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed => {
            End::Lost("the server closed the connection".into())
        }
        other => End::Lost(format!("the connection to {url} broke: {other}").into()),
    }
}

/// A number in 0..1 that differs between processes and tries: spreading, not secrecy.
fn random() -> f64 {
    use std::hash::{BuildHasher as _, Hasher as _};
    let drawn = std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish();
    (drawn >> 11) as f64 / (1u64 << 53) as f64
}
