//! Whoever holds the server's own token.
//!
//! On one's own machine that is everybody who talks to the server, and who they are is what the sources say
//! about the credentials they were given. On a server with accounts it is the server's own administrator.

use std::sync::Arc;

use skytower_api_client::Text;
use skytower_api_client::wire::{Caller, Role};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::guest::Standing;
use crate::server::account_name;
use crate::source::Source;

/// The standing of whoever holds the server's own token.
pub(crate) struct Local {
    sources: Arc<[Arc<dyn Source>]>,
    config: Config,
    standing: watch::Sender<Standing>,
}

impl Local {
    pub(crate) fn new(sources: &Arc<[Arc<dyn Source>]>, config: &Config) -> Self {
        Self {
            standing: watch::Sender::new(Standing::Inside(local_caller(sources, config))),
            sources: sources.clone(),
            config: config.clone(),
        }
    }

    pub(crate) fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    /// Follows what the sources say, until `stop`.
    pub(crate) async fn follow(self, stop: CancellationToken) {
        let mut each = JoinSet::new();
        let this = Arc::new(self);
        for source in this.sources.iter() {
            let mut says = source.caller();
            let this = this.clone();
            each.spawn(async move {
                loop {
                    this.standing.send_if_modified(|now| {
                        let next = Standing::Inside(local_caller(&this.sources, &this.config));
                        let changed = *now != next;
                        *now = next;
                        changed
                    });
                    if says.changed().await.is_err() {
                        return;
                    }
                }
            });
        }
        stop.cancelled().await;
    }
}

/// Who everybody with the token is: what the sources say about the credentials they were given.
///
/// With several sources it is one person with several identities. Each source still refuses what its
/// own identity may not do; the role here only explains beforehand, so the strongest one counts.
fn merged(sources: &[Arc<dyn Source>]) -> Caller {
    let says = |local: bool| {
        let sources = sources.iter();
        sources
            .filter(move |source| source.is_local() == local)
            .filter_map(|source| source.caller().borrow().clone())
    };
    let mut known = says(false);
    let first = known.next().unwrap_or_else(nobody_knows);
    let mut all = known.fold(first, |mut all, other| {
        add_ids(&mut all, other.ids);
        let rank = |role| match role {
            Role::Viewer => 0,
            Role::User => 1,
            Role::Admin => 2,
        };
        if rank(other.role) > rank(all.role) {
            all.role = other.role;
        }
        all.workspaces = match (all.workspaces, other.workspaces) {
            (Some(mut some), Some(more)) => {
                some.extend(more);
                some.sort();
                some.dedup();
                Some(some)
            }
            _ => None,
        };
        all
    });
    for here in says(true) {
        add_ids(&mut all, here.ids);
        if let (Some(some), Some(more)) = (&mut all.workspaces, here.workspaces) {
            some.extend(more);
            some.sort();
            some.dedup();
        }
    }
    all
}

fn add_ids(caller: &mut Caller, ids: Vec<Text>) {
    for id in ids {
        if !caller.ids.contains(&id) {
            caller.ids.push(id);
        }
    }
}

/// Whoever holds the server's own token, under the server's rules.
fn local_caller(sources: &[Arc<dyn Source>], config: &Config) -> Caller {
    let who = if config.accounts {
        nobody_knows()
    } else {
        merged(sources)
    };
    Caller {
        rules: config.rules(),
        ..who
    }
}

/// No source has said who we are: whoever started the server.
fn nobody_knows() -> Caller {
    let name = account_name();
    Caller {
        ids: Vec::new(),
        name: name.map_or_else(|| Text::from("local"), Text::from),
        role: Role::Admin,
        ..Caller::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_source_that_knows_the_caller_is_whoever_started_the_server() {
        let caller = merged(&[]);
        assert_eq!(caller.role, Role::Admin);
        assert!(!caller.name.is_empty() && caller.workspaces.is_none());
    }
}
