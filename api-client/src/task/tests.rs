//! What task files mean, and what is said of those that mean nothing here.

mod properties;

use std::collections::BTreeMap;

use super::parse::parse_at;
use super::*;

fn given() -> Given<'static> {
    Given {
        folder: "/home/me/here",
        ..Given::default()
    }
}

fn read_with(text: &str, given: &Given<'_>) -> Result<TaskFile, Vec<Mistake>> {
    parse_at("t.yaml", text, given, Some("/home/me"))
}

fn read(text: &str) -> TaskFile {
    read_with(text, &given()).unwrap_or_else(|mistakes| panic!("{text}\n{}", lines(&mistakes)))
}

fn task(text: &str) -> Task {
    let file = read(text);
    assert_eq!(file.tasks.len(), 1, "{text}");
    file.tasks[0].clone()
}

fn lines(mistakes: &[Mistake]) -> String {
    let lines: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

/// All that is wrong, a mistake a line.
fn wrong(text: &str) -> String {
    match read_with(text, &given()) {
        Ok(file) => panic!("{text}\nwas read as {file:?}"),
        Err(mistakes) => lines(&mistakes),
    }
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

#[test]
fn a_file_with_every_field_is_read() {
    let file = read(
        r#"
# A comment.
name: train-7
workdir: code/./src/..
num_nodes: 2
resources:
  cpus: 2+
  memory: 512MB
  accelerators: {A100: 2}
  ports: [8080, "9000-9002"]
  autostop: {idle_minutes: 7, down: true, wait_for: JOBS}
  infra: local
  use_spot: false
  image_id:
  job_recovery: {strategy: failover, max_restarts_on_errors: 3}
  labels: {team: research}
envs:
  EPOCHS: 3
  DEBUG: true
  RATE: 1.50
  EMPTY: ""
  WORD: two words
secrets:
  TOKEN: abc
file_mounts:
  ~/data: ../data
  models/$WORD: ~/models/${EPOCHS}
setup: |
  echo one
    echo "two"
run: "echo $EPOCHS"
service:
  readiness_probe:
    path: /v1/$EPOCHS
    initial_delay_seconds: 20
    timeout_seconds: 3
    post_data: {model: "$WORD", n: [1, 2.5, true, null]}
    headers: {Authorization: "Bearer $TOKEN"}
  replica_policy:
    min_replicas: 1
    max_replicas: 4
    target_qps_per_replica: 2.5
    upscale_delay_seconds: 10
    downscale_delay_seconds: 20
  ports: 9001
  load_balancing_policy: round_robin
config: {}
"#,
    );
    assert_eq!(file.name.as_deref(), Some("train-7"));
    let expected = Task {
        name: Some("train-7".into()),
        workdir: Some("/home/me/here/code".to_owned()),
        num_nodes: 2,
        resources: Resources {
            cpus: Some(2.0),
            memory_gb: Some(0.5),
            accelerators: Some(("A100".into(), 2)),
            ports: vec![8080, 9000, 9001, 9002],
            autostop: Some(Autostop {
                idle_minutes: 7,
                down: true,
            }),
            max_restarts_on_errors: 3,
        },
        envs: map(&[
            ("EPOCHS", "3"),
            ("DEBUG", "True"),
            ("RATE", "1.5"),
            ("EMPTY", ""),
            ("WORD", "two words"),
        ]),
        secrets: map(&[("TOKEN", "abc")]),
        file_mounts: map(&[
            ("~/data", "/home/me/data"),
            ("models/two words", "/home/me/models/3"),
        ]),
        setup: Some("echo one\n  echo \"two\"\n".to_owned()),
        run: Some("echo $EPOCHS".to_owned()),
        service: Some(ServiceSpec {
            readiness_probe: Probe {
                path: "/v1/3".to_owned(),
                initial_delay_seconds: 20,
                timeout_seconds: 3,
                post_data: Some(r#"{"model":"two words","n":[1,2.5,true,null]}"#.to_owned()),
                headers: map(&[("Authorization", "Bearer abc")]),
            },
            min_replicas: 1,
            max_replicas: 4,
            target_qps_per_replica: Some(2.5),
            upscale_delay_seconds: 10,
            downscale_delay_seconds: 20,
            port: 9001,
            load_balancing_policy: LoadBalancing::RoundRobin,
        }),
    };
    assert_eq!(file.tasks, [expected]);
    assert_eq!(
        file.tasks[0].resources_text(),
        "2x(gpus=A100:2, cpus=2, mem=0.5, ports=8080,9000-9002)"
    );
}

#[test]
fn a_file_with_hardly_anything_has_the_usual_values() {
    let read = task("run: sleep 1\n");
    let expected = Task {
        num_nodes: 1,
        run: Some("sleep 1".to_owned()),
        ..Task::default()
    };
    assert_eq!(read, expected);
    assert_eq!(read.resources_text(), "1x");
}

#[test]
fn what_is_nothing_is_not_there() {
    let text = "run: x\nname:\nworkdir: ~\nnum_nodes:\nresources:\nenvs:\nsecrets: null\nfile_mounts:\nsetup:\nservice:\nconfig:\npool:\n";
    assert_eq!(task(text), task("run: x"));
    let text = "run: x\nresources: {cpus: , memory: , ports: , image_id: , any_of: }";
    assert_eq!(task(text), task("run: x"));
}

#[test]
fn amounts_have_the_forms_that_skypilot_takes() {
    for (cpus, expected) in [
        ("2", 2.0),
        ("2+", 2.0),
        ("\"0.5\"", 0.5),
        ("0.1", 0.1),
        ("'4+'", 4.0),
        ("4 +", 4.0),
        ("1e1", 10.0),
    ] {
        let read = task(&format!("resources: {{cpus: {cpus}}}"));
        assert_eq!(read.resources.cpus, Some(expected), "{cpus}");
    }
    for (memory, expected) in [
        ("4", 4.0),
        ("4+", 4.0),
        ("4GB", 4.0),
        ("4 GB", 4.0),
        ("\"512MB\"", 0.5),
        ("512mi", 0.5),
        ("1.5gb+", 1.5),
        ("1TB", 1024.0),
        ("1048576KB", 1.0),
        ("1Gi", 1.0),
    ] {
        let read = task(&format!("resources: {{memory: {memory}}}"));
        assert_eq!(read.resources.memory_gb, Some(expected), "{memory}");
    }
    for (accelerators, name, count) in [
        ("A100", "A100", 1),
        ("A100:2", "A100", 2),
        ("A100-80GB:8", "A100-80GB", 8),
        ("{A100: 2}", "A100", 2),
        ("{A100:2}", "A100", 2),
        ("{A100}", "A100", 1),
        ("['L4:1']", "L4", 1),
        ("{A100: 2.0}", "A100", 2),
    ] {
        let read = task(&format!("resources: {{accelerators: {accelerators}}}"));
        let expected = Some((Text::from(name), count));
        assert_eq!(read.resources.accelerators, expected, "{accelerators}");
    }
    for (ports, expected) in [
        ("8080", vec![8080]),
        ("\"8080\"", vec![8080]),
        ("9000-9003", vec![9000, 9001, 9002, 9003]),
        ("[9001, 80, '9000-9001']", vec![80, 9000, 9001]),
        ("65535", vec![65535]),
    ] {
        let read = task(&format!("resources: {{ports: {ports}}}"));
        assert_eq!(read.resources.ports, expected, "{ports}");
    }
    for (autostop, minutes, down) in [
        ("true", 5, false),
        ("10", 10, false),
        ("0", 0, false),
        ("10m", 10, false),
        ("'10'", 10, false),
        ("2H", 120, false),
        ("1d", 1440, false),
        ("1w", 10080, false),
        ("{down: true}", 5, true),
        ("{idle_minutes: 3}", 3, false),
        ("{idle_minutes: 3, wait_for: jobs_and_ssh}", 3, false),
    ] {
        let read = task(&format!("resources: {{autostop: {autostop}}}"));
        let expected = Autostop {
            idle_minutes: minutes,
            down,
        };
        assert_eq!(read.resources.autostop, Some(expected), "{autostop}");
    }
    assert_eq!(
        task("resources: {autostop: false}").resources.autostop,
        None
    );
    for recovery in [
        "FAILOVER",
        "none",
        "eager_next_region",
        "{strategy: null}",
        "{}",
    ] {
        let read = task(&format!("resources: {{job_recovery: {recovery}}}"));
        assert_eq!(read.resources.max_restarts_on_errors, 0, "{recovery}");
    }
    assert_eq!(
        task("resources: {infra: '*'}").resources,
        Resources::default()
    );
}

#[test]
fn services_have_skyserves_usual_values() {
    let read = task("run: x\nresources: {ports: 8080}\nservice: {readiness_probe: /health}\n");
    let expected = ServiceSpec {
        readiness_probe: Probe {
            path: "/health".to_owned(),
            ..Probe::default()
        },
        min_replicas: 1,
        max_replicas: 1,
        target_qps_per_replica: None,
        upscale_delay_seconds: 300,
        downscale_delay_seconds: 1200,
        port: 8080,
        load_balancing_policy: LoadBalancing::LeastLoad,
    };
    assert_eq!(read.service, Some(expected));

    let service = |text: &str| {
        let text = format!("run: x\nservice: {{ports: 80, {text}}}");
        task(&text).service.unwrap()
    };
    assert_eq!(service("readiness_probe: ").readiness_probe.path, "/");
    let of = |text: &str| {
        let service = service(text);
        (service.min_replicas, service.max_replicas)
    };
    assert_eq!(of("replicas: 2"), (2, 2));
    assert_eq!(of("replica_policy: {min_replicas: 2}"), (2, 2));
    assert_eq!(
        of("replica_policy: {min_replicas: 3, max_replicas: 3}"),
        (3, 3)
    );
    assert_eq!(
        of("replica_policy: {min_replicas: 0, max_replicas: 2, target_qps_per_replica: 1}"),
        (0, 2)
    );
    let probe = service("readiness_probe: {path: /, post_data: '{\"a\": [1, \"b\"]}'}");
    assert_eq!(
        probe.readiness_probe.post_data.as_deref(),
        Some("{\"a\": [1, \"b\"]}")
    );
}

#[test]
fn what_was_given_replaces_what_the_file_says() {
    let given = Given {
        folder: "/f",
        envs: map(&[("A", "given"), ("NEW", "n")]),
        secrets: map(&[("S", "secret"), ("T", "t")]),
    };
    let text = "envs: {A: , B: b}\nsecrets:\n  S:\nworkdir: ${A}/$B/$NEW/$S\nrun: x\n";
    let file = read_with(text, &given).unwrap();
    let task = &file.tasks[0];
    assert_eq!(task.envs, map(&[("A", "given"), ("B", "b"), ("NEW", "n")]));
    assert_eq!(task.secrets, map(&[("S", "secret"), ("T", "t")]));
    assert_eq!(task.workdir.as_deref(), Some("/f/given/b/n/secret"));
}

#[test]
fn references_are_replaced_as_skypilot_replaces_them() {
    let of = |reference: &str| {
        let text = format!("envs: {{A: a, AB: ab}}\nworkdir: /{reference}");
        task(&text).workdir.unwrap()
    };
    assert_eq!(of("$A-$AB"), "/a-ab");
    assert_eq!(of("${A}B"), "/aB");
    assert_eq!(of("$ABC"), "/$ABC");
    assert_eq!(of("${NONE}"), "/${NONE}");
    assert_eq!(of("$$A"), "/$a");
    assert_eq!(of("$Aé"), "/aé");
    // The text that is put in is not looked at again.
    assert_eq!(
        task("envs: {A: $B, B: b}\nworkdir: /$A").workdir.unwrap(),
        "/$B"
    );
    // A script gets them from its environment.
    assert_eq!(task("envs: {A: a}\nrun: echo $A").run.unwrap(), "echo $A");
}

#[test]
fn paths_are_absolute_and_plain() {
    for (path, expected) in [
        (".", "/home/me/here"),
        ("..", "/home/me"),
        ("../../../..", "/"),
        ("a//b/", "/home/me/here/a/b"),
        ("~", "/home/me"),
        ("~/a/../b", "/home/me/b"),
        ("/a/./b", "/a/b"),
        ("ä ö", "/home/me/here/ä ö"),
    ] {
        let read = task(&format!("workdir: '{path}'"));
        assert_eq!(read.workdir.as_deref(), Some(expected), "{path}");
    }
    let mistakes = parse_at("t.yaml", "workdir: ~/a", &given(), None).unwrap_err();
    assert_eq!(
        lines(&mistakes),
        "t.yaml:1: workdir: there is no home folder that `~` could mean; write the whole path"
    );
    // The home folder of whoever runs this.
    assert!(parse("t.yaml", "workdir: /a", &given()).is_ok());
}

#[test]
fn scripts_are_kept_as_they_are() {
    for (text, expected) in [
        ("run: |\n  a\n\n   b\t\n", "a\n\n b\t\n"),
        ("run: |-\n  a\n", "a"),
        ("run: |+\n  a\n\n", "a\n\n"),
        ("run: >\n  a\n  b\n", "a b\n"),
        // As PyYAML: no line break where the file has none.
        ("run: |\n  a", "a"),
        ("run: |\r\n  a\r\n  b\r\n", "a\nb\n"),
        ("run: \"a\\tb\\n\"", "a\tb\n"),
        (
            "run: |\n  # not a comment\n  x: [y\n",
            "# not a comment\nx: [y\n",
        ),
        (
            "run: |\n  echo 'ünïcödé 🙂 日本'\n",
            "echo 'ünïcödé 🙂 日本'\n",
        ),
        ("\u{feff}run: a", "a"),
        ("run: echo a # b", "echo a"),
    ] {
        assert_eq!(task(text).run.as_deref(), Some(expected), "{text:?}");
    }
}

#[test]
fn several_documents_are_a_pipeline() {
    let file = read("name: all\n---\nname: one\nrun: a\n---\nrun: b\n---\n");
    assert_eq!(file.name.as_deref(), Some("all"));
    let names: Vec<_> = file.tasks.iter().map(|task| task.name.as_deref()).collect();
    assert_eq!(names, [Some("one"), None]);

    let file = read("---\nname: all\nexecution: serial\n---\nname: one\nrun: a\n...\n");
    assert_eq!(file.name.as_deref(), Some("all"));
    assert_eq!(file.tasks.len(), 1);

    let file = read("name: one\nrun: a\n---\nname: two\nrun: b\n");
    assert_eq!(file.name, None);
    assert_eq!(file.tasks.len(), 2);

    let file = read("name: waits\n");
    assert_eq!(file.name.as_deref(), Some("waits"));
    assert_eq!(file.tasks[0].name.as_deref(), Some("waits"));
    assert_eq!(file.tasks[0].run, None);

    assert_eq!(
        wrong(
            "name: g\nexecution: parallel\nprimary_tasks: [a]\n---\nrun: a\n---\nrun: [b]\nexecution: serial\n"
        ),
        "t.yaml:2: execution: tasks of one job run one after the other here; start those that shall run side by side on their own\n\
         t.yaml:3: primary_tasks: tasks of one job run one after the other here; start those that shall run side by side on their own\n\
         t.yaml:7: run: must be text, not a list\n\
         t.yaml:8: execution: it belongs to the first document of a pipeline, which has only it and `name`"
    );
    assert_eq!(
        wrong("run: a\n---\nrun: b\nresources: {ports: 80}\nservice: {}\n"),
        "t.yaml:5: service: a service is one task, not a part of a pipeline"
    );
}

#[test]
fn anchors_and_merged_mappings_are_understood() {
    let text = "
envs: &base {A: a, B: b}
secrets:
  <<: *base
  B: other
run: x
---
envs:
  <<: [{C: c}, {C: d, D: d}]
run: y
";
    let file = read(text);
    assert_eq!(file.tasks[0].secrets, map(&[("A", "a"), ("B", "other")]));
    assert_eq!(file.tasks[1].envs, map(&[("C", "c"), ("D", "d")]));
}

/// The table says how it is to be read.
#[test]
fn every_mistake_says_what_is_wrong_and_where() {
    let mut different = Vec::new();
    let mut cases: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in include_str!("tests/mistakes.txt").lines() {
        match (line.strip_prefix("  "), cases.last_mut()) {
            (Some(expected), Some((_, all))) => all.push(expected),
            _ if line.is_empty() || line.starts_with("# ") => {}
            _ => cases.push((line, Vec::new())),
        }
    }
    for (text, expected) in cases {
        let file = text.replace('|', "\n").replace('→', "\t").replace('∅', "");
        let (found, expected) = (wrong(&file), expected.join("\n"));
        if found != expected {
            different.push(format!("{text}\n{found}\n{expected}"));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n\n"));
}

#[test]
fn all_mistakes_are_told_in_the_order_of_their_lines() {
    assert_eq!(
        wrong(
            "num_nodes: 0\nresources:\n  use_spot: true\n  cpus: x\nservise: {}\nname: a b\n---\nrun: [\n---\nrun: 5\n"
        ),
        "t.yaml:1: num_nodes: must be a whole number, 1 or more, not `0`\n\
         t.yaml:3: resources.use_spot: there are no spot machines here; remove it\n\
         t.yaml:4: resources.cpus: must be a number of CPUs above 0, such as `2`, `0.5` or `4+`, not `x`\n\
         t.yaml:5: servise: there is no such field; did you mean `service`?\n\
         t.yaml:6: name: must be letters and digits, with one or two of `.`, `_` and `-` between them, at most 100 in all, not `a b`\n\
         t.yaml:8: not YAML: unclosed bracket '[' (column 6)\n\
         t.yaml:10: run: must be text; put `5` in quotation marks"
    );
    let many: String = (0..1000).map(|i| format!("zzzz{i}: 1\n")).collect();
    let mistakes = read_with(&many, &given()).unwrap_err();
    assert_eq!(mistakes.len(), 51);
    assert_eq!(mistakes[50].to_string(), "t.yaml: 950 more mistakes");
}

#[test]
fn lines_are_right_where_they_end_with_two_characters() {
    let text = "name: a\r\nresources:\r\n  cpus: 2\r\n  use_spot: true\r\n";
    assert_eq!(
        wrong(text),
        "t.yaml:4: resources.use_spot: there are no spot machines here; remove it"
    );
}

#[test]
fn what_was_given_must_be_possible_too() {
    let given = Given {
        folder: "/f",
        envs: map(&[("A-B", "hunter2")]),
        secrets: map(&[("TOKEN=hunter2", ""), ("S", "hunter2\0")]),
    };
    let mistakes = read_with("run: a", &given).unwrap_err();
    assert_eq!(
        lines(&mistakes),
        "t.yaml: --env: one of the names is not that of a variable: letters, digits and `_`, and no digit first\n\
         t.yaml: --secret: a value must not have a character of value 0\n\
         t.yaml: --secret: one of the names is not that of a variable: letters, digits and `_`, and no digit first"
    );
}

#[test]
fn no_message_holds_a_secret() {
    for text in [
        "secrets: {A: hunter2}\nworkdir: https://$A/x",
        "secrets: {A: hunter2}\nrun: x\nservice: {ports: 80, readiness_probe: $A}",
        "secrets: {A: hunter2}\nrun: x\nservice: {ports: 80, readiness_probe: {path: /, post_data: $A}}",
        "secrets: {A: hunter2}\nrun: x\nservice: {ports: 80, readiness_probe: {path: /, headers: {\"x $A\": a}}}",
        "secrets: {A: &a hunter2}\nname: *a\nnum_nodes: *a\nresources: {cpus: *a, autostop: *a, labels: {x: *a}}\n",
        "name: &a hunter2 x\nsecrets: {A: *a}",
        "secrets: {A: *hunter2}",
        "secrets: {A: !hunter2 x}",
        "secrets: {A: [hunter2]}",
        "secrets: [hunter2]",
        "secrets: hunter2",
        "secrets: {A=hunter2: }",
        "secrets: {A=hunter2: x, A=hunter2: y}",
        "secrets: {A=hunter2: *b}",
        "envs: {A=hunter2}",
        "envs: {A: 'hunter2}",
        "secrets: {A: @hunter2}",
        "secrets:\n  A: x: hunter2",
        "secrets: {A: hunter2}\nfile_mounts: {x: s3://$A}",
    ] {
        let found = wrong(text);
        assert!(!found.contains("hunter2"), "{text}\n{found}");
    }
}

#[test]
fn files_that_would_cost_too_much_are_refused_soon() {
    let started = std::time::Instant::now();
    let fits = |text: &str| assert!(read_with(text, &given()).is_err());

    // Ten lists of ten, ten times.
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for i in 1..10 {
        let inner = vec![format!("*a{}", i - 1); 10].join(", ");
        bomb.push_str(&format!("a{i}: &a{i} [{inner}]\n"));
    }
    assert!(
        wrong(&bomb).contains("more than 100000 values, or too much repeated by aliases"),
        "{}",
        wrong(&bomb)
    );
    // One long text, often.
    let long = format!(
        "a: &a {}\nb: [{}]\n",
        "x".repeat(100_000),
        vec!["*a"; 1000].join(", ")
    );
    assert!(wrong(&long).contains("too much repeated by aliases"));
    // Deep by aliases, where no part of it is.
    let mut deep = "a0: &a0 [x]\n".to_owned();
    for i in 1..5000 {
        deep.push_str(&format!("a{i}: &a{i} [*a{}]\n", i - 1));
    }
    assert!(wrong(&deep).contains("more than 64 lists and mappings in each other"));
    // Deep as it stands.
    for open in ["[", "{a: ", "- ", "? "] {
        fits(&open.repeat(100_000));
    }
    fits(&"a:\n".repeat(100_000));
    fits(
        &(0..2000)
            .map(|i| format!("{}a:\n", " ".repeat(i)))
            .collect::<String>(),
    );
    // Many, and large.
    fits(&format!("run: [{}]", "a,".repeat(400_000)));
    let large = format!("run: {}\n", "x".repeat(50 << 20));
    assert_eq!(
        wrong(&large),
        "t.yaml: 51200 KB are too much for a task file; at most 1024 KB are read"
    );
    let elapsed = started.elapsed();
    assert!(elapsed.as_secs() < 20, "{elapsed:?}");
}

#[test]
fn what_it_needs_fits_one_line() {
    for (text, expected) in [
        ("run: x", "1x"),
        (
            "resources: {cpus: 2, memory: 4, ports: 8080}",
            "1x(cpus=2, mem=4, ports=8080)",
        ),
        (
            "num_nodes: 3\nresources: {cpus: 0.1, memory: 100MB}",
            "3x(cpus=0.1, mem=0.1)",
        ),
        ("resources: {cpus: 0.001}", "1x(cpus=0.001)"),
        ("resources: {accelerators: 'A100:8'}", "1x(gpus=A100:8)"),
        (
            "resources: {ports: [1-3, 5, 65534-65535]}",
            "1x(ports=1-3,5,65534-65535)",
        ),
    ] {
        assert_eq!(task(text).resources_text(), expected, "{text}");
    }
}

#[test]
fn the_files_of_the_demo_have_no_mistake() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/demo");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|end| end != "yaml") {
            continue;
        }
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        let given = Given {
            folder: folder.to_str().unwrap(),
            ..Given::default()
        };
        let file = parse(&name, &text, &given).unwrap_or_else(|all| panic!("{}", lines(&all)));
        assert_eq!(file.name.as_deref(), Some(&*name));
        for task in &file.tasks {
            let cpus = task.resources.cpus.unwrap();
            assert!(cpus <= 0.5, "{name} would not be near-idle");
            assert_eq!(task.run.is_none(), name == "notebook", "{name}");
        }
        found.push(name);
    }
    found.sort_unstable();
    assert_eq!(
        found,
        [
            "broken-setup",
            "ci",
            "etl",
            "evaluate",
            "flaky",
            "hello",
            "notebook",
            "pipeline",
            "sweep",
            "tokenize",
            "train"
        ]
    );
}
