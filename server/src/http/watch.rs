//! The watching websocket: hello, subscribe, then everything that changes.
//!
//! A session holds a cursor and nothing else: what a client has not been sent yet is not queued, it is
//! asked for when the client can take it. So whoever reads slowly gets the present value of what
//! changed meanwhile, and costs no memory.

use std::ops::ControlFlow;
use std::pin::pin;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code};
use axum::response::Response;
use bytes::Bytes;
use futures_util::SinkExt as _;
use skytower_api_client::codec::{self, Encoding};
use skytower_api_client::policy::View;
use skytower_api_client::table::Since;
use skytower_api_client::wire::{
    CLOSE_SIGNED_OUT, Caller, ClientMessage, Cursor, Hello, MAX_CLIENT_MESSAGE, PROTOCOL, Problem,
    SUBPROTOCOL_JSON, SUBPROTOCOL_ZSTD, ServerMessage,
};
use skytower_api_client::{EpochMs, Key, Kind, Text};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::AppState;
use super::pace::Pace;
use super::problem::Failure;
use crate::attention::Gaze;
use crate::guest::{Guest, Standing};
use crate::hub::{Frames, Watcher};
use crate::server::VERSION;

/// A client has to say what it wants within this time.
const SUBSCRIBE_WITHIN: Duration = Duration::from_secs(10);
/// At most one write per client and tick: in a burst that is many times cheaper than one per change,
/// and the first change does not wait for it.
const TICK: Duration = Duration::from_millis(20);
/// A sign of life when nothing else was sent.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// A close frame has to be taken within this time.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);
/// tungstenite's own default of 128 KiB is paid by every idle connection.
const READ_BUFFER: usize = 4 * 1024;
/// Small messages that follow each other travel together: most of what a snapshot of a small table costs is
/// the calls that send it.
const WRITE_BUFFER: usize = 4 * 1024;

/// `GET /api/v1/watch`
pub(crate) async fn open(
    State(state): State<AppState>,
    Extension(guest): Extension<Guest>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Failure> {
    let upgrade = upgrade.map_err(|rejection| {
        Failure(
            Problem::new(
                "not_a_websocket",
                rejection.status().as_u16(),
                rejection.body_text(),
            )
            .hint("open it as a websocket, for instance with websocat"),
        )
    })?;
    let upgrade = upgrade.protocols([SUBPROTOCOL_ZSTD, SUBPROTOCOL_JSON]);
    let encoding = match upgrade
        .selected_protocol()
        .map(axum::http::HeaderValue::as_bytes)
    {
        Some(chosen) if chosen == SUBPROTOCOL_ZSTD.as_bytes() => Encoding::Zstd,
        Some(_) => Encoding::Json,
        None => {
            let sentence = "the client offers no subprotocol that this server speaks";
            let hint = format!("offer `{SUBPROTOCOL_JSON}` or `{SUBPROTOCOL_ZSTD}`");
            return Err(Failure(
                Problem::new("no_subprotocol", 400, sentence).hint(hint),
            ));
        }
    };
    Ok(upgrade
        .read_buffer_size(READ_BUFFER)
        // What is larger than this is on its way before the next is begun.
        .write_buffer_size(WRITE_BUFFER)
        .max_message_size(MAX_CLIENT_MESSAGE)
        .max_frame_size(MAX_CLIENT_MESSAGE)
        .on_upgrade(move |socket| async move {
            let now = Instant::now();
            let link = Link {
                socket,
                encoding,
                pace: Pace::new(state.config.limits.messages_per_second, now),
                open: state.open.clone(),
                state,
                sent_at: now,
            };
            link.run(guest).await;
        }))
}

/// Why a session ends.
#[derive(Debug)]
enum End {
    /// The connection broke.
    Gone,
    /// The client said goodbye, and is to be answered.
    Goodbye,
    /// The server ends.
    Stopping,
    /// The client did not read for too long.
    Stuck,
    /// The client did something wrong.
    Fault(u16, Problem),
}

/// The connection, and how messages travel on it.
struct Link {
    socket: WebSocket,
    encoding: Encoding,
    state: AppState,
    pace: Pace,
    sent_at: Instant,
    /// The server waits for this to be dropped when it ends.
    #[expect(dead_code, reason = "held, not read")]
    open: mpsc::Sender<()>,
}

impl Link {
    async fn run(mut self, guest: Guest) {
        let end = match self.session(&guest).await {
            ControlFlow::Break(end) => end,
            ControlFlow::Continue(never) => match never {},
        };
        match end {
            End::Gone => {}
            End::Goodbye => self.answer_goodbye().await,
            End::Stuck => {
                self.state.meters.stuck();
                tracing::info!("a client that did not read was closed");
            }
            End::Stopping => self.close(close_code::AWAY, "the server stops").await,
            End::Fault(code, problem) => {
                let reason = problem.code.to_string();
                tracing::info!(problem = %problem, "a client was closed");
                let last =
                    self.message(codec::encode(&ServerMessage::Error(problem), self.encoding));
                if let Ok(Ok(())) = timeout(CLOSE_WITHIN, self.socket.send(last)).await {
                    self.close(code, &reason).await;
                }
            }
        }
    }

    async fn close(&mut self, code: u16, reason: &str) {
        let frame = CloseFrame {
            code,
            reason: reason.into(),
        };
        let closing = async {
            if self.socket.send(Message::Close(Some(frame))).await.is_ok() {
                // Until the client has answered: whoever closes first may lose what is on its way.
                while let Some(Ok(_)) = self.socket.recv().await {}
            }
        };
        let _ = timeout(CLOSE_WITHIN, closing).await;
    }

    /// The answer is there already, with the code that it has to have: reading on sends it.
    async fn answer_goodbye(&mut self) {
        let answering = async { while let Some(Ok(_)) = self.socket.recv().await {} };
        let _ = timeout(CLOSE_WITHIN, answering).await;
    }

    async fn session(&mut self, guest: &Guest) -> ControlFlow<End, std::convert::Infallible> {
        let mut revisions = self.state.hub.changes();
        let caller = guest.caller().map_or_else(out, ControlFlow::Continue)?;
        self.say(&self.hello(&caller)).await?;
        let (kinds, since) = self.subscription().await?;
        let mut session = Session {
            view: View::of(&caller, &kinds),
            kinds,
            caller,
            standing: guest.standing(),
            at: None,
            void: false,
            gaze: self.state.attention.gaze(),
            _watcher: self.state.hub.watcher(),
        };
        session.at = since
            .filter(|since| {
                // The cursor's view is of the caller's rights; the kinds are asked for anew each time.
                since.epoch == *self.state.hub.epoch()
                    && since.view == View::of(&session.caller, &[]).name()
            })
            .map(|since| since.revision);
        revisions.mark_unchanged();
        // The rights may have changed since the handshake.
        session.standing.mark_changed();
        // What is waited for again and again is set up once: with a thousand clients that is what a
        // change costs beside the writing.
        let stop = self.state.stop.clone();
        let mut stopped = pin!(stop.cancelled());
        let mut beat = pin!(sleep_until(self.sent_at + HEARTBEAT));
        let mut write = pin!(sleep_until(Instant::now()));
        let mut waiting = true;
        loop {
            tokio::select! {
                biased;
                () = &mut stopped => return ControlFlow::Break(End::Stopping),
                changed = session.standing.changed() => {
                    if changed.is_err() {
                        return ControlFlow::Break(End::Stopping);
                    }
                    self.turn(&mut session).await?;
                    // A copy that cannot be turned, or was never complete, starts over; and what was held
                    // back is looked up again.
                    waiting = true;
                }
                message = self.socket.recv() => session.hear(self.read(message)?, &self.state)?,
                () = &mut write, if waiting => {
                    waiting = false;
                    revisions.mark_unchanged();
                    if self.bring_up_to_date(&mut session).await? {
                        write.as_mut().reset(self.sent_at + TICK);
                    }
                }
                changed = revisions.changed(), if !waiting => {
                    if changed.is_err() {
                        return ControlFlow::Break(End::Stopping);
                    }
                    if Instant::now() < write.deadline() {
                        waiting = true;
                    } else if self.bring_up_to_date(&mut session).await? {
                        write.as_mut().reset(self.sent_at + TICK);
                    }
                }
                () = &mut beat => {
                    if Instant::now() >= self.sent_at + HEARTBEAT {
                        self.beat(&mut session).await?;
                    }
                    beat.as_mut().reset(self.sent_at + HEARTBEAT);
                }
            }
        }
    }

    fn hello(&self, caller: &Caller) -> ServerMessage {
        ServerMessage::Hello(Hello {
            protocol: PROTOCOL,
            version: Text::from(VERSION),
            epoch: self.state.hub.epoch().clone(),
            revision: self.state.hub.revision(),
            view: View::of(caller, &[]).name(),
            you: caller.clone(),
            kinds: Kind::ALL.to_vec(),
            at: EpochMs::now(),
        })
    }

    /// What the client wants; nothing else is of use before it.
    async fn subscription(&mut self) -> ControlFlow<End, (Vec<Kind>, Option<Cursor>)> {
        let deadline = Instant::now() + SUBSCRIBE_WITHIN;
        let stop = self.state.stop.clone();
        loop {
            let heard = tokio::select! {
                () = stop.cancelled() => return ControlFlow::Break(End::Stopping),
                heard = timeout_at(deadline, self.socket.recv()) => heard,
            };
            let Ok(heard) = heard else {
                return fault(
                    "no_subscription",
                    "the client did not say what it wants to watch",
                );
            };
            match self.read(heard)? {
                Some(ClientMessage::Subscribe { kinds, since }) => {
                    return ControlFlow::Continue((kinds, since));
                }
                Some(_) => {
                    return fault("no_subscription", "the first message has to be `subscribe`");
                }
                None => {}
            }
        }
    }

    /// What a client said; none when it is of no concern.
    fn read(
        &mut self,
        heard: Option<Result<Message, axum::Error>>,
    ) -> ControlFlow<End, Option<ClientMessage>> {
        if matches!(heard, Some(Ok(_))) && !self.pace.take(Instant::now()) {
            let most = self.state.config.limits.messages_per_second;
            let sentence = format!("the client sent more than {most} messages in a second");
            let problem = Problem::new("too_many_messages", 429, sentence)
                .hint("say less at once, or raise `messages_per_second` in the configuration");
            return ControlFlow::Break(End::Fault(close_code::POLICY, problem));
        }
        let json = match heard {
            None => return ControlFlow::Break(End::Gone),
            Some(Ok(Message::Close(_))) => return ControlFlow::Break(End::Goodbye),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => return ControlFlow::Continue(None),
            Some(Ok(Message::Text(json))) => json,
            Some(Ok(Message::Binary(_))) => {
                return fault("bad_message", "clients speak in text frames");
            }
            Some(Err(error)) => return unreadable(&error),
        };
        match ClientMessage::decode(&json) {
            Ok(message) => ControlFlow::Continue(message),
            Err(error) => fault(
                "bad_message",
                &format!("a message that is not valid: {error}"),
            ),
        }
    }

    /// Sends what changed. Says whether anything was.
    async fn bring_up_to_date(&mut self, session: &mut Session) -> ControlFlow<End, bool> {
        let Frames { frames, revision } =
            self.state
                .hub
                .frames(&session.view, self.encoding, session.at);
        for (i, frame) in frames.iter().enumerate() {
            // Rights that were withdrawn since this was looked up, or in the middle of a long snapshot,
            // count from there on, however slowly it is read.
            if session.rights_changed() {
                // Nothing of this was sent, or the part of a snapshot that was is void.
                if i > 0 {
                    session.at = None;
                    session.void = true;
                }
                return ControlFlow::Continue(false);
            }
            self.send(frame.clone(), i + 1 < frames.len()).await?;
        }
        if !frames.is_empty() {
            session.at = Some(revision);
        }
        ControlFlow::Continue(!frames.is_empty())
    }

    /// A sign of life, which moves the client's cursor over changes that are not for it.
    async fn beat(&mut self, session: &mut Session) -> ControlFlow<End> {
        let Frames { frames, revision } =
            self.state
                .hub
                .frames(&session.view, self.encoding, session.at);
        if frames.is_empty() {
            let at = EpochMs::now();
            self.say(&ServerMessage::Heartbeat { revision, at }).await?;
            session.at = Some(revision);
        } else {
            self.bring_up_to_date(session).await?;
        }
        ControlFlow::Continue(())
    }

    /// The caller's rights changed: rows enter and leave at the same revision.
    async fn turn(&mut self, session: &mut Session) -> ControlFlow<End> {
        let caller = match &*session.standing.borrow_and_update() {
            // Rights that came back meanwhile change nothing, but a snapshot that was broken off is void.
            Standing::Inside(caller) if *caller == session.caller && !session.void => {
                return ControlFlow::Continue(());
            }
            Standing::Inside(caller) => caller.clone(),
            Standing::Out(problem) => return out(problem.clone()),
        };
        session.void = false;
        let view = View::of(&caller, &session.kinds);
        let old = std::mem::replace(&mut session.view, view);
        // The client names its view when it resumes: it hears of the new one before what is in it.
        self.say(&self.hello(&caller)).await?;
        session.caller = caller;
        if let Some(since) = session.at.filter(|_| old != session.view) {
            match self.state.hub.turn(&old, &session.view, since) {
                (Since::Nothing, _) => {}
                (Since::Reset, _) => session.at = None,
                // Looked up with rights that are others by now.
                (Since::Delta(_), _) if session.rights_changed() => session.at = None,
                (Since::Delta(changes), revision) => {
                    self.say(&ServerMessage::Delta {
                        since,
                        revision,
                        changes,
                    })
                    .await?;
                    session.at = Some(revision);
                }
            }
        }
        let (hub, view) = (&self.state.hub, &session.view);
        session
            .gaze
            .review(|key| hub.get(key).is_none_or(|row| view.sees(&row)));
        ControlFlow::Continue(())
    }

    async fn say(&mut self, message: &ServerMessage) -> ControlFlow<End> {
        self.send(codec::encode(message, self.encoding), false)
            .await
    }

    /// Sends a message; where `more` follows at once it may wait for that.
    async fn send(&mut self, frame: Bytes, more: bool) -> ControlFlow<End> {
        let size = frame.len();
        let message = self.message(frame);
        let socket = &mut self.socket;
        let sending = async {
            if more {
                socket.feed(message).await
            } else {
                socket.send(message).await
            }
        };
        // One that is not taken in time: its client counts as stuck.
        let within = self.state.config.deadlines.write;
        // Mostly there is room and it is done at once: then nothing else is looked at.
        let sent = tokio::select! {
            biased;
            sent = timeout(within, sending) => sent,
            () = self.state.stop.cancelled() => return ControlFlow::Break(End::Stopping),
        };
        match sent {
            Ok(Ok(())) => {
                self.state.meters.sent(size);
                self.sent_at = Instant::now();
                ControlFlow::Continue(())
            }
            Ok(Err(_)) => ControlFlow::Break(End::Gone),
            Err(_) => ControlFlow::Break(End::Stuck),
        }
    }

    fn message(&self, frame: Bytes) -> Message {
        match self.encoding {
            // serde_json writes nothing but UTF-8.
            Encoding::Json => Message::Text(Utf8Bytes::try_from(frame).unwrap_or_default()),
            Encoding::Zstd => Message::Binary(frame),
        }
    }
}

/// What is known of a client that watches.
struct Session {
    kinds: Vec<Kind>,
    caller: Caller,
    /// Who the caller is from now on.
    standing: watch::Receiver<Standing>,
    view: View,
    /// The revision of its copy; none before its first snapshot.
    at: Option<u64>,
    /// A snapshot was broken off; the next hello says so.
    void: bool,
    gaze: Gaze,
    _watcher: Watcher,
}

impl Session {
    /// The caller may see something else than what is being sent.
    fn rights_changed(&self) -> bool {
        // A credential that counts no more is forgotten, and nothing follows its last standing.
        self.standing.has_changed().unwrap_or(true)
            && match &*self.standing.borrow() {
                Standing::Inside(caller) => View::of(caller, &self.kinds) != self.view,
                Standing::Out(_) => true,
            }
    }

    fn hear(&mut self, message: Option<ClientMessage>, state: &AppState) -> ControlFlow<End> {
        // None: there is no such row (yet).
        let sees = |key: &Key| state.hub.get(key).map(|row| self.view.sees(&row));
        match message {
            Some(ClientMessage::Focus { key }) => {
                // A row that is not there may be looked at: after a restart the client knows more than the
                // server. To look at one that is not for this caller does nothing, and counts as much.
                let seen = sees(&key).unwrap_or(true);
                if !self.gaze.focus(key, seen) {
                    return fault("too_many_rows", "the client looks at too many rows at once");
                }
            }
            Some(ClientMessage::Unfocus { key }) => self.gaze.unfocus(&key),
            Some(ClientMessage::Refresh { key }) if sees(&key) == Some(true) => {
                self.gaze.refresh(&key);
            }
            Some(ClientMessage::Subscribe { .. }) => {
                return fault("subscribed_twice", "a connection subscribes once");
            }
            Some(ClientMessage::Refresh { .. }) | None => {}
        }
        ControlFlow::Continue(())
    }
}

/// Somebody who is nobody any more.
fn out<T>(problem: Problem) -> ControlFlow<End, T> {
    ControlFlow::Break(End::Fault(CLOSE_SIGNED_OUT, problem))
}

fn fault<T>(code: &str, sentence: &str) -> ControlFlow<End, T> {
    let problem = Problem::new(code, 400, sentence)
        .hint("the protocol is described in the project's documentation");
    ControlFlow::Break(End::Fault(close_code::POLICY, problem))
}

/// A broken connection ends in silence; a broken message is answered, with the code that RFC 6455 has
/// for it.
fn unreadable<T>(error: &axum::Error) -> ControlFlow<End, T> {
    let mut cause: &(dyn std::error::Error + 'static) = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    let words = error.to_string();
    if cause.is::<std::io::Error>() || words.contains("without closing handshake") {
        return ControlFlow::Break(End::Gone);
    }
    let (close, code, status) = if words.contains("too long") || words.contains("too large") {
        (close_code::SIZE, "too_large", 413)
    } else if words.contains("UTF-8") {
        (close_code::INVALID, "bad_message", 400)
    } else {
        (close_code::PROTOCOL, "bad_message", 400)
    };
    let sentence = format!("a message that cannot be read: {words}");
    ControlFlow::Break(End::Fault(close, Problem::new(code, status, sentence)))
}
