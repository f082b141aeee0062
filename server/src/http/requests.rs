//! Requests over REST.

use skytower_api_client::wire::Problem;

use super::problem::Failure;

fn not_yet() -> Failure {
    Failure(Problem::new(
        "not_implemented",
        501,
        "this server cannot act yet",
    ))
}

/// `POST /api/v1/requests`
pub async fn create() -> Failure {
    not_yet()
}

/// `GET /api/v1/requests/{id}?wait=30s`
pub async fn show() -> Failure {
    not_yet()
}

/// `DELETE /api/v1/requests/{id}`
pub async fn cancel() -> Failure {
    not_yet()
}
