//! What went wrong with a replica, as the end of a sentence that begins with its name.

use std::io;

/// Why it could not be connected to.
pub(super) fn unconnected(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "refused the connection".to_owned(),
        io::ErrorKind::TimedOut => "does not accept connections".to_owned(),
        _ => format!("cannot be connected to ({error})"),
    }
}

/// Why there was no whole answer.
pub(super) fn cut(error: &hyper::Error) -> String {
    if error.is_parse() {
        "answered something that is not HTTP".to_owned()
    } else if error.is_timeout() {
        "stopped answering".to_owned()
    } else {
        "closed the connection before it had answered".to_owned()
    }
}
