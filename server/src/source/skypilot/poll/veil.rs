//! What SkyPilot does not say the workspace of: while it has a private one, that may be where it is.

use std::sync::Arc;

use skytower_api_client::table::Touch;
use skytower_api_client::wire::Change;
use skytower_api_client::{Entity, Kind, Table, Text};

use super::Poller;
use crate::source::skypilot::client::CallError;

/// Kinds of rows that are in a workspace, whether or not SkyPilot says in which: it does not for services
/// and pools (see [`super::home`]), nor for requests.
const IN_WORKSPACES: [Kind; 9] = [
    Kind::Cluster,
    Kind::Job,
    Kind::ClusterJob,
    Kind::Service,
    Kind::Replica,
    Kind::Pool,
    Kind::Worker,
    Kind::Request,
    Kind::Event,
];

/// Every workspace of a source is for everybody. Not before they have been read.
pub(super) fn is_open(table: &Table, source: &Text) -> bool {
    let rows = table.rows(Kind::Workspace);
    let mut private = rows
        .filter(|row| row.source() == source)
        .filter_map(|row| Some(row.as_workspace()?.private))
        .peekable();
    private.peek().is_some() && !private.any(|private| private)
}

/// It is in a workspace, and nobody knows in which.
pub(super) fn is_astray(row: &Entity) -> bool {
    let within_several = row
        .as_request()
        .is_some_and(|request| !request.within.is_empty());
    row.workspace().is_none() && !within_several && IN_WORKSPACES.contains(&row.kind())
}

/// The row as it may be shown. What is astray is for everybody as long as there is nothing private.
fn veiled(mut row: Arc<Entity>, open: bool) -> Arc<Entity> {
    let restricted = !open && is_astray(&row);
    if row.restricted() != restricted {
        Arc::make_mut(&mut row).restrict(restricted);
    }
    row
}

/// The rows of a source that have to be shown otherwise, now that all of its workspaces are `open` or not.
pub(super) fn turned<'a>(
    table: &'a Table,
    source: &'a Text,
    open: bool,
) -> impl Iterator<Item = Change> + 'a {
    let rows = IN_WORKSPACES.iter().flat_map(|kind| table.rows(*kind));
    rows.filter(move |row| row.source() == source && is_astray(row) && row.restricted() == open)
        .map(move |row| Change::Upsert(veiled(row.clone(), open)))
}

impl Poller {
    /// Shows what was read. Whether it may be shown is decided under the lock under which workspaces become
    /// private, so that nothing slips through between the two.
    pub(super) fn commit(&self, changes: impl IntoIterator<Item = Change>) -> Vec<Touch> {
        self.commit_with(|_| changes)
    }

    /// As [`Poller::commit`], with changes that are derived from the state under the same lock.
    pub(super) fn commit_with<I: IntoIterator<Item = Change>>(
        &self,
        changes: impl FnOnce(&Table) -> I,
    ) -> Vec<Touch> {
        self.hub.commit_with(|table| {
            let open = is_open(table, &self.name);
            let veil = move |change| match change {
                Change::Upsert(row) => Change::Upsert(veiled(row, open)),
                removal @ Change::Remove { .. } => removal,
            };
            changes(table).into_iter().map(veil)
        })
    }

    pub(super) fn all_workspaces_are_open(&self) -> bool {
        self.hub.read(|table| is_open(table, &self.name))
    }

    /// An error as everybody may read it, on the row of the source. SkyPilot's own words name the cluster
    /// that they are about.
    pub(super) fn words_for_all(&self, error: &CallError) -> Text {
        let speaks = matches!(
            error,
            CallError::Forbidden(_)
                | CallError::Busy(_)
                | CallError::NotFound(_)
                | CallError::Rejected(_)
                | CallError::Failed { .. }
        );
        if !speaks || self.all_workspaces_are_open() {
            return error.to_string().into();
        }
        tracing::info!(source = %self.name, %error, "SkyPilot's words, which may name what is private");
        let kind = match error {
            CallError::Failed { kind, .. } => kind,
            CallError::Forbidden(_) => "it refused",
            CallError::Busy(_) => "it is busy",
            CallError::NotFound(_) => "it knows no such thing",
            _ => "it did not accept the call",
        };
        Text::from(format!(
            "SkyPilot could not answer ({kind}); its own words may name what is private, and are in the \
             server's log"
        ))
    }
}

#[cfg(test)]
mod tests {
    use skytower_api_client::Key;
    use skytower_api_client::entity::{Request, Service, User, Workspace};

    use super::*;

    fn table(private: &[bool]) -> Table {
        let mut table = Table::new();
        table.commit(private.iter().enumerate().map(|(number, private)| {
            Change::Upsert(
                Workspace {
                    key: Key::new("prod", Kind::Workspace, number),
                    source: "prod".into(),
                    private: *private,
                    ..Workspace::default()
                }
                .into(),
            )
        }));
        table
    }

    #[test]
    fn a_source_is_open_when_its_workspaces_are_known_and_none_is_private() {
        let open = |private: &[bool]| is_open(&table(private), &"prod".into());
        assert!(open(&[false, false]));
        assert!(!open(&[false, true]) && !open(&[]));
        assert!(!is_open(&table(&[false]), &"other".into()));
    }

    #[test]
    fn what_is_astray_is_for_administrators_while_anything_is_private() {
        let service: Arc<Entity> = Service {
            key: Key::new("prod", Kind::Service, 1),
            source: "prod".into(),
            ..Service::default()
        }
        .into();
        assert!(veiled(service.clone(), false).restricted());
        assert!(!veiled(veiled(service.clone(), false), true).restricted());
        let known = Request {
            within: vec!["prod/a".into(), "prod/b".into()],
            ..Request::default()
        };
        assert!(!veiled(known.into(), false).restricted());
        assert!(!veiled(User::default().into(), false).restricted());

        let mut table = table(&[false]);
        table.commit([Change::Upsert(service)]);
        let source = Text::from("prod");
        assert_eq!(turned(&table, &source, true).count(), 0);
        let turn: Vec<Change> = turned(&table, &source, false).collect();
        assert!(matches!(&turn[..], [Change::Upsert(row)] if row.restricted()));
    }
}
