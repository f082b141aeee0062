//! Services and pools, with their replicas and workers.

use serde_json::json;
use skytower_api_client::wire::Change;
use skytower_api_client::{Entity, Key};

use super::home::Homes;
use super::ledger::records;
use super::{Books, Look, Poller, removal};
use crate::source::skypilot::client::CallError;
use crate::source::skypilot::map::{Served, Unit, served};

impl Poller {
    pub(super) async fn look_at_served(
        &self,
        which: Served,
        books: &mut Books,
    ) -> Result<Look, CallError> {
        let (path, body) = match which {
            Served::Service => ("/serve/status", json!({"service_names": null})),
            Served::Pool => ("/jobs/pool_status", json!({"pool_names": null})),
        };
        let answer = self.client.ask(path, body, self.pace.deadline).await?;
        let records = records(path, &answer)?;
        let reading = books.ledger.read(&records, |record| {
            let unit: Unit = served(&self.name, which, record)?;
            Ok((unit.whole.key().clone(), unit))
        });
        let there = self.there(which.whole());
        let (gone, doubtful) = books.ledger.gone(&there, &reading);
        let unreadable = reading.note();
        for unit in reading.changed {
            self.commit_unit(which, unit, &mut books.homes);
        }
        for key in gone {
            books.homes.forget(&key);
            self.bury(&key).await;
            self.remove_parts(which, &key, &[], &"went with its whole".into());
        }
        let note = self
            .find_homes(which, &mut books.homes)
            .await
            .or(unreadable);
        self.board.read(which.whole(), note.clone());
        self.board.read(which.part(), note);
        self.forget_tombs(which.whole());
        Ok(if doubtful { Look::Again } else { Look::Done })
    }

    fn commit_unit(&self, which: Served, unit: Unit, homes: &mut Homes) {
        let key = unit.whole.key().clone();
        let parts: Vec<Key> = unit.parts.iter().map(|part| part.key().clone()).collect();
        let rows = std::iter::once(unit.whole).chain(unit.parts);
        self.commit(rows.map(|row| Change::Upsert(homes.placed(row))));
        homes.keep(&key, &parts);
        let reason = "replaced or torn down".into();
        self.remove_parts(which, &key, &parts, &reason);
    }

    fn remove_parts(
        &self,
        which: Served,
        whole: &Key,
        keep: &[Key],
        reason: &skytower_api_client::Text,
    ) {
        let gone = self.rows(which.part(), |row| {
            let of = match row {
                Entity::Replica(row) => &row.service_key,
                Entity::Worker(row) => &row.pool_key,
                _ => return None,
            };
            (of == whole && !keep.contains(row.key())).then(|| row.key().clone())
        });
        self.commit(gone.into_iter().filter_map(|key| removal(key, reason)));
    }
}
