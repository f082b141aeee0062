//! Clusters: one cheap call for all of them.

use serde_json::json;
use skytower_api_client::Kind;
use skytower_api_client::entity::Cluster;
use skytower_api_client::wire::Change;

use super::ledger::records;
use super::{Books, Look, Poller};
use crate::source::skypilot::client::CallError;
use crate::source::skypilot::map;

impl Poller {
    pub(super) async fn look_at_clusters(&self, books: &mut Books) -> Result<Look, CallError> {
        let path = "/status";
        let body = json!({"cluster_names": null, "all_users": true, "summary_response": true});
        let answer = self.client.ask(path, body, self.pace.deadline).await?;
        let records = records(path, &answer)?;
        let reading = books.ledger.read(&records, |record| {
            let row: Cluster = map::cluster(&self.name, record)?;
            Ok((row.key.clone(), row))
        });
        let there = self.there(Kind::Cluster);
        let (gone, doubtful) = books.ledger.gone(&there, &reading);
        let note = reading.note();
        self.commit(
            reading
                .changed
                .into_iter()
                .map(|row| Change::Upsert(row.into())),
        );
        self.board.read(Kind::Cluster, note);
        for key in gone {
            self.bury(&key).await;
        }
        self.forget_tombs(Kind::Cluster);
        Ok(if doubtful { Look::Again } else { Look::Done })
    }
}
