//! The sample team: what a small organisation runs, as task files that this program carries.

use std::sync::Arc;

use skytower_api_client::action::{LOCAL, Start};
use skytower_api_client::entity::Entity;
use skytower_api_client::{Phase, human};

/// What all of the team is marked with, so that it is found again.
pub const LABEL: &str = "demo";

/// One thing that somebody of the team runs.
#[derive(Debug, PartialEq, Eq)]
pub struct Part {
    /// How it is started: the action's id.
    pub action: &'static str,
    /// What it is called.
    pub name: &'static str,
    /// Whose it is.
    pub owner: &'static str,
    /// Its workspace.
    pub workspace: &'static str,
    /// The task file's name.
    pub file: &'static str,
    /// The task file.
    pub yaml: &'static str,
}

macro_rules! team {
    ($($action:literal $name:literal $owner:literal $workspace:literal),+ $(,)?) => {
        /// Everything that the team runs, in the order in which it is started.
        pub const TEAM: &[Part] = &[$(Part {
            action: $action,
            name: $name,
            owner: $owner,
            workspace: $workspace,
            file: concat!($name, ".yaml"),
            yaml: include_str!(concat!("../../assets/demo/", $name, ".yaml")),
        }),+];
    };
}

team! {
    "source.launch" "notebook" "alice" "default",
    "source.launch" "train" "bob" "research",
    "source.launch" "etl" "carol" "default",
    "source.launch" "ci" "alice" "default",
    "source.serve_up" "hello" "carol" "default",
    "source.jobs_launch" "sweep" "bob" "research",
    "source.jobs_launch" "tokenize" "alice" "research",
    "source.jobs_launch" "evaluate" "bob" "research",
    "source.jobs_launch" "flaky" "carol" "default",
    "source.jobs_launch" "broken-setup" "alice" "default",
    "source.jobs_launch" "pipeline" "carol" "research",
}

impl Part {
    /// What is sent to start it.
    pub fn start(&self) -> Start {
        Start {
            file: self.file.into(),
            yaml: self.yaml.to_owned(),
            // The files lie in no folder; nothing in them is relative to one.
            folder: std::env::temp_dir().to_string_lossy().into_owned(),
            name: Some(self.name.into()),
            owner: Some(self.owner.into()),
            workspace: Some(self.workspace.into()),
            label: Some(LABEL.into()),
            ..Start::default()
        }
    }

    /// Is a row this part, alive.
    fn is(&self, row: &Entity) -> bool {
        row.phase() != Phase::Gone
            && match row {
                Entity::Cluster(cluster) => {
                    self.action == "source.launch"
                        && !cluster.managed
                        && *cluster.name == *self.name
                }
                Entity::Job(job) => {
                    self.action == "source.jobs_launch"
                        && *job.job_name == *self.name
                        && !job.phase.is_over()
                }
                Entity::Service(service) => {
                    self.action == "source.serve_up" && *service.name == *self.name
                }
                _ => false,
            }
    }
}

/// What of the team is not there.
pub fn missing<'a>(rows: impl IntoIterator<Item = &'a Arc<Entity>>) -> Vec<&'static Part> {
    let here = rows.into_iter().filter(|row| row.source() == LOCAL);
    let here: Vec<&Arc<Entity>> = here.collect();
    TEAM.iter()
        .filter(|part| !here.iter().any(|row| part.is(row)))
        .collect()
}

/// How many of what parts are: `4 clusters, 6 jobs, 1 service`.
pub fn counted(parts: &[&Part]) -> String {
    let of = |action: &str, noun: &str| {
        let number = parts.iter().filter(|part| part.action == action).count();
        (number > 0).then(|| human::count(number, noun))
    };
    let words = [
        of("source.launch", "cluster"),
        of("source.jobs_launch", "job"),
        of("source.serve_up", "service"),
    ];
    words.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::start::misfit;
    use skytower_api_client::action::action;
    use skytower_api_client::entity::{Cluster, Job};
    use skytower_api_client::task::{Given, parse};

    #[test]
    fn the_table_is_in_order() {
        for (i, part) in TEAM.iter().enumerate() {
            assert!(crate::start::needs_file(action(part.action).unwrap()));
            assert!(TEAM[..i].iter().all(|other| other.name != part.name));
        }
        let all: Vec<&Part> = TEAM.iter().collect();
        assert_eq!(counted(&all), "4 clusters, 6 jobs, 1 service");
    }

    #[test]
    fn every_file_can_be_started_as_the_table_says() {
        for part in TEAM {
            let start = part.start();
            let given = Given {
                folder: &start.folder,
                ..Given::default()
            };
            let task = parse(part.file, part.yaml, &given);
            let task = task.unwrap_or_else(|mistakes| panic!("{mistakes:#?}"));
            let action = action(part.action).unwrap();
            assert_eq!(misfit(action, &start.file, &task), None, "{}", part.name);
            assert_eq!(task.tasks.len() > 1, part.name == "pipeline");
        }
    }

    #[test]
    fn what_is_there_is_not_started_again() {
        let cluster = |source: &str, name: &str, phase| -> Arc<Entity> {
            Cluster {
                source: source.into(),
                name: name.into(),
                phase,
                ..Cluster::default()
            }
            .into()
        };
        let job = |name: &str, phase| -> Arc<Entity> {
            Job {
                source: LOCAL.into(),
                job_name: name.into(),
                phase,
                ..Job::default()
            }
            .into()
        };
        let rows = [
            cluster(LOCAL, "notebook", Phase::Stopped),
            cluster(LOCAL, "train", Phase::Gone),
            cluster("prod", "etl", Phase::Running),
            job("sweep", Phase::Running),
            job("flaky", Phase::Failed),
            job("ci", Phase::Running),
        ];
        let missing = missing(&rows);
        let is_missing = |name: &str| missing.iter().any(|part| part.name == name);
        for (name, expected) in [
            ("notebook", false),
            ("train", true),
            ("etl", true),
            ("sweep", false),
            ("flaky", true),
            ("ci", true),
        ] {
            assert_eq!(is_missing(name), expected, "{name}");
        }
    }
}
