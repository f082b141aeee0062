use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;
use rusqlite::Connection;
use skytower_api_client::EpochMs;
use skytower_api_client::wire::{Problem, Role};

use super::*;
use crate::accounts::rows;

const NOW: EpochMs = EpochMs(1_795_467_146_123);
const HOUR: i64 = 3_600_000;

fn later(ms: i64) -> EpochMs {
    EpochMs(NOW.0 + ms)
}

fn password(letter: char) -> PasswordHash {
    let part = |length| String::from(letter).repeat(length) + "A";
    let phc = format!("$argon2id$v=19$m=19456,t=2,p=1${}${}", part(21), part(42));
    PasswordHash::parse(&phc).unwrap()
}

fn person(name: &str, role: Role) -> NewUser {
    NewUser {
        name: name.to_owned(),
        role,
        password: Some(password('a')),
        service: false,
    }
}

fn robot(name: &str) -> NewUser {
    NewUser {
        password: None,
        service: true,
        ..person(name, Role::User)
    }
}

fn token(name: &str, scope: Scope, expires_at: Option<EpochMs>) -> NewToken {
    NewToken {
        name: name.to_owned(),
        scope,
        expires_at,
    }
}

impl Accounts {
    fn perform(&mut self, edits: &[Edit]) {
        for edit in edits {
            self.apply(edit);
        }
    }

    fn issue(&mut self, issued: Result<Issued, Problem>) -> (Text, String) {
        let issued = issued.unwrap();
        self.perform(&issued.edits);
        (issued.id, issued.written.expose().to_owned())
    }
}

/// `root` is an administrator, `alice` a user, `ci` a service account.
fn three() -> Accounts {
    let mut accounts = Accounts::default();
    for new in [
        person("root", Role::Admin),
        person("Alice", Role::User),
        robot("ci"),
    ] {
        let edits = accounts.add_user(new, NOW).unwrap();
        accounts.perform(&edits);
    }
    accounts
}

fn code(answer: Edits) -> (String, u16) {
    let problem = answer.unwrap_err();
    assert!(
        problem.hint.is_some(),
        "{problem:?} does not say what to do"
    );
    (problem.code.to_string(), problem.status)
}

fn is(code: &str, status: u16) -> (String, u16) {
    (code.to_owned(), status)
}

#[test]
fn names_are_the_same_whatever_their_case() {
    let accounts = three();
    assert_eq!(accounts.find_user("aLICE").unwrap().name, "Alice");
    let id = accounts.find_user("alice").unwrap().id.clone();
    assert_eq!(accounts.find_user(&id).unwrap().id, id);
    let again = accounts.add_user(person("ALICE", Role::User), NOW);
    assert_eq!(code(again), is("conflict", 409));
    let problem = accounts.find_user("nobody").unwrap_err();
    assert_eq!(problem.status, 404);
    assert_eq!(problem.hint.unwrap(), "there is: Alice, ci, root");
}

#[test]
fn the_last_administrator_can_be_taken_away_by_nothing() {
    let mut accounts = three();
    let last = is("last_administrator", 409);
    assert_eq!(code(accounts.set_role("root", Role::User)), last);
    assert_eq!(code(accounts.disable_user("root")), last);
    assert_eq!(code(accounts.remove_user("root")), last);
    // One without a password, or disabled, lets nobody in.
    let edits = accounts.set_role("ci", Role::Admin).unwrap();
    accounts.perform(&edits);
    assert_eq!(code(accounts.remove_user("root")), last);
    let edits = accounts.set_role("alice", Role::Admin).unwrap();
    accounts.perform(&edits);
    let edits = accounts.disable_user("root").unwrap();
    accounts.perform(&edits);
    assert_eq!(code(accounts.disable_user("alice")), last);
    assert_eq!(accounts.remove_user("root").unwrap().len(), 1);
}

#[test]
fn service_accounts_have_no_password() {
    let accounts = three();
    let with = NewUser {
        password: Some(password('a')),
        ..robot("bot")
    };
    assert_eq!(
        code(accounts.add_user(with, NOW)),
        is("invalid_account", 422)
    );
    assert_eq!(
        code(accounts.set_password("ci", password('b'), NOW)),
        is("invalid_account", 422)
    );
}

#[test]
fn what_is_so_already_needs_no_edit() {
    let accounts = three();
    assert!(accounts.set_role("root", Role::Admin).unwrap().is_empty());
    assert!(accounts.enable_user("alice").unwrap().is_empty());
    assert!(accounts.set_private("default", false).unwrap().is_empty());
}

#[test]
fn a_password_that_replaces_another_is_dated() {
    let mut accounts = three();
    assert_eq!(
        accounts.find_user("alice").unwrap().password_changed_at,
        None
    );
    let edits = accounts
        .set_password("alice", password('b'), later(1))
        .unwrap();
    accounts.perform(&edits);
    let alice = accounts.find_user("alice").unwrap();
    assert_eq!(alice.password_changed_at, Some(later(1)));
}

#[test]
fn an_id_at_a_source_is_one_users() {
    let mut accounts = three();
    let edits = accounts.add_identity("alice", "2f1c").unwrap();
    accounts.perform(&edits);
    assert_eq!(accounts.user_with_identity("2f1c").unwrap().name, "Alice");
    assert_eq!(
        code(accounts.add_identity("ci", "2f1c")),
        is("conflict", 409)
    );
    assert_eq!(
        code(accounts.add_identity("ci", "a b")),
        is("invalid_account", 422)
    );
    assert_eq!(
        code(accounts.remove_identity("ci", "2f1c")),
        is("not_found", 404)
    );
    let edits = accounts.remove_identity("alice", "2f1c").unwrap();
    accounts.perform(&edits);
    assert!(accounts.user_with_identity("2f1c").is_none());
    assert!(!accounts.add_identity("ci", "2f1c").unwrap().is_empty());
}

#[test]
fn a_token_is_good_until_it_ends_is_revoked_or_its_user_disabled() {
    let mut accounts = three();
    let (id, written) = accounts.issue(accounts.create_token(
        "ci",
        &token("deploy", Scope::Act, Some(later(HOUR))),
        NOW,
    ));
    let (user, found) = accounts.check_token(&written, NOW).unwrap();
    assert_eq!((&*user.name, &found.id), ("ci", &id));
    assert!(accounts.check_token(&written, later(HOUR - 1)).is_ok());
    assert_eq!(
        accounts.check_token(&written, later(HOUR)),
        Err(TokenRefusal::Expired)
    );
    let mut disabled = accounts.clone();
    let edits = disabled.disable_user("ci").unwrap();
    disabled.perform(&edits);
    assert_eq!(
        disabled.check_token(&written, NOW),
        Err(TokenRefusal::Disabled)
    );
    // Who does not know the secret learns nothing, not even by the audit's word.
    let wrong = format!("{}0", &written[..written.len() - 1]);
    let wrong = if wrong == written {
        written[..written.len() - 1].to_owned() + "1"
    } else {
        wrong
    };
    for now in [NOW, later(HOUR)] {
        assert_eq!(
            disabled.check_token(&wrong, now),
            Err(TokenRefusal::Unknown)
        );
    }
    let edits = accounts.revoke_token(&id).unwrap();
    accounts.perform(&edits);
    assert_eq!(
        accounts.check_token(&written, NOW),
        Err(TokenRefusal::Unknown)
    );
    let said: BTreeSet<String> = [
        TokenRefusal::Unknown,
        TokenRefusal::Expired,
        TokenRefusal::Disabled,
    ]
    .iter()
    .map(ToString::to_string)
    .collect();
    assert_eq!(said.len(), 1, "{said:?}");
}

#[test]
fn what_is_no_token_is_unknown() {
    let mut accounts = three();
    let (id, written) =
        accounts.issue(accounts.create_token("ci", &token("a", Scope::Read, None), NOW));
    let zeroes = format!("st_{id}_{}", "0".repeat(64));
    for other in [
        "",
        "st_",
        "sky_abc",
        &written[..written.len() - 1],
        &format!("{written}0"),
        &format!(" {written}"),
        &written.to_uppercase(),
        &written.replace("st_", "ST_"),
        &zeroes,
        "st__",
        &"st_".repeat(100_000),
    ] {
        assert_eq!(accounts.check_token(other, NOW), Err(TokenRefusal::Unknown));
    }
    assert_eq!(accounts.claimed_token(&zeroes).unwrap().id, id);
}

#[test]
fn a_rotated_token_has_two_secrets_for_the_overlap() {
    let mut accounts = three();
    let (id, first) =
        accounts.issue(accounts.create_token("ci", &token("a", Scope::Read, None), NOW));
    let (_, second) = accounts.issue(accounts.rotate_token(&id, DEFAULT_OVERLAP, NOW));
    assert_ne!(first, second);
    for (written, at, good) in [
        (&first, HOUR - 1, true),
        (&second, HOUR - 1, true),
        (&first, HOUR, false),
        (&second, HOUR, true),
    ] {
        assert_eq!(accounts.check_token(written, later(at)).is_ok(), good);
    }
    assert_eq!(
        accounts.check_token(&first, later(HOUR)),
        Err(TokenRefusal::Expired)
    );
    let (_, third) = accounts.issue(accounts.rotate_token(&id, Duration::ZERO, NOW));
    for (written, good) in [(&first, false), (&second, false), (&third, true)] {
        assert_eq!(accounts.check_token(written, NOW).is_ok(), good);
    }
}

#[test]
fn tokens_are_told_apart_and_not_without_end() {
    let mut accounts = three();
    accounts.issue(accounts.create_token("ci", &token("a", Scope::Read, None), NOW));
    let again = accounts.create_token("ci", &token("a", Scope::Act, None), NOW);
    assert_eq!(again.unwrap_err().code, "conflict");
    let late = accounts.create_token("ci", &token("b", Scope::Act, Some(NOW)), NOW);
    assert_eq!(late.unwrap_err().code, "invalid_account");
    for i in 1..MAX_TOKENS {
        let new = token(&format!("a{i}"), Scope::Read, None);
        accounts.issue(accounts.create_token("ci", &new, NOW));
    }
    let beyond = accounts.create_token("ci", &token("b", Scope::Read, None), NOW);
    assert_eq!(beyond.unwrap_err().code, "conflict");
    let other = accounts.create_token("alice", &token("a", Scope::Read, None), NOW);
    assert!(other.is_ok());
}

#[test]
fn expired_tokens_are_forgotten_after_a_while_and_uses_are_noted_once_a_minute() {
    let mut accounts = three();
    let ends = token("a", Scope::Read, Some(later(1)));
    let (id, _) = accounts.issue(accounts.create_token("ci", &ends, NOW));
    accounts.issue(accounts.create_token("ci", &token("b", Scope::Read, None), NOW));
    assert!(accounts.prune_tokens(later(30 * 24 * HOUR)).is_empty());
    assert_eq!(
        accounts.prune_tokens(later(30 * 24 * HOUR + 2)),
        [Edit::RemoveToken(id.clone())]
    );
    let edit = accounts.use_token(&id, NOW).unwrap();
    accounts.apply(&edit);
    assert_eq!(accounts.use_token(&id, later(59_999)), None);
    assert!(accounts.use_token(&id, later(60_000)).is_some());
    // A note that comes late brings no revoked token back.
    let late = accounts.use_token(&id, later(60_000)).unwrap();
    accounts.apply(&Edit::RemoveToken(id.clone()));
    accounts.apply(&late);
    assert!(accounts.find_token(&id).is_err());
}

#[test]
fn scopes_limit_roles_and_never_raise_them() {
    for (scope, admin, user, viewer) in [
        (Scope::Read, Role::Viewer, Role::Viewer, Role::Viewer),
        (Scope::Act, Role::User, Role::User, Role::Viewer),
        (Scope::Admin, Role::Admin, Role::User, Role::Viewer),
        (Scope::Metrics, Role::Viewer, Role::Viewer, Role::Viewer),
    ] {
        assert_eq!(scope.limits(Role::Admin), admin);
        assert_eq!(scope.limits(Role::User), user);
        assert_eq!(scope.limits(Role::Viewer), viewer);
        assert_eq!(scope.is_for_metrics_only(), scope == Scope::Metrics);
        assert_eq!(Scope::of(scope.word()), Some(scope));
    }
}

#[test]
fn a_private_workspace_is_there_for_its_members_and_administrators() {
    let mut accounts = three();
    for (name, private) in [("open", false), ("secret", true)] {
        let edits = accounts.add_workspace(name, private).unwrap();
        accounts.perform(&edits);
    }
    let sees = |accounts: &Accounts, who: &str| {
        accounts
            .workspaces_of(accounts.find_user(who).unwrap())
            .map(|names| names.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    assert_eq!(sees(&accounts, "root"), None);
    assert_eq!(sees(&accounts, "alice").unwrap(), ["default", "open"]);
    let edits = accounts.add_member("secret", "alice").unwrap();
    accounts.perform(&edits);
    assert_eq!(
        sees(&accounts, "alice").unwrap(),
        ["default", "open", "secret"]
    );
    assert_eq!(sees(&accounts, "ci").unwrap(), ["default", "open"]);
    assert_eq!(
        code(accounts.remove_member("secret", "ci")),
        is("not_found", 404)
    );
    for refused in [
        accounts.set_private("default", true),
        accounts.remove_workspace("default"),
        accounts.add_member("default", "alice"),
        accounts.add_workspace("open", true),
    ] {
        assert_eq!(code(refused), is("conflict", 409));
    }
}

#[test]
fn with_a_user_go_tokens_and_memberships() {
    let mut accounts = three();
    let edits = accounts.add_workspace("secret", true).unwrap();
    accounts.perform(&edits);
    let edits = accounts.add_member("secret", "alice").unwrap();
    accounts.perform(&edits);
    let (_, written) =
        accounts.issue(accounts.create_token("alice", &token("a", Scope::Admin, None), NOW));
    let edits = accounts.remove_user("alice").unwrap();
    accounts.perform(&edits);
    assert!(accounts.check_token(&written, NOW).is_err());
    assert!(
        accounts
            .find_workspace("secret")
            .unwrap()
            .members
            .is_empty()
    );
}

#[test]
fn nothing_that_is_printed_holds_a_secret() {
    let mut accounts = three();
    let issued = accounts
        .create_token("alice", &token("a", Scope::Act, None), NOW)
        .unwrap();
    accounts.perform(&issued.edits);
    let written = issued.written.expose().to_owned();
    let secret = written.rsplit('_').next().unwrap();
    let hash = SecretHash::of(secret);
    let printed = format!("{accounts:?} {issued:?} {hash:?}");
    let phc = accounts.find_user("alice").unwrap().password.clone();
    let phc = phc.unwrap().expose().to_owned();
    for hidden in [secret, &phc, &format!("{:?}", hash.0)] {
        assert!(!printed.contains(hidden), "{printed}");
    }
    let problem = accounts.find_token(&written).unwrap_err();
    assert!(!format!("{problem:?}").contains(secret), "{problem:?}");
}

/// Something that somebody tries.
#[derive(Clone, Debug)]
enum Try {
    AddUser(u8, u8, bool, bool),
    SetRole(u8, u8),
    SetPassword(u8, bool),
    Disable(u8),
    Enable(u8),
    Remove(u8),
    AddIdentity(u8, u8),
    RemoveIdentity(u8, u8),
    CreateToken(u8, u8, u8, Option<i16>),
    Rotate(u8, u16),
    Revoke(u8),
    Use(u8),
    Prune,
    AddWorkspace(u8, bool),
    RemoveWorkspace(u8),
    SetPrivate(u8, bool),
    AddMember(u8, u8),
    RemoveMember(u8, u8),
}

fn tries() -> impl Strategy<Value = Try> {
    let few = 0..5_u8;
    let ws = 0..4_u8;
    prop_oneof![
        3 => (few.clone(), 0..3_u8, any::<bool>(), any::<bool>())
            .prop_map(|(a, b, c, d)| Try::AddUser(a, b, c, d)),
        2 => (few.clone(), 0..3_u8).prop_map(|(a, b)| Try::SetRole(a, b)),
        1 => (few.clone(), any::<bool>()).prop_map(|(a, b)| Try::SetPassword(a, b)),
        2 => few.clone().prop_map(Try::Disable),
        1 => few.clone().prop_map(Try::Enable),
        2 => few.clone().prop_map(Try::Remove),
        2 => (few.clone(), 0..4_u8).prop_map(|(a, b)| Try::AddIdentity(a, b)),
        1 => (few.clone(), 0..4_u8).prop_map(|(a, b)| Try::RemoveIdentity(a, b)),
        3 => (few.clone(), 0..3_u8, 0..4_u8, any::<Option<i16>>())
            .prop_map(|(a, b, c, d)| Try::CreateToken(a, b, c, d)),
        1 => (any::<u8>(), any::<u16>()).prop_map(|(a, b)| Try::Rotate(a, b)),
        1 => any::<u8>().prop_map(Try::Revoke),
        1 => any::<u8>().prop_map(Try::Use),
        1 => Just(Try::Prune),
        2 => (ws.clone(), any::<bool>()).prop_map(|(a, b)| Try::AddWorkspace(a, b)),
        1 => ws.clone().prop_map(Try::RemoveWorkspace),
        1 => (ws.clone(), any::<bool>()).prop_map(|(a, b)| Try::SetPrivate(a, b)),
        3 => (ws.clone(), few.clone()).prop_map(|(a, b)| Try::AddMember(a, b)),
        1 => (ws, few).prop_map(|(a, b)| Try::RemoveMember(a, b)),
    ]
}

const NAMES: [&str; 5] = ["root", "alice", "Bob", "ci", "eve"];
const WORKSPACES: [&str; 4] = ["default", "team", "secret", "x-1"];
const ROLES: [Role; 3] = [Role::Admin, Role::User, Role::Viewer];

fn attempt(accounts: &Accounts, attempt: &Try, now: EpochMs) -> Edits {
    let name = |i: u8| NAMES[usize::from(i)];
    let workspace = |i: u8| WORKSPACES[usize::from(i)];
    let role = |i: u8| ROLES[usize::from(i)];
    let token_id = |i: u8| {
        let count = accounts.tokens().len().max(1);
        accounts
            .tokens()
            .nth(usize::from(i) % count)
            .map_or_else(|| "000000000000".into(), |token| token.id.clone())
    };
    match *attempt {
        Try::AddUser(i, r, service, with) => accounts.add_user(
            NewUser {
                name: name(i).to_owned(),
                role: role(r),
                password: with.then(|| password('a')),
                service,
            },
            now,
        ),
        Try::SetRole(i, r) => accounts.set_role(name(i), role(r)),
        Try::SetPassword(i, other) => {
            accounts.set_password(name(i), password(if other { 'b' } else { 'a' }), now)
        }
        Try::Disable(i) => accounts.disable_user(name(i)),
        Try::Enable(i) => accounts.enable_user(name(i)),
        Try::Remove(i) => accounts.remove_user(name(i)),
        Try::AddIdentity(i, id) => accounts.add_identity(name(i), &format!("id{id}")),
        Try::RemoveIdentity(i, id) => accounts.remove_identity(name(i), &format!("id{id}")),
        Try::CreateToken(i, n, scope, ends) => accounts
            .create_token(
                name(i),
                &token(
                    &format!("token {n}"),
                    Scope::ALL[usize::from(scope)],
                    ends.map(|ends| EpochMs(now.0 + i64::from(ends))),
                ),
                now,
            )
            .map(|issued| issued.edits),
        Try::Rotate(i, overlap) => accounts
            .rotate_token(&token_id(i), Duration::from_secs(overlap.into()), now)
            .map(|issued| issued.edits),
        Try::Revoke(i) => accounts.revoke_token(&token_id(i)),
        Try::Use(i) => Ok(accounts.use_token(&token_id(i), now).into_iter().collect()),
        Try::Prune => Ok(accounts.prune_tokens(now)),
        Try::AddWorkspace(i, private) => accounts.add_workspace(workspace(i), private),
        Try::RemoveWorkspace(i) => accounts.remove_workspace(workspace(i)),
        Try::SetPrivate(i, private) => accounts.set_private(workspace(i), private),
        Try::AddMember(w, i) => accounts.add_member(workspace(w), name(i)),
        Try::RemoveMember(w, i) => accounts.remove_member(workspace(w), name(i)),
    }
}

fn check(accounts: &Accounts) {
    assert!(accounts.users().any(User::holds_the_keys));
    let names: BTreeMap<String, Text> = accounts
        .users
        .values()
        .map(|user| (user.name.to_lowercase(), user.id.clone()))
        .collect();
    assert_eq!(accounts.names, names);
    assert_eq!(accounts.names.len(), accounts.users.len());
    let identities: Vec<(Text, Text)> = accounts
        .users
        .values()
        .flat_map(|user| {
            let own = user.identities.iter();
            own.map(|identity| (identity.clone(), user.id.clone()))
        })
        .collect();
    assert_eq!(accounts.identities.len(), identities.len());
    assert_eq!(accounts.identities, identities.into_iter().collect());
    for user in accounts.users.values() {
        assert!(!(user.service && user.password.is_some()));
        assert_eq!(accounts.find_user(&user.name).unwrap(), user);
        assert_eq!(accounts.find_user(&user.id).unwrap(), user);
    }
    let mut named = BTreeSet::new();
    for (id, token) in &accounts.tokens {
        assert_eq!(id, &token.id);
        assert!(accounts.users.contains_key(&token.user));
        assert!(named.insert((token.user.clone(), token.name.clone())));
    }
    for (name, workspace) in &accounts.workspaces {
        assert_eq!(name, &workspace.name);
        let mut members = workspace.members.iter();
        assert!(members.all(|member| accounts.users.contains_key(member)));
    }
    assert!(!accounts.find_workspace("default").unwrap().private);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_is_tried_the_accounts_stay_whole_and_the_database_says_the_same(
        tried in prop::collection::vec((tries(), 0..40_u8), 1..60),
    ) {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("PRAGMA foreign_keys = ON").unwrap();
        connection.execute_batch(rows::SCHEMA).unwrap();
        let mut accounts = rows::load(&connection).unwrap();
        prop_assert_eq!(&accounts, &Accounts::default());
        let first = accounts.add_user(person("root", Role::Admin), NOW).unwrap();
        rows::write(&connection, &first).unwrap();
        accounts.perform(&first);
        let mut now = NOW;
        for (attempted, days) in tried {
            now = EpochMs(now.0 + i64::from(days) * 24 * HOUR + 1);
            match attempt(&accounts, &attempted, now) {
                Ok(edits) => {
                    let transaction = connection.transaction().unwrap();
                    rows::write(&transaction, &edits).unwrap();
                    transaction.commit().unwrap();
                    accounts.perform(&edits);
                }
                Err(problem) => prop_assert!(matches!(
                    (&*problem.code, problem.status),
                    ("not_found", 404)
                        | ("conflict" | "last_administrator", 409)
                        | ("invalid_account", 422)
                ), "{:?}: {:?}", attempted, problem),
            }
            check(&accounts);
            prop_assert_eq!(&rows::load(&connection).unwrap(), &accounts, "{:?}", attempted);
        }
    }
}
