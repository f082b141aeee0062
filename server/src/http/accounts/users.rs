//! Users, and one's own password.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde_json::json;
use skytower_api_client::EpochMs;
use skytower_api_client::credentials::Secret;
use skytower_api_client::rest::accounts::{NewUser, PasswordChange, UserInfo, UserPatch};
use skytower_api_client::rest::path;
use skytower_api_client::wire::Problem;

use super::Desk;
use crate::accounts::{self, Accounts, User, check_password};
use crate::guest::Guest;
use crate::http::AppState;
use crate::http::problem::{Failure, JsonBody};

pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route(path::USERS, get(users).post(add_user))
        .route(
            "/api/v1/accounts/users/{name}",
            get(show_user).patch(change_user).delete(remove_user),
        )
        .route(path::PASSWORD, post(password))
}

fn info(accounts: &Accounts, user: &User, now: EpochMs) -> UserInfo {
    UserInfo {
        id: user.id.clone(),
        name: user.name.clone(),
        role: user.role,
        service: user.service,
        disabled: user.disabled,
        has_password: user.password.is_some(),
        identities: user.identities.iter().cloned().collect(),
        created_at: user.created_at,
        tokens: accounts
            .tokens_of(user)
            .filter(|token| !token.is_expired(now))
            .count(),
    }
}

async fn users(
    State(state): State<AppState>,
    Extension(guest): Extension<Guest>,
) -> Result<Json<Vec<UserInfo>>, Failure> {
    let desk = Desk::of_administrators(&state, &guest)?;
    let accounts = desk.ledger.read();
    let now = EpochMs::now();
    let users = accounts.users();
    Ok(Json(users.map(|user| info(&accounts, user, now)).collect()))
}

async fn show_user(
    State(state): State<AppState>,
    Extension(guest): Extension<Guest>,
    Path(name): Path<String>,
) -> Result<Json<UserInfo>, Failure> {
    let desk = Desk::of_administrators(&state, &guest)?;
    let accounts = desk.ledger.read();
    let user = accounts.find_user(&name)?;
    Ok(Json(info(&accounts, user, EpochMs::now())))
}

/// The answer with a password that was made up: shown this once, and kept by nobody on the way.
fn with_password(status: StatusCode, user: &UserInfo, password: Option<&Secret>) -> Response {
    let password = password.map(Secret::expose);
    (status, Json(json!({"user": user, "password": password}))).into_response()
}

async fn add_user(
    State(state): State<AppState>,
    Extension(guest): Extension<Guest>,
    JsonBody(new): JsonBody<NewUser>,
) -> Result<Response, Failure> {
    let desk = Desk::of_administrators(&state, &guest)?;
    let made_up = match (&new.password, new.service) {
        (None, false) => Some(accounts::generate_password()?),
        _ => None,
    };
    let kept = match made_up.as_ref().or(new.password.as_ref()) {
        Some(password) => {
            check_password(&new.name, password)?;
            Some(desk.passwords.hash(password).await?)
        }
        None => None,
    };
    let deed = Desk::deed(
        "user.add",
        format!("user/{}", new.name),
        format!(
            "role {}{}",
            new.role.word(),
            if new.service {
                ", a service account"
            } else {
                ""
            }
        ),
    );
    let user = desk
        .ledger
        .change(&desk.asker, deed, |draft| {
            let edits = draft.add_user(
                accounts::NewUser {
                    name: new.name.clone(),
                    role: new.role,
                    password: kept,
                    service: new.service,
                },
                EpochMs::now(),
            )?;
            draft.take(edits);
            let user = draft.find_user(&new.name)?;
            Ok(info(draft, user, EpochMs::now()))
        })
        .await?;
    Ok(with_password(StatusCode::CREATED, &user, made_up.as_ref()))
}

async fn change_user(
    State(state): State<AppState>,
    Extension(guest): Extension<Guest>,
    Path(name): Path<String>,
    JsonBody(patch): JsonBody<UserPatch>,
) -> Result<Response, Failure> {
    let desk = Desk::of_administrators(&state, &guest)?;
    let known = desk.ledger.read().find_user(&name)?.name.clone();
    let made_up = patch
        .new_password
        .then(accounts::generate_password)
        .transpose()?;
    let kept = match made_up.as_ref().or(patch.password.as_ref()) {
        Some(password) => {
            check_password(&known, password)?;
            Some(desk.passwords.hash(password).await?)
        }
        None => None,
    };
    let deed = Desk::deed("user.change", format!("user/{known}"), described(&patch));
    let user = desk
        .ledger
        .change(&desk.asker, deed, |draft| {
            let now = EpochMs::now();
            // First what gives somebody the keys, then what takes them.
            if let Some(kept) = kept {
                let edits = draft.set_password(&name, kept, now)?;
                draft.take(edits);
            }
            if let Some(role) = patch.role {
                let edits = draft.set_role(&name, role)?;
                draft.take(edits);
            }
            if let Some(disabled) = patch.disabled {
                let edits = if disabled {
                    draft.disable_user(&name)?
                } else {
                    draft.enable_user(&name)?
                };
                draft.take(edits);
            }
            for identity in &patch.remove_identities {
                let edits = draft.remove_identity(&name, identity)?;
                draft.take(edits);
            }
            for identity in &patch.add_identities {
                let edits = draft.add_identity(&name, identity)?;
                draft.take(edits);
            }
            let user = draft.find_user(&name)?;
            Ok(info(draft, user, now))
        })
        .await?;
    Ok(with_password(StatusCode::OK, &user, made_up.as_ref()))
}

/// What is new, in words; no secret is among them.
fn described(patch: &UserPatch) -> String {
    let mut all = Vec::new();
    if let Some(role) = patch.role {
        all.push(format!("role {}", role.word()));
    }
    if let Some(disabled) = patch.disabled {
        all.push(if disabled { "disabled" } else { "enabled" }.to_owned());
    }
    if patch.password.is_some() || patch.new_password {
        all.push("a new password".to_owned());
    }
    all.extend(patch.add_identities.iter().map(|id| format!("also {id}")));
    all.extend(
        patch
            .remove_identities
            .iter()
            .map(|id| format!("no more {id}")),
    );
    all.join(", ")
}

async fn remove_user(
    State(state): State<AppState>,
    Extension(guest): Extension<Guest>,
    Path(name): Path<String>,
) -> Result<StatusCode, Failure> {
    let desk = Desk::of_administrators(&state, &guest)?;
    let deed = Desk::deed("user.remove", format!("user/{name}"), "");
    desk.ledger
        .change(&desk.asker, deed, |draft| {
            let edits = draft.remove_user(&name)?;
            draft.take(edits);
            Ok(())
        })
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A new password for oneself. The present one has to be told: whoever finds an open terminal cannot lock
/// its owner out.
async fn password(
    State(state): State<AppState>,
    Extension(guest): Extension<Guest>,
    JsonBody(change): JsonBody<PasswordChange>,
) -> Result<StatusCode, Failure> {
    let desk = Desk::open(&state, &guest)?;
    let user = desk.account(&desk.ledger.read())?;
    check_password(&user.name, &change.new)?;
    let good = desk
        .team
        .check_password(&user, &change.current, guest.address())
        .await?;
    if !good {
        return Err(Failure(
            Problem::new("wrong_password", 403, "the present password is another one")
                .hint("an administrator can give you a new one"),
        ));
    }
    let kept = desk.passwords.hash(&change.new).await?;
    let deed = Desk::deed("user.password", format!("user/{}", user.name), "its own");
    desk.ledger
        .change(&desk.asker, deed, |draft| {
            let edits = draft.set_password(&user.id, kept, EpochMs::now())?;
            draft.take(edits);
            Ok(())
        })
        .await?;
    Ok(StatusCode::NO_CONTENT)
}
