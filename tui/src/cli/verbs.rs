//! `cancel`, `stop`, `start`, `down`, `autostop` and `relaunch`.

use std::collections::BTreeMap;
use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use skytower_api_client::action::{ACTIONS, ActionOptions, ActionSpec, Danger, action_for};
use skytower_api_client::entity::{Outcome, Request, TargetResult};
use skytower_api_client::policy::{self, Verdict};
use skytower_api_client::rest::{Client, NewRequest};
use skytower_api_client::wire::{Caller, Role};
use skytower_api_client::{Entity, Kind, Phase, human, target};

use super::args::{Autostop, Change, Form};
use super::console::{Console, emit};
use super::{Failure, fetch, output, targets};

/// How long one long poll lasts.
const POLL: Duration = Duration::from_secs(30);

/// `skytower autostop`.
pub(super) async fn autostop(
    client: &Client,
    args: &Autostop,
    console: &Console,
) -> Result<u8, Failure> {
    let idle_minutes = match args.after {
        None => None,
        Some(after) if after.as_secs() < 60 => {
            return Err(Failure::usage(
                "autostop counts whole minutes",
                "use at least --after 1m",
            ));
        }
        Some(after) => Some(u32::try_from(after.as_secs() / 60).unwrap_or(u32::MAX)),
    };
    let options = ActionOptions {
        idle_minutes,
        down: args.down,
        ..ActionOptions::default()
    };
    change(client, "autostop", &args.change, options, console).await
}

/// One change of many things: each gets its own result.
pub(super) async fn change(
    client: &Client,
    verb: &str,
    args: &Change,
    options: ActionOptions,
    console: &Console,
) -> Result<u8, Failure> {
    let rows = meant(client, verb, args).await?;
    let caller = client.health().await?.user.unwrap_or_default();
    let mut plan = BTreeMap::<&'static str, (&'static ActionSpec, Vec<Arc<Entity>>)>::new();
    let mut results = Vec::new();
    let mut denied = 0;
    for row in rows {
        let spec = action_for(verb, row.kind()).ok_or_else(|| cannot(verb, &row))?;
        match policy::may(&caller, spec, &options, &row) {
            Verdict::Denied { reason } => {
                denied += usize::from(only_looks_at(&caller, &row));
                results.push(refused(&row, reason));
            }
            _ => plan
                .entry(spec.id)
                .or_insert((spec, Vec::new()))
                .1
                .push(row),
        }
    }
    if !args.dry_run && !args.yes {
        for (spec, rows) in plan.values() {
            if asks(spec, rows, &caller) && !confirmed(spec, rows, &caller)? {
                eprintln!("nothing was done");
                return Ok(1);
            }
        }
    }
    let mut requests = Vec::new();
    for (spec, rows) in plan.values() {
        let new = NewRequest {
            action: spec.id.into(),
            targets: rows.iter().map(|row| row.key().clone()).collect(),
            options: options.clone(),
            others_confirmed: true,
            dry_run: args.dry_run,
        };
        let key = uuid();
        let request = client.create_request(&new, &key).await?;
        let request = if args.dry_run || args.no_wait {
            request
        } else {
            ended(client, request).await?
        };
        results.extend(request.results.iter().cloned());
        requests.push(request);
    }
    print(&results, &requests, args, console)?;
    if denied > 0 && denied == results.len() {
        let reason = policy::only_looks(&caller)
            .or_else(|| results.first().and_then(|result| result.message.clone()));
        return Err(not_allowed(&caller, reason.unwrap_or_default()));
    }
    Ok(exit_code(&results, args.dry_run))
}

/// The caller may not act on this row, whatever the action.
pub(super) fn only_looks_at(caller: &Caller, row: &Entity) -> bool {
    let acts_there = |places: &Vec<_>| places.contains(row.source());
    policy::only_looks(caller).is_some() || !caller.acts_at.as_ref().is_none_or(acts_there)
}

/// Who may only look is told why, and what would help.
pub(super) fn not_allowed(
    caller: &Caller,
    reason: impl Into<skytower_api_client::Text>,
) -> Failure {
    let hint = if caller.rules.read_only {
        "its administrators can allow changes in its configuration"
    } else if caller.limited.is_some() {
        "sign in with a token that is for more: skytower token create NAME --scope act"
    } else if caller.role == Role::Viewer {
        "ask an administrator for the role `user`; `skytower api info` says who you are"
    } else {
        "`skytower api info` says who you are"
    };
    Failure::new(4, reason).hint(hint)
}

/// A key for one decision of a person: repeated calls make no second request.
pub(super) fn uuid() -> String {
    use std::hash::{BuildHasher as _, Hasher as _};
    // The standard library's random keys: unguessable is not needed, unique is.
    let random = || {
        std::collections::hash_map::RandomState::new()
            .build_hasher()
            .finish()
    };
    format!(
        "{:016x}{:016x}-{:x}",
        random(),
        random(),
        skytower_api_client::EpochMs::now().0
    )
}

/// The rows that are meant: the targets, or everything that matches the query.
async fn meant(client: &Client, verb: &str, args: &Change) -> Result<Vec<Arc<Entity>>, Failure> {
    let queried = args.query.is_some() || args.owners.mine || args.owners.user.is_some();
    if queried && !args.targets.is_empty() {
        // Whichever of the two were taken, more might be changed than was meant.
        return Err(Failure::usage(
            "targets and a query (-q, --mine, --user) were given together",
            "give one of them",
        ));
    }
    let words = targets::words(&args.targets)?;
    let mut rows: Vec<Arc<Entity>> = Vec::new();
    if queried {
        let kind = queried_kind(verb);
        let query = fetch::combined(args.query.as_deref(), &args.owners, kind)?;
        let found = fetch::rows(client, kind, query, None, None).await?;
        // What the verb makes no sense for was not meant by a query.
        let fits = |row: &Arc<Entity>| {
            action_for(verb, kind).is_some_and(|spec| (spec.applies)(row).is_ok())
        };
        rows.extend(found.into_iter().filter(fits));
        if rows.is_empty() {
            return Err(
                Failure::new(5, format!("no {} to {verb} match", kind.plural()))
                    .hint(format!("see what there is: skytower {}", kind.plural())),
            );
        }
    } else if words.is_empty() {
        return Err(Failure::usage(
            format!("`{verb}` needs a target"),
            format!("such as: skytower {verb} cluster/NAME; or -q QUERY"),
        ));
    } else {
        for (_, found) in targets::resolve(client, &words).await? {
            // The tasks of a job are cancelled together: one of them stands for all.
            let one = found
                .iter()
                .find(|row| !row.phase().is_over())
                .or(found.first());
            rows.extend(one.cloned());
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    rows.retain(|row| seen.insert((row.source().clone(), target::of(row), row.kind())));
    Ok(rows)
}

/// What a query of this verb is about: the kind that people do it to most.
fn queried_kind(verb: &str) -> Kind {
    if matches!(verb, "cancel" | "relaunch") {
        Kind::Job
    } else {
        Kind::Cluster
    }
}

fn cannot(verb: &str, row: &Entity) -> Failure {
    let verbs: Vec<String> = ACTIONS
        .iter()
        .filter(|spec| spec.kind == row.kind())
        .map(|spec| format!("`{}`", spec.verb))
        .collect();
    let hint = if verbs.is_empty() {
        "it can only be looked at".to_owned()
    } else {
        format!("what there is for it: {}", verbs.join(", "))
    };
    Failure::usage(format!("{} has no `{verb}`", target::of(row)), hint)
}

fn refused(row: &Entity, reason: skytower_api_client::Text) -> TargetResult {
    TargetResult {
        key: row.key().clone(),
        target: target::of(row).into(),
        owner: row.owner().map(shown),
        outcome: Outcome::Failed,
        message: Some(reason),
        upstream: None,
    }
}

fn shown(owner: &skytower_api_client::entity::Owner) -> skytower_api_client::Text {
    if owner.name.is_empty() {
        owner.id.clone()
    } else {
        owner.name.clone()
    }
}

/// Is a question due: always before harm, and before touching what is not one's own.
pub(super) fn asks(spec: &ActionSpec, rows: &[Arc<Entity>], caller: &Caller) -> bool {
    spec.danger > Danger::Mild
        || rows
            .iter()
            .any(|row| row.owner().is_some() && !policy::is_mine(caller, row))
}

/// Asks once, naming what, whose and how many.
pub(super) fn confirmed(
    spec: &ActionSpec,
    rows: &[Arc<Entity>],
    caller: &Caller,
) -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage(
            format!(
                "{} needs a yes, and there is no terminal to ask at",
                question(spec, rows, caller)
            ),
            "add -y to do it, or --dry-run to see what would happen",
        ));
    }
    yes(&question(spec, rows, caller))
}

/// Asks whoever is at the terminal.
pub(super) fn yes(question: &str) -> Result<bool, Failure> {
    eprint!("{question}? [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

/// `Cancel job: 3 (job/12 job/13 of you; job/9 of bob)`.
fn question(spec: &ActionSpec, rows: &[Arc<Entity>], caller: &Caller) -> String {
    const NAMED: usize = 5;
    let mut by_owner = BTreeMap::<String, Vec<String>>::new();
    for row in rows {
        let owner = match row.owner() {
            Some(_) if policy::is_mine(caller, row) => "you".to_owned(),
            Some(owner) => shown(owner).to_string(),
            None => "nobody in particular".to_owned(),
        };
        by_owner.entry(owner).or_default().push(target::of(row));
    }
    let owners: Vec<String> = by_owner
        .into_iter()
        .map(|(owner, names)| {
            let more = names.len().saturating_sub(NAMED);
            let mut words = names[..names.len() - more].join(" ");
            if more > 0 {
                words.push_str(&format!(" and {more} more"));
            }
            format!("{words} of {owner}")
        })
        .collect();
    format!(
        "{}: {} ({})",
        spec.title,
        human::count(rows.len(), &spec.kind.noun().replace('_', " ")),
        owners.join("; ")
    )
}

/// Waits for a request's end. An interrupt ends the waiting, not the request.
pub(super) async fn ended(client: &Client, mut request: Request) -> Result<Request, Failure> {
    let open = |request: &Request| {
        !request.phase.is_over()
            && (request.results.is_empty()
                || request
                    .results
                    .iter()
                    .any(|result| !result.outcome.is_over()))
    };
    while open(&request) {
        let id = request.request_id.clone();
        tokio::select! {
            answer = client.request(&id, Some(POLL)) => match answer {
                Ok(now) => request = now,
                // The server may be on its way back; what was accepted is in its journal.
                Err(error) if error.is_passing() => {
                    eprintln!("warning: {error}; the request goes on, asking again");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                Err(error) => return Err(error.into()),
            },
            _ = tokio::signal::ctrl_c() => {
                return Err(Failure::new(130, "not waiting any more; the request goes on")
                    .hint(format!("follow it: skytower wait request/{id} --for done")));
            }
        }
    }
    Ok(request)
}

fn outcome_phase(outcome: Outcome) -> (Phase, &'static str) {
    match outcome {
        Outcome::Waiting => (Phase::Pending, "accepted"),
        Outcome::Submitted => (Phase::Starting, "submitted"),
        Outcome::Done => (Phase::Succeeded, "done"),
        Outcome::Unchanged => (Phase::Succeeded, "unchanged"),
        Outcome::Failed => (Phase::Failed, "failed"),
        Outcome::Cancelled => (Phase::Cancelled, "cancelled"),
        Outcome::Unknown => (Phase::Unknown, "unknown"),
    }
}

/// What became of a target, or would.
fn outcome(result: &TargetResult, dry_run: bool) -> (Phase, &'static str) {
    let (phase, word) = outcome_phase(result.outcome);
    match (dry_run, result.outcome) {
        (true, Outcome::Failed) => (phase, "would be refused"),
        (true, _) => (phase, "would be done"),
        (false, _) => (phase, word),
    }
}

/// A result in the source's own sentence, where it has one.
pub(super) fn spoken(result: &TargetResult, dry_run: bool, console: &Console) -> String {
    let (phase, word) = outcome(result, dry_run);
    let good = matches!(result.outcome, Outcome::Done | Outcome::Unchanged);
    let text = match &result.message {
        Some(message) if good => message.to_string(),
        Some(message) => format!("{word}: {message}"),
        None => word.to_owned(),
    };
    format!(
        "{} {text}\n",
        console.paint(phase, &phase.glyph().to_string())
    )
}

fn print(
    results: &[TargetResult],
    requests: &[Request],
    args: &Change,
    console: &Console,
) -> Result<(), Failure> {
    if args.output == Form::Json {
        let ids: Vec<&str> = requests
            .iter()
            .map(|request| request.request_id.as_str())
            .collect();
        let mut value = json!({
            "dry_run": args.dry_run,
            "requests": ids,
            "results": results,
        });
        output::readable_times(&mut value);
        return Ok(emit(&output::pretty(&value))?);
    }
    let width = results.iter().map(|result| result.target.len()).max();
    let mut out = String::new();
    for result in results {
        let (phase, word) = outcome(result, args.dry_run);
        let owner = result.owner.as_deref().unwrap_or("-");
        let message = result
            .message
            .as_ref()
            .map_or(String::new(), |message| format!(": {message}"));
        out.push_str(&format!(
            "{} {:width$}  {owner}  {word}{message}\n",
            console.paint(phase, &phase.glyph().to_string()),
            result.target,
            width = width.unwrap_or(0),
        ));
    }
    if args.no_wait && !args.dry_run {
        for request in requests {
            out.push_str(&format!(
                "follow it: skytower wait request/{} --for done\n",
                request.request_id
            ));
        }
    }
    Ok(emit(&out)?)
}

/// Done, failed, or partly done.
pub(super) fn exit_code(results: &[TargetResult], dry_run: bool) -> u8 {
    let bad = results
        .iter()
        .filter(|result| {
            matches!(result.outcome, Outcome::Failed | Outcome::Unknown)
                || (result.outcome == Outcome::Cancelled && !dry_run)
        })
        .count();
    match bad {
        0 => 0,
        bad if bad < results.len() => 6,
        _ => 1,
    }
}
