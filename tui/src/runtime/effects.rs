//! The only executor of effects. Each answers with a message.

use std::path::PathBuf;
use std::time::Duration;

use futures_util::StreamExt as _;
use skytower_api_client::action::Start;
use skytower_api_client::endpoint::Endpoint;
use skytower_api_client::feed::FeedHandle;
use skytower_api_client::rest::{Client, LogQuery};
use skytower_api_client::{Text, human};
use tokio::sync::mpsc::Sender;
use tokio::task::AbortHandle;

use crate::app::{Effect, LogEvent, Msg};
use crate::{login, start};

/// How often an action whose answer got lost is asked for again, under the same key.
const TRIES: u32 = 3;

pub(super) struct Executor {
    client: Client,
    feed: FeedHandle,
    replies: Sender<Msg>,
    log: Option<AbortHandle>,
}

impl Executor {
    pub(super) fn new(client: Client, feed: FeedHandle, replies: Sender<Msg>) -> Self {
        Self {
            client,
            feed,
            replies,
            log: None,
        }
    }

    pub(super) fn execute(&mut self, effect: Effect) {
        let client = self.client.clone();
        let replies = self.replies.clone();
        match effect {
            Effect::Focus(key) => self.feed.focus(key),
            Effect::Unfocus(key) => self.feed.unfocus(key),
            Effect::Refresh(key) => self.feed.refresh(key),
            Effect::Retry => self.feed.retry_now(),
            Effect::StartOver => self.feed.start_over(),
            Effect::SignIn {
                number,
                credentials,
            } => {
                let feed = self.feed.clone();
                tokio::spawn(async move {
                    let session = client.session();
                    let endpoint = Endpoint {
                        credentials,
                        ..session.endpoint()
                    };
                    let answer = login::renew(endpoint).await.map(|(endpoint, said)| {
                        session.sign_in(endpoint.credentials);
                        feed.retry_now();
                        said
                    });
                    let message = Msg::SignedIn(number, Box::new(answer));
                    let _ = replies.send(message).await;
                });
            }
            Effect::Create {
                request,
                idempotency_key,
            } => {
                tokio::spawn(async move {
                    let mut tries = 1;
                    let answer = loop {
                        let answer = client.create_request(&request, &idempotency_key).await;
                        match &answer {
                            Err(error) if error.is_passing() && tries < TRIES => {
                                tokio::time::sleep(Duration::from_millis(500) * tries).await;
                                tries += 1;
                            }
                            _ => break answer,
                        }
                    };
                    // Nobody is left to be told when the dashboard ended meanwhile.
                    let message = Msg::Created(idempotency_key, Box::new(answer));
                    let _ = replies.send(message).await;
                });
            }
            Effect::LoadDetail(key) => {
                tokio::spawn(async move {
                    let Some(kind) = key.kind() else { return };
                    let answer = client.detail(kind, &key).await;
                    let _ = replies.send(Msg::Detail(key, Box::new(answer))).await;
                });
            }
            Effect::OpenLog {
                id,
                key,
                channel,
                tail,
            } => {
                self.close_log();
                let task = tokio::spawn(async move {
                    let Some(kind) = key.kind() else { return };
                    let query = LogQuery {
                        follow: true,
                        tail: Some(tail),
                        channel: channel.map(str::to_owned),
                    };
                    let last = match client.logs(kind, &key, &query).await {
                        Err(error) => LogEvent::Failed(error),
                        Ok(stream) => {
                            let mut stream = std::pin::pin!(stream);
                            loop {
                                match stream.next().await {
                                    Some(Ok(chunk)) => {
                                        let event = Msg::Log(id, LogEvent::Chunk(chunk));
                                        if replies.send(event).await.is_err() {
                                            return;
                                        }
                                    }
                                    Some(Err(error)) => break LogEvent::Failed(error),
                                    None => break LogEvent::End,
                                }
                            }
                        }
                    };
                    let _ = replies.send(Msg::Log(id, last)).await;
                });
                self.log = Some(task.abort_handle());
            }
            Effect::CloseLog => self.close_log(),
            Effect::ListFolder(folder) => {
                tokio::task::spawn_blocking(move || {
                    let names = start::folder(&folder);
                    let _ = replies.blocking_send(Msg::Folder(folder, names));
                });
            }
            Effect::ReadTask(path) => {
                tokio::task::spawn_blocking(move || {
                    // Standard input is the keyboard here.
                    let read = if path == start::STDIN {
                        Err("standard input is read by the commands only".to_owned())
                    } else {
                        start::read(&path, Start::default())
                    };
                    let _ = replies.blocking_send(Msg::Task(path, Box::new(read)));
                });
            }
            Effect::Save { name, text } => {
                tokio::spawn(async move {
                    let answer = save(&name, &text).await;
                    let _ = replies.send(Msg::Said(answer)).await;
                });
            }
            // The loop does these itself.
            Effect::Copy(_) | Effect::Suspend | Effect::Quit => {}
        }
    }

    fn close_log(&mut self) {
        if let Some(log) = self.log.take() {
            log.abort();
        }
    }
}

/// Writes a new file; an older one of the same name stays as it is.
async fn save(name: &str, text: &str) -> Result<Text, Text> {
    use tokio::io::AsyncWriteExt as _;
    let (stem, extension) = name.rsplit_once('.').unwrap_or((name, "txt"));
    for number in 1..1000 {
        let path = if number == 1 {
            PathBuf::from(name)
        } else {
            PathBuf::from(format!("{stem}-{number}.{extension}"))
        };
        let opened = tokio::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            // Logs hold what only their owner should read: tokens, data.
            .mode(0o600)
            .open(&path)
            .await;
        let result = match opened {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => continue,
            Err(error) => Err(error),
            Ok(mut file) => match file.write_all(text.as_bytes()).await {
                Ok(()) => file.flush().await,
                Err(error) => Err(error),
            },
        };
        return match result {
            Ok(()) => {
                let whole = std::path::absolute(&path).unwrap_or(path);
                let lines = human::count(text.lines().count(), "line");
                Ok(format!("saved {lines} to {}", whole.display()).into())
            }
            Err(error) => Err(format!("{} could not be written: {error}", path.display()).into()),
        };
    }
    Err(format!("there are too many files called {name} here").into())
}
