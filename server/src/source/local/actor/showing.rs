//! What others see of the engine.

use std::sync::Arc;

use skytower_api_client::action::LOCAL;
use skytower_api_client::entity::Source;
use skytower_api_client::phase::phase_of;
use skytower_api_client::wire::Change;
use skytower_api_client::{EpochMs, Key, Kind, Text};

use super::{Actor, Glance};
use crate::source::local::rows;

impl Actor {
    /// Shows what changed.
    pub(super) fn publish(&mut self) {
        let mut rows = rows::all(&self.parts.engine, &self.parts.private.borrow());
        for key in &self.focused {
            let Some(subject) = rows.get(key).cloned() else {
                continue;
            };
            for event in rows::events(&self.parts.engine.state, &subject) {
                rows.insert(event.key.clone(), Arc::new(event.into()));
            }
        }
        let mut changes = Vec::new();
        for (key, row) in &rows {
            if self.published.get(key) != Some(row) {
                changes.push(Change::Upsert(row.clone()));
            }
        }
        for (key, row) in &self.published {
            if !rows.contains_key(key) {
                changes.push(Change::Remove {
                    kind: row.kind(),
                    key: key.clone(),
                    reason: "it is over".into(),
                });
            }
        }
        if !changes.is_empty() {
            self.parts.hub.commit(changes);
        }
        self.published = rows;
        let glance = Glance {
            busy: self.parts.engine.is_busy(),
            labels: self.parts.engine.labels(),
            workspaces: self
                .published
                .values()
                .filter_map(|row| row.workspace().cloned())
                .collect(),
        };
        self.parts.glance.send_if_modified(|now| {
            let changed = *now != glance;
            *now = glance;
            changed
        });
    }

    pub(super) fn publish_source(&self, low: Option<Text>, first: bool) {
        let error = low.map(|low| Text::from(low.trim_start_matches("waits for ").to_owned()));
        let status = if error.is_some() { "stale" } else { "healthy" };
        let row = source_row(status, error, None, Some(self.parts.limits.clone()));
        let now = EpochMs::now();
        // Times alone wake nobody.
        let same = !first
            && self.parts.hub.get(&row.key).is_some_and(|there| {
                there
                    .as_source()
                    .is_some_and(|there| there.error == row.error && there.status == row.status)
            });
        if !same {
            let row = Source {
                fetched_at: rows::looked_at(now),
                ..row
            };
            self.parts
                .hub
                .commit([Change::Upsert(Arc::new(row.into()))]);
        }
    }
}

/// The engine's own row.
pub(in crate::source::local) fn source_row(
    status: &str,
    error: Option<Text>,
    hint: Option<Text>,
    note: Option<Text>,
) -> Source {
    Source {
        key: Key::new(LOCAL, Kind::Source, LOCAL),
        source: LOCAL.into(),
        name: LOCAL.into(),
        status: status.into(),
        phase: phase_of(Kind::Source, status),
        why: error.clone(),
        flavour: "local".into(),
        version: Some(crate::server::VERSION.into()),
        commit: Some(crate::server::COMMIT.into()),
        error,
        hint,
        notes: note.map(|note| (Kind::Source, note)).into_iter().collect(),
        ..Source::default()
    }
}
