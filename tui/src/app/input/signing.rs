//! Signing in from the dashboard: the box opens when the server refuses, and what comes of it.

use skytower_api_client::Text;
use skytower_api_client::feed::Link;
use skytower_api_client::rest::ClientError;
use skytower_api_client::wire::Problem;

use super::Effects;
use crate::app::model::{Model, Overlay, Severity};
use crate::app::msg::Effect;
use crate::app::sign_in::{Asked, SignIn, Stage};
use crate::keys::Chord;

/// The server refuses: it is asked about once, until there was a connection again.
pub(crate) fn refused(model: &mut Model, problem: &Problem) {
    if problem.status == 401 && model.options.signs_in && model.asked_who.is_none() {
        open(model);
    }
}

/// Opens the box, with the server's reason.
pub(super) fn open(model: &mut Model) {
    let Link::Refused(problem) = &model.link else {
        return;
    };
    let reason = Text::from(problem.to_string());
    let server = model.options.endpoint.clone();
    let sign_in = SignIn::new(server, reason, &model.you.name);
    model.asked_who = Some(model.at);
    if dialog(model).is_none() {
        model.overlays.push(Overlay::SignIn(Box::new(sign_in)));
    }
}

/// A key in the box.
pub(super) fn key(model: &mut Model, chord: Chord) -> Effects {
    let (now, number) = (model.at, model.serial + 1);
    let Some(Overlay::SignIn(sign_in)) = model.overlays.last_mut() else {
        return Vec::new();
    };
    match sign_in.key(chord, now, number) {
        Asked::Nothing => Vec::new(),
        Asked::Close => {
            close(model);
            Vec::new()
        }
        Asked::Send(credentials) => {
            model.serial = number;
            vec![Effect::SignIn {
                number,
                credentials,
            }]
        }
    }
}

/// The server's answer to what was sent under a number.
pub(crate) fn answered(model: &mut Model, number: u64, answer: Result<Text, ClientError>) {
    let now = model.at;
    let error = match answer {
        Ok(said) => {
            close(model);
            // A refusal from now on is another one.
            model.asked_who = None;
            return model.say(Severity::Good, said.as_str());
        }
        Err(error) => error,
    };
    let waiting = dialog(model).filter(|it| it.stage == Stage::Checking(number));
    match (waiting, error) {
        // It was closed meanwhile: nobody waits for this.
        (None, _) => {}
        (
            Some(sign_in),
            ClientError::TooMany {
                wait: Some(wait), ..
            },
        ) => sign_in.wait_for(wait, now),
        (Some(sign_in), ClientError::NotSignedIn { .. }) => {
            sign_in.refused("the server does not take these".into());
        }
        (Some(sign_in), error) => sign_in.refused(error.to_string().into()),
    }
}

/// Takes the box away.
pub(crate) fn close(model: &mut Model) {
    model
        .overlays
        .retain(|overlay| !matches!(overlay, Overlay::SignIn(_)));
}

fn dialog(model: &mut Model) -> Option<&mut SignIn> {
    model.overlays.iter_mut().find_map(|overlay| match overlay {
        Overlay::SignIn(sign_in) => Some(&mut **sign_in),
        _ => None,
    })
}
