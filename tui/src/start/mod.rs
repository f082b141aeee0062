//! Starting something from a task file: what the commands and the dashboard have in common.
//!
//! A file is read and checked here, shown, and sent as it is; the server checks it again.

mod preview;
mod read;

use std::sync::Arc;

use skytower_api_client::action::{ActionSpec, LOCAL};
use skytower_api_client::entity::Entity;
use skytower_api_client::task::{Mistake, TaskFile};
use skytower_api_client::{Kind, Text, human};

pub use preview::preview;
pub use read::{LARGEST, Read, STDIN, folder, read};

/// The actions that need a task file. The order is that in which they are offered.
const FROM_A_FILE: [&str; 5] = [
    "source.launch",
    "source.jobs_launch",
    "source.serve_up",
    "cluster.exec",
    "service.update",
];

/// Why nothing can be started where there is no local engine.
pub const NO_ENGINE: &str = "this server has no local engine, and nothing else starts tasks";
/// The same in the one line that the dashboard has for it.
pub const NO_ENGINE_SHORT: &str =
    "there is no local engine here; tasks for SkyPilot are started with `sky`";
/// What to do about that.
pub const NO_ENGINE_HINT: &str = "tasks for SkyPilot are started with `sky`; a server of your own on this machine \
                                  has the engine, a team's server with `skytower-server --engine local`";

/// Does an action need a task file.
pub fn needs_file(action: &ActionSpec) -> bool {
    FROM_A_FILE.contains(&action.id)
}

/// The actions that make something new on the local engine from a file.
pub fn making() -> impl Iterator<Item = &'static ActionSpec> {
    FROM_A_FILE
        .into_iter()
        .filter_map(skytower_api_client::action::action)
        .filter(|action| action.kind == Kind::Source)
}

/// The row of the local engine.
pub fn engine<'a>(sources: impl IntoIterator<Item = &'a Arc<Entity>>) -> Option<&'a Arc<Entity>> {
    sources
        .into_iter()
        .find(|row| row.kind() == Kind::Source && row.source() == LOCAL)
}

/// What of a file that can be read does not fit what is to be done with it.
pub fn misfit(action: &ActionSpec, file: &Text, task: &TaskFile) -> Option<Mistake> {
    let tasks = task.tasks.len();
    let serves = task.tasks.iter().any(|task| task.service.is_some());
    let idle = task.tasks.iter().any(|task| task.run.is_none());
    let (field, message) = match action.id {
        "source.launch" | "cluster.exec" if tasks > 1 => (
            None,
            format!("its {tasks} tasks are a pipeline, which is launched as a managed job"),
        ),
        "source.serve_up" | "service.update" if tasks > 1 => (
            None,
            format!(
                "a service is made of one task, and these are {}",
                human::count(tasks, "task")
            ),
        ),
        "source.serve_up" | "service.update" if !serves => (
            Some("service"),
            "it is missing: it says how many replicas there are, and how one is found ready"
                .to_owned(),
        ),
        "source.jobs_launch" | "source.serve_up" | "cluster.exec" | "service.update" if idle => (
            Some("run"),
            "it is missing: there is nothing to run".to_owned(),
        ),
        _ => return None,
    };
    Some(Mistake {
        file: file.clone(),
        line: None,
        field: field.map(Text::from),
        message: message.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use skytower_api_client::action::action;
    use skytower_api_client::task::Task;

    #[test]
    fn each_action_takes_the_files_that_it_can_honour() {
        let task = |run: bool| Task {
            num_nodes: 1,
            run: run.then(|| "true".to_owned()),
            ..Task::default()
        };
        let one = |run| TaskFile {
            tasks: vec![task(run)],
            ..TaskFile::default()
        };
        let pipeline = TaskFile {
            tasks: vec![task(true), task(true)],
            ..TaskFile::default()
        };
        let said = |id: &str, file: &TaskFile| {
            let misfit = misfit(action(id).unwrap(), &"t.yaml".into(), file);
            misfit.map(|mistake| mistake.to_string())
        };
        for (id, file, fits) in [
            ("source.launch", &one(true), true),
            ("source.launch", &one(false), true),
            ("source.launch", &pipeline, false),
            ("source.jobs_launch", &pipeline, true),
            ("source.jobs_launch", &one(false), false),
            ("source.serve_up", &one(true), false),
            ("source.serve_up", &pipeline, false),
            ("cluster.exec", &one(true), true),
            ("cluster.exec", &pipeline, false),
        ] {
            assert_eq!(said(id, file).is_none(), fits, "{id}: {file:?}");
        }
        let said = said("source.serve_up", &one(true)).unwrap();
        assert!(said.starts_with("t.yaml: service: it is missing"), "{said}");
    }

    #[test]
    fn every_action_from_a_file_is_in_the_table() {
        for id in FROM_A_FILE {
            assert!(action(id).is_some(), "{id}");
        }
        assert_eq!(making().count(), 3);
    }
}
