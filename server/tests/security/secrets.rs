//! Every secret goes through a server once, and is looked for afterwards in everything that it has written
//! and said.

use std::fs::{File, Permissions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use futures_util::StreamExt as _;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use skytower_api_client::rest::path;
use skytower_api_client::wire::SUBPROTOCOL_JSON;
use skytower_api_client::{Key, Kind};
use tempfile::TempDir;
use tokio_tungstenite::tungstenite::Message;

use crate::fake_skypilot::{FakeSkyPilot, SSH_PRIVATE_KEY, cluster, person};
use crate::people::{http_from, request_id};
use crate::program::Program;
use crate::support::{Running, within};

const OWN_PASSWORD: &str = "own-password-at-skypilot";
const COOKIE: &str = "_oauth2_proxy=cookie-of-alice-at-skypilot";
const PROXY_SECRET: &str = "secret-of-the-proxy";
const PASSWORD: &str = "password-of-alice-here";
const NEW_PASSWORD: &str = "another-password-of-alice";
const WRONG_PASSWORD: &str = "password-that-is-mistyped";
const WRONG_TOKEN: &str =
    "st_0123456789ab_5ec7e75ec7e75ec7e75ec7e75ec7e75ec7e75ec7e75ec7e75ec7e75ec7e75ec7";
const TASK_SECRET: &str = "secret-value-of-a-task";
const GIVEN_SECRET: &str = "secret-value-that-is-given";
/// Of the key's text, what stands for all of it.
const KEY_MARK: &str = "b3BlbnNzaC1rZXktdjEtb2YtdGhlLWZha2U";

/// Everything that clients were told.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<String>>>);

impl Heard {
    fn note(&self, text: String) {
        self.0.lock().unwrap().push(text);
    }

    /// An answer, kept with its headers to be searched.
    async fn ask(&self, request: RequestBuilder) -> (u16, Value) {
        let (status, text) = self.ask_in_private(request).await;
        self.note(text.clone());
        let body = text.split_once("\n\n").unwrap().1;
        (status, serde_json::from_str(body).unwrap_or_default())
    }

    /// An answer that is to show a secret, this once.
    async fn ask_in_private(&self, request: RequestBuilder) -> (u16, String) {
        let answer = within(request.send()).await.unwrap();
        let status = answer.status().as_u16();
        let head = format!("{:?}", answer.headers());
        let body = within(answer.text()).await.unwrap();
        (status, format!("{head}\n\n{body}"))
    }
}

fn request(server: &Running, method: Method, path: &str) -> RequestBuilder {
    http_from("127.0.0.1").request(method, format!("{}{path}", server.url))
}

/// A configuration with all that it can name of secrets, and the files that hold them.
fn configured(fake: &FakeSkyPilot) -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    for (name, secret) in [
        ("own.password", OWN_PASSWORD),
        ("proxy.secret", PROXY_SECRET),
    ] {
        let path = folder.path().join(name);
        std::fs::write(&path, secret).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    }
    let config = format!(
        "engine = 'local'\n\
         [proxy]\naddresses = ['127.0.0.1']\nsecret_file = 'proxy.secret'\n\
         user_header = 'X-Auth-Request-Email'\n\
         [source.prod]\nurl = '{}'\nuser = 'tower'\npassword_file = 'own.password'\n",
        fake.url
    );
    (folder, config)
}

/// People of `SkyPilot`, and a cluster that has a key.
fn populate(fake: &FakeSkyPilot) {
    fake.with(|world| {
        let mut tower = person("70e40000", "tower", "admin");
        tower.password = Some(OWN_PASSWORD.to_owned());
        let mut carol = person("6384e2b2", "carol", "user");
        carol.cookie = Some(COOKIE.to_owned());
        world.people = vec![tower, carol];
        world.clusters = vec![cluster("dev", "hash-1", "carol")];
    });
}

/// Somebody watches all there is, until the server ends.
async fn watch(server: &Running, heard: &Heard) -> tokio::task::JoinHandle<()> {
    let mut socket = server
        .handshake(Some(SUBPROTOCOL_JSON), Some(&server.token), None)
        .await
        .unwrap();
    let subscribe = Message::text(r#"{"type":"subscribe"}"#);
    futures_util::SinkExt::send(&mut socket, subscribe)
        .await
        .unwrap();
    let heard = heard.clone();
    tokio::spawn(async move {
        while let Some(Ok(frame)) = socket.next().await {
            heard.note(frame.to_string());
        }
    })
}

/// Every file below a folder, with what is in it.
fn files(folder: &Path, found: &mut Vec<(String, Vec<u8>)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.is_file() {
            found.push((path.display().to_string(), std::fs::read(&path).unwrap()));
        }
    }
}

fn holds(bytes: &[u8], secret: &str) -> bool {
    bytes
        .windows(secret.len())
        .any(|part| part == secret.as_bytes())
}

/// Whether a process has this in its memory; none where that may not be read.
fn remembers(pid: u32, secret: &str) -> Option<bool> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
    let mut memory = File::open(format!("/proc/{pid}/mem")).ok()?;
    let mut read = false;
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let (start, end) = line.split_once(' ')?.0.split_once('-')?;
        let [start, end] = [start, end].map(|hex| u64::from_str_radix(hex, 16).unwrap());
        let mut bytes = vec![0; (end - start) as usize];
        // What the kernel keeps for itself cannot be read; the heap and the stacks can.
        if memory.seek(SeekFrom::Start(start)).is_ok() && memory.read_exact(&mut bytes).is_ok() {
            read = true;
            if holds(&bytes, secret) {
                return Some(true);
            }
        }
    }
    read.then_some(false)
}

#[tokio::test]
async fn no_secret_is_in_what_a_server_writes_and_says() {
    assert!(SSH_PRIVATE_KEY.contains(KEY_MARK));
    let fake = FakeSkyPilot::start().await;
    populate(&fake);
    let (folder, config) = configured(&fake);
    let mut program = Program::start_in(folder, "export SKYTOWER_LOG=trace", &config);
    let server = program.running().await;
    let heard = Heard::default();
    let watching = watch(&server, &heard).await;
    let local =
        |method: Method, path: &str| request(&server, method, path).bearer_auth(&server.token);

    // Passwords: made, given, right, wrong, changed.
    let alice = json!({"name": "alice", "role": "user", "password": PASSWORD});
    let made = local(Method::POST, path::USERS).json(&alice);
    assert_eq!(heard.ask(made).await.0, 201);
    let bob = json!({"name": "bob", "role": "user"});
    let (status, shown) = heard
        .ask_in_private(local(Method::POST, path::USERS).json(&bob))
        .await;
    assert_eq!(status, 201);
    let secret_of = |shown: &str, name: &str| {
        let body: Value = serde_json::from_str(shown.split_once("\n\n").unwrap().1).unwrap();
        body[name].as_str().unwrap().to_owned()
    };
    let made_up = secret_of(&shown, "password");
    let with_password = |password: &str, method: Method, path: &str| {
        request(&server, method, path).basic_auth("alice", Some(password))
    };
    for (password, status) in [(PASSWORD, 200), (WRONG_PASSWORD, 401)] {
        let asked = with_password(password, Method::GET, path::STATUS);
        assert_eq!(heard.ask(asked).await.0, status);
    }
    // A password where the name belongs.
    let confused =
        request(&server, Method::GET, path::STATUS).basic_auth(WRONG_PASSWORD, Some("x"));
    assert_eq!(heard.ask(confused).await.0, 401);
    let sentence = json!({"current": PASSWORD, "new": NEW_PASSWORD});
    let changed = with_password(PASSWORD, Method::POST, path::PASSWORD).json(&sentence);
    assert_eq!(heard.ask(changed).await.0, 204);

    // Tokens: made, right, wrong, in an address, turned.
    let new = json!({"name": "a"});
    let asked = with_password(NEW_PASSWORD, Method::POST, path::TOKENS).json(&new);
    let token = secret_of(&heard.ask_in_private(asked).await.1, "token");
    for (token, status) in [(&*token, 200), (WRONG_TOKEN, 401), (&token[..60], 401)] {
        let asked = request(&server, Method::GET, path::STATUS).bearer_auth(token);
        assert_eq!(heard.ask(asked).await.0, status);
        let address = format!("{}?token={token}&access_token={token}", path::STATUS);
        assert_eq!(
            heard.ask(request(&server, Method::GET, &address)).await.0,
            401
        );
    }
    let id = token.split('_').nth(1).unwrap();
    let turn = json!({"overlap": "1h"});
    let asked = with_password(NEW_PASSWORD, Method::POST, &path::rotate(id)).json(&turn);
    let turned = secret_of(&heard.ask_in_private(asked).await.1, "token");

    // What others know people by: a cookie and a password of SkyPilot's, the word of a proxy.
    let with_cookie = |cookie: &str| {
        request(&server, Method::GET, path::HEALTH)
            .header("cookie", cookie)
            .header("x-skytower-client", "test")
    };
    let (status, health) = heard.ask(with_cookie(COOKIE)).await;
    assert_eq!((status, &health["user"]["name"]), (200, &"carol".into()));
    let of_carol = person("", "carol", "").password.unwrap();
    let at_skypilot =
        request(&server, Method::GET, path::STATUS).basic_auth("carol", Some(&of_carol));
    assert_eq!(heard.ask(at_skypilot).await.0, 200);
    let brought = request(&server, Method::GET, path::STATUS)
        .header("x-auth-request-email", "alice")
        .header("x-skytower-proxy-secret", PROXY_SECRET);
    assert_eq!(heard.ask(brought).await.0, 200);

    // Task files with secrets: one that is taken, and some that are not.
    let yaml = format!("secrets:\n  TOKEN: {TASK_SECRET}\n  GIVEN:\nrun: 'true'\n");
    let start = |source: &str, yaml: &str| {
        json!({
            "action": "source.jobs_launch",
            "targets": [Key::new(source, Kind::Source, source)],
            "options": {"start": {
                "file": "task.yaml", "yaml": yaml, "folder": "/tmp", "name": "job",
                "secrets": {"GIVEN": GIVEN_SECRET},
            }},
        })
    };
    let broken = format!("secrets: [{TASK_SECRET}\nrun: {{");
    for (source, yaml) in [("local", &yaml), ("local", &broken), ("prod", &yaml)] {
        let asked = local(Method::POST, path::REQUESTS).json(&start(source, yaml));
        let (status, answer) = heard.ask(asked).await;
        assert!([202, 404, 422].contains(&status), "{answer}");
        if status == 202 {
            let id = request_id(&answer);
            let wait = format!("{}/{id}?wait=30s", path::REQUESTS);
            heard.ask(local(Method::GET, &wait)).await;
        }
    }

    // The key of a cluster, which whoever asks for the cluster is given unless they say no.
    let looks = async {
        while fake.calls("/status") < 10 {
            let begun = fake.begin("sky.launch", "dev", "carol");
            fake.end(&begun, "SUCCEEDED");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    within(looks).await;
    let asked_for_keys = fake.with(|world| {
        let of_status = world.heard.iter().filter(|(path, _)| path == "/status");
        of_status
            .filter(|(_, body)| body["include_credentials"] != false)
            .count()
    });
    assert_eq!(asked_for_keys, 0);
    let pid = program.child.id();
    assert_ne!(remembers(pid, KEY_MARK), Some(true), "the key is in memory");
    // That would have been found: its own password is there, and has to be.
    assert_ne!(remembers(pid, OWN_PASSWORD), Some(false));

    // Everything that is told to whoever may see all.
    for path in [
        "/metrics",
        path::STATUS,
        path::USERS,
        path::TOKENS,
        path::WORKSPACES,
        path::AUDIT,
        path::AUDIT_VERIFY,
        path::REQUESTS,
    ] {
        assert_eq!(heard.ask(local(Method::GET, path)).await.0, 200, "{path}");
    }
    for kind in Kind::ALL {
        let list = format!("/api/v1/{}", kind.plural());
        let (_, page) = heard.ask(local(Method::GET, &list)).await;
        for row in page["rows"].as_array().into_iter().flatten() {
            let key: Key = serde_json::from_value(row["key"].clone()).unwrap();
            heard
                .ask(local(Method::GET, &path::detail(*kind, &key)))
                .await;
            let logs = format!("{}/logs", path::detail(*kind, &key));
            heard.ask(local(Method::GET, &logs)).await;
        }
    }
    program.terminate();
    assert!(
        program.ended().await.success(),
        "{}",
        program.said("stderr")
    );
    within(watching).await.unwrap();

    let stderr = program.said("stderr");
    let first = stderr.lines().last().unwrap().to_owned();
    let own_token = server.token.clone();
    let mut places = vec![
        (
            "standard output".to_owned(),
            program.said("stdout").into_bytes(),
        ),
        // The first administrator's password is shown there, and nowhere else.
        (
            "standard error".to_owned(),
            stderr.replacen(&first, "", 1).into_bytes(),
        ),
    ];
    let told = heard.0.lock().unwrap().clone();
    assert!(told.len() > 50, "{}", told.len());
    places.extend(told.into_iter().map(|text| {
        (
            format!("what a client was told: {text:.60}"),
            text.into_bytes(),
        )
    }));
    files(&program.home(), &mut places);
    let log = places
        .iter()
        .find(|(name, _)| name.ends_with("/server.log"));
    assert!(!log.unwrap().1.is_empty());

    let basic = |user: &str, password: &str| {
        let pair = format!("{user}:{password}");
        base64::engine::general_purpose::STANDARD.encode(pair)
    };
    let mut secrets: Vec<String> = [
        OWN_PASSWORD,
        COOKIE,
        "cookie-of-alice",
        PROXY_SECRET,
        PASSWORD,
        NEW_PASSWORD,
        WRONG_PASSWORD,
        WRONG_TOKEN,
        TASK_SECRET,
        GIVEN_SECRET,
        KEY_MARK,
        &made_up,
        &first,
        &token,
        &turned,
        &of_carol,
        &own_token,
    ]
    .map(str::to_owned)
    .into();
    // Without what names them, and as they travel.
    secrets.extend([WRONG_TOKEN, &token, &turned].map(|token| {
        let (_, secret) = token.rsplit_once('_').unwrap();
        secret.to_owned()
    }));
    secrets
        .extend([PASSWORD, NEW_PASSWORD, WRONG_PASSWORD].map(|password| basic("alice", password)));
    secrets.push(basic("carol", &of_carol));
    secrets.push(basic("tower", OWN_PASSWORD));
    for secret in &secrets {
        assert!(secret.len() >= 8, "{secret:?} is nothing to look for");
        for (place, bytes) in &places {
            if !belongs(place, secret, &own_token) {
                assert!(!holds(bytes, secret), "{secret:?} is in {place}");
            }
        }
    }
    server.stop().await;
}

/// The two places where a secret has to be kept: the server's own token, for whoever runs it, and what the
/// engine gives its tasks, also when they are started again.
fn belongs(place: &str, secret: &str, own_token: &str) -> bool {
    (secret == own_token && place.ends_with("/token"))
        || ([TASK_SECRET, GIVEN_SECRET].contains(&secret) && place.contains("/home/engine/"))
}
