//! Services under load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::process::Signal;
use skytower_api_client::{Kind, Phase};

use crate::tower::{Tower, key, signal, source};

fn hello(version: &str) -> String {
    format!(
        "name: hello\nenvs: {{VERSION: '{version}'}}\nresources: {{cpus: 0.1, ports: 8080}}\nservice:\n  readiness_probe: {{path: /, initial_delay_seconds: 60}}\n  replicas: 2\nrun: exec \"$SKYTOWER_BIN\" __hello \"$SKYPILOT_NODE_IPS:$SKYPILOT_SERVE_PORT\"\n"
    )
}

/// Asks again and again until it is told to stop; counts what was answered, and what was not.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    askers: Vec<tokio::task::JoinHandle<Vec<String>>>,
}

impl Load {
    fn begin(url: &str) -> Self {
        let (stop, answered) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let askers = (0..4).map(|_| {
            let (stop, answered, url) = (stop.clone(), answered.clone(), url.to_owned());
            tokio::spawn(async move {
                let client = reqwest::Client::builder().no_proxy().build().unwrap();
                let mut failed = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let answer = async {
                        let answer = client.get(&url).send().await?.error_for_status()?;
                        answer.text().await
                    };
                    match answer.await {
                        Ok(text) if text.starts_with("hello from replica ") => {
                            answered.fetch_add(1, Ordering::Relaxed);
                        }
                        Ok(text) => failed.push(text),
                        Err(error) => failed.push(format!("{error:?}")),
                    }
                    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                }
                failed
            })
        });
        Self {
            askers: askers.collect(),
            stop,
            answered,
        }
    }

    async fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        for asker in self.askers {
            let failed = asker.await.unwrap();
            assert!(
                failed.is_empty(),
                "{} failed, first: {}",
                failed.len(),
                failed[0]
            );
        }
        self.answered.load(Ordering::Relaxed)
    }
}

async fn ready(tower: &mut Tower, version: i64, replicas: usize) {
    let what = format!("{replicas} replicas of version {version} are ready and no others");
    tower
        .until(&what, async |tower| {
            let rows = tower.rows(Kind::Replica).await;
            let alive = rows.iter().filter(|row| !row.phase().is_over());
            let ready = |row: &&Arc<skytower_api_client::Entity>| {
                row.phase() == Phase::Running && row.as_replica().unwrap().version == Some(version)
            };
            let good = alive.clone().filter(ready).count();
            (good == replicas && alive.count() == replicas).then_some(())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_while_a_replica_dies_a_version_rolls_and_the_server_is_killed() {
    let mut tower = Tower::start().await;
    let service = tower
        .begin("source.serve_up", &source(), "", &hello("1"))
        .await;
    assert_eq!(service, key(Kind::Service, "hello"));
    ready(&mut tower, 1, 2).await;
    let row = tower.until_phase(&service, Phase::Running).await;
    let url = row.as_service().unwrap().endpoint.clone().unwrap();
    let load = Load::begin(&url);

    let victim = tower
        .processes()
        .into_iter()
        .find(|(_, command)| command.contains("__hello"))
        .unwrap();
    signal(victim.0, Signal::KILL);
    let failed = tower
        .until("the dead replica is seen", async |tower| {
            let rows = tower.rows(Kind::Replica).await;
            rows.into_iter().find(|row| row.phase() == Phase::Failed)
        })
        .await;
    assert_eq!(failed.why().unwrap(), &"ended by signal 9 (SIGKILL)");
    ready(&mut tower, 1, 2).await;

    tower
        .begin("service.update", &service, "", &hello("2"))
        .await;
    ready(&mut tower, 2, 2).await;

    // The balancer is not the server: it goes on while that is away.
    let before = load.answered.load(Ordering::Relaxed);
    tower.kill();
    let answered = load.answered.clone();
    tower
        .until("requests are answered without a server", async |_| {
            (answered.load(Ordering::Relaxed) > before + 100).then_some(())
        })
        .await;
    tower.up().await;
    ready(&mut tower, 2, 2).await;
    assert!(load.end().await > 200);

    tower.done("service.down", &service).await;
    tower.until_phase(&service, Phase::Gone).await;
    tower.until_nothing_runs().await;
    let port = url.rsplit(':').next().unwrap().parse::<u16>().unwrap();
    std::net::TcpListener::bind(("127.0.0.1", port)).expect("its port is free again");
}
