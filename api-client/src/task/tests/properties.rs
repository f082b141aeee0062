//! What holds for every text, and for every task.

use proptest::prelude::*;

use super::super::*;
use super::{given, lines, map, read, read_with};

/// Text that is nearly a task file, so that more of the reader is met than its first refusal.
fn nearly() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "name",
        "run",
        "setup",
        "resources",
        "cpus",
        "memory",
        "ports",
        "service",
        "envs",
        "secrets",
        "file_mounts",
        "replica_policy",
        "min_replicas",
        "max_replicas",
        "readiness_probe",
        "path",
        "autostop",
        "accelerators",
        ":",
        ": ",
        " ",
        "  ",
        "\n",
        "\n  ",
        "\n    ",
        "- ",
        "[",
        "]",
        "{",
        "}",
        ",",
        "&a",
        "*a",
        "<<",
        "!!str",
        "!x",
        "|",
        ">",
        "'",
        "\"",
        "---\n",
        "...\n",
        "#",
        "\t",
        "1",
        "0x",
        "1:30",
        "true",
        "~",
        "\r\n",
        "\u{feff}",
        "\0",
        "é",
        "🙂",
        "%YAML 1.1\n",
        "?",
        "A100:2",
        "9000-9003",
        "$A",
        "${A}",
        "/",
        "..",
        "s3://x",
    ]);
    prop::collection::vec(word, 0..40).prop_map(|words| words.concat())
}

fn lower() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9]{0,8}"
}

fn line_of_text() -> impl Strategy<Value = String> {
    "[ -~éß日🙂]{0,30}"
}

/// A task that a file can say, with paths that need no home and no variables.
fn a_task() -> impl Strategy<Value = Task> {
    let resources = (
        prop::option::of((1..400_u32).prop_map(|tenths| f64::from(tenths) / 10.0)),
        prop::option::of((1..64_u32).prop_map(f64::from)),
        prop::option::of((lower().prop_map(Text::from), 1..9_u32)),
        prop::collection::btree_set(1..=u16::MAX, 0..4),
        prop::option::of((0..100_u32, any::<bool>())),
        0..5_u32,
    )
        .prop_map(
            |(cpus, memory_gb, accelerators, ports, autostop, restarts)| Resources {
                cpus,
                memory_gb,
                accelerators,
                ports: ports.into_iter().collect(),
                autostop: autostop.map(|(idle_minutes, down)| Autostop { idle_minutes, down }),
                max_restarts_on_errors: restarts,
            },
        );
    let variables = || prop::collection::btree_map("[A-Z_][A-Z0-9_]{0,6}", line_of_text(), 0..3);
    let probe = (
        lower().prop_map(|path| format!("/{path}")),
        0..99_u32,
        1..99_u32,
        prop::option::of(lower().prop_map(|word| format!("{{\"a\":\"{word}\"}}"))),
        prop::collection::btree_map(lower(), lower(), 0..2),
    )
        .prop_map(
            |(path, initial_delay_seconds, timeout_seconds, post_data, headers)| Probe {
                path,
                initial_delay_seconds,
                timeout_seconds,
                post_data,
                headers,
            },
        );
    let service = (
        probe,
        1..4_u32,
        0..3_u32,
        1..9_u32,
        0..9_u32,
        0..9_u32,
        1..=u16::MAX,
        any::<bool>(),
    )
        .prop_map(
            |(readiness_probe, least, more, qps, up, down, port, turns)| ServiceSpec {
                readiness_probe,
                min_replicas: least,
                max_replicas: least + more,
                target_qps_per_replica: (more > 0).then_some(f64::from(qps)),
                upscale_delay_seconds: up,
                downscale_delay_seconds: down,
                port,
                load_balancing_policy: if turns {
                    LoadBalancing::RoundRobin
                } else {
                    LoadBalancing::LeastLoad
                },
            },
        );
    let script = || prop::collection::vec(line_of_text(), 1..4).prop_map(|lines| lines.join("\n"));
    (
        prop::option::of(lower().prop_map(Text::from)),
        prop::option::of(lower().prop_map(|part| format!("/{part}"))),
        1..5_u32,
        resources,
        variables(),
        variables(),
        prop::collection::btree_map(lower(), lower().prop_map(|part| format!("/{part}")), 0..3),
        (prop::option::of(script()), script()),
        prop::option::of(service),
    )
        .prop_map(
            |(
                name,
                workdir,
                num_nodes,
                resources,
                envs,
                secrets,
                file_mounts,
                scripts,
                service,
            )| Task {
                name,
                workdir,
                num_nodes,
                resources,
                envs,
                secrets,
                file_mounts,
                setup: scripts.0,
                run: Some(scripts.1),
                service,
            },
        )
}

/// The task as a file says it: JSON, which is YAML.
fn written(task: &Task) -> serde_json::Value {
    let resources = &task.resources;
    let mut said = serde_json::json!({
        "cpus": resources.cpus,
        "memory": resources.memory_gb,
        "accelerators": resources.accelerators.as_ref().map(|(name, count)| format!("{name}:{count}")),
        "autostop": resources.autostop,
        "job_recovery": {"max_restarts_on_errors": resources.max_restarts_on_errors},
    });
    if !resources.ports.is_empty() {
        said["ports"] = serde_json::json!(resources.ports);
    }
    let service = task.service.as_ref().map(|service| {
        serde_json::json!({
            "readiness_probe": service.readiness_probe,
            "replica_policy": {
                "min_replicas": service.min_replicas,
                "max_replicas": service.max_replicas,
                "target_qps_per_replica": service.target_qps_per_replica,
                "upscale_delay_seconds": service.upscale_delay_seconds,
                "downscale_delay_seconds": service.downscale_delay_seconds,
            },
            "ports": service.port,
            "load_balancing_policy": service.load_balancing_policy,
        })
    });
    serde_json::json!({
        "name": task.name,
        "workdir": task.workdir,
        "num_nodes": task.num_nodes,
        "resources": said,
        "envs": task.envs,
        "secrets": task.secrets,
        "file_mounts": task.file_mounts,
        "setup": task.setup,
        "run": task.run,
        "service": service,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn nothing_makes_it_panic(text in "\\PC*|[\u{0}-\u{ff}\u{2028}\u{feff}]*|.*") {
        let _ = read_with(&text, &given());
    }

    #[test]
    fn nothing_that_is_nearly_a_task_makes_it_panic(text in nearly()) {
        if let Err(mistakes) = read_with(&text, &given()) {
            prop_assert!(!mistakes.is_empty());
            let last = text.matches(['\n', '\r']).count() + 2;
            for mistake in mistakes {
                prop_assert!(mistake.line.is_none_or(|line| (1..=last).contains(&line)));
            }
        }
    }

    #[test]
    fn what_was_written_is_what_is_read(task in a_task()) {
        let json = written(&task);
        let flow = json.to_string();
        prop_assert_eq!(&read(&flow).tasks, std::slice::from_ref(&task), "{}", flow);
        let block = serde_saphyr::to_string(&json).unwrap();
        prop_assert_eq!(&read(&block).tasks, &[task], "{}", block);
    }

    #[test]
    fn secrets_stay_out_of_every_message(text in nearly(), value in "zq[a-z]{8}zq") {
        let given = Given {
            folder: "/f",
            envs: map(&[("A", &value)]),
            secrets: map(&[("B", &value)]),
        };
        let text = format!("{text}\nsecrets: {{C: {value}}}\nenvs: {{D: {value}}}\nworkdir: $C\n");
        if let Err(mistakes) = read_with(&text, &given) {
            prop_assert!(!lines(&mistakes).contains(&value));
        }
    }
}
