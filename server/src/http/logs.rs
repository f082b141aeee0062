//! Logs over REST.

use skytower_api_client::wire::Problem;

use super::problem::Failure;

/// `GET /api/v1/{kind}/{key}/logs?follow=&tail=&channel=`
pub async fn read() -> Failure {
    Failure(Problem::new(
        "not_implemented",
        501,
        "this server cannot read logs yet",
    ))
}
