//! The server is killed with -9 in a storm of requests: each that was acknowledged is there once, with one
//! entry in the audit, and the audit is whole.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use skytower_api_client::action::ActionOptions;
use skytower_api_client::rest::NewRequest;
use tokio::sync::{Mutex, Notify};

use crate::tower::{Tower, source, uuid};

/// Who asks at the same time, how often the server is killed, and after how many answers at least.
const CALLERS: usize = 24;
const KILLS: usize = 12;
const ANSWERS: usize = 60;

/// What was acknowledged: the request of each name.
#[derive(Default)]
struct Promised {
    requests: Mutex<BTreeMap<String, String>>,
    more: Notify,
}

fn cheap() -> NewRequest {
    NewRequest {
        // Without a label there is nothing that it could clear away: it is over as soon as it is looked at.
        action: "source.clear".into(),
        targets: vec![source()],
        options: ActionOptions::default(),
        others_confirmed: true,
        dry_run: false,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_request_that_was_acknowledged_is_there_once_and_in_the_audit_once() {
    let mut tower = Tower::start().await;
    let promised = Arc::new(Promised::default());
    // Names whose answer was lost: asked again, they are the same requests.
    let mut lost: Vec<String> = Vec::new();
    for kill in 0..=KILLS {
        let client = tower
            .until("a client", async |tower| {
                let client = tower.client()?;
                client.health().await.ok()?;
                Some(client)
            })
            .await;
        let before = promised.requests.lock().await.len();
        let mut callers = tokio::task::JoinSet::new();
        let again = Arc::new(Mutex::new(std::mem::take(&mut lost)));
        let last = kill == KILLS;
        for _ in 0..CALLERS {
            let (client, promised, again) = (client.clone(), promised.clone(), again.clone());
            callers.spawn(async move {
                loop {
                    let known = again.lock().await.pop();
                    if known.is_none() && last {
                        return None;
                    }
                    let name = known.unwrap_or_else(uuid);
                    match client.create_request(&cheap(), &name).await {
                        Ok(request) => {
                            let id = request.request_id.to_string();
                            promised.requests.lock().await.insert(name, id);
                            promised.more.notify_one();
                        }
                        Err(error) => {
                            assert!(error.is_passing(), "{error}");
                            return Some(name);
                        }
                    }
                }
            });
        }
        if last {
            let unanswered = callers.join_all().await;
            assert!(unanswered.iter().all(Option::is_none), "{unanswered:?}");
            break;
        }
        while promised.requests.lock().await.len() < before + ANSWERS {
            promised.more.notified().await;
        }
        // In the midst of it: every caller waits for an answer.
        tower.kill();
        lost = callers.join_all().await.into_iter().flatten().collect();
        lost.extend(std::mem::take(&mut *again.lock().await));
        tower.spawn();
    }
    let verdict = tower.client().unwrap().verify_audit().await.unwrap();
    assert_eq!(verdict.broken, None);
    tower.stop();

    let database = rusqlite::Connection::open(tower.home.path().join("skytower.db")).unwrap();
    let column = |select: &str| -> Vec<String> {
        let mut select = database.prepare(select).unwrap();
        let rows = select.query_map([], |row| row.get(0)).unwrap();
        rows.collect::<rusqlite::Result<_>>().unwrap()
    };
    let rows = column("SELECT id FROM requests ORDER BY id");
    let entries = column("SELECT request FROM audit WHERE outcome = 'accepted' ORDER BY request");
    assert_eq!(
        rows, entries,
        "a request without its entry, or the other way round"
    );
    let promised = promised.requests.lock().await;
    let ids: BTreeSet<&String> = promised.values().collect();
    assert_eq!(ids.len(), promised.len(), "two names, one request");
    assert!(promised.len() >= KILLS * ANSWERS);
    let there: BTreeSet<&String> = rows.iter().collect();
    assert_eq!(there.len(), rows.len());
    assert_eq!(there, ids, "what was acknowledged, and nothing else");
    // None was told to have ended twice either.
    let ends = column("SELECT request FROM audit WHERE outcome <> 'accepted' AND request <> ''");
    let once: BTreeSet<&String> = ends.iter().collect();
    assert_eq!(once.len(), ends.len());
    assert_eq!(column("PRAGMA integrity_check"), ["ok"]);
}
