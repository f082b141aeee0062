//! More about one row than travels in the stream: its YAML and the command that made it.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use skytower_api_client::wire::Problem;
use skytower_api_client::{Block, Entity, Text};

use super::client::{CallError, Client};
use crate::source::Detail;

/// Long enough for a managed job's full record on a busy server.
const DEADLINE: Duration = Duration::from_mins(1);

#[derive(Default, Deserialize)]
#[serde(default)]
struct Record {
    #[serde(alias = "cluster_hash")]
    hash: Option<String>,
    task_id: Option<i64>,
    last_creation_yaml: Option<String>,
    last_creation_command: Option<String>,
    user_yaml: Option<String>,
    pool_yaml: Option<String>,
    yaml_content: Option<String>,
    entrypoint: Option<String>,
}

/// The YAML and command of a row, as far as SkyPilot has them.
pub(super) async fn detail(client: &Client, row: &Entity) -> Result<Detail, Problem> {
    record(client, row)
        .await
        .map(|record| record.map_or_else(Detail::default, Record::into_detail))
        .map_err(|error| error.problem())
}

async fn record(client: &Client, row: &Entity) -> Result<Option<Record>, CallError> {
    let name = row.name().as_str();
    let ask = |path, body| client.ask(path, body, DEADLINE);
    let records = match row {
        Entity::Cluster(cluster) => {
            let body =
                json!({"cluster_names": [name], "all_users": true, "summary_response": false});
            let records = list(&ask("/status", body).await?)?;
            let hash = cluster.key.id();
            return Ok(records
                .into_iter()
                .find(|record| record.hash.as_deref().is_none_or(|found| found == hash)));
        }
        Entity::Job(job) => {
            let fields = ["job_id", "task_id", "status", "user_yaml", "entrypoint"];
            let body = json!({"all_users": true, "job_ids": [job.job_id], "fields": fields});
            let answer = ask("/jobs/queue/v2", body).await?;
            let records = list(&jobs_of(answer))?;
            let task = records
                .iter()
                .position(|record| record.task_id == Some(job.task_id));
            return Ok(task.and_then(|task| records.into_iter().nth(task)));
        }
        Entity::Service(_) => list(&ask("/serve/status", json!({"service_names": [name]})).await?)?,
        Entity::Pool(_) => list(&ask("/jobs/pool_status", json!({"pool_names": [name]})).await?)?,
        _ => return Ok(None),
    };
    Ok(records.into_iter().next())
}

fn list(answer: &RawValue) -> Result<Vec<Record>, CallError> {
    serde_json::from_str(answer.get()).map_err(|error| CallError::Malformed {
        path: "the record".into(),
        reason: Text::from(format!("at character {}", error.column())),
    })
}

/// The list in an answer that older peers give bare.
fn jobs_of(answer: Box<RawValue>) -> Box<RawValue> {
    #[derive(Deserialize)]
    struct Jobs {
        jobs: Box<RawValue>,
    }
    serde_json::from_str::<Jobs>(answer.get()).map_or(answer, |answer| answer.jobs)
}

impl Record {
    fn into_detail(self) -> Detail {
        let written = |text: &Option<String>| text.clone().filter(|text| !text.trim().is_empty());
        let yaml = [
            &self.user_yaml,
            &self.pool_yaml,
            &self.yaml_content,
            &self.last_creation_yaml,
        ]
        .into_iter()
        .find_map(written);
        let entrypoint = [&self.entrypoint, &self.last_creation_command]
            .into_iter()
            .find_map(written);
        Detail {
            yaml: yaml.map(Block::from),
            entrypoint: entrypoint.map(Text::from),
        }
    }
}
