use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;
use skytower_api_client::EpochMs;
use skytower_api_client::wire::Role;

use super::phc::Cost;
use super::*;
use crate::accounts::model::{Accounts, NewUser, User};

/// Hashing as in earnest takes its time.
const CHEAP: Cost = Cost {
    memory: 64,
    passes: 1,
};

fn user(name: &str, password: Option<PasswordHash>) -> User {
    let new = NewUser {
        name: name.to_owned(),
        role: Role::User,
        password,
        service: false,
    };
    let mut accounts = Accounts::default();
    for edit in accounts.add_user(new, EpochMs(1)).unwrap() {
        accounts.apply(&edit);
    }
    accounts.find_user(name).unwrap().clone()
}

fn secret(text: &str) -> Secret {
    Secret::new(text)
}

#[test]
fn rules_are_told_with_what_to_do() {
    let check = |name: &str, text: &str| check_password(name, &secret(text));
    assert!(check("alice", "0123456789").is_ok());
    assert!(check("alice", &"é".repeat(10)).is_ok());
    assert!(check("alice", &"x".repeat(1024)).is_ok());
    for (name, text) in [
        ("alice", "012345678"),
        ("alice", ""),
        ("alice", &"é".repeat(9)),
        ("alice", &"x".repeat(1025)),
        ("alice.smith", "Alice.Smith"),
    ] {
        let problem = check(name, text).unwrap_err();
        assert_eq!((&*problem.code, problem.status), ("invalid_account", 422));
        assert!(problem.hint.is_some());
        assert!(text.is_empty() || !format!("{problem:?}").contains(text));
    }
}

#[test]
fn made_up_passwords_are_long_legible_and_different() {
    let mut seen = BTreeSet::new();
    let mut letters = BTreeSet::new();
    for _ in 0..200 {
        let made = generate_password().unwrap();
        let text = made.expose();
        let groups: Vec<&str> = text.split('-').collect();
        assert_eq!(
            groups.iter().map(|group| group.len()).collect::<Vec<_>>(),
            [5; 4]
        );
        letters.extend(text.bytes().filter(|b| *b != b'-'));
        check_password("root", &made).unwrap();
        assert!(seen.insert(text.to_owned()));
    }
    // All of them are in use, and they are enough for 95 bits.
    assert_eq!(letters, ALPHABET.iter().copied().collect());
    assert!((letters.len() as f64).log2() * 20.0 >= 95.0);
}

#[test]
fn the_present_cost_is_what_owasp_asks_for() {
    let salt = *b"somesaltsomesalt";
    let hash = PasswordHash::of("password", salt, Cost::PRESENT).unwrap();
    assert!(
        hash.expose()
            .starts_with("$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$"),
        "{}",
        hash.expose()
    );
    assert_eq!(PasswordHash::parse(hash.expose()), Some(hash.clone()));
    assert_eq!(format!("{hash:?}"), "<redacted>");
}

#[test]
fn a_hash_is_read_only_as_it_is_written() {
    let hash = PasswordHash::of("password", [7; 16], CHEAP).unwrap();
    let phc = hash.expose();
    assert!(PasswordHash::parse(phc).unwrap().is_of("password").unwrap());
    assert!(!hash.is_of("passwore").unwrap());
    for other in [
        phc.replace("argon2id", "argon2d"),
        phc.replace("v=19", "v=16"),
        phc.replace("m=64", "m=064"),
        phc.replace("m=64", "m=19457"),
        phc.replace("m=64", "m=1"),
        phc.replace("t=1", "t=0"),
        phc.replace("t=1", "t=17"),
        phc.replace("p=1", "p=2"),
        phc.replace("p=1$", "p=1$$"),
        phc[..phc.len() - 1].to_owned(),
        format!("{phc}="),
        format!("{phc} "),
        String::new(),
    ] {
        assert_eq!(PasswordHash::parse(&other), None, "{other}");
    }
}

proptest! {
    #[test]
    fn reading_garbage_fails_and_does_nothing_else(text in "(\\$argon2id\\$v=19\\$m=)?[0-9a-zA-Z$,=+/]{0,90}") {
        if let Some(hash) = PasswordHash::parse(&text) {
            prop_assert_eq!(hash.expose(), &text);
        }
    }
}

#[tokio::test]
async fn the_right_password_is_hashed_once_and_a_wrong_one_always() {
    let passwords = Passwords::with(CHEAP, 2).unwrap();
    let right = secret("correct horse");
    let alice = user("alice", Some(passwords.hash(&right).await.unwrap()));
    assert_eq!(passwords.argon2_runs(), 1);
    for _ in 0..5 {
        assert!(passwords.verify(Some(&alice), &right).await.unwrap());
    }
    assert_eq!(passwords.argon2_runs(), 2);
    for runs in 3..6 {
        let wrong = secret("correct hors");
        assert!(!passwords.verify(Some(&alice), &wrong).await.unwrap());
        assert_eq!(passwords.argon2_runs(), runs);
    }
    // Knowing alice's password is not knowing another's that is the same.
    let bob = user("bob", alice.password.clone());
    assert!(passwords.verify(Some(&bob), &right).await.unwrap());
    assert_eq!(passwords.argon2_runs(), 6);
}

#[tokio::test]
async fn a_new_password_makes_the_old_one_forgotten() {
    let passwords = Passwords::with(CHEAP, 2).unwrap();
    let (old, new) = (secret("correct horse"), secret("battery staple"));
    let before = user("alice", Some(passwords.hash(&old).await.unwrap()));
    assert!(passwords.verify(Some(&before), &old).await.unwrap());
    let after = User {
        password: Some(passwords.hash(&new).await.unwrap()),
        ..before.clone()
    };
    assert!(!passwords.verify(Some(&after), &old).await.unwrap());
    assert!(passwords.verify(Some(&after), &new).await.unwrap());
    // The same password again, but hashed anew: nothing is taken over.
    let again = User {
        password: Some(passwords.hash(&old).await.unwrap()),
        ..before
    };
    let runs = passwords.argon2_runs();
    assert!(passwords.verify(Some(&again), &old).await.unwrap());
    assert_eq!(passwords.argon2_runs(), runs + 1);
}

#[tokio::test]
async fn nobody_costs_as_much_as_somebody() {
    let passwords = Passwords::with(CHEAP, 2).unwrap();
    let right = secret("correct horse");
    let alice = user("alice", Some(passwords.hash(&right).await.unwrap()));
    assert!(passwords.verify(Some(&alice), &right).await.unwrap());
    let disabled = User {
        disabled: true,
        ..alice
    };
    let without = user("carol", None);
    for somebody in [None, Some(&without), Some(&disabled)] {
        let runs = passwords.argon2_runs();
        assert!(!passwords.verify(somebody, &right).await.unwrap());
        assert_eq!(passwords.argon2_runs(), runs + 1);
    }
}

#[tokio::test]
async fn a_flood_is_turned_away_and_the_memory_stays_bounded() {
    let passwords = Arc::new(Passwords::with(CHEAP, 2).unwrap());
    // All places at work are taken: what comes waits, and what would be too many is told so.
    let turns = passwords.turns();
    let held = turns.acquire_many(2).await.unwrap();
    let asked: Vec<_> = (0..500)
        .map(|_| {
            let passwords = passwords.clone();
            tokio::spawn(async move { passwords.verify(None, &secret("0123456789")).await })
        })
        .collect();
    // One thread: whoever was spawned before has been as far as it gets when this comes back.
    while passwords.free_seats() > 0 {
        tokio::task::yield_now().await;
    }
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(passwords.argon2_runs(), 0);
    drop(held);
    let (mut wrong, mut busy) = (0, 0);
    for asked in asked {
        match asked.await.unwrap() {
            Ok(right) => {
                assert!(!right);
                wrong += 1;
            }
            Err(problem) => {
                assert_eq!((&*problem.code, problem.status), ("busy", 503));
                assert!(problem.hint.is_some());
                busy += 1;
            }
        }
    }
    assert_eq!((wrong, busy), (66, 434));
    assert_eq!(passwords.argon2_runs(), 66);
}

#[tokio::test]
async fn who_goes_away_gives_its_place_back_only_when_the_work_is_done() {
    let passwords = Passwords::with(CHEAP, 1).unwrap();
    let (begun, go) = (
        Arc::new(tokio::sync::Notify::new()),
        std::sync::mpsc::channel::<()>(),
    );
    let (go, may_end) = go;
    let turn = passwords.turn().await.unwrap();
    let told = begun.clone();
    let mut work = Box::pin(passwords.work(turn, move || {
        told.notify_one();
        let _ = may_end.recv();
        Ok(())
    }));
    tokio::select! {
        _ = &mut work => panic!("the work cannot be done yet"),
        () = begun.notified() => {}
    }
    drop(work);
    assert_eq!(passwords.turns().available_permits(), 0);
    go.send(()).unwrap();
    // Comes back once the thread has let go, and not at all if it never does.
    let permit = passwords.turn().await.unwrap();
    drop(permit);
    // Who waits for a place and goes away leaves no trace.
    let held = passwords.turn().await.unwrap();
    let seats = passwords.free_seats();
    let mut waiting = Box::pin(passwords.turn());
    tokio::select! {
        biased;
        _ = &mut waiting => panic!("there is no place"),
        () = std::future::ready(()) => {}
    }
    assert_eq!(passwords.free_seats(), seats - 1);
    drop(waiting);
    assert_eq!(passwords.free_seats(), seats);
    drop(held);
}
