//! The commands that start something on the local engine.

use clap::{Args, Subcommand};

use super::{Form, List};

/// What is started from a task file, and how.
#[derive(Clone, Debug, Default, Args)]
pub struct Start {
    /// The task file, in `SkyPilot`'s YAML; `-` reads it from standard input.
    #[arg(value_name = "FILE")]
    pub file: String,
    /// A value for one of its `envs`; without `=VALUE`, the one that it has here. May be repeated.
    #[arg(long = "env", value_name = "NAME[=VALUE]")]
    pub envs: Vec<String>,
    /// A value for one of its `secrets`, which is never shown; without `=VALUE`, the one that an
    /// environment variable of that name has here. May be repeated.
    #[arg(long = "secret", value_name = "NAME[=VALUE]")]
    pub secrets: Vec<String>,
    /// Whose it is (yours, unless said).
    #[arg(long, value_name = "NAME")]
    pub owner: Option<String>,
    /// Its workspace (`default`, unless said).
    #[arg(long, value_name = "NAME")]
    pub workspace: Option<String>,
    /// Do not ask.
    #[arg(short, long)]
    pub yes: bool,
    /// Say what would be started, and do nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// The form of the output.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Form,
}

/// `skytower launch`.
#[derive(Clone, Debug, Default, Args)]
pub struct Launch {
    /// The cluster's name; the task's own, unless said. One that is there already is used.
    #[arg(short, long, value_name = "NAME")]
    pub cluster: Option<String>,
    /// What is started, and how.
    #[command(flatten)]
    pub start: Start,
    /// Stop the cluster after so many minutes of idling.
    #[arg(short, long, value_name = "MINUTES")]
    pub idle_minutes_to_autostop: Option<u32>,
    /// Tear it down then instead, or as soon as its tasks have ended.
    #[arg(long)]
    pub down: bool,
    /// Do not follow the task's log (on a terminal it is followed).
    #[arg(short, long)]
    pub detach_run: bool,
}

/// `skytower exec`.
#[derive(Clone, Debug, Default, Args)]
pub struct Exec {
    /// The cluster.
    #[arg(value_name = "CLUSTER")]
    pub cluster: String,
    /// What is started, and how.
    #[command(flatten)]
    pub start: Start,
    /// Do not follow the task's log (on a terminal it is followed).
    #[arg(short, long)]
    pub detach_run: bool,
}

/// `skytower jobs`: the list, or a command of the group.
#[derive(Clone, Debug, Default, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Jobs {
    /// The list.
    #[command(flatten)]
    pub list: List,
    /// Something else than the list.
    #[command(subcommand)]
    pub command: Option<OfJobs>,
}

/// `skytower jobs …`.
#[derive(Clone, Debug, Subcommand)]
pub enum OfJobs {
    /// Submit a task file as a managed job, which is started again when it breaks.
    Launch(JobsLaunch),
}

/// `skytower jobs launch`.
#[derive(Clone, Debug, Default, Args)]
pub struct JobsLaunch {
    /// The job's name; the file's own, unless said.
    #[arg(short, long, value_name = "NAME")]
    pub name: Option<String>,
    /// What is started, and how.
    #[command(flatten)]
    pub start: Start,
    /// Do not follow the job's log (on a terminal it is followed).
    #[arg(short, long)]
    pub detach_run: bool,
}

/// `skytower services`: the list, or a command of the group.
#[derive(Clone, Debug, Default, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Services {
    /// The list.
    #[command(flatten)]
    pub list: List,
    /// Something else than the list.
    #[command(subcommand)]
    pub command: Option<OfServices>,
}

/// `skytower serve …`.
#[derive(Clone, Debug, Subcommand)]
pub enum OfServices {
    /// Bring up a service with its replicas and its load balancer from a task file.
    Up(ServeUp),
    /// Bring up replicas of a new version, and take an old one away for each that is ready.
    Update(ServeUpdate),
}

/// `skytower serve up`.
#[derive(Clone, Debug, Default, Args)]
pub struct ServeUp {
    /// The service's name; the file's own, unless said.
    #[arg(
        short = 'n',
        long = "name",
        visible_alias = "service-name",
        value_name = "NAME"
    )]
    pub name: Option<String>,
    /// What is started, and how.
    #[command(flatten)]
    pub start: Start,
}

/// `skytower serve update`.
#[derive(Clone, Debug, Default, Args)]
pub struct ServeUpdate {
    /// The service.
    #[arg(value_name = "NAME")]
    pub service: String,
    /// What is started, and how.
    #[command(flatten)]
    pub start: Start,
}

/// `skytower demo`.
#[derive(Clone, Debug, Default, Args)]
pub struct Demo {
    /// End everything of the team, and leave nothing of it behind.
    #[arg(long)]
    pub stop: bool,
}
