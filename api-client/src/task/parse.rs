//! From text to tasks.
//!
//! ```text
//! text --tree--> documents, each value with its line --here--> tasks, or every mistake
//! ```
//!
//! What SkyPilot does with a file is done here as well: its YAML is that of `PyYAML`, values of `envs` become
//! text as Python prints them, `${NAME}` is replaced in `workdir`, `file_mounts` and `service`, and the first
//! of several documents may hold only the pipeline's name.

mod field;
mod known;
mod paths;
mod report;
mod resources;
mod scalar;
mod service;
mod tree;
mod variables;

use std::collections::BTreeMap;

use self::field::Field;
use self::known::{CONFIG, GROUP, HEADER, TASK};
use self::paths::Here;
use self::report::Report;
use self::tree::{Node, Value};
use self::variables::{Values, variables};
use super::names::is_task_name;
use super::{Mistake, Resources, Task, TaskFile};
use crate::text::Text;

/// What was given beside the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given<'a> {
    /// The absolute folder in which relative paths mean something.
    pub folder: &'a str,
    /// Values of `envs` that replace those of the file, or join them. Every task of a pipeline gets them.
    pub envs: BTreeMap<String, String>,
    /// Values of `secrets`, likewise.
    pub secrets: BTreeMap<String, String>,
}

/// Reads a task file. `file` is what messages call it.
///
/// On failure every mistake is told, in the order of their lines. No message holds a value of `envs` or
/// `secrets`. Whether the paths exist is not looked at; `~` is the home of whoever runs this program.
pub fn parse(file: &str, text: &str, given: &Given<'_>) -> Result<TaskFile, Vec<Mistake>> {
    let home = std::env::home_dir();
    let home = home.as_deref().and_then(std::path::Path::to_str);
    parse_at(file, text, given, home.filter(|home| !home.is_empty()))
}

/// As [`parse`], with the home folder said.
pub(super) fn parse_at(
    file: &str,
    text: &str,
    given: &Given<'_>,
    home: Option<&str>,
) -> Result<TaskFile, Vec<Mistake>> {
    let mut report = Report::new(file);
    let documents = tree::documents(text, &mut report);
    let here = Here {
        folder: given.folder,
        home,
    };
    let file = task_file(&documents, given, &here, &mut report);
    report.verdict().map(|()| file)
}

fn task_file(
    documents: &[Node<'_>],
    given: &Given<'_>,
    here: &Here<'_>,
    report: &mut Report,
) -> TaskFile {
    let mut documents: Vec<Field<'_, '_>> = documents
        .iter()
        .map(Field::document)
        .filter(|document| !document.is_nothing())
        .collect();
    let mut header = None;
    if documents.len() > 1 && documents.first().is_some_and(is_header) {
        header = Some(documents.remove(0));
    }
    let mut file = TaskFile {
        name: header.and_then(|header| pipeline(&header, report)),
        tasks: Vec::new(),
    };
    let many = documents.len() > 1;
    for document in &documents {
        file.tasks.push(task(document, given, here, many, report));
    }
    if let [only] = &file.tasks[..] {
        file.name = file.name.or_else(|| only.name.clone());
    }
    let says_something =
        |field: &Field<'_, '_>| !matches!(&field.node.value, Value::Map(pairs) if pairs.is_empty());
    if report.is_clean() && !documents.iter().any(says_something) {
        report.add(
            None,
            "",
            "there is no task in it; a task needs at least `run`",
        );
    }
    file
}

/// Whether the first of several documents is about the pipeline and not a task.
fn is_header(field: &Field<'_, '_>) -> bool {
    let Value::Map(pairs) = &field.node.value else {
        return false;
    };
    let of_header = |key: &str| {
        HEADER.here.contains(&key) || HEADER.not_here.iter().any(|(name, _)| *name == key)
    };
    !pairs.is_empty() && pairs.iter().all(|pair| of_header(&pair.key))
}

/// The pipeline's name.
fn pipeline(header: &Field<'_, '_>, report: &mut Report) -> Option<Text> {
    let mut found = None;
    for (key, entry) in header.entries(report) {
        match key {
            _ if HEADER.here.contains(&key) && entry.is_nothing() => {}
            "name" => found = name(&entry, report),
            "execution" => {
                if let Some(order) = entry.text(report)
                    && order != "serial"
                {
                    entry.wrong(report, GROUP);
                }
            }
            _ => HEADER.refuse(key, &entry, report),
        }
    }
    found
}

fn name(field: &Field<'_, '_>, report: &mut Report) -> Option<Text> {
    let raw = field.text(report)?;
    if !is_task_name(raw) {
        field.wrong(
            report,
            format!(
                "must be letters and digits, with one or two of `.`, `_` and `-` between them, at most 100 in all, not {}",
                field.shown()
            ),
        );
        return None;
    }
    Some(raw.into())
}

fn task(
    document: &Field<'_, '_>,
    given: &Given<'_>,
    here: &Here<'_>,
    many: bool,
    report: &mut Report,
) -> Task {
    let mut task = Task {
        num_nodes: 1,
        ..Task::default()
    };
    if !matches!(document.node.value, Value::Map(_)) {
        document.wrong(
            report,
            format!(
                "a task is a mapping (`run: …`), and this is {}",
                match &document.node.value {
                    Value::List(_) => "a list",
                    _ => "text",
                }
            ),
        );
        return task;
    }
    let entries = document.entries(report);
    let find = |name: &str| {
        let found = entries.iter().find(|(key, _)| *key == name);
        found.map(|(_, field)| field)
    };
    // First, as they are put into other fields.
    task.envs = variables("--env", find("envs"), &given.envs, report);
    task.secrets = variables("--secret", find("secrets"), &given.secrets, report);
    let values = Values {
        envs: &task.envs,
        secrets: &task.secrets,
    };
    let mut resources: Option<(&Field<'_, '_>, Resources)> = None;
    let mut mounts = BTreeMap::new();
    let mut served = None;
    for (key, entry) in &entries {
        if TASK.here.contains(key) && entry.is_nothing() {
            continue;
        }
        match *key {
            "name" => task.name = name(entry, report),
            "workdir" => task.workdir = paths::workdir(entry, here, &values, report),
            "num_nodes" => task.num_nodes = entry.whole(1, report).unwrap_or(1),
            "resources" => resources = Some((entry, resources::resources(entry, report))),
            "envs" | "secrets" => {}
            "file_mounts" => {
                let has_workdir = find("workdir").is_some_and(|field| !field.is_nothing());
                mounts = paths::file_mounts(entry, here, &values, has_workdir, report);
            }
            "setup" => task.setup = entry.text(report).map(str::to_owned),
            "run" => task.run = entry.text(report).map(str::to_owned),
            "service" => served = Some(entry),
            "config" => {
                for (key, entry) in entry.entries(report) {
                    CONFIG.refuse(key, &entry, report);
                }
            }
            _ => TASK.refuse(key, entry, report),
        }
    }
    if let Some(field) = served {
        if many {
            field.wrong(report, "a service is one task, not a part of a pipeline");
        }
        if find("run").is_none_or(Field::is_nothing) {
            field.wrong(report, "needs `run`: what answers on its port");
        }
        let resources = resources.as_ref().map(|(field, found)| (*field, found));
        task.service = Some(service::service(field, resources, &values, report));
    }
    task.file_mounts = mounts;
    task.resources = resources.map(|(_, found)| found).unwrap_or_default();
    task
}
