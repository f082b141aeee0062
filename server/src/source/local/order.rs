//! From a request's handover to an order for the engine.

use skytower_api_client::action::Start;
use skytower_api_client::task::{Autostop, Given, TaskFile, is_cluster_name, parse};
use skytower_api_client::wire::Problem;
use skytower_api_client::{Entity, EpochMs, Text};

use super::core::{Command, Order};
use super::secrets::taken_out;
use super::state::Belongs;
use crate::source::Handover;

/// What a handover orders.
pub(super) fn order(handover: &Handover) -> Result<Command, Problem> {
    let by = handover.caller.name.clone();
    let [target] = &handover.targets[..] else {
        return Err(wrong("one thing at a time"));
    };
    let options = &handover.options;
    let order = match (handover.action.id, &**target) {
        ("cluster.stop", Entity::Cluster(cluster)) => Order::Stop(cluster.name.clone()),
        ("cluster.start", Entity::Cluster(cluster)) => Order::StartAgain(cluster.name.clone()),
        ("cluster.down", Entity::Cluster(cluster)) => Order::Down(cluster.name.clone()),
        ("cluster.autostop", Entity::Cluster(cluster)) => Order::Autostop {
            cluster: cluster.name.clone(),
            autostop: autostop(options.idle_minutes, options.down),
        },
        ("job.cancel", Entity::Job(job)) => Order::CancelJob(job.job_id),
        ("job.relaunch", Entity::Job(job)) => Order::Relaunch(job.job_id),
        ("cluster_job.cancel", Entity::ClusterJob(job)) => {
            Order::CancelClusterJob(job.cluster.clone(), job.job_id)
        }
        ("service.down", Entity::Service(service)) => Order::ServiceDown(service.name.clone()),
        ("replica.terminate", Entity::Replica(replica)) => {
            Order::TerminateReplica(replica.service.clone(), replica.replica_id)
        }
        ("source.clear", _) => {
            let label = options.label.clone();
            Order::Clear(label.ok_or_else(|| wrong("it is not said what is to be cleared away"))?)
        }
        (action, target) => starting(action, target, handover, &by)?,
    };
    Ok(Command { order, by })
}

fn starting(
    action: &str,
    target: &Entity,
    handover: &Handover,
    by: &Text,
) -> Result<Order, Problem> {
    let options = &handover.options;
    let Some(start) = options.start.as_deref() else {
        return Err(wrong("there is no task file"));
    };
    let file = read(start)?;
    let belongs = Belongs {
        owner: start.owner.clone().unwrap_or_else(|| by.clone()),
        workspace: start.workspace(),
        label: start.label.clone(),
        cleared: false,
        created_at: EpochMs::now(),
        yaml: taken_out(start),
        entrypoint: (handover.action.sky)(&[target], options)
            .into_iter()
            .next()
            .map(Text::from)
            .unwrap_or_default(),
    };
    let name = match &start.name {
        Some(name) => Some(checked(name)?),
        None => None,
    };
    Ok(match (action, target) {
        ("source.launch", _) => Order::Launch {
            name,
            file,
            belongs,
            autostop: autostop(options.idle_minutes, options.down),
        },
        ("cluster.exec", Entity::Cluster(cluster)) => Order::Exec {
            cluster: cluster.name.clone(),
            file,
            belongs,
        },
        ("source.jobs_launch", _) => Order::JobsLaunch {
            name,
            file,
            belongs,
        },
        ("source.serve_up", _) => Order::ServeUp {
            name,
            file,
            belongs,
            // The engine knows which are taken.
            port: 0,
        },
        ("service.update", Entity::Service(service)) => Order::ServeUpdate {
            name: service.name.clone(),
            file,
            yaml: belongs.yaml,
        },
        _ => {
            return Err(wrong(format!(
                "the local engine knows no `{action}` for a {}",
                target.kind()
            )));
        }
    })
}

fn autostop(idle_minutes: Option<u32>, down: bool) -> Option<Autostop> {
    idle_minutes.map(|idle_minutes| Autostop { idle_minutes, down })
}

fn wrong(detail: impl Into<Text>) -> Problem {
    Problem::new("invalid_request", 422, detail)
}

/// The client has read it already; it may have been another client.
fn read(start: &Start) -> Result<TaskFile, Problem> {
    let given = Given {
        folder: &start.folder,
        envs: start.envs.clone(),
        secrets: start.secrets.clone(),
    };
    parse(&start.file, &start.yaml, &given).map_err(|mistakes| {
        let first = mistakes
            .first()
            .map(ToString::to_string)
            .unwrap_or_default();
        let more = match mistakes.len() {
            0 | 1 => String::new(),
            n => format!(" (and {} more)", n - 1),
        };
        wrong(format!("{first}{more}"))
    })
}

/// Names become folders: they are as SkyPilot wants them.
fn checked(name: &Text) -> Result<Text, Problem> {
    if is_cluster_name(name) {
        return Ok(name.clone());
    }
    Err(
        Problem::new("invalid_request", 422, format!("`{name}` cannot be a name")).hint(
            "names begin with a letter, end with a letter or digit, have letters, digits, `-`, `_` and `.` between, and at most 63 of them",
        ),
    )
}
