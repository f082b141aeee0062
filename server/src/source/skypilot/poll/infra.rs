//! Nodes and clouds. Each is asked on its own: one that does not answer hides no other.

use std::collections::BTreeSet;

use serde_json::json;
use skytower_api_client::entity::Infra;
use skytower_api_client::wire::Change;
use skytower_api_client::{Key, Kind, Text};

use super::ledger::records;
use super::{Look, Poller, removal};
use crate::source::skypilot::client::CallError;
use crate::source::skypilot::map;

impl Poller {
    pub(super) async fn look_at_infra(&self) -> Result<Look, CallError> {
        let answer = self
            .client
            .ask_get("/enabled_clouds?expand=true", self.pace.deadline)
            .await?;
        let clouds: Vec<String> =
            serde_json::from_str(answer.get()).map_err(|_| CallError::Malformed {
                path: "/enabled_clouds".into(),
                reason: "it is not a list of names".into(),
            })?;
        let mut failed: Vec<Text> = Vec::new();
        let mut present: BTreeSet<Key> = BTreeSet::new();
        let mut silent: BTreeSet<Text> = BTreeSet::new();
        for cloud in clouds {
            let cloud = cloud.to_lowercase();
            let rows = match self.nodes(&cloud).await {
                Ok(rows) if rows.is_empty() => vec![map::enabled_cloud(&self.name, &cloud)],
                Ok(rows) => rows,
                Err(error) => {
                    failed.push(format!("{cloud}: {}", self.words_for_all(&error)).into());
                    silent.insert(Text::new(&cloud));
                    continue;
                }
            };
            present.extend(rows.iter().map(|row| row.key.clone()));
            self.commit(rows.into_iter().map(|row| Change::Upsert(row.into())));
        }
        let gone = self.rows(Kind::Infra, |row| {
            let row = row.as_infra()?;
            (!present.contains(&row.key) && !silent.contains(&row.infra)).then(|| row.key.clone())
        });
        let reason = "no longer part of the infrastructure".into();
        self.commit(gone.into_iter().filter_map(|key| removal(key, &reason)));
        match failed.first() {
            None => self.board.read(Kind::Infra, None),
            Some(first) => self.board.failed(Kind::Infra, first.clone()),
        }
        Ok(Look::Done)
    }

    async fn nodes(&self, cloud: &str) -> Result<Vec<Infra>, CallError> {
        let (family, place) = cloud.split_once('/').unwrap_or((cloud, ""));
        match family {
            "slurm" => {
                let path = "/slurm_node_info";
                let cluster = (!place.is_empty()).then_some(place);
                let body = json!({"slurm_cluster_name": cluster});
                let answer = self.client.ask(path, body, self.pace.deadline).await?;
                Ok(records(path, &answer)?
                    .iter()
                    .filter_map(|record| map::slurm_node(&self.name, record).ok())
                    .collect())
            }
            "kubernetes" | "ssh" => {
                // SkyPilot names the context of an SSH node pool after the pool.
                let context = match (family, place) {
                    (_, "") => None,
                    ("ssh", pool) => Some(format!("ssh-{pool}")),
                    (_, context) => Some(context.to_owned()),
                };
                let body = json!({"context": context});
                let answer = self
                    .client
                    .ask("/kubernetes_node_info", body, self.pace.deadline)
                    .await?;
                Ok(map::kubernetes_nodes(&self.name, cloud, &answer).unwrap_or_default())
            }
            _ => Ok(Vec::new()),
        }
    }
}
