//! Errors as problem documents (RFC 9457).

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use skytower_api_client::wire::Problem;

/// A problem as the answer to a request. Handlers return `Result<_, Failure>` and use `?`.
#[derive(Debug, Clone)]
pub struct Failure(pub Problem);

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut problem = self.0;
        let status = StatusCode::from_u16(problem.status)
            .ok()
            .filter(|status| status.is_client_error() || status.is_server_error())
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        problem.status = status.as_u16();
        // Our own type: maps have string keys and nothing fails to serialise.
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut response = (status, body).into_response();
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if let Some(seconds) = problem.retry_after {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, seconds.into());
        }
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer realm=\"skytower\""),
            );
        }
        response
    }
}

/// As [`axum::Json`] for bodies, with problem documents for what cannot be read.
#[derive(Debug, Clone, Copy)]
pub struct JsonBody<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        match axum::Json::<T>::from_request(request, state).await {
            Ok(axum::Json(body)) => Ok(Self(body)),
            Err(rejection) => Err(Failure(body_problem(&rejection))),
        }
    }
}

fn body_problem(rejection: &JsonRejection) -> Problem {
    let status = rejection.status().as_u16();
    match rejection {
        JsonRejection::MissingJsonContentType(_) => Problem::new(
            "unsupported_media_type",
            status,
            "the body has to be JSON, declared as such",
        )
        .hint("send the header `Content-Type: application/json`"),
        _ if status == 413 => Problem::new(
            "too_large",
            status,
            format!("the body is larger than {} KiB", super::BODY_LIMIT / 1024),
        )
        .hint("send fewer targets at once, or a smaller task file"),
        _ => Problem::new("bad_body", status, rejection.body_text()),
    }
}

/// As [`axum::extract::Query`], with problem documents for what cannot be read.
#[derive(Debug, Clone, Copy)]
pub struct Parameters<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Parameters<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let query: Result<_, QueryRejection> =
            axum::extract::Query::<T>::from_request_parts(parts, state).await;
        match query {
            Ok(axum::extract::Query(parameters)) => Ok(Self(parameters)),
            Err(rejection) => Err(Failure(Problem::new(
                "bad_parameter",
                400,
                rejection.body_text(),
            ))),
        }
    }
}
