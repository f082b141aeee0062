//! A connection's socket, encrypted or not, with the place that it takes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::strangers::Peer;

/// What the kernel may hold for a client that does not read. Enough for a few megabytes per second
/// over a link with a tenth of a second of delay; the kernel doubles it.
const SEND_BUFFER: usize = 64 * 1024;
/// Not more than this waits unsent in the kernel: what is fresher is decided when there is room.
const UNSENT: u32 = 16 * 1024;
/// A watching client whose machine does not even acknowledge a heartbeat is gone after this. It would
/// hold its place for a quarter of an hour otherwise.
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

/// A connection's socket. Its place is taken as long as it is open, as a websocket too.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: Stream,
    peer: Peer,
    watched: bool,
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
            watched: false,
        }
    }

    pub(crate) fn encrypted(stream: TlsStream<TcpStream>, peer: Peer) -> Self {
        Self {
            stream: Stream::Encrypted(Box::new(stream)),
            peer,
            watched: false,
        }
    }

    fn tcp(&self) -> &TcpStream {
        match &self.stream {
            Stream::Plain(stream) => stream,
            Stream::Encrypted(stream) => stream.get_ref().0,
        }
    }

    /// A log may be read by somebody who has stopped to think; a websocket has its heartbeat.
    fn watch(&mut self) {
        self.watched = true;
        let socket = socket2::SockRef::from(self.tcp());
        if let Err(error) = socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED)) {
            tracing::debug!(%error, "a socket could not be tuned");
        }
    }

    fn written(&mut self) -> Pin<&mut (dyn AsyncWrite + Unpin + Send)> {
        if !self.watched && self.peer.is_upgraded() {
            self.watch();
        }
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream),
            Stream::Encrypted(stream) => Pin::new(&mut **stream),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, into),
            Stream::Encrypted(stream) => Pin::new(&mut **stream).poll_read(cx, into),
        }
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
    use crate::http::Strangers;
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;
    use tokio::time::Instant;

    #[tokio::test]
    async fn a_websocket_whose_machine_is_gone_is_given_up_and_a_log_that_waits_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let here = listener.local_addr().unwrap();
        let _client = TcpStream::connect(here).await.unwrap();
        let (stream, address) = listener.accept().await.unwrap();
        let all = Strangers::new(&Config::default());
        let peer = all.arrive(address, here, Instant::now()).unwrap();
        let mut socket = Socket::plain(stream, peer.clone());
        let patience = |socket: &Socket| {
            let tcp = socket2::SockRef::from(socket.tcp());
            tcp.tcp_user_timeout().unwrap()
        };
        let default = |patience: Option<Duration>| patience.is_none_or(|span| span.is_zero());
        socket.write_all(b"a").await.unwrap();
        assert!(default(patience(&socket)));
        peer.upgrade();
        socket.write_all(b"b").await.unwrap();
        assert_eq!(patience(&socket), Some(UNACKNOWLEDGED));
    }
}
