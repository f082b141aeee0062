//! The actions: one table, read by keys, menus, help, the command line, the server and the policy.
//!
//! A new action is a new entry of [`ACTIONS`] (and the source's way to carry it out). `seen` says
//! when its effect is visible in the state: an action has succeeded when the change was seen, not
//! when SkyPilot said SUCCEEDED.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::entity::Entity;
use crate::kind::Kind;
use crate::phase::Phase;
use crate::text::Text;

/// The source that is the local engine: its name, and the first part of its rows' keys. A SkyPilot server
/// cannot be called so.
pub const LOCAL: &str = "local";

/// What else an action needs to know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ActionOptions {
    /// `cluster.autostop`: idle minutes until it stops; none turns autostop off. `source.launch`: the same,
    /// instead of what the file asks for; none leaves that as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_minutes: Option<u32>,
    /// `cluster.autostop`, `source.launch`: tear down instead of stop.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub down: bool,
    /// What is to be started, for actions that start something from a task file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<Box<Start>>,
    /// `source.clear`: everything that was started with this label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<Text>,
}

/// What is to be started on the local engine: a task file, and whose it is.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Start {
    /// What messages call the file.
    pub file: Text,
    /// The file's text, see [`crate::task`].
    pub yaml: String,
    /// The absolute folder in which the file's relative paths mean something.
    pub folder: String,
    /// The name of the cluster, job or service, instead of the file's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Text>,
    /// Values of `envs` that replace those of the file.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub envs: BTreeMap<String, String>,
    /// Values of `secrets` that replace those of the file. Never shown.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, String>,
    /// Whose it is; none means the caller's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<Text>,
    /// Its workspace; none means `default`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workspace: Option<Text>,
    /// A mark by which `source.clear` finds it again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<Text>,
}

impl Start {
    /// The name of the workspace that it is started in.
    pub fn workspace(&self) -> Text {
        let named = self.workspace.clone();
        named.unwrap_or_else(|| Text::from("default"))
    }
}

impl std::fmt::Debug for Start {
    /// Without the text and the values: they may hold secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Start")
            .field("file", &self.file)
            .field("name", &self.name)
            .field("owner", &self.owner)
            .field("workspace", &self.workspace)
            .field("label", &self.label)
            .finish_non_exhaustive()
    }
}

/// How much an action takes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Danger {
    /// Nothing: no question asked for one's own things.
    Mild,
    /// Work in progress.
    Interrupts,
    /// Something that cannot be brought back.
    Destroys,
}

/// Is the effect of an action there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Yes.
    Yes,
    /// Not yet.
    NotYet,
    /// It cannot come any more, for this reason.
    Never(String),
    /// There is no row to see it in: the source's word is all there is.
    Told,
}

/// One action on one kind of row.
pub struct ActionSpec {
    /// `kind.verb`, on the wire and in the journal.
    pub id: &'static str,
    /// The command's verb.
    pub verb: &'static str,
    /// What it acts on.
    pub kind: Kind,
    /// For menus and buttons: `Cancel job`.
    pub title: &'static str,
    /// While it happens: `Cancelling`.
    pub doing: &'static str,
    /// The dashboard's default key, in the keymap's notation; empty when it has none of its own.
    pub key: &'static str,
    /// How much it takes away.
    pub danger: Danger,
    /// One sentence for help, ends with a full stop.
    pub doc: &'static str,
    /// Does it make sense for the row as it is; a reason when not.
    pub applies: fn(&Entity) -> Result<(), String>,
    /// Is its effect there: the row as it is now (none when it is gone), and the options.
    pub seen: fn(Option<&Entity>, &ActionOptions) -> Seen,
    /// The `sky` command that does the same to these rows (all of [`ActionSpec::kind`]).
    pub sky: fn(&[&Entity], &ActionOptions) -> Vec<String>,
}

impl std::fmt::Debug for ActionSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ActionSpec").field(&self.id).finish()
    }
}

impl PartialEq for ActionSpec {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

/// The action of an id.
pub fn action(id: &str) -> Option<&'static ActionSpec> {
    ACTIONS.iter().find(|spec| spec.id == id)
}

/// The action of a verb for a kind of row.
pub fn action_for(verb: &str, kind: Kind) -> Option<&'static ActionSpec> {
    ACTIONS
        .iter()
        .find(|spec| spec.verb == verb && spec.kind == kind)
}

/// The actions there are for a kind of row.
pub fn actions_of(kind: Kind) -> impl Iterator<Item = &'static ActionSpec> {
    ACTIONS.iter().filter(move |spec| spec.kind == kind)
}

/// Every action.
pub const ACTIONS: &[ActionSpec] = &[
    ActionSpec {
        id: "cluster.stop",
        verb: "stop",
        kind: Kind::Cluster,
        title: "Stop cluster",
        doing: "Stopping",
        key: "ctrl-d",
        danger: Danger::Interrupts,
        doc: "Stops the cluster's machines and keeps its disks; running jobs and other requests on it end.",
        applies: |row| {
            not_a_controller(row)?;
            match row.phase() {
                Phase::Running | Phase::Starting | Phase::Degraded => Ok(()),
                _ => not_now(row, "only a cluster that is up can be stopped"),
            }
        },
        seen: |row, _| match row {
            None => Seen::Never("it was torn down meanwhile".to_owned()),
            Some(row) if row.phase() == Phase::Stopped => Seen::Yes,
            Some(row) if row.phase() == Phase::Gone => {
                Seen::Never("it was torn down meanwhile".to_owned())
            }
            Some(_) => Seen::NotYet,
        },
        sky: |rows, _| vec![format!("sky stop {}", names(rows))],
    },
    ActionSpec {
        id: "cluster.start",
        verb: "start",
        kind: Kind::Cluster,
        title: "Start cluster",
        doing: "Starting",
        key: "r",
        danger: Danger::Mild,
        doc: "Starts a stopped cluster again; its old autostop is not restored.",
        applies: |row| match row.phase() {
            Phase::Stopped => Ok(()),
            _ => not_now(row, "only a stopped cluster can be started"),
        },
        seen: |row, _| match row {
            None => Seen::Never("it was torn down meanwhile".to_owned()),
            Some(row) if row.phase() == Phase::Running => Seen::Yes,
            Some(_) => Seen::NotYet,
        },
        sky: |rows, _| vec![format!("sky start {}", names(rows))],
    },
    ActionSpec {
        id: "cluster.down",
        verb: "down",
        kind: Kind::Cluster,
        title: "Tear down cluster",
        doing: "Tearing down",
        key: "ctrl-k",
        danger: Danger::Destroys,
        doc: "Terminates the cluster and deletes its disks; running jobs and other requests on it end.",
        applies: |row| {
            not_a_controller(row)?;
            if row.as_cluster().is_some_and(|cluster| cluster.managed) {
                return Err(
                    "it belongs to a managed job, a service or a pool: end that instead".to_owned(),
                );
            }
            still_there(row)
        },
        seen: gone,
        sky: |rows, _| vec![format!("sky down {}", names(rows))],
    },
    ActionSpec {
        id: "cluster.autostop",
        verb: "autostop",
        kind: Kind::Cluster,
        title: "Set autostop",
        doing: "Setting autostop on",
        key: "e",
        danger: Danger::Mild,
        doc: "Stops the cluster, or tears it down, after some minutes of idling; or turns that off.",
        applies: |row| {
            not_a_controller(row)?;
            match row.phase() {
                Phase::Running | Phase::Stopping => Ok(()),
                _ => not_now(row, "autostop can be set only on a cluster that is up"),
            }
        },
        seen: |row, options| match row.and_then(Entity::as_cluster) {
            None => Seen::Never("it was torn down meanwhile".to_owned()),
            Some(cluster)
                if cluster.autostop == options.idle_minutes.map(i64::from)
                    && (cluster.autodown == options.down || options.idle_minutes.is_none()) =>
            {
                Seen::Yes
            }
            Some(_) => Seen::NotYet,
        },
        sky: |rows, options| {
            let names = names(rows);
            vec![match options.idle_minutes {
                None => format!("sky autostop {names} --cancel"),
                Some(minutes) if options.down => {
                    format!("sky autostop {names} -i {minutes} --down")
                }
                Some(minutes) => format!("sky autostop {names} -i {minutes}"),
            }]
        },
    },
    ActionSpec {
        id: "job.cancel",
        verb: "cancel",
        kind: Kind::Job,
        title: "Cancel job",
        doing: "Cancelling",
        key: "ctrl-d",
        danger: Danger::Interrupts,
        doc: "Cancels the managed job with all its tasks and the jobs launched from it.",
        applies: still_going,
        seen: cancelled,
        sky: |rows, _| {
            let mut ids: Vec<i64> = rows
                .iter()
                .filter_map(|row| row.as_job())
                .map(|job| job.job_id)
                .collect();
            ids.sort_unstable();
            ids.dedup();
            vec![format!("sky jobs cancel {}", spaced(&ids))]
        },
    },
    ActionSpec {
        id: "cluster_job.cancel",
        verb: "cancel",
        kind: Kind::ClusterJob,
        title: "Cancel cluster job",
        doing: "Cancelling",
        key: "ctrl-d",
        danger: Danger::Interrupts,
        doc: "Cancels the job in its cluster's queue.",
        applies: still_going,
        seen: cancelled,
        sky: |rows, _| {
            let mut by_cluster = std::collections::BTreeMap::<&str, Vec<i64>>::new();
            for job in rows.iter().filter_map(|row| row.as_cluster_job()) {
                by_cluster.entry(&job.cluster).or_default().push(job.job_id);
            }
            by_cluster
                .into_iter()
                .map(|(cluster, ids)| {
                    format!("sky cancel {} {}", shell_word(cluster), spaced(&ids))
                })
                .collect()
        },
    },
    ActionSpec {
        id: "service.down",
        verb: "down",
        kind: Kind::Service,
        title: "Tear down service",
        doing: "Tearing down",
        key: "ctrl-k",
        danger: Danger::Destroys,
        doc: "Tears the service down with all its replicas.",
        applies: still_there,
        seen: gone,
        sky: |rows, _| vec![format!("sky serve down {}", names(rows))],
    },
    ActionSpec {
        id: "replica.terminate",
        verb: "down",
        kind: Kind::Replica,
        title: "Terminate replica",
        doing: "Terminating",
        key: "ctrl-k",
        danger: Danger::Interrupts,
        doc: "Terminates one replica; the autoscaler may replace it.",
        applies: still_there,
        seen: gone,
        sky: |rows, _| {
            rows.iter()
                .filter_map(|row| row.as_replica())
                .map(|replica| {
                    let service = shell_word(&replica.service);
                    format!(
                        "sky serve down {service} --replica-id {}",
                        replica.replica_id
                    )
                })
                .collect()
        },
    },
    ActionSpec {
        id: "pool.down",
        verb: "down",
        kind: Kind::Pool,
        title: "Tear down pool",
        doing: "Tearing down",
        key: "ctrl-k",
        danger: Danger::Destroys,
        doc: "Tears the pool down with all its workers; refused while it has unfinished jobs.",
        applies: still_there,
        seen: gone,
        sky: |rows, _| vec![format!("sky jobs pool down {}", names(rows))],
    },
    ActionSpec {
        id: "request.cancel",
        verb: "cancel",
        kind: Kind::Request,
        title: "Cancel request",
        doing: "Cancelling",
        key: "ctrl-d",
        danger: Danger::Interrupts,
        doc: "Cancels an API request; a cancelled launch may leave its cluster in INIT.",
        applies: still_going,
        seen: cancelled,
        sky: |rows, _| {
            rows.iter()
                .filter_map(|row| row.as_request())
                .map(|request| format!("sky api cancel {}", shell_word(&request.request_id)))
                .collect()
        },
    },
    ActionSpec {
        id: "job.relaunch",
        verb: "relaunch",
        kind: Kind::Job,
        title: "Relaunch job",
        doing: "Relaunching",
        key: "R",
        danger: Danger::Mild,
        doc: "Submits the task file of a managed job that has ended again, as a new job.",
        applies: |row| {
            only_here(row)?;
            if row.phase().is_over() {
                Ok(())
            } else {
                not_now(row, "only a job that has ended can be launched again")
            }
        },
        seen: told,
        sky: |_, _| vec!["sky jobs launch FILE".to_owned()],
    },
    ActionSpec {
        id: "cluster.exec",
        verb: "exec",
        kind: Kind::Cluster,
        title: "Run a task on the cluster",
        doing: "Submitting to",
        key: "",
        danger: Danger::Mild,
        doc: "Adds a task from a file to the cluster's queue, without its setup.",
        applies: |row| {
            only_here(row)?;
            match row.phase() {
                Phase::Running | Phase::Starting => Ok(()),
                _ => not_now(row, "tasks run only on a cluster that is up"),
            }
        },
        seen: told,
        sky: |rows, options| vec![format!("sky exec {} {}", names(rows), file(options))],
    },
    ActionSpec {
        id: "service.update",
        verb: "update",
        kind: Kind::Service,
        title: "Update service",
        doing: "Updating",
        key: "",
        danger: Danger::Mild,
        doc: "Brings up replicas of a new version from a file, and takes an old one away for each that is ready.",
        applies: |row| {
            only_here(row)?;
            match row.phase() {
                Phase::Gone | Phase::Stopping => not_now(row, "a service that ends is not updated"),
                _ => Ok(()),
            }
        },
        seen: told,
        sky: |rows, options| {
            vec![format!(
                "sky serve update {} {}",
                names(rows),
                file(options)
            )]
        },
    },
    ActionSpec {
        id: "source.launch",
        verb: "launch",
        kind: Kind::Source,
        title: "Launch a cluster",
        doing: "Launching on",
        key: "",
        danger: Danger::Mild,
        doc: "Creates a cluster from a task file, or takes one that is there, and runs the task on it.",
        applies: only_here,
        seen: told,
        sky: |_, options| {
            let idle = options
                .idle_minutes
                .map_or_else(String::new, |minutes| format!(" -i {minutes}"));
            vec![format!(
                "sky launch{}{idle}{} {}",
                named("-c", options),
                if options.down { " --down" } else { "" },
                file(options)
            )]
        },
    },
    ActionSpec {
        id: "source.jobs_launch",
        verb: "jobs launch",
        kind: Kind::Source,
        title: "Launch a managed job",
        doing: "Submitting to",
        key: "",
        danger: Danger::Mild,
        doc: "Submits a task file as a managed job, which is started again when it breaks.",
        applies: only_here,
        seen: told,
        sky: |_, options| {
            vec![format!(
                "sky jobs launch{} {}",
                named("-n", options),
                file(options)
            )]
        },
    },
    ActionSpec {
        id: "source.serve_up",
        verb: "serve up",
        kind: Kind::Source,
        title: "Bring up a service",
        doing: "Bringing up on",
        key: "",
        danger: Danger::Mild,
        doc: "Brings up a service with its replicas and its load balancer from a task file.",
        applies: only_here,
        seen: told,
        sky: |_, options| {
            vec![format!(
                "sky serve up{} {}",
                named("-n", options),
                file(options)
            )]
        },
    },
    ActionSpec {
        id: "source.clear",
        verb: "clear",
        kind: Kind::Source,
        title: "Clear away",
        doing: "Clearing away on",
        key: "",
        danger: Danger::Destroys,
        doc: "Ends everything that was started with a label, and removes its files and rows.",
        applies: only_here,
        seen: told,
        sky: |_, _| Vec::new(),
    },
];

/// Only the local engine starts tasks.
fn only_here(row: &Entity) -> Result<(), String> {
    if row.source() == LOCAL {
        return Ok(());
    }
    Err(
        "launching there is SkyPilot's: it plans, provisions and knows the credentials (use `sky`)"
            .to_owned(),
    )
}

fn told(_: Option<&Entity>, _: &ActionOptions) -> Seen {
    Seen::Told
}

fn file(options: &ActionOptions) -> String {
    let file = options.start.as_ref().map(|start| &start.file);
    file.map_or_else(|| "FILE".to_owned(), |file| shell_word(file))
}

fn named(flag: &str, options: &ActionOptions) -> String {
    let name = options.start.as_ref().and_then(|start| start.name.as_ref());
    name.map_or_else(String::new, |name| format!(" {flag} {}", shell_word(name)))
}

fn not_now(row: &Entity, rule: &str) -> Result<(), String> {
    let status = row.status();
    Err(format!("it is {status}: {rule}"))
}

fn not_a_controller(row: &Entity) -> Result<(), String> {
    if row.as_cluster().is_some_and(|cluster| cluster.controller) {
        return Err("it is a SkyPilot controller: jobs and services depend on it".to_owned());
    }
    Ok(())
}

fn still_there(row: &Entity) -> Result<(), String> {
    if row.phase() == Phase::Gone {
        not_now(row, "there is nothing left of it")
    } else {
        Ok(())
    }
}

fn still_going(row: &Entity) -> Result<(), String> {
    if row.phase().is_over() {
        not_now(row, "it has ended already")
    } else if row.phase() == Phase::Stopping {
        not_now(row, "it is on its way out already")
    } else {
        Ok(())
    }
}

fn gone(row: Option<&Entity>, _: &ActionOptions) -> Seen {
    match row {
        None => Seen::Yes,
        Some(row) if row.phase() == Phase::Gone => Seen::Yes,
        Some(_) => Seen::NotYet,
    }
}

fn cancelled(row: Option<&Entity>, _: &ActionOptions) -> Seen {
    match row {
        // Finished rows may leave the list before anybody looked.
        None => Seen::Yes,
        Some(row) => match row.phase() {
            Phase::Cancelled | Phase::Stopping | Phase::Gone => Seen::Yes,
            Phase::Succeeded | Phase::Failed => {
                Seen::Never(format!("it had already ended: {}", row.status()))
            }
            _ => Seen::NotYet,
        },
    }
}

fn names(rows: &[&Entity]) -> String {
    let words: Vec<String> = rows.iter().map(|row| shell_word(row.name())).collect();
    words.join(" ")
}

fn spaced(ids: &[i64]) -> String {
    ids.iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Quoted for a POSIX shell where it needs to be.
fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+=,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order() {
        for (i, spec) in ACTIONS.iter().enumerate() {
            assert!(spec.id.starts_with(spec.kind.noun()), "{}", spec.id);
            assert!(spec.doc.ends_with('.'), "{}", spec.id);
            assert!(!spec.title.is_empty());
            for other in &ACTIONS[i + 1..] {
                assert_ne!(spec.id, other.id);
                assert!(
                    spec.kind != other.kind || spec.key != other.key || spec.key.is_empty(),
                    "{} {}",
                    spec.id,
                    other.id
                );
                assert!(spec.kind != other.kind || spec.verb != other.verb);
            }
        }
    }

    #[test]
    fn names_are_quoted_for_the_shell() {
        assert_eq!(shell_word("dev-1"), "dev-1");
        assert_eq!(shell_word("a; rm -rf ~"), "'a; rm -rf ~'");
        assert_eq!(shell_word("it's"), "'it'\\''s'");
    }
}
