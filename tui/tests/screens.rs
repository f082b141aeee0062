//! Every screen and state, as it looks at two sizes.

mod sample;

use ratatui::buffer::Buffer;
use ratatui::style::{Color, Modifier, Style};
use sample::{
    NOW, administered, cells, cursor, empty, feed, live, press, rows, screen, type_in, write_log,
};
use skytower::app::{Effect, LogEvent, Model, Mouse, Msg, Page, Scope, update};
use skytower::term::Screen;
use skytower_api_client::feed::{FeedEvent, Link};
use skytower_api_client::log::note;
use skytower_api_client::rest::ClientError;
use skytower_api_client::text::is_hostile;
use skytower_api_client::wire::Problem;
use skytower_api_client::{EpochMs, Kind};

const SIZES: [(u16, u16); 2] = [(80, 24), (160, 45)];

fn check(name: &str, make: impl Fn((u16, u16)) -> Model) {
    for size in SIZES {
        let mut model = make(size);
        insta::assert_snapshot!(format!("{name}-{}x{}", size.0, size.1), screen(&mut model));
    }
}

fn lost() -> FeedEvent {
    FeedEvent::Link(Link::Lost {
        reason: "nothing listens at http://sky.example:46580".into(),
        since: EpochMs(NOW.0 - 47_000),
        retry_at: EpochMs(NOW.0 + 3000),
        attempt: 4,
    })
}

#[test]
fn tables() {
    for (key, name) in [
        ("1", "clusters"),
        ("2", "jobs"),
        ("3", "services"),
        ("4", "pools"),
        ("5", "infra"),
        ("6", "users"),
        ("7", "workspaces"),
        ("8", "requests"),
    ] {
        check(name, |size| {
            let mut model = live(size, rows());
            press(&mut model, key);
            model
        });
    }
}

#[test]
fn the_audit_is_for_administrators() {
    let all = || {
        rows()
            .into_iter()
            .chain(sample::audit())
            .collect::<Vec<_>>()
    };
    check("audit", |size| {
        let mut model = administered(size, all());
        press(&mut model, "9");
        model
    });
    check("audit-detail", |size| {
        let mut model = administered(size, all());
        press(&mut model, "9 enter");
        model
    });
    check("audit-empty", |size| {
        let mut model = administered(size, rows());
        press(&mut model, "9");
        model
    });
    // For others there is no such screen: not by its key, not behind the last tab, not by its name.
    let mut model = live(SIZES[1], rows());
    press(&mut model, "8 9");
    assert_eq!(model.page, Page::List(Kind::Request));
    press(&mut model, "tab");
    assert_eq!(model.page, Page::List(Kind::Cluster));
    press(&mut model, ":");
    let offered = screen(&mut model).to_lowercase();
    assert!(offered.contains("requests") && !offered.contains("audit"));
    // Whoever was an administrator until now is told.
    let mut model = administered(SIZES[0], rows());
    press(&mut model, "9");
    model.you.role = skytower_api_client::wire::Role::User;
    assert!(screen(&mut model).contains("The audit is for administrators"));
}

/// The same organisation, with the local engine beside it.
fn mixed() -> Vec<std::sync::Arc<skytower_api_client::Entity>> {
    let mut all = rows();
    all.extend(sample::local());
    all
}

#[test]
fn several_sources() {
    for (key, name) in [
        ("1", "mixed-clusters"),
        ("2", "mixed-jobs"),
        ("3", "mixed-services"),
    ] {
        check(name, |size| {
            let mut model = live(size, mixed());
            press(&mut model, key);
            model
        });
    }
}

#[test]
fn trees() {
    check("jobs-unfolded", |size| {
        let mut model = live(size, rows());
        press(&mut model, "2 Z");
        model
    });
    check("services-unfolded", |size| {
        let mut model = live(size, rows());
        press(&mut model, "3 z");
        model
    });
}

#[test]
fn details() {
    check("cluster-detail", |size| {
        let mut model = live(size, rows());
        press(&mut model, "1 enter");
        model
    });
    check("job-detail", |size| {
        let mut model = live(size, rows());
        press(&mut model, "2 down enter");
        write_log(
            &mut model,
            "step 1 loss 0.9\nstep 2 loss 0.8\nERROR: out of memory\n",
        );
        model
    });
    check("service-detail", |size| {
        let mut model = live(size, rows());
        press(&mut model, "3 enter");
        model
    });
    check("request-detail", |size| {
        let mut model = live(size, rows());
        press(&mut model, "8 enter");
        model
    });
}

#[test]
fn logs() {
    check("log-search", |size| {
        let mut model = live(size, rows());
        press(&mut model, "2 l");
        let lines: Vec<String> = (0..100)
            .map(|i| format!("step {i} loss {}\n", 100 - i))
            .collect();
        write_log(&mut model, &lines.concat());
        press(&mut model, "/");
        type_in(&mut model, "step 4");
        press(&mut model, "enter");
        model
    });
}

/// A log as machines write them: colours, a progress bar, a word of the server's, wide letters.
fn training() -> String {
    let mut log = note("waits for a node (2 of 4 ready)");
    log += "\u{1b}[36m(head, rank=0)\u{1b}[0m step 1 \u{1b}[1;32mloss 0.91\u{1b}[0m\n";
    log += "10% |#         |\r40% |####      |\r80% |########  |\n";
    log += "学習率を下げています、しばらくお待ちください。学習率を下げています、しばらくお待ちください。終\n";
    log += "\u{1b}[38;5;208mWARNING\u{1b}[0m a long line that goes on and on, over the edge of a narrow terminal, until its end\n";
    log += "Traceback (most recent call last):\n";
    log += "  File \"train.py\", line 3, in <module>\n";
    log += "\u{1b}[1;31mValueError\u{1b}[0m: loss is nan\n";
    log
}

fn reading(size: (u16, u16), text: &str) -> Model {
    let mut model = live(size, rows());
    press(&mut model, "2 l");
    write_log(&mut model, text);
    model
}

#[test]
fn logs_with_everything_in_them() {
    check("log", |size| reading(size, &training()));
    check("log-wrapped", |size| {
        let mut model = reading(size, &training());
        press(&mut model, "w");
        model
    });
    check("log-ascii", |size| {
        let mut model = reading(size, &training());
        model.options.theme.ascii = true;
        model
    });
    check("detail-search", |size| {
        let mut model = live(size, rows());
        press(&mut model, "2 enter");
        write_log(&mut model, &training());
        press(&mut model, "/");
        type_in(&mut model, "loss");
        model
    });
    check("detail-searched", |size| {
        let mut model = live(size, rows());
        press(&mut model, "2 enter");
        write_log(&mut model, &training());
        press(&mut model, "/");
        type_in(&mut model, "loss");
        press(&mut model, "enter");
        model
    });
    check("log-side", |size| {
        let mut model = reading(size, &training());
        press(&mut model, "right");
        model
    });
    check("log-only-matches", |size| {
        let mut model = reading(size, &training());
        press(&mut model, "/");
        type_in(&mut model, "~loss (0|is)");
        press(&mut model, "enter &");
        model
    });
    check("log-no-regex", |size| {
        let mut model = reading(size, &training());
        press(&mut model, "/");
        type_in(&mut model, "~(head");
        press(&mut model, "enter");
        model
    });
    check("log-broken-off", |size| {
        let mut model = reading(size, &training());
        let id = model.log.as_ref().map_or(0, |log| log.id);
        let error = ClientError::Problem(Problem::new("gone", 502, "SkyPilot went away"));
        update(&mut model, NOW, Msg::Log(id, LogEvent::Failed(error)));
        model
    });
    check("log-saved", |size| {
        let mut model = reading(size, &training());
        let effects = press(&mut model, "ctrl-s");
        let [Effect::Save { name, text }] = effects.as_slice() else {
            panic!("{effects:?}");
        };
        assert_eq!(name, "prod-job-88412-0-2026-11-24-060000.log");
        assert_eq!(text.lines().count(), 8);
        assert!(!text.contains('\u{1b}'));
        let said = format!("saved 8 lines to /home/alice/{name}");
        update(&mut model, NOW, Msg::Said(Ok(said.into())));
        model
    });
}

/// The style of the first cell of `word` on the screen.
fn style_of(frame: &Buffer, word: &str) -> Style {
    let area = frame.area;
    for y in 0..area.height {
        let line: String = (0..area.width).map(|x| frame[(x, y)].symbol()).collect();
        if let Some(at) = line.find(word) {
            let x = line[..at].chars().count() as u16;
            return frame[(x, y)].style();
        }
    }
    panic!("{word} is not on the screen");
}

#[test]
fn a_log_keeps_its_colours_as_far_as_they_can_be_read() {
    let mut model = reading((100, 24), &training());
    let frame = cells(&mut model);
    assert_eq!(style_of(&frame, "(head").fg, Some(Color::Cyan));
    let loss = style_of(&frame, "loss 0.91");
    assert_eq!(loss.fg, Some(Color::Green));
    assert!(loss.add_modifier.contains(Modifier::BOLD));
    assert_eq!(style_of(&frame, "step 1").fg, Some(Color::Reset));
    // Orange is too bright for white paper: the same hue, darker.
    assert!(matches!(
        style_of(&frame, "WARNING").fg,
        Some(Color::Rgb(r, g, 0)) if r > 150 && g < 135
    ));
    // What a program did not colour is red when it looks like an error.
    assert_eq!(style_of(&frame, "Traceback").fg, Some(Color::Red));
    let note = style_of(&frame, "waits for");
    assert!(note.add_modifier.contains(Modifier::ITALIC | Modifier::DIM));
    model.options.theme.mono = true;
    let frame = cells(&mut model);
    for y in 3..21 {
        for x in 0..100 {
            assert_eq!(frame[(x, y)].fg, Color::Reset, "{x} {y}");
        }
    }
    assert!(
        style_of(&frame, "loss 0.91")
            .add_modifier
            .contains(Modifier::BOLD)
    );
}

#[test]
fn the_match_is_marked_and_nothing_else() {
    let mut model = reading((80, 24), &training());
    press(&mut model, "/");
    type_in(&mut model, "loss 0");
    let frame = cells(&mut model);
    let turned = |word| {
        style_of(&frame, word)
            .add_modifier
            .contains(Modifier::REVERSED)
    };
    assert!(turned("loss 0.91") && turned("oss 0.91") && turned("0.91"));
    assert!(!turned(".91") && !turned("step 1") && !turned("loss is nan"));
    // Capitals count when there are some.
    press(&mut model, "ctrl-u");
    type_in(&mut model, "Loss");
    assert!(
        !style_of(&cells(&mut model), "loss 0.91")
            .add_modifier
            .contains(Modifier::REVERSED)
    );
}

#[test]
fn nothing_hostile_in_a_log_reaches_the_terminal() {
    let hostile = "a\u{1b}]0;owned\u{7}b\u{1b}]52;c;ZXZpbA==\u{1b}\\c\u{1b}[2Jd\u{1b}[?1049he\u{1b}[8mf\n\
         \u{9b}31mg\u{90}q\u{9c}h\u{202e}i\u{2066}j\u{200b}k\u{0}l\u{8}m\u{7f}n\u{feff}\u{2028}o\n\
         \u{1b}[38;2;999;1;1mp\u{1b}[38;5;\u{1b}[31\nq\u{1b}[38:2::1:2:3mr\tu\r\u{1b}[Av\n";
    for keys in ["2 l", "2 enter", "2 l w"] {
        let mut model = live((80, 24), rows());
        press(&mut model, keys);
        for piece in hostile.split_inclusive(|c: char| c.is_ascii_alphabetic()) {
            write_log(&mut model, piece);
        }
        press(&mut model, "/");
        type_in(&mut model, "d");
        let frame = cells(&mut model);
        for cell in frame.content() {
            assert!(
                !cell.symbol().chars().any(is_hostile),
                "{:?}",
                cell.symbol()
            );
        }
        let mut out = Screen::new(Vec::new());
        out.show(frame, None).unwrap();
        press(&mut model, "esc");
        let copied = press(&mut model, "c ctrl-s");
        for effect in copied {
            if let Effect::Copy(text) | Effect::Save { text, .. } = effect {
                assert!(
                    !text.chars().any(|c| is_hostile(c) && c != '\n'),
                    "{text:?}"
                );
            }
        }
    }
}

#[test]
fn completion() {
    check("complete-field", |size| {
        let mut model = live(size, rows());
        press(&mut model, "2 /");
        type_in(&mut model, "wo");
        press(&mut model, "tab");
        model
    });
    check("complete-fields", |size| {
        let mut model = live(size, rows());
        press(&mut model, "2 / tab tab tab");
        model
    });
    check("complete-value", |size| {
        let mut model = live(size, rows());
        press(&mut model, "2 /");
        type_in(&mut model, "gpus>=1 status:");
        press(&mut model, "tab tab");
        model
    });
}

#[test]
fn tab_goes_round_and_escape_goes_back() {
    let mut model = live((80, 24), rows());
    press(&mut model, "2 /");
    type_in(&mut model, "owner:");
    let filter = |model: &Model| model.list().map(|list| list.filter.clone());
    press(&mut model, "tab");
    assert_eq!(filter(&model).as_deref(), Some("owner:@me"));
    press(&mut model, "tab");
    assert_eq!(filter(&model).as_deref(), Some("owner:alice"));
    press(&mut model, "shift-tab shift-tab");
    assert_eq!(filter(&model).as_deref(), Some("owner:gina"));
    press(&mut model, "esc");
    assert_eq!(filter(&model).as_deref(), Some("owner:"));
    // Within a word only that word is completed.
    press(&mut model, "ctrl-u");
    type_in(&mut model, "wo x");
    press(&mut model, "left left tab");
    assert_eq!(filter(&model).as_deref(), Some("workspace: x"));
}

#[test]
fn the_filter_line_is_edited_at_its_cursor() {
    let mut model = live((80, 24), rows());
    press(&mut model, "2 /");
    let start = cursor(&mut model).unwrap();
    type_in(&mut model, "eval");
    press(&mut model, "home delete");
    assert_eq!(model.list().unwrap().filter, "val");
    assert_eq!(cursor(&mut model), Some(start));
    press(&mut model, "right");
    assert_eq!(cursor(&mut model), Some(start + 1));
    // A filter longer than its room shows where one types.
    press(&mut model, "ctrl-u end ctrl-u");
    type_in(&mut model, &"mmlu or ".repeat(12));
    let end = cursor(&mut model).unwrap();
    assert!(end < 80, "{end}");
    assert!(screen(&mut model).contains("mmlu or "));
    press(&mut model, "home");
    assert_eq!(cursor(&mut model), Some(start));
}

#[test]
fn earlier_filters_come_back_in_an_empty_line() {
    let mut model = live((80, 24), rows());
    press(&mut model, "2 /");
    type_in(&mut model, "mmlu");
    press(&mut model, "enter / ctrl-u");
    type_in(&mut model, "sweep");
    press(&mut model, "enter / ctrl-u up");
    assert_eq!(model.list().unwrap().filter, "sweep");
    press(&mut model, "up");
    assert_eq!(model.list().unwrap().filter, "mmlu");
    press(&mut model, "up down down");
    assert_eq!(model.list().unwrap().filter, "");
}

/// Where a text is on the screen.
fn place(model: &mut Model, text: &str) -> (u16, u16) {
    let screen = screen(model);
    let found = screen.lines().zip(0..).find_map(|(line, y)| {
        let at = line.find(text)?;
        Some((skytower::text::width(&line[..at]) as u16, y))
    });
    found.unwrap_or_else(|| panic!("{text} is not on the screen:\n{screen}"))
}

fn click(model: &mut Model, text: &str) -> Vec<Effect> {
    let (x, y) = place(model, text);
    update(model, NOW, Msg::Mouse(Mouse::Click(x, y)))
}

#[test]
fn dialogs_are_clicked() {
    for size in SIZES {
        let mut model = live(size, rows());
        press(&mut model, "2 @");
        click(&mut model, "1 cluster, 1 job");
        assert!(model.overlays.is_empty());
        assert!(matches!(&model.scope, Scope::Owner(owner) if &*owner.name == "carol"));
        press(&mut model, "0 x");
        update(&mut model, NOW, Msg::Mouse(Mouse::Click(0, 0)));
        assert!(model.overlays.is_empty());
        // Other people's jobs: the button needs the number first.
        press(&mut model, "* ctrl-d");
        assert!(click(&mut model, "Cancel 6").is_empty());
        assert!(!model.overlays.is_empty());
        press(&mut model, "6");
        let effects = click(&mut model, "Cancel 6 ]");
        assert!(matches!(effects.as_slice(), [Effect::Create { .. }]));
        press(&mut model, "* ctrl-d");
        update(&mut model, NOW, Msg::Mouse(Mouse::Click(0, 0)));
        assert!(!model.overlays.is_empty());
        assert!(click(&mut model, "Keep").is_empty());
        assert!(model.overlays.is_empty());
    }
}

#[test]
fn states() {
    check("connecting", empty);
    check("first-run", |size| live(size, Vec::new()));
    check("never-reached", |size| {
        let mut model = empty(size);
        feed(&mut model, lost());
        model
    });
    check("disconnected", |size| {
        let mut model = live(size, rows());
        feed(&mut model, lost());
        model
    });
    check("refused", |size| {
        let mut model = empty(size);
        let problem = Problem::new(
            "unauthorized",
            401,
            "http://sky.example:46580 does not know you",
        )
        .hint("sign in: skytower api login -e http://sky.example:46580");
        feed(&mut model, FeedEvent::Link(Link::Refused(problem)));
        model
    });
    check("nothing-matches", |size| {
        let mut model = live(size, rows());
        press(&mut model, "2 o /");
        type_in(&mut model, "name:nope");
        press(&mut model, "enter");
        model
    });
    check("filter-error", |size| {
        let mut model = live(size, rows());
        press(&mut model, "2 /");
        type_in(&mut model, "colour:red");
        model
    });
    check("marks-hidden", |size| {
        let mut model = live(size, rows());
        press(&mut model, "2 space space space /");
        type_in(&mut model, "llama");
        press(&mut model, "enter");
        model
    });
}

#[test]
fn dialogs() {
    check("confirm-own", |size| {
        let mut model = live(size, rows());
        press(&mut model, "2 /");
        type_in(&mut model, "mmlu");
        press(&mut model, "enter ctrl-d");
        model
    });
    check("confirm-others", |size| {
        let mut model = live(size, rows());
        press(&mut model, "2 * ctrl-d");
        model
    });
    check("help", |size| {
        let mut model = live(size, rows());
        press(&mut model, "2 ?");
        model
    });
    check("menu", |size| {
        let mut model = live(size, rows());
        press(&mut model, "1 x");
        model
    });
    check("owners", |size| {
        let mut model = live(size, rows());
        press(&mut model, "2 @");
        model
    });
    check("command-line", |size| {
        let mut model = live(size, rows());
        press(&mut model, "2 :");
        type_in(&mut model, "cl");
        model
    });
}
