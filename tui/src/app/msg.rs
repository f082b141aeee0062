//! Everything that happens to the dashboard, and everything it asks for.

use skytower_api_client::credentials::{Credentials, Secret};
use skytower_api_client::entity::Request;
use skytower_api_client::feed::FeedEvent;
use skytower_api_client::rest::{ClientError, Detail, NewRequest};
use skytower_api_client::{Key, Text};

use crate::keys::Chord;
use crate::start::Read;

/// What the mouse did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mouse {
    /// Pressed at a column and row.
    Click(u16, u16),
    /// Turned up.
    WheelUp,
    /// Turned down.
    WheelDown,
}

/// What came from a log.
#[derive(Clone, Debug, PartialEq)]
pub enum LogEvent {
    /// Text, not aligned to lines.
    Chunk(String),
    /// It ended.
    End,
    /// It broke off.
    Failed(ClientError),
}

/// One thing that happened. The order of these is all that the model depends on.
#[derive(Clone, Debug, PartialEq)]
pub enum Msg {
    /// A key was pressed.
    Key(Chord),
    /// Text was pasted. It may be a password.
    Paste(Secret),
    /// The mouse.
    Mouse(Mouse),
    /// The terminal has this size now.
    Resize(u16, u16),
    /// From the server.
    Feed(Box<FeedEvent>),
    /// An action was asked for, under this idempotency key; this is the answer.
    Created(String, Box<Result<Request, ClientError>>),
    /// The details of a row.
    Detail(Key, Box<Result<Detail, ClientError>>),
    /// From the log with this number.
    Log(u64, LogEvent),
    /// The task files of a folder and its folders, or why not.
    Folder(String, Result<Vec<String>, String>),
    /// The task file at a path, or why not.
    Task(String, Box<Result<Read, String>>),
    /// What the server says to the credentials that were sent under this number, in a sentence when
    /// they count.
    SignedIn(u64, Box<Result<Text, ClientError>>),
    /// Something was saved or copied, or not.
    Said(Result<Text, Text>),
    /// Time passed.
    Tick,
}

/// What the runtime has to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Ask for what is costly to get about a row.
    Focus(Key),
    /// Nobody looks at it any more.
    Unfocus(Key),
    /// Ask the source to look again.
    Refresh(Key),
    /// Connect now.
    Retry,
    /// Ask the server whether it knows these, and go on with them when it does.
    SignIn {
        /// Comes back with the answer.
        number: u64,
        /// Who one says one is.
        credentials: Credentials,
    },
    /// The mirror does not fit any more: everything again.
    StartOver,
    /// Ask for an action.
    Create {
        /// What.
        request: NewRequest,
        /// Names the decision: repeating it changes nothing.
        idempotency_key: String,
    },
    /// Get the details of a row.
    LoadDetail(Key),
    /// Open a log.
    OpenLog {
        /// Comes back with its lines.
        id: u64,
        /// Whose.
        key: Key,
        /// Which; none means the program's.
        channel: Option<&'static str>,
        /// Lines from the end.
        tail: u32,
    },
    /// Close the log that is open.
    CloseLog,
    /// Get the task files of a folder.
    ListFolder(String),
    /// Read the task file at a path.
    ReadTask(String),
    /// To the clipboard.
    Copy(String),
    /// To a file in the working folder.
    Save {
        /// Its name, made from the thing's.
        name: String,
        /// Its content.
        text: String,
    },
    /// Stop until `fg`.
    Suspend,
    /// Leave.
    Quit,
}
