//! Who somebody's credentials are at SkyPilot.
//!
//! SkyPilot is asked with those credentials, as from elsewhere. It must name a user: a server that
//! authenticates nobody, or takes its own machine for an administrator, names none and so makes nobody
//! anybody.

use std::time::Duration;

use serde_json::Value;
use serde_json::value::RawValue;
use skytower_api_client::Text;
use skytower_api_client::credentials::Credentials;
use skytower_api_client::wire::{Caller, Problem, Role};

use super::client::{CallError, Client, Identity};

/// How every token of SkyPilot begins. Others' are not shown to it.
const TOKEN: &str = "sky_";
/// How long SkyPilot may take to say who somebody is.
const ROLE_DEADLINE: Duration = Duration::from_secs(15);
/// How long it may take to say which workspaces somebody may see: a worker of its own looks them up.
const WORKSPACES_DEADLINE: Duration = Duration::from_secs(30);

/// Asks SkyPilot who `credentials` are. None: nobody it knows. An error: it could not be asked.
pub(super) async fn identify(
    client: &Client,
    source: &Text,
    credentials: &Credentials,
) -> Result<Option<Caller>, Problem> {
    if matches!(credentials, Credentials::Bearer(token) if !token.expose().starts_with(TOKEN)) {
        return Ok(None);
    }
    // What no header can carry is nobody's.
    let Ok(client) = client.as_caller(credentials, Identity::default()) else {
        return Ok(None);
    };
    let answer = match client.get("/users/role", ROLE_DEADLINE).await {
        Ok(answer) => answer,
        Err(error) if is_a_no(&error) => return Ok(None),
        Err(error) => return Err(error.problem()),
    };
    let Some(mut caller) = named(&answer, credentials) else {
        return Ok(None);
    };
    caller.acts_at = Some(vec![source.clone()]);
    if caller.role != Role::Admin {
        match client.ask_get("/workspaces", WORKSPACES_DEADLINE).await {
            Ok(answer) => caller.workspaces = Some(workspaces(&answer, source)?),
            // Known, and let into none.
            Err(CallError::Forbidden(_)) => caller.workspaces = Some(Vec::new()),
            Err(error) if is_a_no(&error) => return Ok(None),
            Err(error) => return Err(error.problem()),
        }
    }
    Ok(Some(caller))
}

/// It was asked, and does not know these credentials.
fn is_a_no(error: &CallError) -> bool {
    matches!(error, CallError::NeedsAuth { .. } | CallError::Forbidden(_))
}

/// The caller that `/users/role` names; none when it names nobody, or somebody else than who asked.
fn named(answer: &RawValue, credentials: &Credentials) -> Option<Caller> {
    let answer: Value = serde_json::from_str(answer.get()).ok()?;
    let said = |field: &str| {
        answer[field]
            .as_str()
            .filter(|said| !said.trim().is_empty())
    };
    let id = said("id")?;
    let name = said("name");
    // `a:b` with the password `c` is sent as `a` with the password `b:c` would be.
    if let Credentials::Basic { user, .. } = credentials
        && name != Some(user)
    {
        return None;
    }
    // A role that is not known, or none, is the least.
    let role = serde_json::from_value(answer["role"].clone()).unwrap_or_default();
    Some(Caller {
        ids: vec![id.into()],
        name: name.unwrap_or(id).into(),
        role,
        ..Caller::default()
    })
}

/// The names of the workspaces that `/workspaces` lists. It lists those that whoever asks may see, the
/// ones that it may only look at among them.
fn workspaces(answer: &RawValue, source: &Text) -> Result<Vec<Text>, Problem> {
    let answer: Value = serde_json::from_str(answer.get()).unwrap_or(Value::Null);
    let Some(listed) = answer.as_object() else {
        let detail = "SkyPilot's list of workspaces is not a list";
        return Err(Problem::new("bad_answer", 502, detail));
    };
    let mut names: Vec<Text> = listed
        .keys()
        .map(|name| Text::from(format!("{source}/{name}")))
        .collect();
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use skytower_api_client::credentials::Secret;

    fn raw(value: &Value) -> Box<RawValue> {
        RawValue::from_string(value.to_string()).unwrap()
    }

    fn by_token(answer: &Value) -> Option<Caller> {
        named(&raw(answer), &Credentials::Bearer(Secret::new("sky_1")))
    }

    #[test]
    fn an_answer_that_names_no_user_makes_nobody_anybody() {
        for answer in [
            json!({"id": "", "name": "", "role": "admin"}),
            json!({"id": " ", "name": "admin", "role": "admin"}),
            json!({"id": null, "name": "admin", "role": "admin"}),
            json!({"id": 1, "name": "admin", "role": "admin"}),
            json!({"role": "admin"}),
            json!([{"id": "1"}]),
            json!("admin"),
            Value::Null,
        ] {
            assert_eq!(by_token(&answer), None, "{answer}");
        }
    }

    #[test]
    fn the_role_is_the_least_when_it_is_not_known() {
        for (word, role) in [
            (json!("admin"), Role::Admin),
            (json!("user"), Role::User),
            (json!("viewer"), Role::Viewer),
            (json!("owner"), Role::Viewer),
            (json!(""), Role::Viewer),
            (json!(["admin"]), Role::Viewer),
            (Value::Null, Role::Viewer),
        ] {
            let answer = json!({"id": "sa-1", "name": "", "role": word});
            let caller = by_token(&answer).unwrap();
            assert_eq!(
                (caller.role, caller.name.as_str()),
                (role, "sa-1"),
                "{word}"
            );
        }
    }

    #[test]
    fn a_password_makes_nobody_but_whose_it_is() {
        let alice = raw(&json!({"id": "6384e2b2", "name": "alice", "role": "user"}));
        let with = |user: &str| {
            let password = Secret::new("b:c");
            let user = user.to_owned();
            named(&alice, &Credentials::Basic { user, password })
        };
        assert_eq!(with("alice").unwrap().ids, [Text::from("6384e2b2")]);
        for user in ["alice:b", "Alice", "alice ", "al\u{456}ce", ""] {
            assert_eq!(with(user), None, "{user}");
        }
        let unnamed = raw(&json!({"id": "6384e2b2", "role": "user"}));
        let (user, password) = ("alice".to_owned(), Secret::new("x"));
        assert_eq!(
            named(&unnamed, &Credentials::Basic { user, password }),
            None
        );
    }
}
