//! `launch`, `exec`, `jobs launch`, `serve up` and `serve update`: a task file is read, checked and shown
//! here, and started by the local engine.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use skytower_api_client::action::{self, ActionOptions, ActionSpec, LOCAL};
use skytower_api_client::entity::{Cluster, Request, Service};
use skytower_api_client::policy::{self, Verdict};
use skytower_api_client::rest::{Client, LogQuery, NewRequest};
use skytower_api_client::task::TaskFile;
use skytower_api_client::wire::Caller;
use skytower_api_client::{Entity, Key, Kind, Phase, Text, target};

use super::args::{self, Command, Form, Global, Jobs, OfJobs, OfServices, Services};
use super::console::{Console, emit};
use super::sign_in::connected;
use super::{Failure, fetch, logs, output, targets, verbs};
use crate::start::{NO_ENGINE, NO_ENGINE_HINT, Read, engine, misfit, preview, read};

/// How long the end of a task is waited for once its log has ended.
const END: Duration = Duration::from_secs(5);
/// How often it is looked whether it has.
const LOOK: Duration = Duration::from_millis(100);

/// What a command line wants to be started.
struct Wanted<'a> {
    action: &'static str,
    /// The cluster or service it is for; none makes something new.
    target: Option<&'a str>,
    name: Option<&'a str>,
    args: &'a args::Start,
    idle_minutes: Option<u32>,
    down: bool,
    /// A log is followed when somebody is there to read it.
    follow: bool,
}

/// What a command wants to be started; none for the commands that start nothing.
fn wanted(command: &Command) -> Option<Wanted<'_>> {
    let of = |action, args| Wanted {
        action,
        target: None,
        name: None,
        args,
        idle_minutes: None,
        down: false,
        follow: false,
    };
    Some(match command {
        Command::Launch(args) => Wanted {
            name: args.cluster.as_deref(),
            // As with `sky`: to tear down without a time is to do it when nothing is left to do.
            idle_minutes: args.idle_minutes_to_autostop.or(args.down.then_some(0)),
            down: args.down,
            follow: !args.detach_run,
            ..of("source.launch", &args.start)
        },
        Command::Exec(args) => Wanted {
            target: Some(&args.cluster),
            follow: !args.detach_run,
            ..of("cluster.exec", &args.start)
        },
        Command::Jobs(Jobs {
            command: Some(OfJobs::Launch(args)),
            ..
        }) => Wanted {
            name: args.name.as_deref(),
            follow: !args.detach_run,
            ..of("source.jobs_launch", &args.start)
        },
        Command::Services(Services {
            command: Some(OfServices::Up(args)),
            ..
        }) => Wanted {
            name: args.name.as_deref(),
            ..of("source.serve_up", &args.start)
        },
        Command::Services(Services {
            command: Some(OfServices::Update(args)),
            ..
        }) => Wanted {
            target: Some(&args.service),
            ..of("service.update", &args.start)
        },
        _ => return None,
    })
}

/// Does a command start something from a task file.
pub fn starts(command: &Command) -> bool {
    wanted(command).is_some()
}

/// Runs a command that starts something. The file comes first: one that is wrong starts no server.
pub async fn run(command: &Command, global: &Global) -> Result<u8, Failure> {
    let Some(wanted) = wanted(command) else {
        return Err(Failure::usage(
            "this command starts nothing",
            "see skytower --help",
        ));
    };
    let args = wanted.args;
    let action = spec(wanted.action)?;
    let (start, task) = checked(&wanted, action)?;
    // `sky exec` asks nothing either.
    let asks = action.kind != Kind::Cluster && !args.yes && !args.dry_run;
    if asks && !std::io::stdin().is_terminal() {
        let what = sentence(action, &wanted, &start.file);
        return Err(Failure::usage(
            format!("`{what}` needs a yes, and there is no terminal to ask at"),
            "add -y to start it, or --dry-run to see what would be started",
        ));
    }
    let options = ActionOptions {
        idle_minutes: wanted.idle_minutes,
        down: wanted.down,
        start: Some(Box::new(start)),
        ..ActionOptions::default()
    };
    let console = &Console::detect(global);
    if args.output == Form::Text {
        let text = shown(action, wanted.target, &options, &task, console);
        if args.dry_run {
            emit(&text)?;
        } else if asks || std::io::stderr().is_terminal() {
            eprint!("{text}");
        }
    }
    let client = &Client::new(connected(global).await?.session)?;
    let caller = client.health().await?.user.unwrap_or_default();
    let row = match wanted.target {
        None => engine_of(client).await?,
        Some(word) => here(client, action.kind, word).await?,
    };
    if let Verdict::Denied { reason } = policy::may(&caller, action, &options, &row) {
        return Err(denied(&caller, &row, &reason));
    }
    if !args.yes && !args.dry_run {
        let others = verbs::asks(action, std::slice::from_ref(&row), &caller);
        let yes = match (asks, others) {
            (_, true) => verbs::confirmed(action, std::slice::from_ref(&row), &caller)?,
            (true, false) => verbs::yes(&sentence(action, &wanted, &args.file))?,
            (false, false) => true,
        };
        if !yes {
            eprintln!("nothing was started");
            return Ok(1);
        }
    }
    let new = NewRequest {
        action: action.id.into(),
        targets: vec![row.key().clone()],
        options,
        others_confirmed: true,
        dry_run: args.dry_run,
    };
    let request = client.create_request(&new, &verbs::uuid()).await?;
    let request = if args.dry_run {
        request
    } else {
        verbs::ended(client, request).await?
    };
    told(&request, &task, &wanted, console)?;
    let code = verbs::exit_code(&request.results, args.dry_run);
    let made = made(&request);
    match made {
        Some(key) if code == 0 && !args.dry_run && args.output == Form::Text => {
            let follow = wanted.follow && std::io::stdout().is_terminal();
            after(client, &key, follow, console).await
        }
        _ => Ok(code),
    }
}

pub(super) fn spec(id: &str) -> Result<&'static ActionSpec, Failure> {
    action::action(id).ok_or_else(|| Failure::new(1, format!("there is no action `{id}`")))
}

/// Reads the file, and says everything that is wrong with it.
fn checked(wanted: &Wanted<'_>, action: &ActionSpec) -> Result<(action::Start, TaskFile), Failure> {
    let args = wanted.args;
    let text = |word: &Option<String>| word.as_deref().map(Into::into);
    let beside = action::Start {
        name: wanted.name.map(Into::into),
        envs: variables(&args.envs, "env")?,
        secrets: variables(&args.secrets, "secret")?,
        owner: text(&args.owner),
        workspace: text(&args.workspace),
        ..action::Start::default()
    };
    let Read { start, task } = read(&args.file, beside).map_err(|why| {
        Failure::usage(
            why,
            "name a task file, such as: skytower launch -c dev task.yaml; `-` reads standard input",
        )
    })?;
    let mistakes = match task {
        Ok(task) => match misfit(action, &start.file, &task) {
            None => return Ok((start, task)),
            Some(mistake) => vec![mistake],
        },
        Err(mistakes) => mistakes,
    };
    for mistake in &mistakes {
        eprintln!("{mistake}");
    }
    let many = skytower_api_client::human::count(mistakes.len(), "mistake");
    Err(Failure::usage(
        format!("`{}` cannot be started: {many}", start.file),
        "correct what is said above; nothing was started",
    ))
}

/// `NAME=VALUE`, and `NAME` with the value that it has in the environment.
fn variables(words: &[String], flag: &str) -> Result<BTreeMap<String, String>, Failure> {
    let mut map = BTreeMap::new();
    for word in words {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, value.to_owned()),
            None => match std::env::var(word) {
                Ok(value) => (word.as_str(), value),
                Err(_) => {
                    return Err(Failure::usage(
                        format!("--{flag} {word}: there is no such variable in the environment"),
                        format!("set it, or give its value: --{flag} {word}=VALUE"),
                    ));
                }
            },
        };
        let letters = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if !name.chars().all(letters)
            || name.is_empty()
            || name.starts_with(|c: char| c.is_ascii_digit())
        {
            // Not repeated: what stands there may be the value.
            return Err(Failure::usage(
                format!("--{flag} needs the name of a variable in front of `=`"),
                format!("such as: --{flag} NAME=VALUE"),
            ));
        }
        map.insert(name.to_owned(), value);
    }
    Ok(map)
}

/// The row of the local engine.
pub(super) async fn engine_of(client: &Client) -> Result<Arc<Entity>, Failure> {
    fetch::sources(client, &[]).await?;
    let sources = fetch::rows(client, Kind::Source, None, None, None).await?;
    engine(&sources)
        .cloned()
        .ok_or_else(|| Failure::new(1, NO_ENGINE).hint(NO_ENGINE_HINT))
}

/// The cluster or service of a word: that of the local engine before any other of the same name.
async fn here(client: &Client, kind: Kind, word: &str) -> Result<Arc<Entity>, Failure> {
    engine_of(client).await?;
    let word = if word.contains('/') {
        word.to_owned()
    } else {
        match word.split_once(':') {
            Some((source, name)) => format!("{source}:{kind}/{name}"),
            None => format!("{kind}/{word}"),
        }
    };
    if !word.contains(':') {
        let found = targets::resolve_one(client, &format!("{LOCAL}:{word}")).await;
        if found.as_ref().is_ok_and(|row| row.kind() == kind) {
            return found;
        }
    }
    let row = targets::resolve_one(client, &word).await?;
    if row.kind() != kind {
        return Err(Failure::usage(
            format!("{} is no {kind}", target::of(&row)),
            format!("name a {kind}: skytower {}", kind.plural()),
        ));
    }
    Ok(row)
}

fn denied(caller: &Caller, row: &Entity, reason: &str) -> Failure {
    if verbs::only_looks_at(caller, row) {
        return verbs::not_allowed(caller, reason);
    }
    let name = target::of(row);
    Failure::new(1, format!("{name}: {reason}"))
        .hint(format!("see how it is: skytower show {name}"))
}

/// `Launch a cluster from train.yaml`.
fn sentence(action: &ActionSpec, wanted: &Wanted<'_>, file: &str) -> String {
    let file = if file == crate::start::STDIN {
        "standard input"
    } else {
        file
    };
    let target = wanted.target.or(wanted.name);
    let target = target.map_or_else(String::new, |name| format!(" {name}"));
    format!("{}{target} from {file}", action.title)
}

/// What would be started, a fact per line, and the `sky` command that does the same.
fn shown(
    action: &ActionSpec,
    target: Option<&str>,
    options: &ActionOptions,
    task: &TaskFile,
    console: &Console,
) -> String {
    // Nothing has been looked up yet: the row that is meant stands here by its name.
    let name = target.map(|word| Text::new(word.rsplit(['/', ':']).next().unwrap_or(word)));
    let row = name.clone().map(|name| named(action.kind, name));
    let start = options.start.as_deref();
    let own = || start.and_then(|it| it.name.clone()).or(task.name.clone());
    let mut facts = vec![(
        "name".to_owned(),
        name.or_else(own)
            .map_or("-".to_owned(), |name| name.to_string()),
    )];
    for (title, value) in [
        ("owner", start.and_then(|it| it.owner.as_ref())),
        ("workspace", start.and_then(|it| it.workspace.as_ref())),
    ] {
        facts.extend(value.map(|value| (title.to_owned(), value.to_string())));
    }
    facts.extend(preview(task));
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = writeln!(out, "{}", console.style("1", action.title));
    for (title, text) in facts {
        let title = console.style("2", &format!("{title:10}"));
        let _ = writeln!(out, "  {title} {text}");
    }
    let rows: Vec<&Entity> = row.iter().collect();
    for command in (action.sky)(&rows, options) {
        let _ = writeln!(out, "  {}", console.style("2", &format!("$ {command}")));
    }
    out
}

fn named(kind: Kind, name: Text) -> Entity {
    match kind {
        Kind::Service => Service {
            name,
            ..Service::default()
        }
        .into(),
        _ => Cluster {
            name,
            ..Cluster::default()
        }
        .into(),
    }
}

/// The key of what was made.
fn made(request: &Request) -> Option<Key> {
    let result = request.results.first()?;
    Key::parse(result.upstream.as_ref()?)
}

/// What became of the request, in the source's words.
fn told(
    request: &Request,
    task: &TaskFile,
    wanted: &Wanted<'_>,
    console: &Console,
) -> Result<(), Failure> {
    let dry_run = wanted.args.dry_run;
    if wanted.args.output == Form::Json {
        let mut value = json!({
            "dry_run": dry_run,
            "action": wanted.action,
            "task": without_secrets(task)?,
            "requests": if dry_run { vec![] } else { vec![&request.request_id] },
            "results": request.results,
        });
        output::readable_times(&mut value);
        return Ok(emit(&output::pretty(&value))?);
    }
    let lines: String = request
        .results
        .iter()
        .map(|result| verbs::spoken(result, dry_run, console))
        .collect();
    Ok(emit(&lines)?)
}

/// The task as the file has it, without the values that are never shown.
fn without_secrets(task: &TaskFile) -> Result<serde_json::Value, Failure> {
    let mut task = task.clone();
    for one in &mut task.tasks {
        one.secrets
            .values_mut()
            .for_each(|value| "<not shown>".clone_into(value));
    }
    serde_json::to_value(task)
        .map_err(|error| Failure::new(1, format!("the task could not be written as JSON: {error}")))
}

/// What there is to read of what was made: followed, or said how to.
async fn after(
    client: &Client,
    made: &Key,
    follow: bool,
    console: &Console,
) -> Result<u8, Failure> {
    let Some(kind) = made.kind() else {
        return Ok(0);
    };
    let mut name = target_of(made);
    // Where there are several sources, another one may have a job of that number.
    let sources = fetch::rows(client, Kind::Source, None, None, None).await?;
    if sources.len() > 1 {
        name = format!("{}:{name}", made.source());
    }
    let has_log = matches!(kind, Kind::Job | Kind::ClusterJob);
    if !follow || !has_log {
        let how = match kind {
            Kind::Job | Kind::ClusterJob => format!("skytower logs {name} -f"),
            _ => format!("skytower show {name}"),
        };
        eprintln!("follow it: {how}");
        return Ok(0);
    }
    let query = LogQuery {
        follow: true,
        ..LogQuery::default()
    };
    tokio::select! {
        read = logs::copy(client, kind, made, &query, console) => read?,
        _ = tokio::signal::ctrl_c() => {
            return Err(Failure::new(130, format!("not reading any more; {name} goes on"))
                .hint(format!("follow it: skytower logs {name} -f; end it: skytower cancel {name}")));
        }
    }
    let end = end_of(client, made).await?;
    let Some(row) = end else { return Ok(0) };
    eprintln!("{name}: {}", console.paint(row.phase(), row.status()));
    Ok(u8::from(
        row.phase() != Phase::Succeeded && row.phase().is_over(),
    ))
}

/// How people name what was made: `job/7`, `queue/dev/3`.
fn target_of(made: &Key) -> String {
    let id = made.id();
    match made.kind() {
        Some(Kind::Job) => format!("job/{}", id.split('/').next().unwrap_or(id)),
        Some(Kind::ClusterJob) => format!("queue/{id}"),
        Some(kind) => format!("{kind}/{id}"),
        None => made.to_string(),
    }
}

/// The row as it is once the task has ended; a log's end comes a moment before that.
async fn end_of(client: &Client, made: &Key) -> Result<Option<Entity>, Failure> {
    let Some(kind) = made.kind() else {
        return Ok(None);
    };
    let deadline = tokio::time::Instant::now() + END;
    loop {
        let detail = client.detail(kind, made).await?;
        let row = Entity::decode(kind, &detail.row.to_string());
        let row =
            row.map_err(|error| Failure::new(1, format!("{made} could not be read: {error}")))?;
        if row.phase().is_over() || tokio::time::Instant::now() > deadline {
            return Ok(Some(row));
        }
        tokio::time::sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_given_or_taken_from_the_environment() {
        let words = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            variables(&words, "secret")
        };
        let map = words(&["A=1", "B=x=y", "C=", "A=2", "PATH"]).unwrap();
        assert_eq!(map["A"], "2");
        assert_eq!(map["B"], "x=y");
        assert_eq!(map["C"], "");
        assert_eq!(map["PATH"], std::env::var("PATH").unwrap());
        for wrong in [
            "=hunter2",
            "1A=hunter2",
            "a b=hunter2",
            "NO_SUCH_VARIABLE_HERE",
            "",
        ] {
            let failure = words(&[wrong]).unwrap_err();
            assert_eq!(failure.code, 2, "{wrong}");
            assert!(!failure.message.contains("hunter2"), "{}", failure.message);
        }
    }

    #[test]
    fn what_was_made_is_named_as_a_target() {
        for (key, name) in [
            ("local/job/7/0", "job/7"),
            ("local/cluster_job/dev/3", "queue/dev/3"),
            ("local/cluster/dev", "cluster/dev"),
            ("local/service/hello", "service/hello"),
        ] {
            assert_eq!(target_of(&Key::parse(key).unwrap()), name);
        }
    }
}
