//! Workspaces of the server's own, and who is in them.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use skytower_api_client::rest::accounts::{NewWorkspace, WorkspaceInfo, WorkspacePatch};
use skytower_api_client::rest::path;

use super::Desk;
use crate::accounts::{self, Accounts};
use crate::guest::Guest;
use crate::http::AppState;
use crate::http::problem::{Failure, JsonBody};

pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route(path::WORKSPACES, get(workspaces).post(add_workspace))
        .route(
            "/api/v1/accounts/workspaces/{name}",
            get(show_workspace)
                .patch(change_workspace)
                .delete(remove_workspace),
        )
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
