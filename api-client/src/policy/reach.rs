//! Who may see a row: a property of the row itself, whoever asks.

use crate::text::Text;

/// Who may see a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach<'a> {
    /// Everybody who is let in.
    Everybody,
    /// Those who may see this workspace.
    Workspace {
        /// The source that has the workspace: two may each have one of the same name.
        source: &'a Text,
        /// Its name there.
        name: &'a Text,
    },
    /// Those who may see every one of these workspaces, each qualified (see [`qualified`]).
    Each(&'a [Text]),
    /// Those whom at least one of these reaches.
    Any(&'a [OwnedReach]),
    /// Those who administer, and those from whom nothing is kept.
    Administrators,
    /// Those who administer, and nobody else.
    Audit,
}

/// A [`Reach`] that outlives its row.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OwnedReach {
    /// See [`Reach::Everybody`].
    #[default]
    Everybody,
    /// See [`Reach::Workspace`].
    Workspace {
        /// The source that has the workspace.
        source: Text,
        /// Its name there.
        name: Text,
    },
    /// See [`Reach::Each`].
    Each(Box<[Text]>),
    /// See [`Reach::Any`].
    Any(Box<[OwnedReach]>),
    /// See [`Reach::Administrators`].
    Administrators,
    /// See [`Reach::Audit`].
    Audit,
}

impl OwnedReach {
    /// The same, borrowed.
    pub fn as_reach(&self) -> Reach<'_> {
        match self {
            OwnedReach::Everybody => Reach::Everybody,
            OwnedReach::Workspace { source, name } => Reach::Workspace { source, name },
            OwnedReach::Each(all) => Reach::Each(all),
            OwnedReach::Any(some) => Reach::Any(some),
            OwnedReach::Administrators => Reach::Administrators,
            OwnedReach::Audit => Reach::Audit,
        }
    }
}

impl From<Reach<'_>> for OwnedReach {
    fn from(reach: Reach<'_>) -> Self {
        match reach {
            Reach::Everybody => OwnedReach::Everybody,
            Reach::Workspace { source, name } => OwnedReach::Workspace {
                source: source.clone(),
                name: name.clone(),
            },
            Reach::Each(all) => OwnedReach::Each(all.into()),
            Reach::Any(some) => OwnedReach::Any(some.into()),
            Reach::Administrators => OwnedReach::Administrators,
            Reach::Audit => OwnedReach::Audit,
        }
    }
}

/// A workspace's name among those of all sources: `source/workspace`. A source's name has no `/`, so
/// whatever follows the first one is the workspace's.
pub fn qualified(source: &str, workspace: &str) -> Text {
    Text::from(format!("{source}/{workspace}"))
}

/// Source and name of a qualified workspace.
pub fn unqualified(workspace: &str) -> Option<(&str, &str)> {
    workspace.split_once('/')
}
