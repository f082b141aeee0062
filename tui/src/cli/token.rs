//! `token …` and `password`: one's own accounts at a server that has them.

use serde_json::json;
use skytower_api_client::credentials::Secret;
use skytower_api_client::endpoint::Credentials;
use skytower_api_client::rest::accounts::{
    IssuedToken, NewToken, PasswordChange, Rotation, TokenInfo, span,
};
use skytower_api_client::rest::{Client, ClientError};
use skytower_api_client::{EpochMs, human};

use super::args::{Form, NewTokenArgs, RotateArgs, Token};
use super::console::{Console, emit, emit_line};
use super::{Failure, prompt};
use crate::config;

/// `skytower token …`.
pub(super) async fn run(
    client: &Client,
    command: &Token,
    console: &Console,
) -> Result<u8, Failure> {
    match command {
        Token::List { output } => list(client, *output, console).await,
        Token::Create(args) => create(client, args, console).await,
        Token::Revoke { ids } => revoke(client, ids).await,
        Token::Rotate(args) => rotate(client, args, console).await,
    }
}

async fn list(client: &Client, output: Form, console: &Console) -> Result<u8, Failure> {
    let tokens = match client.tokens().await {
        Err(error) => return Err(without_accounts(client, error)),
        Ok(tokens) => tokens,
    };
    let used = used_here(client);
    if output == Form::Json {
        emit_line(&format!("{:#}", json!(tokens)))?;
    } else if tokens.is_empty() {
        eprintln!("There are no tokens; make one: skytower token create NAME");
    } else {
        emit(&table(&tokens, used.as_deref(), EpochMs::now(), console))?;
    }
    Ok(0)
}

/// The id of the token that this client signs in with.
fn used_here(client: &Client) -> Option<String> {
    match client.session().endpoint().credentials {
        Credentials::Bearer(token) => token.token_id().map(str::to_owned),
        _ => None,
    }
}

/// Tokens in columns, the one in use marked.
fn table(tokens: &[TokenInfo], used: Option<&str>, now: EpochMs, console: &Console) -> String {
    let ago = |at: EpochMs| format!("{} ago", human::age_of(at, now));
    let mut rows =
        vec![["ID", "NAME", "USER", "SCOPE", "CREATED", "USED", "EXPIRES"].map(str::to_owned)];
    rows.extend(tokens.iter().map(|token| {
        [
            token.id.to_string(),
            token.name.to_string(),
            token.user.to_string(),
            token.scope.word().to_owned(),
            ago(token.created_at),
            token.last_used_at.map_or_else(|| "never".to_owned(), ago),
            expiry(token, now, console),
        ]
    }));
    let width = |column: usize| {
        let cells = rows.iter().map(|row| crate::text::width(&row[column]));
        cells.max().unwrap_or(0)
    };
    let widths: [usize; 7] = std::array::from_fn(width);
    let mut out = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            line.push_str(cell);
            let gap = width + 2 - crate::text::width(cell);
            line.extend(std::iter::repeat_n(' ', gap));
        }
        let here = used.is_some_and(|used| used == row[0]);
        let mark = if here { "(in use here)" } else { "" };
        out.push_str(format!("{line}{mark}").trim_end());
        out.push('\n');
    }
    out
}

/// When a token stops to count, for people.
fn expiry(token: &TokenInfo, now: EpochMs, console: &Console) -> String {
    match token.expires_at {
        None => "never".to_owned(),
        Some(at) if at <= now => "expired".to_owned(),
        Some(at) => human::date_time(at, console.utc),
    }
}

async fn create(client: &Client, args: &NewTokenArgs, console: &Console) -> Result<u8, Failure> {
    let expires = lasting(&args.expires)?;
    let new = NewToken {
        name: args.name.clone(),
        scope: args.scope.into(),
        expires,
        user: args.user.clone(),
    };
    match client.create_token(&new).await {
        Err(error) => Err(without_accounts(client, error)),
        Ok(issued) => show(&issued, "is made", args.output, console),
    }
}

/// A lifetime as the server takes it: none is for ever.
fn lasting(expires: &str) -> Result<Option<String>, Failure> {
    if expires == "never" {
        return Ok(None);
    }
    span(expires).map_err(|error| {
        Failure::usage(
            format!("`{expires}` is no time to expire after: {error}"),
            "write it like 90d, 12h or never",
        )
    })?;
    Ok(Some(expires.to_owned()))
}

/// The token alone on standard output, for `$(…)` and files; what belongs to it on standard error.
fn show(issued: &IssuedToken, what: &str, output: Form, console: &Console) -> Result<u8, Failure> {
    if output == Form::Json {
        let document = json!({"info": issued.info, "token": issued.token.expose()});
        emit_line(&format!("{document:#}"))?;
        return Ok(0);
    }
    let info = &issued.info;
    let until = match expiry(info, EpochMs::now(), console).as_str() {
        "never" => "for ever".to_owned(),
        at => format!("until {at}"),
    };
    eprintln!(
        "Token {} ({}) of {} {what}: scope {}, it counts {until}.",
        info.id,
        info.name,
        info.user,
        info.scope.word()
    );
    eprintln!("It is shown this once:");
    emit_line(issued.token.expose())?;
    Ok(0)
}

async fn revoke(client: &Client, ids: &[String]) -> Result<u8, Failure> {
    let used = used_here(client);
    let (mut done, mut first) = (0, None);
    // The one in use goes last: the others are revoked with it.
    let mut ids: Vec<String> = ids.iter().map(|id| id_of(id)).collect();
    ids.sort_by_key(|id| Some(id) == used.as_ref());
    for id in &ids {
        match client.revoke_token(id).await {
            Ok(()) => {
                done += 1;
                println!("Token {id} is revoked: it counts no more.");
                if Some(id) == used.as_ref() {
                    eprintln!(
                        "warning: it was the one in use here; sign in again: skytower api login"
                    );
                }
            }
            Err(error) => {
                let failure = of_one(client, id, error).await;
                if ids.len() > 1 {
                    eprintln!("warning: {}", failure.message);
                }
                first.get_or_insert(failure);
            }
        }
    }
    match first {
        None => Ok(0),
        Some(failure) if done == 0 => Err(failure),
        Some(_) => Ok(6),
    }
}

/// An id, also of somebody who pasted the whole token: its secret is then not sent anywhere.
fn id_of(word: &str) -> String {
    let id = Secret::new(word).token_id().map(str::to_owned);
    id.unwrap_or_else(|| word.strip_prefix("st_").unwrap_or(word).to_owned())
}

async fn rotate(client: &Client, args: &RotateArgs, console: &Console) -> Result<u8, Failure> {
    if let Some(overlap) = &args.overlap {
        span(overlap).map_err(|error| {
            Failure::usage(
                format!("`{overlap}` is no time: {error}"),
                "write it like 1h, or 0s for none",
            )
        })?;
    }
    let rotation = Rotation {
        overlap: args.overlap.clone(),
    };
    let id = id_of(&args.id);
    let issued = match client.rotate_token(&id, &rotation).await {
        Ok(issued) => issued,
        Err(error) => return Err(of_one(client, &id, error).await),
    };
    // The one that is saved would end with the overlap.
    let saved = config::saved()?.unwrap_or_default();
    let session = client.session().endpoint();
    let is_saved = saved.endpoint.as_deref() == Some(&session.url)
        && saved.token.as_ref().and_then(Secret::token_id) == Some(&id);
    if is_saved {
        let endpoint = skytower_api_client::endpoint::Endpoint {
            credentials: Credentials::Bearer(issued.token.clone()),
            ..session
        };
        let path = config::save(&endpoint, saved.issued)?;
        eprintln!(
            "It is the one in use here: the new one is saved in {}.",
            path.display()
        );
    }
    show(&issued, "has a new secret", args.output, console)
}

/// `skytower password`.
pub(super) async fn password(client: &Client) -> Result<u8, Failure> {
    if let Err(error) = client.tokens().await {
        return Err(without_accounts(client, error));
    }
    if !prompt::can_ask() {
        return Err(Failure::usage(
            "a password is asked for, and there is no terminal to ask on",
            "run it on a terminal; an administrator can set one: skytower-server user",
        ));
    }
    let current = prompt::ask_secret("Current password: ").await?;
    let new = prompt::ask_secret("New password: ").await?;
    if new.expose().is_empty() {
        return Err(Failure::usage(
            "the new password is empty",
            "nothing was changed",
        ));
    }
    if new != prompt::ask_secret("The same again: ").await? {
        return Err(Failure::usage(
            "the two are not the same",
            "nothing was changed; try again",
        ));
    }
    let change = PasswordChange {
        current,
        new: new.clone(),
    };
    client.change_password(&change).await?;
    println!("Your password is changed.");
    keep_up(client, new)
}

/// A password that is saved is the new one from now on.
fn keep_up(client: &Client, password: Secret) -> Result<u8, Failure> {
    let endpoint = client.session().endpoint();
    let saved = config::saved()?.unwrap_or_default();
    if let (Some(user), true) = (
        saved.user.filter(|_| saved.password.is_some()),
        saved.endpoint.as_deref() == Some(&endpoint.url),
    ) {
        let endpoint = skytower_api_client::endpoint::Endpoint {
            credentials: Credentials::Basic { user, password },
            ..endpoint
        };
        config::save(&endpoint, false)?;
    }
    Ok(0)
}

/// What failed for one token: there may be no such token, or no tokens at all.
async fn of_one(client: &Client, id: &str, error: ClientError) -> Failure {
    let is_absent = matches!(&error, ClientError::Problem(problem) if problem.status == 404);
    match client.tokens().await {
        Err(absent) if is_absent => without_accounts(client, absent),
        Ok(_) if is_absent => Failure::new(5, format!("there is no token `{id}` of yours"))
            .hint("see which there are: skytower token list"),
        _ => without_accounts(client, error),
    }
}

/// A failure; of a server that has no accounts, with what that means.
fn without_accounts(client: &Client, error: ClientError) -> Failure {
    match &error {
        ClientError::Problem(problem) if matches!(problem.status, 404 | 405) => {
            let url = client.session().endpoint().shown();
            Failure::usage(
                format!("the server at {url} has no accounts of its own"),
                "tokens and passwords are for a team's server (skytower-server): name it with -e URL",
            )
        }
        _ => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pasted_token_is_not_sent_as_an_id() {
        assert_eq!(id_of("k3f9"), "k3f9");
        assert_eq!(id_of("st_k3f9"), "k3f9");
        assert_eq!(id_of("st_k3f9_very_secret"), "k3f9");
    }

    #[test]
    fn lifetimes_are_checked_before_they_are_sent() {
        assert_eq!(lasting("never").unwrap(), None);
        assert_eq!(lasting("90d").unwrap(), Some("90d".to_owned()));
        assert_eq!(lasting("soon").unwrap_err().code, 2);
    }
}
