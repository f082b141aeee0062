//! The box that asks who one is: when it opens, what it sends, and what it never shows.

mod sample;

use std::time::Duration;

use sample::{NOW, empty, feed, live, press, rows, screen, type_in};
use skytower::app::{Effect, Field, Model, Msg, Overlay, SignIn, Stage, settle, update};
use skytower_api_client::credentials::{Credentials, Secret};
use skytower_api_client::feed::{FeedEvent, Link};
use skytower_api_client::policy::Rules;
use skytower_api_client::rest::ClientError;
use skytower_api_client::wire::{Problem, Role};
use skytower_api_client::{EpochMs, Text};

const SIZES: [(u16, u16); 2] = [(80, 24), (160, 45)];
const PASSWORD: &str = "hunter2.very.secret";

fn check(name: &str, make: impl Fn((u16, u16)) -> Model) {
    for size in SIZES {
        let mut model = make(size);
        insta::assert_snapshot!(format!("{name}-{}x{}", size.0, size.1), screen(&mut model));
    }
}

fn refuse(model: &mut Model, detail: &str) {
    let problem = Problem::new("not_signed_in", 401, detail);
    feed(model, FeedEvent::Link(Link::Refused(problem)));
}

fn connect(model: &mut Model) {
    let link = Link::Live {
        round_trip: None,
        clock_offset_ms: 0,
    };
    feed(model, FeedEvent::Link(link));
}

/// A dashboard of a team's server, whose token was revoked.
fn signed_out(size: (u16, u16)) -> Model {
    let mut model = live(size, rows());
    model.options.signs_in = true;
    refuse(&mut model, "your token was revoked");
    model
}

/// One that was never let in.
fn outside(size: (u16, u16)) -> Model {
    let mut model = empty(size);
    model.options.signs_in = true;
    refuse(&mut model, "http://sky.example:46580 asks for credentials");
    model
}

fn paste(model: &mut Model, text: &str) {
    update(model, NOW, Msg::Paste(Secret::new(text)));
}

fn answer(model: &mut Model, number: u64, answer: Result<Text, ClientError>) {
    update(model, NOW, Msg::SignedIn(number, Box::new(answer)));
}

fn not_known() -> ClientError {
    ClientError::NotSignedIn {
        url: "http://sky.example:46580".into(),
        detail: "no".into(),
    }
}

fn sign_in(model: &Model) -> Option<&SignIn> {
    model.overlays.iter().find_map(|overlay| match overlay {
        Overlay::SignIn(sign_in) => Some(&**sign_in),
        _ => None,
    })
}

/// What was sent, and under which number.
fn sent(effects: Vec<Effect>) -> (u64, Credentials) {
    match <[Effect; 1]>::try_from(effects) {
        Ok(
            [
                Effect::SignIn {
                    number,
                    credentials,
                },
            ],
        ) => (number, credentials),
        other => panic!("not one question: {other:?}"),
    }
}

#[test]
fn it_looks_like_this() {
    check("signed-out", signed_out);
    check("sign-in-empty", outside);
    check("sign-in-wrong", |size| {
        let mut model = signed_out(size);
        paste(&mut model, PASSWORD);
        let (number, _) = sent(press(&mut model, "enter"));
        answer(&mut model, number, Err(not_known()));
        model
    });
    check("sign-in-checking", |size| {
        let mut model = signed_out(size);
        paste(&mut model, PASSWORD);
        press(&mut model, "enter");
        model
    });
    check("sign-in-wait", |size| {
        let mut model = signed_out(size);
        press(&mut model, "tab");
        paste(&mut model, "st_a_b");
        let (number, _) = sent(press(&mut model, "enter"));
        let error = ClientError::TooMany {
            detail: "too many attempts".into(),
            wait: Some(Duration::from_secs(90)),
        };
        answer(&mut model, number, Err(error));
        model
    });
    check("sign-in-dismissed", |size| {
        let mut model = signed_out(size);
        press(&mut model, "esc");
        model
    });
    check("viewer", |size| {
        let mut model = live(size, rows());
        model.you.role = Role::Viewer;
        press(&mut model, "2 x");
        model
    });
    check("read-only", |size| {
        let mut model = live(size, rows());
        model.you.rules.read_only = true;
        press(&mut model, "2 ctrl-d");
        model
    });
}

#[test]
fn it_opens_once_for_each_refusal() {
    let mut model = signed_out((80, 24));
    assert!(sign_in(&model).is_some());
    press(&mut model, "esc");
    assert!(sign_in(&model).is_none());
    // The feed looks again by itself, and is refused again.
    refuse(&mut model, "your token was revoked");
    feed(&mut model, FeedEvent::Link(Link::Connecting { attempt: 2 }));
    refuse(&mut model, "your token was revoked");
    assert!(sign_in(&model).is_none());
    press(&mut model, "ctrl-l");
    assert!(sign_in(&model).is_some());
    // Somebody gave the rights back: there is nothing to ask.
    connect(&mut model);
    assert!(sign_in(&model).is_none());
    press(&mut model, "ctrl-l");
    assert!(sign_in(&model).is_none());
    let said = model.message.as_ref().map(|message| message.text.as_str());
    assert_eq!(said, Some("you are signed in as alice"));
    refuse(&mut model, "your account is disabled");
    assert_eq!(sign_in(&model).unwrap().reason, "your account is disabled");
}

#[test]
fn it_opens_for_credentials_only_and_not_at_the_own_server() {
    let mut model = signed_out((80, 24));
    model.overlays.clear();
    model.asked_who = None;
    let problem = Problem::new("forbidden", 403, "not from here");
    feed(&mut model, FeedEvent::Link(Link::Refused(problem)));
    assert!(sign_in(&model).is_none());
    model.options.signs_in = false;
    refuse(&mut model, "another token");
    press(&mut model, "ctrl-l");
    assert!(sign_in(&model).is_none());
}

#[test]
fn the_palette_opens_it_too() {
    let mut model = signed_out((80, 24));
    press(&mut model, "esc :");
    type_in(&mut model, "sign");
    press(&mut model, "enter");
    assert!(sign_in(&model).is_some(), "{}", screen(&mut model));
}

#[test]
fn a_user_and_a_password_are_sent_and_a_wrong_one_keeps_the_user() {
    let mut model = outside((80, 24));
    assert_eq!(sign_in(&model).unwrap().field, Field::User);
    type_in(&mut model, "al");
    // Without a password there is nothing to send yet.
    assert!(press(&mut model, "enter").is_empty());
    assert_eq!(sign_in(&model).unwrap().field, Field::Password);
    type_in(&mut model, "wrong");
    press(&mut model, "ctrl-u");
    paste(&mut model, PASSWORD);
    press(&mut model, "backspace");
    type_in(&mut model, "t");
    let (number, credentials) = sent(press(&mut model, "enter"));
    let expected = Credentials::Basic {
        user: "al".to_owned(),
        password: Secret::new(PASSWORD),
    };
    assert_eq!(credentials, expected);
    // While the server is asked nothing else is typed or sent.
    type_in(&mut model, "x");
    assert!(press(&mut model, "enter tab").is_empty());
    assert_eq!(settle(&mut model), Some(120), "it turns");
    answer(&mut model, number, Err(not_known()));
    let it = sign_in(&model).unwrap();
    assert!(matches!(&it.stage, Stage::Wrong(why) if why.contains("does not take these")));
    assert_eq!(
        (it.shown(Field::User, '*').as_str(), it.field),
        ("al", Field::Password)
    );
    assert_eq!(it.shown(Field::Password, '*'), "");
    // The next one is right.
    type_in(&mut model, "é日");
    assert_eq!(sign_in(&model).unwrap().shown(Field::Password, '*'), "**");
    let (number, _) = sent(press(&mut model, "enter"));
    answer(&mut model, number, Ok("signed in".into()));
    assert!(sign_in(&model).is_none());
    refuse(&mut model, "and revoked at once");
    assert!(
        sign_in(&model).is_some(),
        "a refusal from then on is another one"
    );
}

#[test]
fn tab_goes_to_a_token_and_round() {
    let mut model = signed_out((80, 24));
    assert_eq!(
        sign_in(&model).unwrap().field,
        Field::Password,
        "alice is known"
    );
    press(&mut model, "tab");
    assert!(press(&mut model, "enter").is_empty(), "there is none");
    paste(&mut model, " st_a_b\n");
    let (_, credentials) = sent(press(&mut model, "enter"));
    assert_eq!(credentials, Credentials::Bearer(Secret::new("st_a_b")));
    let mut model = signed_out((80, 24));
    press(&mut model, "tab tab shift-tab up up");
    assert_eq!(sign_in(&model).unwrap().field, Field::User);
}

#[test]
fn what_is_pasted_is_sent_as_it_is() {
    let mut model = signed_out((80, 24));
    // A password may hold anything but the end of its line; a token of SkyPilot's is long.
    paste(&mut model, "\u{202e}a b\t\u{1b}[ \r\n");
    assert!(screen(&mut model).contains("••••••••"));
    let (_, credentials) = sent(press(&mut model, "enter"));
    let Credentials::Basic { password, .. } = credentials else {
        panic!("no password was sent");
    };
    assert_eq!(password.expose(), "\u{202e}a b\t\u{1b}[ ");
    let mut model = signed_out((80, 24));
    press(&mut model, "tab");
    let token = format!("sky_{}", "x".repeat(2000));
    paste(&mut model, &token);
    paste(&mut model, &"y".repeat(100_000));
    let (_, credentials) = sent(press(&mut model, "enter"));
    assert_eq!(credentials, Credentials::Bearer(Secret::new(token)));
    // A name is shown: nothing in it reaches the terminal as it is.
    let mut model = outside((80, 24));
    paste(&mut model, "al\u{1b}[31m");
    assert!(!screen(&mut model).contains('\u{1b}'));
}

#[test]
fn an_answer_to_a_box_that_was_closed_opens_nothing() {
    let mut model = signed_out((80, 24));
    type_in(&mut model, "one");
    let (first, _) = sent(press(&mut model, "enter"));
    press(&mut model, "esc ctrl-l");
    type_in(&mut model, "two");
    let (second, _) = sent(press(&mut model, "enter"));
    assert_ne!(first, second);
    answer(&mut model, first, Err(not_known()));
    assert_eq!(sign_in(&model).unwrap().stage, Stage::Checking(second));
    press(&mut model, "esc");
    answer(&mut model, second, Err(not_known()));
    assert!(sign_in(&model).is_none());
}

#[test]
fn who_has_to_wait_is_told_how_long_and_sends_nothing_before() {
    let mut model = signed_out((80, 24));
    type_in(&mut model, "one");
    let (number, _) = sent(press(&mut model, "enter"));
    let error = ClientError::TooMany {
        detail: "too many attempts".into(),
        wait: Some(Duration::from_secs(30)),
    };
    answer(&mut model, number, Err(error));
    type_in(&mut model, "two");
    assert!(press(&mut model, "enter").is_empty());
    assert!(screen(&mut model).contains("asked again in 30s"));
    let later = EpochMs(NOW.0 + 29_001);
    update(&mut model, later, Msg::Tick);
    assert!(screen(&mut model).contains("asked again in 1s"));
    let then = EpochMs(NOW.0 + 30_000);
    let effects = update(&mut model, then, Msg::Key("enter".parse().unwrap()));
    sent(effects);
}

#[test]
fn no_secret_can_be_printed_or_seen() {
    let mut model = signed_out((80, 24));
    let pasted = Msg::Paste(Secret::new(PASSWORD));
    assert!(!format!("{pasted:?}").contains(PASSWORD));
    update(&mut model, NOW, pasted);
    press(&mut model, "tab");
    paste(&mut model, PASSWORD);
    for _ in 0..2 {
        assert!(!format!("{model:?}").contains(PASSWORD));
        assert!(!screen(&mut model).contains(PASSWORD));
        let effects = press(&mut model, "enter");
        assert!(!format!("{effects:?}").contains(PASSWORD));
    }
}

#[test]
fn who_may_only_look_is_told_why_wherever_it_asks() {
    type Make = fn(&mut Model);
    let reasons: [(Make, &str); 4] = [
        (|model| model.you.role = Role::Viewer, "your role is viewer"),
        (
            |model| {
                model.you.rules = Rules {
                    read_only: true,
                    ..Rules::default()
                }
            },
            "this server is read-only",
        ),
        (
            |model| model.you.acts_at = Some(Vec::new()),
            "`prod` does not know",
        ),
        (
            |model| {
                model.you.role = Role::Viewer;
                model.you.limited = Some("your token is for looking only".into());
            },
            "your token is for looking only",
        ),
    ];
    for (make, reason) in reasons {
        let with = |keys: &str| {
            let mut model = live((200, 45), rows());
            make(&mut model);
            let effects = press(&mut model, keys);
            assert!(
                effects
                    .iter()
                    .all(|it| !matches!(it, Effect::Create { .. }))
            );
            screen(&mut model)
        };
        for keys in ["2 ctrl-d", "2 x", "2 ?", "2 space space ctrl-d"] {
            let shown = with(keys);
            assert!(shown.contains(reason), "{keys}:\n{shown}");
        }
        let footer = with("2");
        assert!(
            !footer.lines().last().unwrap().contains("cancel"),
            "{footer}"
        );
    }
}

#[test]
fn a_client_that_is_told_so_only_looks() {
    let mut model = empty((160, 45));
    model.options.read_only = true;
    let mut model = sample::fill(model, rows());
    let effects = press(&mut model, "2 ctrl-d");
    assert!(
        effects
            .iter()
            .all(|it| !matches!(it, Effect::Create { .. }))
    );
    let shown = screen(&mut model);
    assert!(shown.contains("this skytower is read-only"), "{shown}");
    assert!(shown.contains("alice (read-only)"), "{shown}");
}
