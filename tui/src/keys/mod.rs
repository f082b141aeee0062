//! The key table: what each key does where. Dispatch, footer, help and menu are made from it.
//!
//! The keys of actions are not here: they stand beside the action in
//! [`ACTIONS`](skytower_api_client::action::ACTIONS), and hold in [`Context::List`] and
//! [`Context::Detail`] for the row under the cursor.

mod chord;

use skytower_api_client::action::{ActionSpec, actions_of};
use skytower_api_client::kind::Kind;

pub use chord::{Chord, Code, UnknownChord};

/// Where a key is pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Context {
    /// A list of rows.
    List,
    /// The page of one thing.
    Detail,
    /// A log.
    Log,
    /// YAML, or another text.
    Text,
}

/// What a key does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Leave the program.
    Quit,
    /// Out of a filter, marks or a page, one at a time.
    Escape,
    /// Back; at the outermost page twice to quit.
    Close,
    /// The help page.
    Help,
    /// The command line.
    CommandLine,
    /// Type a filter, or a search in texts.
    Filter,
    /// Every action for what is under the cursor.
    Menu,
    /// Start something from a task file.
    New,
    /// Start the sample team.
    Demo,
    /// Say who one is, where the server refuses.
    SignIn,
    /// To the page before.
    HistoryBack,
    /// Forward again.
    HistoryForward,
    /// To the page visited last.
    HistoryLast,
    /// Ask the source to look again; reconnect when offline.
    Refresh,
    /// Stop the program for a while (`fg` continues).
    Suspend,
    /// To a screen, by its place in the row of tabs.
    Screen(u8),
    /// To the next screen or tab.
    NextTab,
    /// To the screen or tab before.
    PreviousTab,
    /// One row up.
    Up,
    /// One row down.
    Down,
    /// A page up.
    PageUp,
    /// A page down.
    PageDown,
    /// To the first row.
    Top,
    /// To the last row.
    Bottom,
    /// Open what is under the cursor.
    Open,
    /// Its YAML.
    Yaml,
    /// Its log.
    Logs,
    /// The log of its controller or launch.
    ControllerLogs,
    /// Fold or unfold tasks, replicas, workers.
    Fold,
    /// Fold or unfold all.
    FoldAll,
    /// Show or hide the preview.
    Preview,
    /// Mark the row, and go on to the next.
    Mark,
    /// Mark from the nearest mark to here.
    MarkRange,
    /// Mark all rows that are shown.
    MarkAll,
    /// Take all marks away.
    Unmark,
    /// Mine, my workspaces, everybody.
    Scope,
    /// Everybody.
    ScopeAll,
    /// Only the owner of this row, and back.
    ThisOwner,
    /// Pick an owner.
    PickOwner,
    /// Only what failed or limps, and back.
    Faults,
    /// Sort by the column to the left.
    SortLeft,
    /// Sort by the column to the right.
    SortRight,
    /// Sort the other way round.
    SortReverse,
    /// Copy the name or id.
    CopyName,
    /// Copy the `sky` command of the first action that is possible.
    CopyKey,
    /// To the next match.
    NextMatch,
    /// To the match before.
    PreviousMatch,
    /// Show only lines that match.
    OnlyMatches,
    /// To the next error.
    NextError,
    /// To the error before.
    PreviousError,
    /// Follow the end.
    Follow,
    /// Wrap long lines.
    Wrap,
    /// Save the text to a file.
    Save,
    /// Copy the lines on the screen.
    CopyText,
    /// Half a page up.
    HalfUp,
    /// Half a page down.
    HalfDown,
    /// Scroll to the left.
    Left,
    /// Scroll to the right.
    Right,
}

/// What a key is for: the columns of the help page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// Moving about.
    Move,
    /// Looking closer.
    See,
    /// Narrowing and sorting.
    Narrow,
    /// Marking.
    Select,
    /// Doing something to rows.
    Act,
    /// The program itself.
    Program,
}

impl Group {
    /// Every group, in the order of the help page.
    pub const ALL: &'static [Group] = &[
        Group::Act,
        Group::See,
        Group::Narrow,
        Group::Select,
        Group::Move,
        Group::Program,
    ];

    /// Its heading.
    pub const fn title(self) -> &'static str {
        match self {
            Group::Move => "MOVE",
            Group::See => "SEE",
            Group::Narrow => "NARROW AND SORT",
            Group::Select => "MARK",
            Group::Act => "ACT",
            Group::Program => "PROGRAM",
        }
    }
}

/// One line of the key table.
#[derive(Debug)]
pub struct Binding {
    /// The chords, in the notation of [`Chord`]; the first one is shown in hints.
    pub keys: &'static [&'static str],
    /// Where it holds.
    pub contexts: &'static [Context],
    /// What it does.
    pub command: Command,
    /// The word in the footer; none keeps it out of there.
    pub hint: Option<&'static str>,
    /// What it is for.
    pub group: Group,
    /// One sentence for help, ends with a full stop.
    pub help: &'static str,
}

const EVERYWHERE: &[Context] = &[Context::List, Context::Detail, Context::Log, Context::Text];
const ROWS: &[Context] = &[Context::List, Context::Detail];
const LIST: &[Context] = &[Context::List];
const TEXTS: &[Context] = &[Context::Log, Context::Text];
const LOG: &[Context] = &[Context::Log];

const fn bind(
    keys: &'static [&'static str],
    contexts: &'static [Context],
    command: Command,
    hint: Option<&'static str>,
    group: Group,
    help: &'static str,
) -> Binding {
    Binding {
        keys,
        contexts,
        command,
        hint,
        group,
        help,
    }
}

/// Every key that is not an action's. The order is the order in footer and help.
#[rustfmt::skip]
pub const BINDINGS: &[Binding] = &[
    // First in the footer, where it is possible at all.
    bind(&["ctrl-l"], EVERYWHERE, Command::SignIn, Some("sign in"), Group::Program, "Signs in, where the server does not take who you are."),
    bind(&["enter"], ROWS, Command::Open, Some("open"), Group::See, "Opens what is under the cursor."),
    bind(&["l"], ROWS, Command::Logs, Some("logs"), Group::See, "Shows its log and follows it."),
    bind(&["L"], ROWS, Command::ControllerLogs, None, Group::See, "Shows the log of its controller, or of its launch."),
    bind(&["y"], ROWS, Command::Yaml, None, Group::See, "Shows the YAML it was made from."),
    bind(&["z"], ROWS, Command::Fold, None, Group::See, "Folds or unfolds its tasks, replicas or workers."),
    bind(&["Z"], ROWS, Command::FoldAll, None, Group::See, "Folds or unfolds everything."),
    bind(&["i"], LIST, Command::Preview, None, Group::See, "Shows or hides the preview of the row (wide terminals)."),
    bind(&["n"], LOG, Command::NextMatch, Some("next"), Group::Move, "Goes to the next match of the search."),
    bind(&["N"], LOG, Command::PreviousMatch, None, Group::Move, "Goes to the match before."),
    bind(&["n"], &[Context::Text], Command::NextMatch, Some("next"), Group::Move, "Goes to the next match of the search."),
    bind(&["N"], &[Context::Text], Command::PreviousMatch, None, Group::Move, "Goes to the match before."),
    bind(&["&"], LOG, Command::OnlyMatches, Some("only matches"), Group::Narrow, "Shows only the lines that match the search, and all again."),
    bind(&["e"], LOG, Command::NextError, Some("error"), Group::Move, "Goes to the next line that looks like an error."),
    bind(&["E"], LOG, Command::PreviousError, None, Group::Move, "Goes to the error before."),
    bind(&["s"], LOG, Command::Follow, Some("follow"), Group::See, "Follows the end of the log, or stays where it is."),
    bind(&["w"], TEXTS, Command::Wrap, Some("wrap"), Group::See, "Wraps long lines, or cuts them."),
    bind(&["ctrl-s"], TEXTS, Command::Save, Some("save"), Group::See, "Saves the whole text to a file in the working folder."),
    bind(&["c"], TEXTS, Command::CopyText, Some("copy"), Group::See, "Copies the lines on the screen to the clipboard."),
    bind(&["x"], ROWS, Command::Menu, Some("menu"), Group::Act, "Shows every action for this row, and why one is not possible."),
    bind(&["n"], ROWS, Command::New, Some("new"), Group::Act, "Starts a task from a file: a cluster, a managed job, a service, or on what is there."),
    bind(&["d"], LIST, Command::Demo, Some("demo"), Group::Act, "Starts a small sample team of real processes, where nothing is there yet."),
    bind(&["space"], LIST, Command::Mark, Some("mark"), Group::Select, "Marks the row (or takes the mark away) and goes on to the next."),
    bind(&["v", "ctrl-space"], LIST, Command::MarkRange, None, Group::Select, "Marks everything from the nearest mark to here."),
    bind(&["*"], LIST, Command::MarkAll, None, Group::Select, "Marks every row that is shown."),
    bind(&["\\"], LIST, Command::Unmark, None, Group::Select, "Takes all marks away, hidden ones too."),
    bind(&["o"], LIST, Command::Scope, Some("scope"), Group::Narrow, "Goes through mine, my workspaces and everybody's."),
    bind(&["0"], LIST, Command::ScopeAll, None, Group::Narrow, "Shows everybody's, without an owner picked."),
    bind(&["w"], LIST, Command::ThisOwner, None, Group::Narrow, "Shows only what belongs to this row's owner, and everybody's again."),
    bind(&["@"], LIST, Command::PickOwner, Some("owner"), Group::Narrow, "Picks an owner from a list with counts."),
    bind(&["!"], LIST, Command::Faults, None, Group::Narrow, "Shows only what failed or limps, and everything again."),
    bind(&["/"], ROWS, Command::Filter, Some("filter"), Group::Narrow, "Filters the list as you type; Tab completes fields and values."),
    bind(&["/"], TEXTS, Command::Filter, Some("search"), Group::Narrow, "Searches for words, or after ~ for a regular expression."),
    bind(&["shift-left"], LIST, Command::SortLeft, None, Group::Narrow, "Sorts by the column to the left."),
    bind(&["shift-right"], LIST, Command::SortRight, None, Group::Narrow, "Sorts by the column to the right."),
    bind(&["O"], LIST, Command::SortReverse, None, Group::Narrow, "Sorts the other way round."),
    bind(&["up", "k"], EVERYWHERE, Command::Up, None, Group::Move, "Goes one row up."),
    bind(&["down", "j"], EVERYWHERE, Command::Down, None, Group::Move, "Goes one row down."),
    bind(&["pgup", "ctrl-b"], EVERYWHERE, Command::PageUp, None, Group::Move, "Goes a page up."),
    bind(&["pgdn", "ctrl-f"], EVERYWHERE, Command::PageDown, None, Group::Move, "Goes a page down."),
    bind(&["ctrl-u"], TEXTS, Command::HalfUp, None, Group::Move, "Goes half a page up."),
    bind(&["ctrl-d"], TEXTS, Command::HalfDown, None, Group::Move, "Goes half a page down."),
    bind(&["g", "home"], EVERYWHERE, Command::Top, None, Group::Move, "Goes to the top."),
    bind(&["G", "end"], EVERYWHERE, Command::Bottom, None, Group::Move, "Goes to the end."),
    bind(&["left"], TEXTS, Command::Left, None, Group::Move, "Scrolls to the left."),
    bind(&["right"], TEXTS, Command::Right, None, Group::Move, "Scrolls to the right."),
    bind(&["tab"], ROWS, Command::NextTab, None, Group::Move, "Goes to the next screen or tab."),
    bind(&["shift-tab"], ROWS, Command::PreviousTab, None, Group::Move, "Goes to the screen or tab before."),
    bind(&["1"], EVERYWHERE, Command::Screen(1), None, Group::Move, "Goes to Clusters."),
    bind(&["2"], EVERYWHERE, Command::Screen(2), None, Group::Move, "Goes to Jobs."),
    bind(&["3"], EVERYWHERE, Command::Screen(3), None, Group::Move, "Goes to Services."),
    bind(&["4"], EVERYWHERE, Command::Screen(4), None, Group::Move, "Goes to Pools."),
    bind(&["5"], EVERYWHERE, Command::Screen(5), None, Group::Move, "Goes to Infra."),
    bind(&["6"], EVERYWHERE, Command::Screen(6), None, Group::Move, "Goes to Users."),
    bind(&["7"], EVERYWHERE, Command::Screen(7), None, Group::Move, "Goes to Workspaces."),
    bind(&["8"], EVERYWHERE, Command::Screen(8), None, Group::Move, "Goes to Requests."),
    bind(&["9"], EVERYWHERE, Command::Screen(9), None, Group::Move, "Goes to Audit."),
    bind(&["["], EVERYWHERE, Command::HistoryBack, None, Group::Move, "Goes back to the page before."),
    bind(&["]"], EVERYWHERE, Command::HistoryForward, None, Group::Move, "Goes forward again."),
    bind(&["-"], EVERYWHERE, Command::HistoryLast, None, Group::Move, "Changes between this page and the one before."),
    bind(&["c"], ROWS, Command::CopyName, None, Group::See, "Copies its name (or its job id) to the clipboard."),
    bind(&["Y"], ROWS, Command::CopyKey, None, Group::See, "Copies the sky command of the first action that is possible."),
    bind(&["ctrl-r"], EVERYWHERE, Command::Refresh, None, Group::Program, "Asks the source to look again now; reconnects when offline."),
    bind(&[":", "ctrl-p"], EVERYWHERE, Command::CommandLine, Some("command"), Group::Program, "Opens the command line: screens, actions, owners."),
    bind(&["?"], EVERYWHERE, Command::Help, Some("help"), Group::Program, "Shows every key, and why one does nothing here."),
    bind(&["esc"], EVERYWHERE, Command::Escape, Some("back"), Group::Program, "Leaves a filter, the marks or a page, one at a time."),
    bind(&["q"], EVERYWHERE, Command::Close, None, Group::Program, "Goes back; at the outermost page q again quits."),
    bind(&["ctrl-z"], EVERYWHERE, Command::Suspend, None, Group::Program, "Returns to the shell; fg continues."),
    bind(&["ctrl-c"], EVERYWHERE, Command::Quit, None, Group::Program, "Quits."),
];

/// What a key means: a command of the table, or an action on rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Meaning {
    /// See [`Command`].
    Command(Command),
    /// An action.
    Action(&'static ActionSpec),
}

/// What `chord` means in `context`, over a row of `kind`.
pub fn meaning(chord: Chord, context: Context, kind: Option<Kind>) -> Option<Meaning> {
    let bound = bindings(context).find(|binding| {
        binding
            .keys
            .iter()
            .any(|key| key.parse::<Chord>().ok() == Some(chord))
    });
    if let Some(binding) = bound {
        return Some(Meaning::Command(binding.command));
    }
    if !ROWS.contains(&context) {
        return None;
    }
    actions_of(kind?)
        .find(|action| action.key.parse::<Chord>().ok() == Some(chord))
        .map(Meaning::Action)
}

/// The key of an action, in the table's notation: its own, or that of the command which starts from files.
pub fn of_action(action: &ActionSpec) -> &'static str {
    if action.key.is_empty() && crate::start::needs_file(action) {
        let new = BINDINGS.iter().find(|it| it.command == Command::New);
        return new
            .and_then(|it| it.keys.first())
            .copied()
            .unwrap_or_default();
    }
    action.key
}

/// The bindings of a context.
pub fn bindings(context: Context) -> impl Iterator<Item = &'static Binding> {
    BINDINGS
        .iter()
        .filter(move |binding| binding.contexts.contains(&context))
}

/// A notation of the table as hints show it.
pub fn short(notation: &str, ascii: bool) -> String {
    notation
        .parse::<Chord>()
        .map_or_else(|_| notation.to_owned(), |chord| chord.short(ascii))
}

#[cfg(test)]
mod tests {
    use super::*;
    use skytower_api_client::action::ACTIONS;

    #[test]
    fn no_key_means_two_things_in_a_context() {
        for context in EVERYWHERE {
            let mut seen = std::collections::BTreeMap::<String, String>::new();
            for binding in bindings(*context) {
                for key in binding.keys {
                    let chord = key.parse::<Chord>().unwrap().to_string();
                    let what = format!("{:?}", binding.command);
                    if let Some(other) = seen.insert(chord.clone(), what.clone()) {
                        panic!("{chord} is both {other} and {what} in {context:?}");
                    }
                }
            }
            if ROWS.contains(context) {
                for action in ACTIONS.iter().filter(|action| !action.key.is_empty()) {
                    let chord = action.key.parse::<Chord>().unwrap().to_string();
                    assert!(
                        !seen.contains_key(&chord),
                        "{chord} is taken: {}",
                        action.id
                    );
                }
            }
        }
    }

    #[test]
    fn every_key_and_action_has_help() {
        for binding in BINDINGS {
            assert!(binding.help.ends_with('.'), "{:?}", binding.command);
            assert!(!binding.keys.is_empty() && !binding.contexts.is_empty());
        }
        for action in ACTIONS {
            assert!(action.doc.ends_with('.'), "{}", action.id);
            if action.key.is_empty() {
                continue;
            }
            let chord = action.key.parse().unwrap();
            let meaning = meaning(chord, Context::List, Some(action.kind));
            assert_eq!(meaning, Some(Meaning::Action(action)));
        }
    }

    #[test]
    fn screens_are_numbered_as_their_tabs() {
        for (i, kind) in crate::app::SCREENS.iter().enumerate() {
            let binding = BINDINGS
                .iter()
                .find(|binding| binding.command == Command::Screen(i as u8 + 1))
                .unwrap();
            let title = crate::app::screen_title(*kind);
            assert_eq!(binding.help, format!("Goes to {title}."));
        }
    }
}
