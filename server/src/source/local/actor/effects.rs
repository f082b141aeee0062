//! What follows from what was decided: processes, folders, balancers.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use skytower_api_client::Text;

use super::{Actor, Message};
use crate::balancer::{self, Backend, Backends};
use crate::keeper::{Ended, Found, Keepers, Lost};
use crate::source::local::core::{self, Effect, Event};
use crate::source::local::environment;
use crate::source::local::sandbox;
use crate::source::local::state::UnitStage;

impl Actor {
    pub(super) fn balancer_folder(&self, service: &str) -> PathBuf {
        self.parts
            .folder
            .join(format!("services/{service}/balancer"))
    }

    pub(super) fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Prepare(work) => self.prepare(work),
            Effect::Start { work, unit } => self.start(work, unit),
            Effect::Stop { work, unit } => {
                if let Some(handle) = self.handles.get(&(work, unit)) {
                    handle.stop();
                }
            }
            Effect::TellBalancer(service) => self.tell_balancer(&service),
            Effect::Probe { service, replica } => self.probe(service, replica),
            Effect::RemoveFolder(folder) => self.remove_folder(&folder),
            Effect::RemoveUnit(unit) => self.remove_unit(unit),
        }
    }

    fn happened(&self) -> impl Fn(Event) + Send + 'static {
        let sender = self.parts.sender.clone();
        move |event| {
            // The engine may have stopped: what happened is found again when it starts.
            let _ = sender.send(Message::Happened(event));
        }
    }

    fn prepare(&self, id: u64) {
        let Some(work) = self.parts.engine.state.works.get(&id) else {
            return;
        };
        let (engine, folder) = (
            self.parts.folder.clone(),
            self.parts.folder.join(&work.folder),
        );
        let (task, nodes, files) = (work.task.clone(), work.addresses.len(), work.with_files);
        let happened = self.happened();
        self.parts.runtime.spawn_blocking(move || {
            let result = if files {
                sandbox::prepare(&engine, &folder, nodes, &task)
            } else {
                std::fs::create_dir_all(&folder)
                    .map_err(|error| format!("cannot make {}: {error}", folder.display()))
            };
            let result = result.map_err(Text::from);
            happened(Event::Prepared { work: id, result });
        });
    }

    fn start(&mut self, id: u64, number: usize) {
        let Some(work) = self.parts.engine.state.works.get(&id) else {
            return;
        };
        let name = work.unit_name(number);
        let spec = environment::spec(
            &self.parts.engine.state,
            &self.parts.folder,
            &self.parts.program,
            work,
            number,
        );
        let stop = work.stop.is_some();
        let found = self.parts.keepers.look(&name, spec.generation);
        let handle = match found {
            Found::Running(handle) => handle,
            Found::Ended(exit) => return self.over(id, number, UnitStage::Ended(exit)),
            Found::Lost(lost) => return self.sweep(id, number, name, lost),
            // It may have run before the power went, and have been forgotten with it.
            Found::NeverStarted if work.boot != self.parts.engine.boot => {
                let why = Text::from("the machine was restarted");
                return self.over(id, number, UnitStage::Lost(why));
            }
            // A keeper that was on its way when the server before this one died never gets to start it.
            Found::NeverStarted
                if stop && self.parts.keepers.call_off(&name, 1).is_ok_and(|off| off) =>
            {
                let why = Text::from("it was called off before it began");
                return self.over(id, number, UnitStage::Lost(why));
            }
            Found::NeverStarted => match self.parts.keepers.start(&spec) {
                Ok(handle) => handle,
                Err(error) => {
                    let why = Text::from(format!("it could not be started: {error}"));
                    return self.over(id, number, UnitStage::Lost(why));
                }
            },
        };
        if stop {
            handle.stop();
        }
        self.handles.insert((id, number), handle.clone());
        let (happened, keepers) = (self.happened(), self.parts.keepers.clone());
        self.parts.runtime.spawn(async move {
            if handle.started().await.is_ok() {
                happened(Event::Began {
                    work: id,
                    unit: number,
                });
            }
            let stage = match handle.ended().await {
                Ended::Exit(exit) => UnitStage::Ended(exit),
                Ended::Lost(lost) => lost_stage(&keepers, &name, lost).await,
            };
            happened(Event::Ended {
                work: id,
                unit: number,
                stage,
            });
        });
    }

    fn over(&self, work: u64, unit: usize, stage: UnitStage) {
        let happened = self.happened();
        happened(Event::Ended { work, unit, stage });
    }

    fn sweep(&self, work: u64, unit: usize, name: String, lost: Lost) {
        let (happened, keepers) = (self.happened(), self.parts.keepers.clone());
        self.parts.runtime.spawn(async move {
            let stage = lost_stage(&keepers, &name, lost).await;
            happened(Event::Ended { work, unit, stage });
        });
    }

    fn tell_balancer(&self, name: &Text) {
        let Some(service) = self.parts.engine.state.services.get(name) else {
            return;
        };
        let net = self.parts.engine.state.counters.net;
        let port_of = |id: i64| {
            let replica = service.replicas.iter().find(|replica| replica.id == id)?;
            let task = service.versions.get(&replica.version)?;
            Some(task.service.as_ref()?.port)
        };
        let backends = service.told.iter().filter_map(|(id, address)| {
            let address = core::address(net, *address);
            Some(Backend {
                id: id.to_string(),
                address: SocketAddr::new(IpAddr::V4(address), port_of(*id)?),
            })
        });
        let policy = service
            .versions
            .get(&service.version)
            .and_then(|task| task.service.as_ref())
            .map(|spec| spec.load_balancing_policy)
            .unwrap_or_default();
        let told = Backends {
            revision: service.revision,
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), service.port),
            policy,
            backends: backends.collect(),
        };
        let folder = self.balancer_folder(name);
        let written = std::fs::create_dir_all(&folder)
            .and_then(|()| balancer::write_backends(&folder, &told));
        if let Err(error) = written {
            tracing::error!(%error, service = %name, "the load balancer could not be told");
        }
    }

    fn probe(&self, service: Text, replica: i64) {
        let there = self.parts.engine.state.services.get(&service);
        let Some((address, probe)) = there.and_then(|there| {
            let replica = there.replicas.iter().find(|r| r.id == replica)?;
            let spec = there.versions.get(&replica.version)?.service.as_ref()?;
            let ip = core::address(self.parts.engine.state.counters.net, replica.address);
            let address = SocketAddr::new(IpAddr::V4(ip), spec.port);
            Some((address, spec.readiness_probe.clone()))
        }) else {
            return;
        };
        let (happened, prober) = (self.happened(), self.prober);
        self.parts.runtime.spawn(async move {
            let result = prober.probe(address, &probe).await.map_err(Text::from);
            happened(Event::Probed {
                service,
                replica,
                result,
            });
        });
    }

    fn remove_unit(&self, unit: String) {
        let keepers = self.parts.keepers.clone();
        self.parts.runtime.spawn_blocking(move || {
            if let Err(error) = keepers.remove(&unit) {
                tracing::warn!(%error, unit, "what a unit left could not be removed");
            }
        });
    }

    /// Out of the way at once, so that its name can be used again; gone a little later.
    fn remove_folder(&self, folder: &str) {
        let path = self.parts.folder.join(folder);
        if !path.exists() {
            return;
        }
        let trash = self.parts.folder.join("trash");
        let away = trash.join(uuid::Uuid::new_v4().to_string());
        let mut only_ours = std::fs::DirBuilder::new();
        let only_ours = only_ours.recursive(true).mode(0o700);
        let moved = only_ours
            .create(&trash)
            .and_then(|()| std::fs::rename(&path, &away));
        if let Err(error) = moved {
            tracing::warn!(%error, folder, "a folder could not be moved away");
            return;
        }
        self.parts.runtime.spawn_blocking(move || {
            if let Err(error) = sandbox::remove(&away) {
                tracing::warn!(%error, "a folder could not be removed");
            }
        });
    }

    /// Removes what a crash left of things that are not there any more.
    pub(super) fn tidy(&self) {
        let state = &self.parts.engine.state;
        let mut wanted: BTreeSet<String> = BTreeSet::new();
        for cluster in state.clusters.values() {
            if cluster.ended_at.is_none() {
                wanted.insert(format!("clusters/{}", cluster.name));
            }
        }
        for work in state.works.values().filter(|work| !work.is_over()) {
            wanted.insert(work.folder.clone());
        }
        for service in state.services.values() {
            if service.ended_at.is_none() {
                wanted.insert(format!("services/{}", service.name));
            }
        }
        for kind in ["clusters", "jobs", "services"] {
            for name in names_in(&self.parts.folder.join(kind)) {
                let folder = format!("{kind}/{name}");
                if !wanted.contains(&folder) {
                    self.remove_folder(&folder);
                }
            }
        }
        let trash = self.parts.folder.join("trash");
        self.parts
            .runtime
            .spawn_blocking(move || sandbox::remove(&trash));
        let works = state.works.values();
        let known: BTreeSet<String> = works
            .flat_map(|work| (0..work.units.len()).map(|unit| work.unit_name(unit)))
            .collect();
        // Listed before anything new is started.
        for unit in names_in(&self.parts.folder.join("units")) {
            if !known.contains(&unit) {
                self.remove_unit(unit);
            }
        }
    }
}

async fn lost_stage(keepers: &Keepers, name: &str, lost: Lost) -> UnitStage {
    let survivors = keepers.sweep(name).await;
    if survivors.is_empty() {
        return UnitStage::Lost(Text::from(lost.why));
    }
    let left: Vec<String> = survivors.iter().map(ToString::to_string).collect();
    UnitStage::Lost(Text::from(format!(
        "{}; processes {} would not end",
        lost.why,
        left.join(", ")
    )))
}

pub(super) fn free_port(taken: &[u16]) -> Option<u16> {
    // The first port that a balancer takes, as SkyServe.
    (30001..31001).find(|port| {
        !taken.contains(port) && TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok()
    })
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}
