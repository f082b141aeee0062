//! What a task file would start, in a few lines. Pure. Values of secrets are in none of them.

use std::collections::BTreeMap;

use skytower_api_client::task::{Resources, ServiceSpec, Task, TaskFile};
use skytower_api_client::{Text, human};

/// The first lines of a script that are shown.
const SCRIPT: usize = 3;

/// Facts in their order: what, and what of it. A second line of the same has no title.
pub fn preview(task: &TaskFile) -> Vec<(String, String)> {
    let mut facts = Vec::new();
    for (i, one) in task.tasks.iter().enumerate() {
        if task.tasks.len() > 1 {
            let name = one.name.as_deref().unwrap_or("without a name");
            facts.push((format!("task {}", i + 1), name.to_owned()));
        }
        about(one, &mut facts);
    }
    facts
}

fn about(task: &Task, facts: &mut Vec<(String, String)>) {
    let mut fact = |title: &str, text: String| {
        if !text.is_empty() {
            // Everything here was written by somebody else.
            facts.push((title.to_owned(), Text::new(text).to_string()));
        }
    };
    fact("nodes", task.num_nodes.to_string());
    fact("resources", resources(&task.resources));
    if let Some(service) = &task.service {
        fact("service", served(service));
    }
    fact("envs", pairs(&task.envs));
    let secrets: Vec<&str> = task.secrets.keys().map(String::as_str).collect();
    if !secrets.is_empty() {
        fact("secrets", format!("{} (not shown)", secrets.join(", ")));
    }
    fact("workdir", task.workdir.clone().unwrap_or_default());
    for (i, (to, from)) in task.file_mounts.iter().enumerate() {
        fact(
            if i == 0 { "mounts" } else { "" },
            format!("{to} from {from}"),
        );
    }
    for (title, script) in [("setup", &task.setup), ("run", &task.run)] {
        for (i, line) in script_lines(script.as_deref()).into_iter().enumerate() {
            fact(if i == 0 { title } else { "" }, line);
        }
    }
    if task.run.is_none() {
        fact("run", "nothing: it waits for tasks".to_owned());
    }
}

fn pairs(map: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = map.iter().map(|(k, v)| format!("{k}={v}")).collect();
    pairs.join("  ")
}

/// The first lines in which something stands.
fn script_lines(script: Option<&str>) -> Vec<String> {
    let lines: Vec<&str> = script
        .unwrap_or_default()
        .lines()
        .map(str::trim_end)
        .filter(|line| !line.is_empty())
        .collect();
    let mut shown: Vec<String> = lines
        .iter()
        .take(SCRIPT)
        .map(|line| (*line).to_owned())
        .collect();
    let more = lines.len().saturating_sub(SCRIPT);
    if more > 0 {
        shown.push(format!("(and {})", human::count(more, "more line")));
    }
    shown
}

fn resources(resources: &Resources) -> String {
    let mut words = Vec::new();
    if let Some(cpus) = resources.cpus {
        words.push(if cpus > 1.0 {
            format!("{cpus} CPUs")
        } else {
            format!("{cpus} CPU")
        });
    }
    if let Some(memory) = resources.memory_gb {
        words.push(format!("{memory} GB"));
    }
    if let Some((name, number)) = &resources.accelerators {
        words.push(format!("{number}×{name}"));
    }
    if !resources.ports.is_empty() {
        let ports: Vec<String> = resources.ports.iter().map(ToString::to_string).collect();
        let noun = if ports.len() == 1 { "port" } else { "ports" };
        words.push(format!("{noun} {}", ports.join(" ")));
    }
    if let Some(autostop) = resources.autostop {
        let verb = if autostop.down {
            "torn down"
        } else {
            "stopped"
        };
        words.push(format!("{verb} after {}m of idling", autostop.idle_minutes));
    }
    if resources.max_restarts_on_errors > 0 {
        let times = human::count(resources.max_restarts_on_errors as usize, "time");
        words.push(format!("started again up to {times}"));
    }
    words.join(", ")
}

fn served(service: &ServiceSpec) -> String {
    let (least, most) = (service.min_replicas, service.max_replicas);
    let replicas = if least == most {
        human::count(least as usize, "replica")
    } else {
        format!("{least} to {most} replicas")
    };
    let rate = service
        .target_qps_per_replica
        .map_or_else(String::new, |rate| format!(", {rate} requests/s each"));
    let probe = &service.readiness_probe;
    let method = if probe.post_data.is_some() {
        "POST"
    } else {
        "GET"
    };
    format!(
        "{replicas}{rate}, port {}, ready when {method} {} answers",
        service.port, probe.path
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use skytower_api_client::task::{Autostop, LoadBalancing, Probe};

    fn shown(task: Task) -> String {
        let file = TaskFile {
            name: None,
            tasks: vec![task],
        };
        let lines = preview(&file).into_iter();
        lines
            .map(|(title, text)| format!("{title:10}{text}\n"))
            .collect()
    }

    #[test]
    fn what_would_be_started_is_shown_without_secrets() {
        let task = Task {
            num_nodes: 2,
            resources: Resources {
                cpus: Some(1.0),
                memory_gb: Some(0.5),
                accelerators: Some(("A100".into(), 2)),
                ports: vec![8080],
                autostop: Some(Autostop {
                    idle_minutes: 10,
                    down: true,
                }),
                max_restarts_on_errors: 3,
            },
            envs: BTreeMap::from([("EPOCHS".to_owned(), "3\u{1b}[2J".to_owned())]),
            secrets: BTreeMap::from([("TOKEN".to_owned(), "hunter2".to_owned())]),
            workdir: Some("/home/alice/project".to_owned()),
            setup: Some("pip install torch\n\n".to_owned()),
            run: Some("a\nb\nc\nd\ne\n".to_owned()),
            ..Task::default()
        };
        assert_eq!(
            shown(task),
            "\
nodes     2
resources 1 CPU, 0.5 GB, 2×A100, port 8080, torn down after 10m of idling, started again up to 3 times
envs      EPOCHS=3
secrets   TOKEN (not shown)
workdir   /home/alice/project
setup     pip install torch
run       a
          b
          c
          (and 2 more lines)
"
        );
    }

    #[test]
    fn a_service_and_an_idle_cluster_are_shown() {
        let task = Task {
            num_nodes: 1,
            service: Some(ServiceSpec {
                readiness_probe: Probe {
                    path: "/health".to_owned(),
                    ..Probe::default()
                },
                min_replicas: 1,
                max_replicas: 3,
                target_qps_per_replica: Some(2.5),
                upscale_delay_seconds: 1,
                downscale_delay_seconds: 1,
                port: 8000,
                load_balancing_policy: LoadBalancing::LeastLoad,
            }),
            ..Task::default()
        };
        assert_eq!(
            shown(task),
            "\
nodes     1
service   1 to 3 replicas, 2.5 requests/s each, port 8000, ready when GET /health answers
run       nothing: it waits for tasks
"
        );
    }
}
