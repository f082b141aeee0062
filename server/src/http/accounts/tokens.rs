//! Tokens: everybody's own, and for administrators all.

use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Extension, Json, Router};
use serde_json::json;
use skytower_api_client::EpochMs;
use skytower_api_client::credentials::Secret;
use skytower_api_client::rest::accounts::{NewToken, Rotation, Scope, TokenInfo, span};
use skytower_api_client::rest::path;
use skytower_api_client::wire::{Problem, Role};

use super::Desk;
use crate::accounts::{self, Accounts, DEFAULT_OVERLAP, User};
use crate::guest::{Asker, Guest};
use crate::http::AppState;
use crate::http::problem::{Failure, JsonBody};

pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route(path::TOKENS, get(tokens).post(create_token))
        .route("/api/v1/accounts/tokens/{id}", delete(revoke))
        .route("/api/v1/accounts/tokens/{id}/rotate", post(rotate))
}

fn token_info(accounts: &Accounts, token: &accounts::Token) -> TokenInfo {
    TokenInfo {
        id: token.id.clone(),
        name: token.name.clone(),
        user: accounts
            .user(&token.user)
            .map(|user| user.name.clone())
            .unwrap_or_default(),
        scope: token.scope,
        created_at: token.created_at,
        expires_at: token.expires_at,
        last_used_at: token.last_used_at,
    }
}

/// One's own; administrators see all.
async fn tokens(
    State(state): State<AppState>,
    Extension(guest): Extension<Guest>,
) -> Result<Json<Vec<TokenInfo>>, Failure> {
    let desk = Desk::open(&state, &guest)?;
    let accounts = desk.ledger.read();
    let all = desk.asker.caller.role == Role::Admin;
    let own = if all {
        None
    } else {
        Some(desk.account(&accounts)?.id)
    };
    let tokens = accounts
        .tokens()
        .filter(|token| own.as_ref().is_none_or(|own| token.user == *own));
    Ok(Json(
        tokens.map(|token| token_info(&accounts, token)).collect(),
    ))
}

/// A token with its secret, shown this once.
fn issued(status: StatusCode, info: &TokenInfo, token: &Secret) -> Response {
    (status, Json(json!({"info": info, "token": token.expose()}))).into_response()
}

async fn create_token(
    State(state): State<AppState>,
    Extension(guest): Extension<Guest>,
    JsonBody(new): JsonBody<NewToken>,
) -> Result<Response, Failure> {
    let desk = Desk::open(&state, &guest)?;
    let expires_at = expiry(new.expires.as_deref())?;
    let own = desk.account(&desk.ledger.read());
    let user = match (&new.user, own) {
        (None, own) => own?,
        (Some(name), Ok(own)) if own.name.eq_ignore_ascii_case(name) => own,
        (Some(name), _) => {
            Desk::of_administrators(&state, &guest)?;
            desk.ledger.read().find_user(name)?.clone()
        }
    };
    // A token that is for less must not make one that is for more.
    let most = most_scope(&desk.asker, &user);
    if new.scope > most {
        return Err(Failure(
            Problem::new(
                "forbidden",
                403,
                format!(
                    "with what you are signed in with you can make tokens of the scope `{}` at most",
                    most.word()
                ),
            )
            .hint("sign in with your password or a token of a wider scope"),
        ));
    }
    let deed = Desk::deed(
        "token.create",
        format!("user/{}", user.name),
        format!("`{}`, scope {}", new.name, new.scope.word()),
    );
    let (info, token) = desk
        .ledger
        .change(&desk.asker, deed, |draft| {
            let issued = draft.create_token(
                &user.id,
                &accounts::NewToken {
                    name: new.name.clone(),
                    scope: new.scope,
                    expires_at,
                },
                EpochMs::now(),
            )?;
            draft.take(issued.edits);
            let token = draft.find_token(&issued.id)?;
            Ok((token_info(draft, token), issued.written))
        })
        .await?;
    Ok(issued(StatusCode::CREATED, &info, &token))
}

/// What a token made now may be for at most: no more than what its maker came with.
fn most_scope(asker: &Asker, user: &User) -> Scope {
    if asker.caller.limited.is_none() {
        return Scope::Admin;
    }
    match asker.caller.role {
        Role::Viewer => Scope::Read,
        // Of an administrator's account, with a token to act.
        Role::User if user.role == Role::Admin => Scope::Act,
        Role::User | Role::Admin => Scope::Admin,
    }
}

/// A span of time as somebody gives it; `instead` says what else there is.
fn span_of(written: &str, instead: &str) -> Result<Duration, Problem> {
    span(written).map_err(|_| {
        let detail = format!("`{written}` is not a span of time");
        Problem::new("invalid_account", 422, detail)
            .hint(format!("write it as 90d or 12h, {instead}"))
    })
}

fn expiry(written: Option<&str>) -> Result<Option<EpochMs>, Problem> {
    let Some(written) = written else {
        return Ok(None);
    };
    let span = span_of(written, "or leave it out for a token that does not expire")?;
    let ms = i64::try_from(span.as_millis()).unwrap_or(i64::MAX / 4);
    Ok(Some(EpochMs(EpochMs::now().0.saturating_add(ms))))
}

/// The token of that id, when it is the asker's own or the asker is an administrator.
fn own_token(desk: &Desk<'_>, id: &str) -> Result<accounts::Token, Problem> {
    let accounts = desk.ledger.read();
    let administers = desk.asker.caller.role == Role::Admin;
    let own = desk.account(&accounts).map(|user| user.id).ok();
    let found = accounts.find_token(id);
    match found {
        Ok(token) if administers || own.as_ref() == Some(&token.user) => Ok(token.clone()),
        // Somebody else's is not there.
        Ok(_) => Accounts::default().find_token(id).cloned(),
        Err(problem) => Err(problem),
    }
}

async fn revoke(
    State(state): State<AppState>,
    Extension(guest): Extension<Guest>,
    Path(id): Path<String>,
) -> Result<StatusCode, Failure> {
    let desk = Desk::open(&state, &guest)?;
    let token = own_token(&desk, &id)?;
    let deed = Desk::deed("token.revoke", format!("token/{}", token.id), token.name);
    desk.ledger
        .change(&desk.asker, deed, |draft| {
            let edits = draft.revoke_token(&token.id)?;
            draft.take(edits);
            Ok(())
        })
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn rotate(
    State(state): State<AppState>,
    Extension(guest): Extension<Guest>,
    Path(id): Path<String>,
    JsonBody(wanted): JsonBody<Rotation>,
) -> Result<Response, Failure> {
    let desk = Desk::open(&state, &guest)?;
    let token = own_token(&desk, &id)?;
    let overlap = match wanted.overlap.as_deref() {
        None => DEFAULT_OVERLAP,
        Some(written) => span_of(written, "or 0s to end the old secret at once")?,
    };
    if token.scope > most_scope(&desk.asker, desk.ledger.read().find_user(&token.user)?) {
        return Err(Failure(
            Problem::new(
                "forbidden",
                403,
                "this token is for more than what you are signed in with",
            )
            .hint("sign in with your password or a token of a wider scope"),
        ));
    }
    let deed = Desk::deed("token.rotate", format!("token/{}", token.id), token.name);
    let (info, secret) = desk
        .ledger
        .change(&desk.asker, deed, |draft| {
            let issued = draft.rotate_token(&token.id, overlap, EpochMs::now())?;
            draft.take(issued.edits);
            let token = draft.find_token(&issued.id)?;
            Ok((token_info(draft, token), issued.written))
        })
        .await?;
    Ok(issued(StatusCode::OK, &info, &secret))
}
