//! What became of a call: looked up where its answer was lost, and asked for where it was accepted.

use skytower_api_client::Text;
use skytower_api_client::credentials::Credentials;
use skytower_api_client::entity::Outcome;
use skytower_api_client::wire::Problem;

use super::{Course, sentence, wait};
use crate::requests::keyring::Key;
use crate::requests::record::Stage;
use crate::source::{Found, HandoverResult, Source};

/// A source that no longer knows a request answers with this status.
const FORGOTTEN: u16 = 404;
/// A source that does not take somebody's credentials answers with these.
const NOT_TAKEN: [u16; 2] = [401, 403];

/// What looking a call up has led to.
pub(super) enum Looked {
    /// The source has it, under this id.
    There(Text),
    /// It has to be sent (again).
    NotThere,
    /// There is nothing left to do.
    Over,
}

impl Course<'_> {
    /// After a crash in the middle of a submission.
    pub(super) async fn take_up(&self, source: &dyn Source) -> Option<Text> {
        self.say(
            Some(Outcome::Submitted),
            None,
            Some(&"it is looked up whether it was handed over".into()),
        );
        match self.look_up(source).await {
            Looked::There(upstream) => Some(upstream),
            Looked::NotThere => self.hand_over(source).await,
            Looked::Over => None,
        }
    }

    /// From submitting to submitted, or back to planned, as the source says.
    pub(super) async fn look_up(&self, source: &dyn Source) -> Looked {
        match self.find(source).await {
            Some(Found::Accepted(upstream)) => {
                self.advance(Stage::Submitting, Stage::Submitted, Some(&upstream))
                    .await;
                Looked::There(upstream)
            }
            Some(Found::NotThere) => {
                self.say(Some(Outcome::Waiting), None, None);
                if self.advance(Stage::Submitting, Stage::Planned, None).await {
                    Looked::NotThere
                } else {
                    Looked::Over
                }
            }
            Some(Found::CannotTell) => {
                self.cannot_tell(source).await;
                Looked::Over
            }
            None => Looked::Over,
        }
    }

    /// Looks a call up until the source says something. That it is not there counts only when it
    /// was said twice: the first time the call may still have been on its way. None when it is over:
    /// its effect was seen, or nobody came with whose credentials it could be looked up.
    async fn find(&self, source: &dyn Source) -> Option<Found> {
        let mut backoff = self.backoff();
        let mut search = self.search(source);
        // Nothing is on its way to the engine in this process: it says at once what it has.
        let mut looks = if source.is_local() { 1 } else { 2 };
        loop {
            if !source.is_local() {
                tokio::time::sleep(self.requests.pace.settle).await;
            }
            let key = search.now();
            if key == Key::Missing {
                let (name, within) = (search.caller().name.clone(), search.patience());
                let message = format!(
                    "waits for {name} to sign in again, to look up whether it was handed over"
                );
                self.say(None, None, Some(&message.into()));
                tokio::select! {
                    again = search.wait() => if !again {
                        let at = source.name();
                        let message = format!(
                            "nobody knows whether {at} got it, so it is not sent again: {name} did not sign in again {within}, and nobody else is told by {at}; look, and repeat it where it is needed"
                        );
                        self.settle_all(Outcome::Unknown, Some(message.into())).await;
                        return None;
                    },
                    () = self.all_seen() => return None,
                }
                continue;
            }
            let credentials = key.credentials();
            match source.find(&self.handover(credentials.clone())).await {
                Ok(Found::NotThere) if looks > 1 => looks -= 1,
                Ok(found) => return Some(found),
                Err(problem) => {
                    if let Some(credentials) = not_taken(&problem, credentials) {
                        search.refuse(credentials);
                        continue;
                    }
                    let message = format!(
                        "it is looked up whether it was handed over: {}",
                        sentence(&problem)
                    );
                    self.say(None, None, Some(&message.into()));
                    wait(&mut backoff).await;
                }
            }
        }
    }

    async fn cannot_tell(&self, source: &dyn Source) {
        let name = source.name();
        let message = format!(
            "nobody knows whether {name} got it ({name} was restarted since), so it is not sent again: look, and repeat it where it is needed"
        );
        self.until_seen(source, &message.into()).await;
    }

    /// The source's result; none when it has forgotten the request, or does not tell.
    pub(super) async fn result(
        &self,
        source: &dyn Source,
        upstream: &Text,
    ) -> Option<HandoverResult> {
        let mut backoff = self.backoff();
        let mut search = self.search(source);
        loop {
            let key = search.now();
            let missing = key == Key::Missing;
            // The source's own credentials may be an administrator's, who is told everything.
            let credentials = key.credentials();
            match source
                .result(&self.handover(credentials.clone()), upstream)
                .await
            {
                Ok(result) => return Some(result),
                Err(problem) if problem.status == FORGOTTEN => {
                    let name = &search.caller().name;
                    let message = format!(
                        "handed over; waits for {name} to sign in again, to ask how it ended"
                    );
                    if missing {
                        self.say(None, None, Some(&message.into()));
                    }
                    if !missing || !search.wait().await {
                        return None;
                    }
                }
                Err(problem) => {
                    if let Some(credentials) = not_taken(&problem, credentials) {
                        search.refuse(credentials);
                        continue;
                    }
                    let message = format!(
                        "handed over; its result cannot be asked for now: {}",
                        sentence(&problem)
                    );
                    self.say(None, None, Some(&message.into()));
                    wait(&mut backoff).await;
                }
            }
        }
    }
}

/// The caller's credentials that the source does not take; none when that is not what is wrong.
fn not_taken(problem: &Problem, credentials: Option<Credentials>) -> Option<Credentials> {
    credentials.filter(|_| NOT_TAKEN.contains(&problem.status))
}
