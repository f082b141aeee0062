//! Accounts over REST: users, tokens and workspaces, for administrators; tokens and the password of oneself.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde_json::json;
use skytower_api_client::credentials::Secret;
use skytower_api_client::rest::accounts::{
    NewToken, NewUser, NewWorkspace, PasswordChange, Rotation, Scope, TokenInfo, UserInfo,
    UserPatch, WorkspaceInfo, WorkspacePatch, span,
};
use skytower_api_client::rest::path;
use skytower_api_client::wire::{Problem, Role};
use skytower_api_client::{EpochMs, Text};

use super::AppState;
use super::problem::{Failure, JsonBody};
use crate::accounts::{self, Accounts, DEFAULT_OVERLAP, Passwords, User, check_password};
use crate::admission::{Deed, Ledger, Team};
use crate::guest::{Asker, Guest};

/// The routes.
pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route(path::USERS, get(users).post(add_user))
        .route(
            "/api/v1/accounts/users/{name}",
            get(show_user).patch(change_user).delete(remove_user),
        )
        .route(path::TOKENS, get(tokens).post(create_token))
        .route(
            "/api/v1/accounts/tokens/{id}",
            axum::routing::delete(revoke),
        )
        .route("/api/v1/accounts/tokens/{id}/rotate", post(rotate))
        .route(path::WORKSPACES, get(workspaces).post(add_workspace))
        .route(
            "/api/v1/accounts/workspaces/{name}",
            get(show_workspace)
                .patch(change_workspace)
                .delete(remove_workspace),
        )
        .route(path::PASSWORD, post(password))
}

/// Who asks, at a server that has accounts.
struct Desk<'a> {
    team: &'a Team,
    ledger: &'a Ledger,
    passwords: &'a Passwords,
    asker: Asker,
}

impl<'a> Desk<'a> {
    fn open(state: &'a AppState, guest: &Guest) -> Result<Self, Problem> {
        let Some(team) = state.admission.team() else {
            return Err(Problem::new(
                "no_accounts",
                404,
                "this skytower server has no accounts: whoever holds its token is let in",
            )
            .hint("accounts are kept by skytower-server, the server for a team"));
        };
        Ok(Self {
            team,
            ledger: team.ledger(),
            passwords: team.passwords(),
            asker: guest.asker()?,
        })
    }

    /// For administrators alone.
    fn of_administrators(state: &'a AppState, guest: &Guest) -> Result<Self, Problem> {
        let desk = Self::open(state, guest)?;
        if desk.asker.caller.role == Role::Admin {
            return Ok(desk);
        }
        let problem = Problem::new("forbidden", 403, "accounts are kept by administrators");
        Err(match &desk.asker.caller.limited {
            Some(_) => {
                problem.hint("this token is for less: sign in with one of the scope `admin`")
            }
            None => problem.hint("ask one of them"),
        })
    }

    /// The account that asks; those whom a source or a proxy vouches for have none.
    fn account(&self, accounts: &Accounts) -> Result<User, Problem> {
        let id = self.asker.caller.ids.first().cloned().unwrap_or_default();
        accounts.user(&id).cloned().ok_or_else(|| {
            Problem::new(
                "not_own_account",
                403,
                "you are not signed in with an account of this server",
            )
            .hint("your password and tokens are kept where you got them")
        })
    }

    fn deed(action: &'static str, target: String, detail: impl Into<Text>) -> Deed {
        Deed {
            action,
            target: target.into(),
            detail: detail.into(),
        }
    }
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

fn expiry(written: Option<&str>) -> Result<Option<EpochMs>, Problem> {
    let Some(written) = written else {
        return Ok(None);
    };
    let span = span(written).map_err(|_| {
        Problem::new(
            "invalid_account",
            422,
            format!("`{written}` is not a span of time"),
        )
        .hint("write it as 90d or 12h, or leave it out for a token that does not expire")
    })?;
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
        Some(written) => span(written).map_err(|_| {
            Problem::new(
                "invalid_account",
                422,
                format!("`{written}` is not a span of time"),
            )
            .hint("write it as 1h, or 0s to end the old secret at once")
        })?,
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

fn workspace_info(accounts: &Accounts, workspace: &accounts::Workspace) -> WorkspaceInfo {
    let members = workspace.members.iter();
    WorkspaceInfo {
        name: workspace.name.clone(),
        private: workspace.private,
        members: members
            .filter_map(|id| Some(accounts.user(id)?.name.clone()))
            .collect(),
    }
}

async fn workspaces(
    State(state): State<AppState>,
    Extension(guest): Extension<Guest>,
) -> Result<Json<Vec<WorkspaceInfo>>, Failure> {
    let desk = Desk::of_administrators(&state, &guest)?;
    let accounts = desk.ledger.read();
    let workspaces = accounts.workspaces();
    Ok(Json(
        workspaces
            .map(|workspace| workspace_info(&accounts, workspace))
            .collect(),
    ))
}

async fn show_workspace(
    State(state): State<AppState>,
    Extension(guest): Extension<Guest>,
    Path(name): Path<String>,
) -> Result<Json<WorkspaceInfo>, Failure> {
    let desk = Desk::of_administrators(&state, &guest)?;
    let accounts = desk.ledger.read();
    let workspace = accounts.find_workspace(&name)?;
    Ok(Json(workspace_info(&accounts, workspace)))
}

async fn add_workspace(
    State(state): State<AppState>,
    Extension(guest): Extension<Guest>,
    JsonBody(new): JsonBody<NewWorkspace>,
) -> Result<Response, Failure> {
    let desk = Desk::of_administrators(&state, &guest)?;
    let deed = Desk::deed(
        "workspace.add",
        format!("workspace/{}", new.name),
        if new.private { "private" } else { "public" },
    );
    let info = desk
        .ledger
        .change(&desk.asker, deed, |draft| {
            let edits = draft.add_workspace(&new.name, new.private)?;
            draft.take(edits);
            for member in &new.members {
                let edits = draft.add_member(&new.name, member)?;
                draft.take(edits);
            }
            let workspace = draft.find_workspace(&new.name)?;
            Ok(workspace_info(draft, workspace))
        })
        .await?;
    Ok((StatusCode::CREATED, Json(info)).into_response())
}

async fn change_workspace(
    State(state): State<AppState>,
    Extension(guest): Extension<Guest>,
    Path(name): Path<String>,
    JsonBody(patch): JsonBody<WorkspacePatch>,
) -> Result<Json<WorkspaceInfo>, Failure> {
    let desk = Desk::of_administrators(&state, &guest)?;
    let mut detail: Vec<String> = Vec::new();
    detail.extend(
        patch
            .private
            .map(|private| if private { "private" } else { "public" }.to_owned()),
    );
    detail.extend(patch.add_members.iter().map(|name| format!("with {name}")));
    detail.extend(
        patch
            .remove_members
            .iter()
            .map(|name| format!("without {name}")),
    );
    let deed = Desk::deed(
        "workspace.change",
        format!("workspace/{name}"),
        detail.join(", "),
    );
    let info = desk
        .ledger
        .change(&desk.asker, deed, |draft| {
            for member in &patch.remove_members {
                let edits = draft.remove_member(&name, member)?;
                draft.take(edits);
            }
            for member in &patch.add_members {
                let edits = draft.add_member(&name, member)?;
                draft.take(edits);
            }
            if let Some(private) = patch.private {
                let edits = draft.set_private(&name, private)?;
                draft.take(edits);
            }
            let workspace = draft.find_workspace(&name)?;
            Ok(workspace_info(draft, workspace))
        })
        .await?;
    Ok(Json(info))
}

async fn remove_workspace(
    State(state): State<AppState>,
    Extension(guest): Extension<Guest>,
    Path(name): Path<String>,
) -> Result<StatusCode, Failure> {
    let desk = Desk::of_administrators(&state, &guest)?;
    let deed = Desk::deed("workspace.remove", format!("workspace/{name}"), "");
    desk.ledger
        .change(&desk.asker, deed, |draft| {
            let edits = draft.remove_workspace(&name)?;
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
