//! From an account to a caller: pure.

use std::collections::BTreeSet;

use skytower_api_client::policy::{Rules, qualified, unqualified};
use skytower_api_client::wire::{Caller, Role};
use skytower_api_client::{EpochMs, Text};

use crate::accounts::Scope;
use crate::accounts::{Accounts, Token, User};

/// What an account's rights depend on beside the account.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Surroundings {
    /// What the server forbids whoever asks.
    pub(super) rules: Rules,
    /// Sources at which accounts of the server's own may act.
    pub(super) acts_at: Vec<Text>,
    /// The source whose workspaces are the accounts' own: the local engine.
    pub(super) own_source: Text,
    /// Qualified names of the other sources' workspaces that are open to everybody.
    pub(super) public: Vec<Text>,
    /// Qualified names of all workspaces of the other sources.
    pub(super) all: Vec<Text>,
    /// There are several sources beside the local engine: who administers one administers no other.
    pub(super) several: bool,
}

/// Who somebody is that signed in with an account; with a token, at most what that is for.
pub(super) fn caller(
    accounts: &Accounts,
    user: &User,
    token: Option<&Token>,
    around: &Surroundings,
) -> Caller {
    let scope = token.map_or(Scope::Admin, |token| token.scope);
    let role = scope.limits(user.role);
    let mut ids = vec![user.id.clone(), user.name.clone()];
    ids.extend(user.identities.iter().cloned());
    // Whoever sees everything does so by its role, also with a token that is for less: a token to look
    // with shows what its owner sees.
    let workspaces = (user.role != Role::Admin).then(|| {
        let own = accounts.workspaces_of(user).unwrap_or_default();
        let own = own.iter().map(|name| qualified(&around.own_source, name));
        let mut all: Vec<Text> = own.chain(around.public.iter().cloned()).collect();
        all.sort();
        all.dedup();
        all
    });
    Caller {
        ids,
        name: user.name.clone(),
        role,
        workspaces,
        acts_at: Some(around.acts_at.clone()),
        limited: (role != user.role).then(|| limited(scope)),
        rules: around.rules.clone(),
    }
}

/// Somebody whom a trusted proxy vouches for and who has no account.
pub(super) fn stranger(
    name: &Text,
    role: Role,
    accounts: &Accounts,
    around: &Surroundings,
) -> Caller {
    let user = User {
        id: Text::from(format!("proxy:{name}")),
        name: name.clone(),
        role,
        password: None,
        disabled: false,
        created_at: EpochMs(0),
        password_changed_at: None,
        identities: BTreeSet::new(),
        service: false,
    };
    caller(accounts, &user, None, around)
}

/// Somebody who signed in at a source: its rights there, and what is open to everybody elsewhere.
pub(super) fn delegated(told: &Caller, around: &Surroundings, accounts: &Accounts) -> Caller {
    let mut caller = told.clone();
    if caller.role == Role::Admin && around.several {
        let theirs = |name: &&Text| {
            let source = unqualified(name).map(|(source, _)| source);
            let places = caller.acts_at.as_ref();
            places.is_some_and(|places| places.iter().any(|place| Some(place.as_str()) == source))
        };
        caller.workspaces = Some(around.all.iter().filter(theirs).cloned().collect());
        caller.role = Role::User;
        caller.limited = Some(
            "you administer one of several sources here: accounts are for this server's administrators"
                .into(),
        );
    }
    if let Some(workspaces) = &mut caller.workspaces {
        let open = accounts.workspaces().filter(|workspace| !workspace.private);
        workspaces.extend(open.map(|workspace| qualified(&around.own_source, &workspace.name)));
        workspaces.extend(around.public.iter().cloned());
        workspaces.sort();
        workspaces.dedup();
    }
    caller.rules = around.rules.clone();
    caller
}

fn limited(scope: Scope) -> Text {
    Text::from(match scope {
        Scope::Read | Scope::Metrics => "this token is for looking (scope `read`), not for acting",
        Scope::Act | Scope::Admin => {
            "this token is for acting (scope `act`), not for administrators' things"
        }
    })
}

/// When a token stops to count or its old secret does, whichever is next.
pub(super) fn next_end(token: &Token, now: EpochMs) -> Option<EpochMs> {
    let ends = [
        token.expires_at,
        token.previous.as_ref().map(|previous| previous.until),
    ];
    ends.into_iter().flatten().filter(|end| *end > now).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn around(several: bool) -> Surroundings {
        Surroundings {
            own_source: "local".into(),
            public: vec!["a/open".into(), "b/open".into()],
            all: vec![
                "a/open".into(),
                "a/shut".into(),
                "b/open".into(),
                "b/shut".into(),
            ],
            several,
            ..Surroundings::default()
        }
    }

    fn told(role: Role, workspaces: Option<&[&str]>) -> Caller {
        Caller {
            ids: vec!["h1".into()],
            name: "al".into(),
            role,
            workspaces: workspaces.map(|all| all.iter().map(|name| Text::from(*name)).collect()),
            acts_at: Some(vec!["a".into()]),
            ..Caller::default()
        }
    }

    #[test]
    fn somebody_of_a_source_sees_what_is_theirs_there_and_what_is_open_elsewhere() {
        let told = told(Role::User, Some(&["a/shut", "a/open"]));
        let caller = delegated(&told, &around(true), &Accounts::default());
        let seen: Vec<&str> = caller
            .workspaces
            .iter()
            .flatten()
            .map(Text::as_str)
            .collect();
        assert_eq!(seen, ["a/open", "a/shut", "b/open", "local/default"]);
        assert_eq!(caller.role, Role::User);
    }

    #[test]
    fn who_administers_one_of_several_sources_administers_no_other() {
        let told = told(Role::Admin, None);
        let alone = delegated(&told, &around(false), &Accounts::default());
        assert_eq!((alone.role, &alone.workspaces), (Role::Admin, &None));
        let caller = delegated(&told, &around(true), &Accounts::default());
        let seen: Vec<&str> = caller
            .workspaces
            .iter()
            .flatten()
            .map(Text::as_str)
            .collect();
        assert_eq!(seen, ["a/open", "a/shut", "b/open", "local/default"]);
        assert_eq!(caller.role, Role::User);
        assert!(caller.limited.is_some());
    }
}
