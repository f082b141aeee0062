//! What can go wrong in a call to SkyPilot, and what it means for the caller.

use serde::Deserialize;
use skytower_api_client::Text;
use skytower_api_client::wire::Problem;

/// The oldest API version that is understood: SkyPilot 0.11.0.
pub const MIN_API_VERSION: u32 = 24;

/// Why a call to SkyPilot got no answer that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// No connection: SkyPilot certainly did not get the call.
    #[error("could not connect to the SkyPilot API server at {url}")]
    Unreachable {
        /// Its address, without credentials.
        url: Text,
    },
    /// The connection broke, or a proxy gave up, after the call was sent: nobody knows whether it was accepted.
    #[error("the answer of the SkyPilot API server at {url} was lost")]
    Lost {
        /// Its address, without credentials.
        url: Text,
    },
    /// No answer within the time allowed; the call may have been accepted.
    #[error("no answer to `{path}` within {seconds} s")]
    Deadline {
        /// What was asked.
        path: Text,
        /// How long it was given.
        seconds: u64,
    },
    /// The credentials are missing, wrong or expired.
    #[error("authentication is required for the SkyPilot API server at {url}")]
    NeedsAuth {
        /// Its address, without credentials.
        url: Text,
        /// What it said, if anything.
        message: Option<Text>,
    },
    /// The credentials may not do this.
    #[error("SkyPilot refused: {0}")]
    Forbidden(Text),
    /// Too old, or too new, to talk to.
    #[error("{0}")]
    VersionMismatch(Text),
    /// The server shuts down or is overloaded: certainly not accepted, try again.
    #[error("the SkyPilot API server is busy: {0}")]
    Busy(Text),
    /// It does not know what was named.
    #[error("SkyPilot: {0}")]
    NotFound(Text),
    /// It did not accept the call as it stood (400, 422).
    #[error("SkyPilot did not accept the call: {0}")]
    Rejected(Text),
    /// The request was accepted, and failed.
    #[error("{message}")]
    Failed {
        /// SkyPilot's name of the error, such as `ClusterNotUpError`.
        kind: Text,
        /// Its sentence, without colours.
        message: Text,
    },
    /// The request was accepted, and cancelled.
    #[error("the request was cancelled")]
    Cancelled,
    /// The answer is not what SkyPilot answers.
    #[error("the answer to `{path}` cannot be read: {reason}")]
    Malformed {
        /// What was asked.
        path: Text,
        /// What is wrong with it; never its contents.
        reason: Text,
    },
}

impl CallError {
    /// SkyPilot certainly did not accept the call.
    pub const fn is_certainly_not_accepted(&self) -> bool {
        matches!(
            self,
            CallError::Unreachable { .. }
                | CallError::NeedsAuth { .. }
                | CallError::Forbidden(_)
                | CallError::VersionMismatch(_)
                | CallError::Busy(_)
                | CallError::NotFound(_)
                | CallError::Rejected(_)
        )
    }

    /// It was certainly not accepted, and the same call may be accepted later.
    pub const fn may_be_sent_again(&self) -> bool {
        matches!(self, CallError::Unreachable { .. } | CallError::Busy(_))
    }

    /// Nobody knows whether the call was accepted: look it up before sending it again.
    pub const fn is_uncertain(&self) -> bool {
        matches!(
            self,
            CallError::Lost { .. } | CallError::Deadline { .. } | CallError::Malformed { .. }
        )
    }

    /// A request that was accepted failed with SkyPilot's error of this name.
    pub fn is_failure(&self, name: &str) -> bool {
        matches!(self, CallError::Failed { kind, .. } if kind == name)
    }

    /// As [`CallError::problem`], where the call was made with the credentials of whoever is told.
    pub fn problem_for_caller(&self) -> Problem {
        let CallError::NeedsAuth { message, .. } = self else {
            return self.problem();
        };
        let said = message.as_ref().filter(|said| !said.is_empty());
        let said = said.map_or_else(String::new, |said| format!(": {said}"));
        let detail = format!("SkyPilot does not accept your credentials (any more){said}");
        Problem::new("source_needs_auth", 401, detail).hint("sign in again")
    }

    /// For people and programs: what happened and what to do next.
    pub fn problem(&self) -> Problem {
        let sentence = self.to_string();
        match self {
            CallError::Unreachable { url } => Problem::new("source_unreachable", 502, sentence)
                .hint(format!(
                    "make sure that it runs and can be reached: curl {url}/api/health"
                )),
            CallError::Lost { .. } => Problem::new("source_answer_lost", 502, sentence)
                .hint("it is asked again by itself"),
            CallError::Deadline { .. } => Problem::new("source_slow", 504, sentence)
                .hint("it may have just been restarted, or be overloaded: it is asked again"),
            CallError::NeedsAuth { url, .. } => Problem::new("source_needs_auth", 401, sentence)
                .hint(format!(
                    "log in and try again: sky api login -e {url}; or give the server a service account token"
                )),
            CallError::Forbidden(said) => {
                Problem::new("source_forbidden", 403, sentence).hint(if said.contains("workspace") {
                    "ask an administrator of SkyPilot to let you into that workspace"
                } else {
                    "ask an administrator of SkyPilot for another role"
                })
            }
            CallError::VersionMismatch(_) => Problem::new("source_version_mismatch", 502, sentence)
                .hint("skytower needs SkyPilot 0.11 or later: upgrade the API server"),
            CallError::Busy(_) => {
                Problem::new("source_busy", 503, sentence).hint("it is tried again")
            }
            CallError::NotFound(_) => Problem::new("not_found", 404, sentence)
                .hint("it may be gone by now: look at the list again"),
            CallError::Rejected(_) => Problem::new("source_rejected", 400, sentence)
                .hint("this version of skytower may not fit that version of SkyPilot"),
            CallError::Failed { kind, .. } if DENIALS.contains(&kind.as_str()) => {
                Problem::new("source_forbidden", 403, format!("SkyPilot refused: {sentence}"))
                    .hint("ask an administrator of SkyPilot to let you into that workspace")
            }
            CallError::Failed { .. } => Problem::new("source_failed", 502, sentence),
            CallError::Cancelled => Problem::new("source_cancelled", 409, sentence),
            CallError::Malformed { .. } => Problem::new("source_malformed", 502, sentence)
                .hint("make sure that the address is a SkyPilot API server's"),
        }
    }
}

/// How SkyPilot calls it when a request that it accepted was not allowed in its workspace.
const DENIALS: &[&str] = &["PermissionDeniedError", "NoWorkspaceAccessError"];

/// All that SkyPilot says when a role does not allow a call.
const ROLE_REFUSED: &str = "Forbidden";

/// SkyPilot's body of a failed request: `error` is JSON in a string.
#[derive(Deserialize)]
pub(super) struct FailedPayload {
    #[serde(default)]
    pub(super) error: Option<String>,
}

#[derive(Deserialize)]
struct TypedError {
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    message: Option<String>,
}

/// The error of a failed request, without the pickled object beside it.
pub(super) fn failed(error: Option<&str>) -> CallError {
    let typed = error.and_then(|error| serde_json::from_str::<Option<TypedError>>(error).ok());
    let (kind, message) = typed
        .flatten()
        .map_or((None, None), |typed| (typed.kind, typed.message));
    let kind = kind.unwrap_or_else(|| "UnknownError".to_owned());
    let message = message
        .filter(|message| !message.trim().is_empty())
        .unwrap_or_else(|| format!("the request failed with {kind}"));
    CallError::Failed {
        kind: kind.into(),
        message: message.trim().into(),
    }
}

/// The `detail` of an error, when it is a sentence. Never the `input` of a 422, which echoes the body.
fn detail(body: &[u8]) -> Option<Text> {
    #[derive(Deserialize)]
    struct Sentence {
        detail: String,
    }
    #[derive(Deserialize)]
    struct Schema {
        detail: Vec<Item>,
    }
    #[derive(Deserialize)]
    struct Item {
        #[serde(default)]
        msg: String,
        #[serde(default)]
        loc: Vec<serde_json::Value>,
    }
    if let Ok(sentence) = serde_json::from_slice::<Sentence>(body) {
        return Some(sentence.detail.into());
    }
    if let Ok(sentence) = serde_json::from_slice::<String>(body) {
        return Some(sentence.into());
    }
    let schema = serde_json::from_slice::<Schema>(body).ok()?;
    let items = schema.detail.iter().map(|item| {
        let place: Vec<_> = item.loc.iter().filter_map(|part| part.as_str()).collect();
        format!("{}: {}", place.join("."), item.msg)
    });
    Some(items.collect::<Vec<_>>().join("; ").into())
}

/// What an answer that is no success means.
pub(super) fn classify(status: u16, body: &[u8], url: &Text) -> CallError {
    #[derive(Deserialize)]
    struct Mismatch {
        error: String,
        #[serde(default)]
        message: String,
    }
    #[derive(Deserialize)]
    struct Detail {
        detail: FailedPayload,
    }
    let said = |otherwise: &str| detail(body).unwrap_or_else(|| otherwise.into());
    match status {
        300..400 => CallError::NeedsAuth {
            url: url.clone(),
            message: None,
        },
        401 => CallError::NeedsAuth {
            url: url.clone(),
            message: detail(body),
        },
        403 => CallError::Forbidden(match said(ROLE_REFUSED) {
            said if *said == *ROLE_REFUSED => "the role at SkyPilot does not allow this".into(),
            said => said,
        }),
        404 => CallError::NotFound(said("there is no such thing")),
        400 => match serde_json::from_slice::<Mismatch>(body) {
            Ok(mismatch) if mismatch.error == "version_mismatch" => {
                CallError::VersionMismatch(mismatch.message.trim().into())
            }
            _ => CallError::Rejected(said("bad request")),
        },
        402..500 => CallError::Rejected(said(&format!("HTTP {status}"))),
        503 => CallError::Busy(said("service unavailable")),
        502 | 504 | 520..=530 => CallError::Lost { url: url.clone() },
        _ => match serde_json::from_slice::<Detail>(body) {
            Ok(payload) => failed(payload.detail.error.as_deref()),
            // A traceback: it may quote anything, so nothing of it is kept.
            Err(_) => CallError::Failed {
                kind: "InternalServerError".into(),
                message: detail(body).unwrap_or_else(|| {
                    format!("the SkyPilot API server failed with HTTP {status}").into()
                }),
            },
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(error: &CallError) -> String {
        let problem = error.problem_for_caller();
        format!("{problem}: {}", problem.hint.as_deref().unwrap_or_default())
    }

    fn told(status: u16, body: &str) -> String {
        words(&classify(status, body.as_bytes(), &"http://h".into()))
    }

    #[test]
    fn a_refusal_is_a_sentence_that_says_whom_to_ask() {
        // To viewers, and whoever else has a role that does not allow it: nothing but this word.
        let role = told(403, r#"{"detail":"Forbidden"}"#);
        assert!(role.contains("role at SkyPilot does not allow"), "{role}");
        assert!(role.contains("another role"), "{role}");
        assert_eq!(told(403, ""), role);
        let viewer = told(
            403,
            r#"{"detail":"The viewer role cannot cancel requests."}"#,
        );
        assert!(viewer.contains("The viewer role cannot cancel"), "{viewer}");
        let said = "User bob (9f9d51bc) does not have permission to access workspace 'research'";
        for private in [
            told(403, &serde_json::json!({"detail": said}).to_string()),
            words(&failed(Some(
                &serde_json::json!({"type": "PermissionDeniedError", "message": said}).to_string(),
            ))),
        ] {
            assert!(
                private.contains(&format!("SkyPilot refused: {said}")),
                "{private}"
            );
            assert!(private.contains("into that workspace"), "{private}");
        }
    }

    #[test]
    fn whose_credentials_are_refused_is_told_so_in_skypilots_words() {
        let revoked = r#"{"detail":"Service account token revoked or rotated"}"#;
        let told = told(401, revoked);
        assert!(
            told.contains("your credentials") && told.contains("revoked or rotated"),
            "{told}"
        );
        assert!(told.contains("sign in again"), "{told}");
    }
}
