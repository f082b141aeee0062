//! Somebody who was let in: who it is, how that was proved, and from where.
//!
//! The door makes a [`Guest`] for each request; a connection that stays open keeps it and follows its
//! [`Standing`], so that a role that is lowered or a token that is revoked counts at once.

use std::net::IpAddr;

use skytower_api_client::Text;
use skytower_api_client::wire::{Caller, Problem};
use tokio::sync::watch;

/// What somebody who was let in is at present.
#[derive(Clone, Debug, PartialEq)]
pub enum Standing {
    /// Inside, with these rights.
    Inside(Caller),
    /// Not any more: nothing else is sent but this.
    Out(Problem),
}

/// Somebody who was let in.
#[derive(Clone, Debug)]
pub struct Guest {
    standing: watch::Receiver<Standing>,
    proof: Text,
    address: Option<IpAddr>,
    /// May read the metrics, whatever its role.
    measures: bool,
}

/// Who asks for something, as it was when it was asked; for the audit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asker {
    /// Who.
    pub caller: Caller,
    /// How that was proved: `password`, `token 1f2e…`, `local`; never the secret itself.
    pub proof: Text,
    /// From where; none for the server itself.
    pub address: Option<IpAddr>,
}

impl Guest {
    /// Somebody with a standing that may change.
    pub fn new(standing: watch::Receiver<Standing>, proof: Text, address: Option<IpAddr>) -> Self {
        Self {
            standing,
            proof,
            address,
            measures: false,
        }
    }

    /// The same, who may read the metrics.
    #[must_use]
    pub(crate) fn who_measures(self) -> Self {
        Self {
            measures: true,
            ..self
        }
    }

    /// May read the metrics, whatever its role.
    pub(crate) fn measures(&self) -> bool {
        self.measures
    }

    /// Whose connections its connection is one of.
    pub(crate) fn counted_as(&self) -> Result<Text, Problem> {
        self.read(|caller| caller.ids.first().unwrap_or(&caller.name).clone())
    }

    /// From where; none for the server itself.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// Who it is now; the reason when it is nobody any more.
    pub fn caller(&self) -> Result<Caller, Problem> {
        self.read(Caller::clone)
    }

    /// Looks at who it is now; the reason when it is nobody any more.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&Caller) -> T) -> Result<T, Problem> {
        match &*self.standing.borrow() {
            Standing::Inside(caller) => Ok(look(caller)),
            Standing::Out(problem) => Err(problem.clone()),
        }
    }

    /// Who asks, for the audit.
    pub fn asker(&self) -> Result<Asker, Problem> {
        Ok(Asker {
            caller: self.caller()?,
            proof: self.proof.clone(),
            address: self.address,
        })
    }

    /// Tells when the standing changes.
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }
}

impl Asker {
    /// The server's own account, at its own machine.
    pub fn local(caller: Caller) -> Self {
        Self {
            caller,
            proof: Text::from("local"),
            address: None,
        }
    }
}
