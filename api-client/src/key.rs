//! Keys: the stable name of a row across sources.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::kind::Kind;
use crate::text::Text;

/// `source/kind/id…`, for instance `prod/job/12/0` or `prod/cluster/4c3a…`. Unique among all rows.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Key(Text);

impl Key {
    /// The key of `id` (which may have several parts) at a source.
    pub fn new(source: &str, kind: Kind, id: impl fmt::Display) -> Self {
        Self(Text::from(format!("{source}/{}/{id}", kind.noun())))
    }

    /// A key as it stands on the wire.
    pub fn parse(raw: &str) -> Option<Self> {
        let key = Self(Text::new(raw));
        key.kind().map(|_| key)
    }

    /// The whole key.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The source in front.
    pub fn source(&self) -> &str {
        self.0.split('/').next().unwrap_or_default()
    }

    /// The kind in the middle; none when the key was made up.
    pub fn kind(&self) -> Option<Kind> {
        let noun = self.0.split('/').nth(1)?;
        Kind::ALL.iter().copied().find(|kind| kind.noun() == noun)
    }

    /// What follows source and kind.
    pub fn id(&self) -> &str {
        self.0.splitn(3, '/').nth(2).unwrap_or_default()
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}
