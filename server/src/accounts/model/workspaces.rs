//! What can be done with workspaces, and who sees which.

use std::collections::BTreeSet;

use skytower_api_client::Text;
use skytower_api_client::wire::Role;

use super::name::{self, conflict};
use super::{Accounts, DEFAULT_WORKSPACE, Edit, Edits, User, Workspace};

impl Accounts {
    /// A workspace that is not known yet.
    pub fn add_workspace(&self, name: &str, private: bool) -> Edits {
        let name = name::workspace_name(name)?;
        if self.workspaces.contains_key(&name) {
            return Err(conflict(
                format!("there is a workspace `{name}` already"),
                "choose another name, or change that one",
            ));
        }
        Ok(vec![Edit::PutWorkspace(Workspace {
            name,
            private,
            members: BTreeSet::new(),
        })])
    }

    /// The workspace is not known any more: only administrators see what is in it at the sources.
    pub fn remove_workspace(&self, name: &str) -> Edits {
        let workspace = self.find_workspace(name)?;
        if workspace.name == DEFAULT_WORKSPACE {
            return Err(conflict(
                "the workspace `default` cannot be removed",
                "everything that names no workspace is in it",
            ));
        }
        Ok(vec![Edit::RemoveWorkspace(workspace.name.clone())])
    }

    /// From now on only its members see the workspace, or everybody does.
    pub fn set_private(&self, name: &str, private: bool) -> Edits {
        let workspace = self.find_workspace(name)?;
        if private && workspace.name == DEFAULT_WORKSPACE {
            return Err(conflict(
                "the workspace `default` is open to everybody",
                "make a workspace of its own for what is not for everybody",
            ));
        }
        Ok(changed(workspace, |workspace| workspace.private = private))
    }

    /// The user is in the workspace.
    pub fn add_member(&self, name: &str, who: &str) -> Edits {
        let workspace = self.find_workspace(name)?;
        let user = self.find_user(who)?;
        if workspace.name == DEFAULT_WORKSPACE {
            return Err(conflict(
                "everybody is in the workspace `default`",
                "it needs no members",
            ));
        }
        Ok(changed(workspace, |workspace| {
            workspace.members.insert(user.id.clone());
        }))
    }

    /// The user is not in the workspace any more.
    pub fn remove_member(&self, name: &str, who: &str) -> Edits {
        let workspace = self.find_workspace(name)?;
        let user = self.find_user(who)?;
        if !workspace.members.contains(&user.id) {
            let members: Vec<&str> = workspace
                .members
                .iter()
                .filter_map(|id| self.user(id))
                .map(|user| user.name.as_str())
                .collect();
            return Err(name::not_found(
                &format!("member of `{}` called", workspace.name),
                &user.name,
                members.into_iter(),
            ));
        }
        Ok(changed(workspace, |workspace| {
            workspace.members.remove(&user.id);
        }))
    }

    /// The workspaces that a user may see; none means all of them, also those nobody has told of.
    pub fn workspaces_of(&self, user: &User) -> Option<Vec<Text>> {
        if user.role == Role::Admin {
            return None;
        }
        let open = self
            .workspaces()
            .filter(|workspace| !workspace.private || workspace.members.contains(&user.id));
        Some(open.map(|workspace| workspace.name.clone()).collect())
    }
}

/// What is so already needs no edit.
fn changed(before: &Workspace, change: impl FnOnce(&mut Workspace)) -> Vec<Edit> {
    let mut after = before.clone();
    change(&mut after);
    if after == *before {
        Vec::new()
    } else {
        vec![Edit::PutWorkspace(after)]
    }
}
