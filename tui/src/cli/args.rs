//! The command line: one tree, read by the parser, completion, the manual and the documentation.

mod accounts;
mod audit;
mod start;

use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use skytower_api_client::Kind;

pub use accounts::{NewTokenArgs, RotateArgs, Token, TokenScope};
pub use audit::Audit;
pub use start::{
    Demo, Exec, Jobs, JobsLaunch, Launch, OfJobs, OfServices, ServeUp, ServeUpdate, Services, Start,
};

/// The control tower for `SkyPilot`: every cluster, job and service of an organisation, live in a
/// terminal. Without a command it opens the dashboard.
#[derive(Debug, Parser)]
#[command(
    name = "skytower",
    version,
    disable_help_subcommand = true,
    after_help = "Exit codes: 0 done; 1 failed; 2 wrong usage; 3 not connected or not signed in; \
                  4 not allowed; 5 nothing matched; 6 partly done; 124 timed out."
)]
pub struct Cli {
    /// What every command understands.
    #[command(flatten)]
    pub global: Global,

    /// The dashboard's first screen (overview, clusters, jobs, services, …).
    #[arg(value_name = "VIEW")]
    pub view: Option<String>,

    /// The dashboard's first screen, also where a command has the same name.
    #[arg(long = "view", value_name = "VIEW", conflicts_with = "view")]
    pub at_view: Option<String>,

    /// The command; the dashboard when there is none.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What every command understands.
#[derive(Clone, Debug, Default, Args)]
pub struct Global {
    /// The server: a skytower server or a `SkyPilot` API server, `http://[user:password@]host:port`.
    #[arg(short, long, global = true, value_name = "URL")]
    pub endpoint: Option<String>,

    /// Do not start a local server.
    #[arg(
        long,
        global = true,
        env = "SKYTOWER_NO_START",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        default_value = "false",
        value_parser = clap::builder::FalseyValueParser::new(),
        hide_possible_values = true,
        hide_default_value = true
    )]
    pub no_start: bool,

    /// Change nothing: whatever would is refused (also `read_only = true` in the configuration file).
    #[arg(
        long,
        global = true,
        env = "SKYTOWER_READ_ONLY",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        default_value = "false",
        value_parser = clap::builder::FalseyValueParser::new(),
        hide_possible_values = true,
        hide_default_value = true
    )]
    pub read_only: bool,

    /// When to colour.
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    pub color: When,

    /// Times in UTC instead of this machine's zone.
    #[arg(long, global = true)]
    pub utc: bool,
}

/// When to colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum When {
    /// On a terminal that can, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The form of the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// A table that fits the terminal.
    #[default]
    Table,
    /// A table with all columns, not cut.
    Wide,
    /// Rows as on the wire.
    Json,
    /// The same as YAML.
    Yaml,
    /// Targets, one per line, for other commands.
    Name,
}

/// The form of the output of a command that has no table of rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Sign in and out; look after the server.
    #[command(subcommand)]
    Api(Api),
    /// Clusters, managed jobs in progress and services.
    Status(Narrow),
    /// The clusters.
    Clusters(List),
    /// The managed jobs; `jobs launch` submits one.
    Jobs(Jobs),
    /// The services; `serve up` and `serve update` bring one up.
    #[command(visible_alias = "serve")]
    Services(Services),
    /// The replicas of services.
    Replicas(List),
    /// The pools of workers.
    Pools(List),
    /// The workers of pools.
    Workers(List),
    /// The people and service accounts.
    Users(List),
    /// The workspaces.
    Workspaces(List),
    /// The infrastructure underneath, and what is free on it.
    Infra(List),
    /// The requests: skytower's actions and `SkyPilot`'s API requests.
    Requests(List),
    /// Who did what, from where, and what came of it; for administrators.
    Audit(Audit),
    /// What is watched, and how fresh it is.
    Sources(List),
    /// The jobs in the queue of one cluster.
    Queue(Queue),
    /// One thing, whole.
    Show(Show),
    /// Cancel managed jobs, cluster jobs or requests.
    Cancel(Change),
    /// Stop clusters; their disks stay.
    Stop(Change),
    /// Start stopped clusters.
    Start(Change),
    /// Tear down clusters, services, replicas or pools.
    Down(Change),
    /// Stop or tear down clusters when they have been idle.
    Autostop(Autostop),
    /// Launch a cluster from a task file, or take one that is there, and run the task on it.
    Launch(Launch),
    /// Run a task on a cluster that is up, without its setup.
    Exec(Exec),
    /// Submit the task file of a managed job that has ended again, as a new job.
    Relaunch(Change),
    /// A small sample team of real processes on this machine, then the dashboard.
    Demo(Demo),
    /// The log of a job, cluster job, replica, cluster or request.
    Logs(Logs),
    /// Wait until something is as wanted.
    Wait(Wait),
    /// Tokens of your own at a server with accounts: list, make, revoke and rotate them.
    #[command(subcommand)]
    Token(Token),
    /// Change your password at a server with accounts.
    Password,
    /// A script that completes commands in a shell.
    Completion {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// The manual page.
    Man,
    /// The background server of this client: its configuration comes on standard input.
    #[cfg(feature = "local-server")]
    #[command(name = "__server", hide = true)]
    LocalServer,
}

impl Command {
    /// Something would be other than before, at the server or at what it watches.
    pub fn changes(&self) -> bool {
        match self {
            Command::Jobs(jobs) => jobs.command.is_some(),
            Command::Services(services) => services.command.is_some(),
            Command::Token(token) => !matches!(token, Token::List { .. }),
            Command::Cancel(_)
            | Command::Stop(_)
            | Command::Start(_)
            | Command::Down(_)
            | Command::Autostop(_)
            | Command::Launch(_)
            | Command::Exec(_)
            | Command::Relaunch(_)
            | Command::Demo(_)
            | Command::Password => true,
            _ => false,
        }
    }

    /// The kind whose rows a list command lists, and how.
    pub fn list(&self) -> Option<(Kind, &List)> {
        Some(match self {
            Command::Clusters(list) => (Kind::Cluster, list),
            Command::Jobs(Jobs {
                list,
                command: None,
            }) => (Kind::Job, list),
            Command::Services(Services {
                list,
                command: None,
            }) => (Kind::Service, list),
            Command::Replicas(list) => (Kind::Replica, list),
            Command::Pools(list) => (Kind::Pool, list),
            Command::Workers(list) => (Kind::Worker, list),
            Command::Users(list) => (Kind::User, list),
            Command::Workspaces(list) => (Kind::Workspace, list),
            Command::Infra(list) => (Kind::Infra, list),
            Command::Requests(list) => (Kind::Request, list),
            Command::Sources(list) => (Kind::Source, list),
            _ => return None,
        })
    }
}

/// `skytower api …`.
#[derive(Debug, Subcommand)]
pub enum Api {
    /// Verify a server and remember it.
    Login {
        /// A token (skytower's own, or `SkyPilot`'s `sky_…`); `-` reads it from standard input.
        #[arg(long, value_name = "TOKEN")]
        token: Option<String>,
    },
    /// Forget the remembered server and its credentials.
    Logout,
    /// The server in use, who one is there, and what it watches.
    Info {
        /// The form of the output.
        #[arg(short, long, value_enum, default_value_t)]
        output: Form,
    },
    /// Start the local server.
    Start,
    /// Stop the local server.
    Stop {
        /// Every local server of this account, not only the one for the present endpoint.
        #[arg(long)]
        all: bool,
    },
    /// Whether the server runs, and how fresh what it knows is.
    Status {
        /// The form of the output.
        #[arg(short, long, value_enum, default_value_t)]
        output: Form,
    },
    /// The local server's log.
    Logs {
        /// Go on as it grows.
        #[arg(short, long)]
        follow: bool,
        /// Only so many lines from its end.
        #[arg(long, value_name = "LINES", default_value_t = 100)]
        tail: usize,
    },
}

/// Whose things.
#[derive(Clone, Debug, Default, Args)]
pub struct Owners {
    /// Only what belongs to you.
    #[arg(long, conflicts_with_all = ["user", "all_users"])]
    pub mine: bool,
    /// Only what belongs to this person.
    #[arg(long, value_name = "NAME", conflicts_with = "all_users")]
    pub user: Option<String>,
    /// What belongs to anybody (the default; for those used to `sky`).
    #[arg(short = 'u', long)]
    pub all_users: bool,
}

/// Which rows, and in which form.
#[derive(Clone, Debug, Default, Args)]
pub struct Narrow {
    /// Only rows that match: words, `field:value`, `gpus>=8`, `age<2h`, `-term`.
    #[arg(short, long, value_name = "QUERY", allow_hyphen_values = true)]
    pub query: Option<String>,
    /// Whose.
    #[command(flatten)]
    pub owners: Owners,
    /// The form of the output.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
    /// No line of headings.
    #[arg(long)]
    pub no_header: bool,
    /// Go on: a line per change; with `-o json`, one document per line.
    #[arg(short, long)]
    pub watch: bool,
}

/// A list of one kind.
#[derive(Clone, Debug, Default, Args)]
pub struct List {
    /// Which rows, and in which form.
    #[command(flatten)]
    pub narrow: Narrow,
    /// Sort by this column; `-age` sorts the other way round.
    #[arg(long, value_name = "COLUMN", allow_hyphen_values = true)]
    pub sort: Option<String>,
    /// These columns only, in this order.
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    pub columns: Vec<String>,
    /// At most so many rows.
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
}

/// `skytower queue`.
#[derive(Clone, Debug, Args)]
pub struct Queue {
    /// The cluster.
    pub cluster: String,
    /// Which rows, and in which form.
    #[command(flatten)]
    pub list: List,
}

/// `skytower show`.
#[derive(Clone, Debug, Args)]
pub struct Show {
    /// `cluster/NAME`, `job/ID`, `service/NAME`, `replica/SERVICE/ID`, `request/ID`, …
    pub target: String,
    /// The form of the output.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// A command that changes something.
#[derive(Clone, Debug, Default, Args)]
pub struct Change {
    /// `cluster/NAME`, `job/ID`, `service/NAME`, `replica/SERVICE/ID`, `request/ID`, …; `-` reads
    /// them from standard input.
    #[arg(value_name = "TARGET")]
    pub targets: Vec<String>,
    /// Everything that matches.
    #[arg(short, long, value_name = "QUERY", allow_hyphen_values = true)]
    pub query: Option<String>,
    /// Whose.
    #[command(flatten)]
    pub owners: Owners,
    /// Do not ask.
    #[arg(short, long)]
    pub yes: bool,
    /// Say what would happen to what, and do nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Do not wait for the end.
    #[arg(long)]
    pub no_wait: bool,
    /// The form of the output.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Form,
}

/// `skytower autostop`.
#[derive(Clone, Debug, Args)]
pub struct Autostop {
    /// What to change.
    #[command(flatten)]
    pub change: Change,
    /// The idle time (whole minutes count), such as `30m`.
    #[arg(long, value_name = "DURATION", value_parser = duration, required_unless_present = "off")]
    pub after: Option<Duration>,
    /// Tear down instead of stop.
    #[arg(long, conflicts_with = "off")]
    pub down: bool,
    /// No autostop any more.
    #[arg(long, conflicts_with = "after")]
    pub off: bool,
}

/// `skytower logs`.
#[derive(Clone, Debug, Args)]
pub struct Logs {
    /// `job/ID`, `queue/CLUSTER/ID`, `replica/SERVICE/ID`, `cluster/NAME`, `request/ID`.
    pub target: String,
    /// Go on as it grows.
    #[arg(short, long)]
    pub follow: bool,
    /// Only so many lines from its end.
    #[arg(long, value_name = "LINES")]
    pub tail: Option<u32>,
    /// Only this node's lines.
    #[arg(long, value_name = "N")]
    pub node: Option<u32>,
    /// The controller's log instead.
    #[arg(long)]
    pub controller: bool,
}

/// `skytower wait`.
#[derive(Clone, Debug, Args)]
pub struct Wait {
    /// What to wait for.
    #[arg(value_name = "TARGET", required = true)]
    pub targets: Vec<String>,
    /// How it has to be.
    #[arg(long = "for", value_enum, value_name = "STATE")]
    pub until: Until,
    /// Give up after this time (exit code 124).
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub timeout: Option<Duration>,
    /// The form of the output.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Form,
}

/// How a thing has to be for `wait` to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Until {
    /// Ended well.
    Succeeded,
    /// Ended, in whichever way.
    Done,
    /// Up.
    Up,
    /// Ready to serve.
    Ready,
    /// Not there any more.
    Gone,
}

fn duration(raw: &str) -> Result<Duration, String> {
    humantime::parse_duration(raw).map_err(|error| format!("{error}; write it like 90s, 30m or 2h"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_tree_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_word_is_a_command_before_it_is_a_view() {
        let cli = Cli::try_parse_from(["skytower", "clusters", "--mine"]).unwrap();
        assert!(cli.command.unwrap().list().unwrap().1.narrow.owners.mine);
        let cli = Cli::try_parse_from(["skytower", "overview"]).unwrap();
        assert_eq!(cli.view.as_deref(), Some("overview"));
        let cli = Cli::try_parse_from(["skytower", "--view", "jobs", "-e", "http://h:1"]).unwrap();
        assert_eq!(cli.at_view.as_deref(), Some("jobs"));
        assert_eq!(cli.global.endpoint.as_deref(), Some("http://h:1"));
    }

    #[test]
    fn jobs_and_services_are_lists_and_groups_of_commands() {
        let command = |line: &str| {
            Cli::try_parse_from(line.split(' '))
                .map(|cli| cli.command.unwrap())
                .map_err(|error| error.to_string())
        };
        for line in ["skytower jobs", "skytower jobs -q me --limit 3"] {
            let command = command(line).unwrap();
            assert_eq!(command.list().unwrap().0, Kind::Job, "{line}");
        }
        for line in ["skytower services --mine", "skytower serve"] {
            let command = command(line).unwrap();
            assert_eq!(command.list().unwrap().0, Kind::Service, "{line}");
        }
        for line in [
            "skytower jobs launch -n a train.yaml --env A=1 --env B -d",
            "skytower serve up -n hello hello.yaml",
            "skytower services update hello hello.yaml -y",
            "skytower -e http://h:1 jobs launch train.yaml",
            "skytower jobs launch train.yaml -e http://h:1",
            "skytower launch -c dev -i 10 --down train.yaml",
            "skytower exec dev -",
        ] {
            assert!(command(line).unwrap().list().is_none(), "{line}");
        }
        for line in [
            "skytower jobs --mine launch train.yaml",
            "skytower jobs launch",
            "skytower exec train.yaml",
        ] {
            assert!(command(line).is_err(), "{line}");
        }
    }

    #[test]
    fn the_endpoint_goes_before_or_after_the_command() {
        for line in [
            ["skytower", "-e", "http://h:1", "api", "login"],
            ["skytower", "api", "login", "-e", "http://h:1"],
        ] {
            let cli = Cli::try_parse_from(line).unwrap();
            assert_eq!(cli.global.endpoint.as_deref(), Some("http://h:1"));
        }
    }

    #[test]
    fn a_query_may_begin_with_a_negation() {
        let cli = Cli::try_parse_from(["skytower", "jobs", "-q", "-status:succeeded"]).unwrap();
        let (_, list) = cli.command.as_ref().and_then(Command::list).unwrap();
        assert_eq!(list.narrow.query.as_deref(), Some("-status:succeeded"));
    }

    #[test]
    fn autostop_wants_a_time_or_off() {
        assert!(Cli::try_parse_from(["skytower", "autostop", "dev"]).is_err());
        assert!(Cli::try_parse_from(["skytower", "autostop", "dev", "--off"]).is_ok());
        assert!(Cli::try_parse_from(["skytower", "autostop", "dev", "--after", "30m"]).is_ok());
        assert!(Cli::try_parse_from(["skytower", "autostop", "dev", "--after", "soon"]).is_err());
    }
}
