//! A wire that breaks where the test says: at once, or after so many more bytes from the server.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

struct Wire {
    target: Mutex<SocketAddr>,
    /// How many bytes from the server still go through; none means all.
    left: Mutex<Option<usize>>,
    cuts: watch::Sender<u64>,
}

/// Stands between one client and its server, on loopback.
pub struct Proxy {
    pub url: String,
    wire: Arc<Wire>,
    task: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn address(url: &str) -> SocketAddr {
    url.trim_start_matches("http://").parse().unwrap()
}

impl Proxy {
    pub async fn to(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let wire = Arc::new(Wire {
            target: Mutex::new(address(server)),
            left: Mutex::new(None),
            cuts: watch::Sender::new(0),
        });
        let shared = wire.clone();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let cut = shared.cuts.subscribe();
                tokio::spawn(carry(client, shared.clone(), cut));
            }
        });
        Self { url, wire, task }
    }

    /// The server is somewhere else from now on.
    pub fn lead_to(&self, server: &str) {
        *self.wire.target.lock().unwrap() = address(server);
    }

    /// Breaks what is open, now.
    pub fn cut(&self) {
        self.wire.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Breaks the connection that carries the last of so many more bytes from the server.
    pub fn cut_after(&self, bytes: usize) {
        *self.wire.left.lock().unwrap() = Some(bytes);
    }

    /// So many bytes went through, and the connection broke.
    pub fn has_cut(&self) -> bool {
        self.wire.left.lock().unwrap().is_none()
    }
}

async fn carry(client: TcpStream, wire: Arc<Wire>, mut cut: watch::Receiver<u64>) {
    let target = *wire.target.lock().unwrap();
    let Ok(server) = TcpStream::connect(target).await else {
        return;
    };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let down = async {
        let mut buffer = [0; 1024];
        while let Ok(read @ 1..) = from_server.read(&mut buffer).await {
            let (goes, last) = {
                let mut left = wire.left.lock().unwrap();
                match *left {
                    Some(few) if few <= read => {
                        *left = None;
                        (few, true)
                    }
                    Some(many) => {
                        *left = Some(many - read);
                        (read, false)
                    }
                    None => (read, false),
                }
            };
            if to_client.write_all(&buffer[..goes]).await.is_err() || last {
                return;
            }
        }
    };
    // Both directions end with the first that does.
    tokio::select! {
        () = down => {}
        _ = tokio::io::copy(&mut from_client, &mut to_server) => {}
        _ = cut.changed() => {}
    }
}
