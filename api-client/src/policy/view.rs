//! What a connection is shown.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::reach::{Reach, unqualified};
use crate::entity::Entity;
use crate::kind::Kind;
use crate::text::Text;
use crate::wire::{Caller, Role};

/// What a connection is shown: the kinds it asked for and the workspaces its caller may see.
/// Connections with equal views share the encoded bytes, so there is nothing in it of the person.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct View {
    /// None means every kind.
    kinds: Option<BTreeSet<Kind>>,
    /// None means that nothing is kept from the caller.
    rights: Option<Arc<Rights>>,
    /// The caller is no administrator.
    ordinary: bool,
}

/// An allow-list: a workspace that it does not name is not there, whoever else says that it is.
#[derive(Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Rights {
    /// The names of workspaces, by source.
    workspaces: BTreeMap<Text, BTreeSet<Text>>,
}

impl Rights {
    fn of(workspaces: &[Text]) -> Self {
        let mut by_source: BTreeMap<Text, BTreeSet<Text>> = BTreeMap::new();
        // What is not qualified names no workspace of any source.
        for (source, name) in workspaces.iter().filter_map(|name| unqualified(name)) {
            let there = by_source.entry(source.into()).or_default();
            there.insert(name.into());
        }
        Self {
            workspaces: by_source,
        }
    }

    fn has(&self, source: &str, name: &str) -> bool {
        let there = self.workspaces.get(source);
        there.is_some_and(|names| names.contains(name))
    }

    fn has_qualified(&self, workspace: &Text) -> bool {
        unqualified(workspace).is_some_and(|(source, name)| self.has(source, name))
    }
}

impl View {
    /// Everything.
    pub fn everything() -> Self {
        Self::default()
    }

    /// What `caller` may see of `kinds` (all when empty).
    pub fn of(caller: &Caller, kinds: &[Kind]) -> Self {
        Self {
            kinds: (!kinds.is_empty()).then(|| kinds.iter().copied().collect()),
            rights: caller
                .workspaces
                .as_ref()
                .map(|list| Arc::new(Rights::of(list))),
            ordinary: caller.role != Role::Admin,
        }
    }

    /// The caller asked for this kind.
    pub fn wants(&self, kind: Kind) -> bool {
        self.kinds
            .as_ref()
            .is_none_or(|kinds| kinds.contains(&kind))
    }

    /// The caller may see the row. What it may not see does not exist for it.
    pub fn sees(&self, row: &Entity) -> bool {
        // Most callers see everything, and need not know what a row is in.
        (self.rights.is_none() && !self.ordinary) || self.allows(row.reach())
    }

    /// The caller may see rows of this reach.
    pub fn allows(&self, reach: Reach<'_>) -> bool {
        let Some(rights) = &self.rights else {
            return reach != Reach::Audit || !self.ordinary;
        };
        match reach {
            Reach::Everybody => true,
            Reach::Workspace { source, name } => rights.has(source, name),
            Reach::Each(all) => all.iter().all(|workspace| rights.has_qualified(workspace)),
            Reach::Any(some) => some.iter().any(|reach| self.allows(reach.as_reach())),
            Reach::Administrators | Reach::Audit => !self.ordinary,
        }
    }

    /// The row as the caller may see it: of somebody's holdings, those that it may see are counted. Rows
    /// that are the same for all are shared, not copied.
    pub fn project(&self, row: &Arc<Entity>) -> Arc<Entity> {
        match &**row {
            Entity::User(user) if user.is_of_parts() => {
                Arc::new(Entity::User(user.counting(|reach| self.allows(reach))))
            }
            _ => row.clone(),
        }
    }

    /// An opaque name that changes when the view does; part of the resume cursor.
    pub fn name(&self) -> Text {
        use std::hash::{Hash, Hasher};
        // Fixed keys: the name has to be the same for the same view within one life of the server.
        let mut hasher = std::collections::hash_map::DefaultHasher::new();
        self.hash(&mut hasher);
        Text::from(format!("{:016x}", hasher.finish()))
    }
}
