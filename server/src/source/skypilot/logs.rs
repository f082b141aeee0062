//! Logs of clusters, jobs, services, pools and requests.

use skytower_api_client::wire::Problem;

use super::client::Client;
use crate::source::{LogQuery, LogStream};

/// Opens a log.
pub(super) async fn open(client: &Client, query: &LogQuery) -> Result<LogStream, Problem> {
    let _ = client;
    Err(Problem::new(
        "no_log",
        501,
        format!("the log of {} cannot be read yet", query.row.name()),
    ))
}
