//! The mind alone, in a world that is played: units begin and end when the test says so.

use std::collections::BTreeSet;

use proptest::prelude::*;
use skytower_api_client::task::{Autostop, LoadBalancing, Probe, ServiceSpec, Task, TaskFile};
use skytower_api_client::{EpochMs, Text};

use super::*;
use crate::keeper::{End as ExitEnd, Exit};
use crate::source::local::state::{
    Belongs, ClusterStage, End, Purpose, ReplicaStage, Stage, TaskStage,
};

/// The engine and what was asked of the world.
struct World {
    engine: Engine,
    now: EpochMs,
    running: BTreeSet<(u64, usize)>,
    /// Every start that was ever carried out.
    starts: Vec<(u64, usize)>,
    stops: BTreeSet<(u64, usize)>,
    removed: Vec<String>,
    probes: Vec<(Text, i64)>,
    /// Requests per second, as the balancer counts.
    load: f64,
}

fn machine(cpus: f64) -> Machine {
    Machine {
        host: "here".into(),
        cpus,
        memory_gb: 16.0,
        accelerator: None,
        accelerators: 0,
    }
}

fn exit(end: ExitEnd) -> Exit {
    Exit {
        end,
        started_at_ms: 0,
        ended_at_ms: 0,
        ran_ms: 0,
        stopped: false,
        log_dropped: 0,
        survivors: Vec::new(),
        note: None,
    }
}

impl World {
    fn new(cpus: f64) -> Self {
        let now = EpochMs(1_000_000);
        Self {
            engine: Engine::new(State::default(), machine(cpus), "boot".into(), now),
            now,
            running: BTreeSet::new(),
            starts: Vec::new(),
            stops: BTreeSet::new(),
            removed: Vec::new(),
            probes: Vec::new(),
            load: 0.0,
        }
    }

    fn settle(&mut self) {
        loop {
            let effects = self.engine.settle(self.now);
            if effects.is_empty() {
                return;
            }
            for effect in effects {
                match effect {
                    Effect::Prepare(work) => self.engine.take(Event::Prepared {
                        work,
                        result: Ok(()),
                    }),
                    Effect::Start { work, unit } => {
                        if self.running.insert((work, unit)) {
                            self.starts.push((work, unit));
                        }
                        self.engine.take(Event::Began { work, unit });
                    }
                    Effect::Stop { work, unit } => {
                        self.stops.insert((work, unit));
                    }
                    Effect::Probe { service, replica } => self.probes.push((service, replica)),
                    Effect::RemoveFolder(folder) => self.removed.push(folder),
                    Effect::TellBalancer(_) | Effect::RemoveUnit(_) => {}
                }
            }
        }
    }

    fn end(&mut self, unit: (u64, usize), end: ExitEnd) {
        assert!(self.running.remove(&unit), "{unit:?} does not run");
        self.engine.take(Event::Ended {
            work: unit.0,
            unit: unit.1,
            stage: UnitStage::Ended(exit(end)),
        });
        self.settle();
    }

    fn lose(&mut self, unit: (u64, usize)) {
        assert!(self.running.remove(&unit));
        self.engine.take(Event::Ended {
            work: unit.0,
            unit: unit.1,
            stage: UnitStage::Lost("its keeper was killed".into()),
        });
        self.settle();
    }

    /// Ends whatever was told to.
    fn obey(&mut self) {
        while let Some(unit) = self.stops.pop_first() {
            if self.running.contains(&unit) {
                self.end(unit, ExitEnd::Signal(15));
            }
        }
    }

    fn pass(&mut self, ms: i64) {
        self.now = EpochMs(self.now.0 + ms);
        self.settle();
    }

    fn order(&mut self, order: Order) -> Result<Text, String> {
        self.engine.now = self.now;
        let done = self
            .engine
            .order(Command {
                order,
                by: "alice".into(),
            })
            .map_err(|problem| problem.to_string())?;
        self.settle();
        Ok(Text::new(done.key.as_str()))
    }

    fn work_of_job(&self, id: i64) -> u64 {
        self.engine.state.jobs[&id].tasks[0].work.unwrap()
    }

    fn stage_of_job(&self, id: i64) -> Vec<TaskStage> {
        let tasks = &self.engine.state.jobs[&id].tasks;
        tasks.iter().map(|task| task.stage).collect()
    }

    fn stage_of(&self, cluster: &str, job: i64) -> Stage {
        let job = &self.engine.state.cluster_jobs[&(Text::from(cluster), job)];
        self.engine.state.works[&job.work].stage.clone()
    }

    fn units_of(&self, cluster: &str, job: i64) -> Vec<(u64, usize)> {
        let job = &self.engine.state.cluster_jobs[&(Text::from(cluster), job)];
        let running = self.running.iter().copied();
        running.filter(|(work, _)| *work == job.work).collect()
    }

    /// What two engines must agree on after a crash: everything is in the records.
    fn crash(&mut self) {
        let mut state = State {
            clusters: self.engine.state.clusters.clone(),
            cluster_jobs: self.engine.state.cluster_jobs.clone(),
            jobs: self.engine.state.jobs.clone(),
            services: self.engine.state.services.clone(),
            works: self.engine.state.works.clone(),
            counters: self.engine.state.counters,
            ..State::default()
        };
        state.dirty.clear();
        self.engine = Engine::new(state, self.engine.machine.clone(), "boot".into(), self.now);
        self.engine.resume();
        self.settle();
    }
}

fn task(cpus: f64) -> Task {
    let mut task = Task {
        num_nodes: 1,
        run: Some("true".to_owned()),
        ..Task::default()
    };
    task.resources.cpus = Some(cpus);
    task
}

fn file(tasks: impl IntoIterator<Item = Task>) -> TaskFile {
    TaskFile {
        name: None,
        tasks: tasks.into_iter().collect(),
    }
}

fn belongs() -> Belongs {
    Belongs {
        owner: "alice".into(),
        workspace: "default".into(),
        label: Some("demo".into()),
        ..Belongs::default()
    }
}

fn launch(name: &str, task: Task) -> Order {
    Order::Launch {
        name: Some(name.into()),
        file: file([task]),
        belongs: belongs(),
        autostop: None,
    }
}

fn exec(name: &str, task: Task) -> Order {
    Order::Exec {
        cluster: name.into(),
        file: file([task]),
        belongs: belongs(),
    }
}

fn submit(tasks: impl IntoIterator<Item = Task>) -> Order {
    Order::JobsLaunch {
        name: Some("job".into()),
        file: file(tasks),
        belongs: belongs(),
    }
}

#[test]
fn a_queue_runs_what_fits_in_order_and_says_why_the_rest_waits() {
    let mut world = World::new(4.0);
    let mut cluster = task(2.0);
    cluster.run = None;
    assert_eq!(
        world.order(launch("dev", cluster)).unwrap(),
        "local/cluster/dev"
    );
    for _ in 0..3 {
        world.order(exec("dev", task(1.0))).unwrap();
    }
    world.order(exec("dev", task(0.1))).unwrap();
    assert_eq!(world.stage_of("dev", 1), Stage::Run);
    assert_eq!(world.stage_of("dev", 2), Stage::Run);
    let why = |world: &World, id| {
        let job = &world.engine.state.cluster_jobs[&(Text::from("dev"), id)];
        world.engine.state.works[&job.work].why.clone().unwrap()
    };
    assert_eq!(
        why(&world, 3),
        "waits for CPUs of its cluster: needs 1, 0 of 2 are free"
    );
    assert_eq!(why(&world, 4), "waits behind job 3 of this cluster");
    let first = world.units_of("dev", 1)[0];
    world.end(first, ExitEnd::Code(0));
    assert_eq!(world.stage_of("dev", 1), Stage::Ended(End::Succeeded));
    assert_eq!(world.stage_of("dev", 3), Stage::Run);
    // What can never fit is refused at once, and nothing comes of it.
    let said = world.order(exec("dev", task(3.0))).unwrap_err();
    assert!(
        said.contains("3 CPUs and each node of cluster `dev` has 2"),
        "{said}"
    );
}

#[test]
fn the_machine_is_shared_by_all_clusters() {
    let mut world = World::new(2.0);
    world.order(launch("a", task(1.5))).unwrap();
    world.order(launch("b", task(1.0))).unwrap();
    assert_eq!(world.stage_of("b", 1), Stage::Waiting);
    let unit = world.units_of("a", 1)[0];
    world.end(unit, ExitEnd::Code(3));
    assert_eq!(
        world.stage_of("a", 1),
        Stage::Ended(End::Failed("exit code 3".into()))
    );
    assert_eq!(world.stage_of("b", 1), Stage::Run);
    let said = world.order(launch("c", task(8.0))).unwrap_err();
    assert!(
        said.contains("it needs 8 CPUs and this machine has 2"),
        "{said}"
    );
    assert!(!world.engine.state.clusters.contains_key("c"));
}

#[test]
fn nobody_launches_on_the_cluster_of_somebody_else_by_its_name() {
    let mut world = World::new(4.0);
    world.order(launch("dev", task(0.5))).unwrap();
    world.order(launch("dev", task(0.5))).unwrap();
    let other = Order::Launch {
        name: Some("dev".into()),
        file: file([task(0.5)]),
        belongs: Belongs {
            owner: "bob".into(),
            ..belongs()
        },
        autostop: None,
    };
    let said = world.order(other).unwrap_err();
    assert!(said.contains("cluster `dev` belongs to alice"), "{said}");
    assert_eq!(world.engine.state.cluster_jobs.len(), 2);
}

#[test]
fn setup_comes_first_and_a_node_that_breaks_takes_the_others_with_it() {
    let mut world = World::new(4.0);
    let mut two = task(0.5);
    two.num_nodes = 2;
    two.setup = Some("true".to_owned());
    world.order(launch("dev", two)).unwrap();
    assert_eq!(world.stage_of("dev", 1), Stage::Setup);
    for unit in world.units_of("dev", 1) {
        world.end(unit, ExitEnd::Code(0));
    }
    assert_eq!(world.stage_of("dev", 1), Stage::Run);
    let units = world.units_of("dev", 1);
    assert_eq!(units.len(), 2);
    world.end(units[1], ExitEnd::Signal(11));
    assert_eq!(world.stops, BTreeSet::from([units[0]]));
    assert_eq!(world.stage_of("dev", 1), Stage::Run);
    world.obey();
    assert!(
        matches!(world.stage_of("dev", 1), Stage::Ended(End::Failed(why)) if why.contains("node"))
    );
}

#[test]
fn a_stopped_cluster_ends_its_jobs_and_starts_again_and_a_torn_down_one_is_remembered() {
    let mut world = World::new(4.0);
    world.order(launch("dev", task(1.0))).unwrap();
    world.order(exec("dev", task(1.0))).unwrap();
    world.order(Order::Stop("dev".into())).unwrap();
    let stage = |world: &World| world.engine.state.clusters["dev"].stage;
    assert_eq!(stage(&world), ClusterStage::Stopping);
    world.obey();
    assert_eq!(stage(&world), ClusterStage::Stopped);
    assert_eq!(world.stage_of("dev", 1), Stage::Ended(End::Stopped));
    assert!(
        world
            .order(exec("dev", task(1.0)))
            .unwrap_err()
            .contains("not up")
    );
    world.order(Order::StartAgain("dev".into())).unwrap();
    assert_eq!(stage(&world), ClusterStage::Up);
    world.order(exec("dev", task(1.0))).unwrap();
    world.order(Order::Down("dev".into())).unwrap();
    world.obey();
    assert_eq!(stage(&world), ClusterStage::Gone);
    assert_eq!(world.removed, ["clusters/dev"]);
    assert!(world.order(Order::Stop("dev".into())).is_err());
    world.pass(3600 * 1000);
    assert!(world.engine.state.clusters.is_empty());
    assert!(world.engine.state.works.is_empty());
}

#[test]
fn autostop_counts_from_the_last_thing_that_happened() {
    let mut world = World::new(4.0);
    world.order(launch("dev", task(1.0))).unwrap();
    let autostop = Some(Autostop {
        idle_minutes: 5,
        down: true,
    });
    let cluster = Text::from("dev");
    world.order(Order::Autostop { cluster, autostop }).unwrap();
    world.pass(10 * 60_000);
    assert_eq!(world.engine.state.clusters["dev"].stage, ClusterStage::Up);
    assert_eq!(world.engine.alarm(), None);
    let unit = world.units_of("dev", 1)[0];
    world.end(unit, ExitEnd::Code(0));
    world.pass(5 * 60_000 - 1);
    assert_eq!(world.engine.state.clusters["dev"].stage, ClusterStage::Up);
    assert_eq!(world.engine.alarm(), Some(EpochMs(world.now.0 + 1)));
    world.pass(1);
    let dev = &world.engine.state.clusters["dev"];
    assert_eq!(dev.stage, ClusterStage::Gone);
    assert_eq!(dev.why.as_deref(), Some("idle for 5 min (autostop)"));
}

#[test]
fn a_managed_job_recovers_from_loss_and_restarts_as_often_as_it_may() {
    let mut world = World::new(4.0);
    let mut once = task(1.0);
    once.resources.max_restarts_on_errors = 1;
    world.order(submit([once])).unwrap();
    let first = world.work_of_job(1);
    world.lose((first, 0));
    assert_eq!(world.stage_of_job(1), [TaskStage::Recovering]);
    world.pass(1_000);
    let second = world.work_of_job(1);
    assert_ne!(first, second);
    world.end((second, 0), ExitEnd::Code(1));
    assert_eq!(world.stage_of_job(1), [TaskStage::Recovering]);
    world.pass(60_000);
    let third = world.work_of_job(1);
    world.end((third, 0), ExitEnd::Code(1));
    assert_eq!(world.stage_of_job(1), [TaskStage::Failed]);
    let task = &world.engine.state.jobs[&1].tasks[0];
    assert_eq!((task.recoveries, task.restarts), (2, 1));
    assert_eq!(
        task.why.as_deref(),
        Some("exit code 1; it was started again 1 times before")
    );
    assert_eq!(task.earlier, [first, second]);
}

#[test]
fn a_pipeline_goes_on_only_after_success() {
    let mut world = World::new(4.0);
    world
        .order(submit([task(1.0), task(1.0), task(1.0)]))
        .unwrap();
    let work = |world: &World, n: usize| world.engine.state.jobs[&1].tasks[n].work;
    world.end((work(&world, 0).unwrap(), 0), ExitEnd::Code(0));
    assert_eq!(work(&world, 2), None);
    world.end((work(&world, 1).unwrap(), 0), ExitEnd::Code(9));
    assert_eq!(
        world.stage_of_job(1),
        [
            TaskStage::Succeeded,
            TaskStage::Failed,
            TaskStage::Cancelled
        ]
    );
    assert!(!world.engine.is_busy());
}

#[test]
fn a_cancelled_job_ends_wherever_it_is() {
    let mut world = World::new(1.0);
    world.order(submit([task(1.0)])).unwrap();
    world.order(submit([task(1.0)])).unwrap();
    for id in [1, 2] {
        world.order(Order::CancelJob(id)).unwrap();
    }
    assert_eq!(world.stage_of_job(2), [TaskStage::Cancelled]);
    assert_eq!(world.stage_of_job(1), [TaskStage::Going]);
    world.obey();
    assert_eq!(world.stage_of_job(1), [TaskStage::Cancelled]);
    assert!(world.running.is_empty());
}

fn served(version: &str, replicas: u32) -> Task {
    let mut task = task(0.1);
    task.name = Some("hello".into());
    task.envs.insert("VERSION".to_owned(), version.to_owned());
    task.service = Some(ServiceSpec {
        readiness_probe: Probe {
            initial_delay_seconds: 10,
            ..Probe::default()
        },
        min_replicas: replicas,
        max_replicas: replicas,
        target_qps_per_replica: None,
        upscale_delay_seconds: 0,
        downscale_delay_seconds: 0,
        port: 8080,
        load_balancing_policy: LoadBalancing::default(),
    });
    task
}

impl World {
    fn serve(&mut self, replicas: u32) {
        self.order(Order::ServeUp {
            name: None,
            file: file([served("1", replicas)]),
            belongs: belongs(),
            port: 30001,
        })
        .unwrap();
    }

    /// Half a second in which every probe is answered and the balancer has nothing under way.
    fn step_service(&mut self) {
        self.pass(500);
        for (service, replica) in std::mem::take(&mut self.probes) {
            let result = Ok(());
            self.engine.take(Event::Probed {
                service,
                replica,
                result,
            });
        }
        self.settle();
        self.balanced();
        self.obey();
    }

    fn all_are_well(&mut self) {
        for _ in 0..20 {
            self.step_service();
        }
    }

    fn balanced(&mut self) {
        let revision = self.engine.state.services["hello"].revision;
        self.engine.take(Event::Stands {
            service: "hello".into(),
            standing: Standing {
                revision,
                pid: 1,
                listen: ([127, 0, 0, 1], 30001).into(),
                in_flight: BTreeMap::new(),
                requests: 0,
                failures: 0,
                requests_per_second: self.load,
            },
        });
        self.settle();
    }

    fn ready(&self) -> Vec<i64> {
        let replicas = self.engine.state.services["hello"].replicas.iter();
        replicas.filter(|r| r.ready).map(|r| r.id).collect()
    }

    fn unit_of_replica(&self, id: i64) -> (u64, usize) {
        let replicas = &self.engine.state.services["hello"].replicas;
        (replicas.iter().find(|r| r.id == id).unwrap().work, 0)
    }
}

#[test]
fn a_replica_that_dies_is_taken_out_at_once_and_replaced() {
    let mut world = World::new(4.0);
    world.serve(2);
    world.all_are_well();
    assert_eq!(world.ready(), [1, 2]);
    let unit = world.unit_of_replica(1);
    world.end(unit, ExitEnd::Signal(9));
    assert_eq!(world.engine.state.services["hello"].told.len(), 1);
    world.all_are_well();
    assert_eq!(world.ready(), [2, 3]);
    let failed = &world.engine.state.services["hello"].replicas[0];
    assert_eq!(failed.stage, ReplicaStage::Failed);
    assert_eq!(failed.why.as_deref(), Some("ended by signal 9 (SIGKILL)"));
}

#[test]
fn an_update_never_has_fewer_ready_replicas_than_wanted() {
    let mut world = World::new(4.0);
    world.serve(2);
    world.all_are_well();
    world
        .order(Order::ServeUpdate {
            name: "hello".into(),
            file: file([served("2", 2)]),
            yaml: String::new(),
        })
        .unwrap();
    for _ in 0..40 {
        world.pass(500);
        for (service, replica) in std::mem::take(&mut world.probes) {
            let result = Ok(());
            world.engine.take(Event::Probed {
                service,
                replica,
                result,
            });
        }
        world.settle();
        assert!(world.engine.state.services["hello"].told.len() >= 2);
        world.balanced();
        world.obey();
    }
    let service = &world.engine.state.services["hello"];
    assert_eq!(world.ready().len(), 2);
    assert!(service.replicas.iter().all(|r| r.version == 2));
    assert_eq!(service.versions.len(), 1);
}

#[test]
fn replicas_that_are_never_ready_fail_with_growing_pauses() {
    let mut world = World::new(4.0);
    world.serve(1);
    let mut launched = Vec::new();
    for _ in 0..600 {
        world.pass(500);
        for (service, replica) in std::mem::take(&mut world.probes) {
            let result = Err("refused the connection".into());
            world.engine.take(Event::Probed {
                service,
                replica,
                result,
            });
        }
        world.settle();
        world.obey();
        launched.push(world.engine.state.services["hello"].next_replica);
    }
    let service = &world.engine.state.services["hello"];
    assert!(service.failures >= FAILURES_TOO_MANY && service.failures < 20);
    assert!(
        service.replicas.len() <= 4,
        "failed ones are not kept for ever"
    );
    let why = service.replicas[0].why.clone().unwrap();
    assert!(why.contains("refused the connection"), "{why}");
}

#[test]
fn a_service_follows_its_load_once_it_has_lasted() {
    let mut world = World::new(4.0);
    let mut task = served("1", 1);
    if let Some(spec) = &mut task.service {
        spec.max_replicas = 3;
        spec.target_qps_per_replica = Some(2.0);
        spec.upscale_delay_seconds = 10;
        spec.downscale_delay_seconds = 60;
    }
    world
        .order(Order::ServeUp {
            name: None,
            file: file([task]),
            belongs: belongs(),
            port: 30001,
        })
        .unwrap();
    let load = |world: &mut World, requests_per_second: f64, ms: i64| {
        for _ in 0..ms / 500 {
            world.load = requests_per_second;
            world.step_service();
        }
        world.engine.state.services["hello"].target
    };
    assert_eq!(load(&mut world, 5.0, 9_000), 1);
    assert_eq!(load(&mut world, 5.0, 3_000), 3);
    load(&mut world, 5.0, 5_000);
    assert_eq!(world.ready().len(), 3);
    // More than the most is never wanted; less only when it stays so.
    assert_eq!(load(&mut world, 500.0, 30_000), 3);
    assert_eq!(load(&mut world, 1.0, 50_000), 3);
    assert_eq!(load(&mut world, 1.0, 12_000), 1);
    load(&mut world, 1.0, 5_000);
    assert_eq!(world.ready().len(), 1);
}

#[test]
fn a_service_that_goes_down_ends_its_replicas_then_its_balancer() {
    let mut world = World::new(4.0);
    world.serve(2);
    world.all_are_well();
    world.order(Order::ServiceDown("hello".into())).unwrap();
    for _ in 0..3 {
        world.obey();
        world.settle();
    }
    assert!(world.engine.state.services["hello"].ended_at.is_some());
    assert!(world.running.is_empty());
    assert!(world.removed.contains(&"services/hello".to_owned()));
    assert!(!world.engine.is_busy());
}

#[test]
fn clearing_away_leaves_nothing() {
    let mut world = World::new(8.0);
    world.order(launch("dev", task(1.0))).unwrap();
    world.order(submit([task(1.0), task(1.0)])).unwrap();
    world.serve(2);
    world.all_are_well();
    world.order(Order::Clear("demo".into())).unwrap();
    for _ in 0..6 {
        world.obey();
        world.settle();
    }
    assert!(world.running.is_empty());
    let state = &world.engine.state;
    assert!(state.clusters.is_empty() && state.jobs.is_empty() && state.services.is_empty());
    assert!(state.cluster_jobs.is_empty() && state.works.is_empty());
    assert!(world.engine.labels().is_empty());
}

/// What may happen in [`no_history_leaves_anything_behind`].
#[derive(Clone, Debug)]
enum Move {
    Launch(u8, f64),
    Exec(u8, f64),
    Submit(f64, usize),
    Stop(u8),
    Start(u8),
    Down(u8),
    CancelJob(i64),
    CancelClusterJob(u8, i64),
    End(usize, i32),
    Lose(usize),
    Obey,
    Pass(i64),
    Crash,
}

fn moves() -> impl Strategy<Value = Move> {
    let cpus = prop_oneof![Just(0.5), Just(1.0), Just(2.0)];
    prop_oneof![
        (0..3u8, cpus.clone()).prop_map(|(n, c)| Move::Launch(n, c)),
        (0..3u8, cpus.clone()).prop_map(|(n, c)| Move::Exec(n, c)),
        (cpus, 1..4usize).prop_map(|(c, n)| Move::Submit(c, n)),
        (0..3u8).prop_map(Move::Stop),
        (0..3u8).prop_map(Move::Start),
        (0..3u8).prop_map(Move::Down),
        (1..5i64).prop_map(Move::CancelJob),
        (0..3u8, 1..4i64).prop_map(|(n, id)| Move::CancelClusterJob(n, id)),
        (any::<usize>(), 0..3i32).prop_map(|(n, code)| Move::End(n, code)),
        any::<usize>().prop_map(Move::Lose),
        Just(Move::Obey),
        (0..100_000i64).prop_map(Move::Pass),
        Just(Move::Crash),
    ]
}

proptest! {
    /// Whatever happens in whatever order: never more at once than the machine has, nothing is started
    /// twice, and once everything is ended nothing runs, waits or is held.
    #[test]
    fn no_history_leaves_anything_behind(moves in prop::collection::vec(moves(), 1..60)) {
        let mut world = World::new(2.0);
        let name = |n: u8| Text::from(["a", "b", "c"][n as usize]);
        for step in moves {
            let picked = |world: &World, n: usize| {
                let running = world.running.len();
                (running > 0).then(|| *world.running.iter().nth(n % running).unwrap())
            };
            match step {
                Move::Launch(n, cpus) => { let _ = world.order(launch(&name(n), task(cpus))); }
                Move::Exec(n, cpus) => { let _ = world.order(exec(&name(n), task(cpus))); }
                Move::Submit(cpus, n) => { let _ = world.order(submit((0..n).map(|_| task(cpus)))); }
                Move::Stop(n) => { let _ = world.order(Order::Stop(name(n))); }
                Move::Start(n) => { let _ = world.order(Order::StartAgain(name(n))); }
                Move::Down(n) => { let _ = world.order(Order::Down(name(n))); }
                Move::CancelJob(id) => { let _ = world.order(Order::CancelJob(id)); }
                Move::CancelClusterJob(n, id) => { let _ = world.order(Order::CancelClusterJob(name(n), id)); }
                Move::End(n, code) => if let Some(unit) = picked(&world, n) { world.end(unit, ExitEnd::Code(code)) },
                Move::Lose(n) => if let Some(unit) = picked(&world, n) { world.lose(unit) },
                Move::Obey => world.obey(),
                Move::Pass(ms) => world.pass(ms),
                Move::Crash => world.crash(),
            }
            let held: f64 = world.engine.state.works.values()
                .filter(|work| work.holds())
                .filter(|work| !matches!(work.purpose, Purpose::Balancer { .. }))
                .map(|work| work.task.resources.cpus.unwrap())
                .sum();
            prop_assert!(held <= 2.0 + 1e-6, "{held} CPUs are taken");
            let mut starts = world.starts.clone();
            starts.sort_unstable();
            starts.dedup();
            prop_assert_eq!(starts.len(), world.starts.len(), "a unit was started twice");
        }
        for cluster in ["a", "b", "c"] {
            let _ = world.order(Order::Down(cluster.into()));
        }
        let jobs: Vec<i64> = world.engine.state.jobs.keys().copied().collect();
        for id in jobs {
            world.order(Order::CancelJob(id)).unwrap();
        }
        for _ in 0..5 {
            world.obey();
            world.settle();
        }
        prop_assert!(world.running.is_empty(), "{:?} still run", world.running);
        prop_assert!(!world.engine.is_busy());
        prop_assert!(world.engine.state.works.values().all(super::super::state::Work::is_over));
    }
}
