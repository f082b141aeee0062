//! A connection's socket, encrypted or not, with the place that it takes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};
use tokio_rustls::server::TlsStream;

use super::pace::Pace;
use super::strangers::Peer;

/// What the kernel may hold for a client that does not read. Enough for a few megabytes per second
/// over a link with a tenth of a second of delay; the kernel doubles it.
const SEND_BUFFER: usize = 64 * 1024;
/// Not more than this waits unsent in the kernel: what is fresher is decided when there is room.
const UNSENT: u32 = 16 * 1024;
/// A watching client whose machine does not even acknowledge a heartbeat is gone after this. It would
/// hold its place for a quarter of an hour otherwise.
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

/// A websocket is read this fast for each message that it may send in a second, in bytes. A message can
/// come in any number of pieces, which nobody counts; what is sent faster waits in the kernel.
const READ_PER_MESSAGE: u32 = 4 * 1024;

/// A connection's socket. Its place is taken as long as it is open, as a websocket too.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: Stream,
    peer: Peer,
    websocket: Option<Throttle>,
}

/// How fast a websocket is read.
#[derive(Debug)]
struct Throttle {
    pace: Pace,
    wait: Option<Pin<Box<Sleep>>>,
}

#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Encrypted(Box<TlsStream<TcpStream>>),
}

/// Makes a socket ready for what is pushed over it.
pub(crate) fn tune(stream: &TcpStream) {
    let socket = socket2::SockRef::from(stream);
    let tuned = socket
        .set_tcp_nodelay(true)
        .and_then(|()| socket.set_send_buffer_size(SEND_BUFFER))
        .and_then(|()| socket.set_tcp_notsent_lowat(UNSENT));
    if let Err(error) = tuned {
        tracing::debug!(%error, "a socket could not be tuned");
    }
}

impl Socket {
    pub(crate) fn plain(stream: TcpStream, peer: Peer) -> Self {
        Self {
            stream: Stream::Plain(stream),
            peer,
            websocket: None,
        }
    }

    pub(crate) fn encrypted(stream: TlsStream<TcpStream>, peer: Peer) -> Self {
        Self {
            stream: Stream::Encrypted(Box::new(stream)),
            peer,
            websocket: None,
        }
    }

    fn tcp(&self) -> &TcpStream {
        match &self.stream {
            Stream::Plain(stream) => stream,
            Stream::Encrypted(stream) => stream.get_ref().0,
        }
    }

    /// Looks whether it has become a websocket. A log may be read by somebody who has stopped to think;
    /// a websocket has its heartbeat.
    fn look(&mut self) {
        if self.websocket.is_some() || !self.peer.is_upgraded() {
            return;
        }
        let per_second = self.peer.messages_per_second();
        self.websocket = Some(Throttle {
            pace: Pace::new(per_second.saturating_mul(READ_PER_MESSAGE), Instant::now()),
            wait: None,
        });
        let socket = socket2::SockRef::from(self.tcp());
        if let Err(error) = socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED)) {
            tracing::debug!(%error, "a socket could not be tuned");
        }
    }

    fn written(&mut self) -> Pin<&mut (dyn AsyncWrite + Unpin + Send)> {
        self.look();
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream),
            Stream::Encrypted(stream) => Pin::new(&mut **stream),
        }
    }
}

impl Throttle {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(wait) = &mut self.wait {
            ready!(wait.as_mut().poll(cx));
            self.wait = None;
        }
        Poll::Ready(())
    }

    fn read(&mut self, bytes: usize) {
        let early = self.pace.owe(bytes, Instant::now());
        self.wait = (!early.is_zero()).then(|| Box::pin(sleep(early)));
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.look();
        let Self {
            stream, websocket, ..
        } = &mut *self;
        if let Some(throttle) = websocket {
            ready!(throttle.poll_ready(cx));
        }
        let before = into.filled().len();
        let read = match stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, into),
            Stream::Encrypted(stream) => Pin::new(&mut **stream).poll_read(cx, into),
        };
        if let Some(throttle) = websocket {
            throttle.read(into.filled().len() - before);
        }
        read
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.written().poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.written().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.written().poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.written().poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Encrypted(stream) => stream.is_write_vectored(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::config::Limits;
    use crate::http::Strangers;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    async fn pair(messages_per_second: u32) -> (TcpStream, Socket) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let here = listener.local_addr().unwrap();
        let client = TcpStream::connect(here).await.unwrap();
        let (stream, address) = listener.accept().await.unwrap();
        let all = Strangers::new(&Config {
            limits: Limits {
                messages_per_second,
                ..Limits::default()
            },
            ..Config::default()
        });
        let peer = all.arrive(address, here, Instant::now()).unwrap();
        (client, Socket::plain(stream, peer))
    }

    #[tokio::test]
    async fn a_websocket_that_sends_too_fast_is_left_to_wait_and_nothing_is_lost() {
        const SENT: usize = 16 * 1024;
        let (mut client, mut socket) = pair(1).await;
        let mut read = vec![0; SENT];
        client.write_all(&[b'a'; SENT]).await.unwrap();
        // What was a request's body is read as it comes.
        socket.read_exact(&mut read).await.unwrap();
        assert!(socket.websocket.is_none());
        socket.peer.upgrade();
        client.write_all(&[b'b'; SENT]).await.unwrap();
        socket.read_exact(&mut read).await.unwrap();
        assert_eq!(read, [b'b'; SENT]);
        // More than the three seconds' worth that may come at once: the rest has its time.
        assert!(socket.websocket.unwrap().wait.is_some());
    }

    #[tokio::test]
    async fn case_26_a_websocket_whose_machine_is_gone_is_given_up_and_a_log_that_waits_is_not() {
        let (_client, mut socket) = pair(1).await;
        let patience = |socket: &Socket| {
            let tcp = socket2::SockRef::from(socket.tcp());
            tcp.tcp_user_timeout().unwrap()
        };
        let default = |patience: Option<Duration>| patience.is_none_or(|span| span.is_zero());
        socket.write_all(b"a").await.unwrap();
        assert!(default(patience(&socket)));
        socket.peer.upgrade();
        socket.write_all(b"b").await.unwrap();
        assert_eq!(patience(&socket), Some(UNACKNOWLEDGED));
    }
}
