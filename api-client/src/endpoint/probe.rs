//! What answers at an address: a skytower server, a SkyPilot API server, or somebody else.

use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use serde::Deserialize;

use super::{Credentials, Endpoint};
use crate::rest::{ClientError, Health, limited, path, refusal};
use crate::text::Text;

/// The API version that is claimed towards SkyPilot.
pub const SKYPILOT_API_VERSION: u32 = 62;
/// The oldest API version that is understood (SkyPilot 0.11).
pub const SKYPILOT_OLDEST: u32 = 24;

/// What answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// A skytower server that knows us.
    Skytower(Box<Health>),
    /// A SkyPilot API server that lets us in.
    Skypilot {
        /// Its version, as it says.
        version: Text,
    },
}

/// Asks who is there.
pub async fn probe(endpoint: &Endpoint, timeout: Duration) -> Result<Found, ClientError> {
    let url = endpoint.shown();
    let (status, body) = ask(endpoint, path::HEALTH, timeout).await?;
    let found = judge(&url, status, &body)?;
    // SkyPilot's health says `healthy` to anybody, wrong password or none: who we are is asked where
    // credentials count.
    if matches!(found, Found::Skypilot { .. }) {
        let (status, body) = ask(endpoint, "/users/role", timeout).await?;
        if status == StatusCode::UNAUTHORIZED || status.is_redirection() {
            return Err(refusal(&url, status, &HeaderMap::new(), &body));
        }
    }
    Ok(found)
}

/// What a skytower server says of itself to whoever asks, credentials aside; none when somebody else
/// answers, or nobody.
pub async fn introduction(endpoint: &Endpoint, timeout: Duration) -> Option<Health> {
    let outside = Endpoint {
        credentials: Credentials::None,
        ..endpoint.clone()
    };
    let (status, body) = ask(&outside, path::HEALTH, timeout).await.ok()?;
    let health: Health = serde_json::from_str(&body).ok()?;
    (status.is_success() && health.service == "skytower").then_some(health)
}

async fn ask(
    endpoint: &Endpoint,
    path: &str,
    timeout: Duration,
) -> Result<(StatusCode, String), ClientError> {
    let request = crate::rest::http(endpoint)?
        .get(format!("{}{path}", endpoint.url))
        // Without both of them SkyPilot says `healthy` even where it wants a login.
        .header("X-SkyPilot-API-Version", SKYPILOT_API_VERSION)
        .header("X-SkyPilot-Version", env!("CARGO_PKG_VERSION"))
        .timeout(timeout);
    let response = crate::rest::authorise(request, &endpoint.credentials)
        .send()
        .await
        .map_err(|error| ClientError::of_transport(&endpoint.shown(), &error))?;
    let (status, headers) = (response.status(), response.headers().clone());
    let body = limited(response, 256 * 1024).await;
    if status == StatusCode::TOO_MANY_REQUESTS {
        return Err(refusal(&endpoint.url, status, &headers, &body));
    }
    Ok((status, body))
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Answer {
    status: Option<String>,
    service: Option<String>,
    version: Option<Text>,
    commit: Option<Text>,
    api_version: Option<serde_json::Value>,
    error: Option<String>,
    message: Option<Text>,
}

fn judge(url: &Text, status: StatusCode, body: &str) -> Result<Found, ClientError> {
    if status == StatusCode::UNAUTHORIZED || status.is_redirection() {
        return Err(refusal(url, status, &HeaderMap::new(), body));
    }
    let stranger = |found: String| ClientError::Stranger {
        url: url.clone(),
        found: found.into(),
    };
    let Ok(answer) = serde_json::from_str::<Answer>(body) else {
        let what = if body.trim_start().starts_with('<') {
            "a web page"
        } else {
            "something that is not JSON"
        };
        return Err(stranger(format!("it answered {status} with {what}")));
    };
    if answer.error.as_deref() == Some("version_mismatch") {
        return Err(ClientError::Version {
            message: answer
                .message
                .unwrap_or_else(|| format!("{url} does not accept this version").into()),
            hint: "upgrade skytower".into(),
        });
    }
    if status.is_server_error() {
        return Err(refusal(url, status, &HeaderMap::new(), body));
    }
    if !status.is_success() {
        return Err(stranger(format!("it answered {status}")));
    }
    let not_signed_in = || ClientError::NotSignedIn {
        url: url.clone(),
        detail: "it asks for credentials".into(),
    };
    let needs_auth = answer.status.as_deref() == Some("needs_auth");
    if answer.service.as_deref() == Some("skytower") {
        let health: Health = serde_json::from_str(body).map_err(|error| ClientError::Garbled {
            url: url.clone(),
            detail: error.to_string().into(),
        })?;
        // Only those inside are told the epoch.
        return if needs_auth || health.epoch.is_none() {
            Err(not_signed_in())
        } else {
            Ok(Found::Skytower(Box::new(health)))
        };
    }
    let number = match &answer.api_version {
        Some(serde_json::Value::String(text)) => text.parse().ok(),
        Some(serde_json::Value::Number(number)) => number.as_u64(),
        _ => None,
    };
    // SkyPilot's words, whether or not it is new enough to say which API it speaks.
    let is_skypilot = matches!(answer.status.as_deref(), Some("healthy" | "needs_auth"))
        && answer.version.is_some()
        && answer.commit.is_some();
    if answer.status.is_none() || (number.is_none() && !is_skypilot) {
        return Err(stranger("its health answer is of another kind".to_owned()));
    }
    if number.is_none_or(|number| number < u64::from(SKYPILOT_OLDEST)) {
        let version = answer.version.unwrap_or_default();
        return Err(ClientError::Version {
            message: format!(
                "{url} is SkyPilot {version}, and 0.11 is the oldest that is understood"
            )
            .into(),
            hint: "ask its administrator to upgrade SkyPilot".into(),
        });
    }
    if needs_auth {
        return Err(not_signed_in());
    }
    Ok(Found::Skypilot {
        version: answer.version.unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Result<Found, ClientError> {
        judge(
            &"http://h:1".into(),
            StatusCode::from_u16(status).unwrap(),
            body,
        )
    }

    #[test]
    fn each_kind_of_neighbour_is_told_apart() {
        let tower = r#"{"status":"healthy","service":"skytower","version":"0.1.0","epoch":"e"}"#;
        assert!(matches!(answer(200, tower), Ok(Found::Skytower(_))));
        let outside = r#"{"status":"needs_auth","service":"skytower","version":"0.1.0"}"#;
        assert!(matches!(
            answer(200, outside),
            Err(ClientError::NotSignedIn { .. })
        ));
        let sky = r#"{"status":"healthy","api_version":"62","version":"0.14.1","user":null}"#;
        let version = "0.14.1".into();
        assert_eq!(answer(200, sky), Ok(Found::Skypilot { version }));
        let closed = r#"{"status":"needs_auth","api_version":"62","version":"0.14.1"}"#;
        assert!(matches!(
            answer(200, closed),
            Err(ClientError::NotSignedIn { .. })
        ));
        let old = r#"{"status":"healthy","api_version":"9","version":"0.10.0"}"#;
        assert!(matches!(answer(200, old), Err(ClientError::Version { .. })));
        let older = r#"{"status":"healthy","version":"0.7.0","commit":"c"}"#;
        assert!(matches!(
            answer(200, older),
            Err(ClientError::Version { .. })
        ));
        let mismatch = r#"{"error":"version_mismatch","message":"too old"}"#;
        assert!(matches!(
            answer(400, mismatch),
            Err(ClientError::Version { .. })
        ));
        assert!(matches!(
            answer(401, "no"),
            Err(ClientError::NotSignedIn { .. })
        ));
        assert!(matches!(
            answer(307, ""),
            Err(ClientError::NotSignedIn { .. })
        ));
        for (status, body) in [
            (200, "<html>"),
            (404, "{}"),
            (200, "{\"ok\":true}"),
            (200, "[]"),
        ] {
            let error = answer(status, body).unwrap_err();
            assert!(
                matches!(error, ClientError::Stranger { .. }),
                "{body}: {error}"
            );
            assert_eq!(error.exit_code(), 3);
        }
    }
}
