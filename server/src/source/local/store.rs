//! The engine's database: one record per thing, as JSON.

use std::fs::{OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use rusqlite::{Connection, OptionalExtension, params};
use serde::Serialize;
use serde::de::DeserializeOwned;
use skytower_api_client::{EpochMs, Text};

use super::state::{Counters, Record, State};

/// How long it is remembered which handover became what.
const HANDOVERS_KEPT_MS: i64 = 7 * 24 * 3600 * 1000;

/// The database, open.
pub(super) struct Store {
    connection: Connection,
}

/// A handover that was accepted, and what came of it.
pub(super) struct Accepted {
    pub handover: Text,
    pub upstream: Text,
    pub message: Option<Text>,
}

impl Store {
    /// Opens it, or makes it.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        // Tasks keep their secrets in it. Its journal gets the same rights.
        OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)?
            .set_permissions(Permissions::from_mode(0o600))?;
        let connection = Connection::open(path)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // What was acknowledged survives a loss of power.
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.execute_batch(
            "CREATE TABLE IF NOT EXISTS records (
                 kind TEXT NOT NULL, id TEXT NOT NULL, json TEXT NOT NULL,
                 PRIMARY KEY (kind, id)
             ) WITHOUT ROWID;
             CREATE TABLE IF NOT EXISTS handovers (
                 id TEXT PRIMARY KEY, upstream TEXT NOT NULL, message TEXT, at INTEGER NOT NULL
             ) WITHOUT ROWID;",
        )?;
        Ok(Self { connection })
    }

    /// Everything that was written.
    pub(super) fn load(&self) -> anyhow::Result<State> {
        let mut state = State::default();
        let mut query = self
            .connection
            .prepare("SELECT kind, id, json FROM records")?;
        let mut rows = query.query([])?;
        let mut counters = None;
        while let Some(row) = rows.next()? {
            let (kind, id, json): (String, String, String) =
                (row.get(0)?, row.get(1)?, row.get(2)?);
            match kind.as_str() {
                "counters" => counters = Some(read::<Counters>(&kind, &id, &json)?),
                "cluster" => {
                    let cluster: super::state::Cluster = read(&kind, &id, &json)?;
                    state.clusters.insert(cluster.name.clone(), cluster);
                }
                "cluster_job" => {
                    let job: super::state::ClusterJob = read(&kind, &id, &json)?;
                    state
                        .cluster_jobs
                        .insert((job.cluster.clone(), job.id), job);
                }
                "job" => {
                    let job: super::state::Job = read(&kind, &id, &json)?;
                    state.jobs.insert(job.id, job);
                }
                "service" => {
                    let service: super::state::Service = read(&kind, &id, &json)?;
                    state.services.insert(service.name.clone(), service);
                }
                "work" => {
                    let work: super::state::Work = read(&kind, &id, &json)?;
                    state.works.insert(work.id, work);
                }
                other => anyhow::bail!("a newer skytower wrote a record of kind `{other}`"),
            }
        }
        state.counters = counters.unwrap_or_else(|| {
            state.dirty.insert(Record::Counters);
            let random = uuid::Uuid::new_v4().as_bytes()[0];
            Counters {
                net: 32 + random % 200,
                ..Counters::default()
            }
        });
        Ok(state)
    }

    /// Writes what changed, and what was accepted with it, all or nothing, to the disk.
    pub(super) fn save(&mut self, state: &State, accepted: &[Accepted]) -> anyhow::Result<()> {
        let transaction = self.connection.transaction()?;
        {
            let mut put = transaction.prepare_cached(
                "INSERT OR REPLACE INTO records (kind, id, json) VALUES (?, ?, ?)",
            )?;
            let mut remove =
                transaction.prepare_cached("DELETE FROM records WHERE kind = ? AND id = ?")?;
            for record in &state.dirty {
                let (kind, id, json) = match record {
                    Record::Counters => {
                        ("counters", String::new(), written(Some(&state.counters))?)
                    }
                    Record::Cluster(name) => (
                        "cluster",
                        name.to_string(),
                        written(state.clusters.get(name))?,
                    ),
                    Record::ClusterJob(cluster, id) => (
                        "cluster_job",
                        format!("{cluster}/{id}"),
                        written(state.cluster_jobs.get(&(cluster.clone(), *id)))?,
                    ),
                    Record::Job(id) => ("job", id.to_string(), written(state.jobs.get(id))?),
                    Record::Service(name) => (
                        "service",
                        name.to_string(),
                        written(state.services.get(name))?,
                    ),
                    Record::Work(id) => ("work", id.to_string(), written(state.works.get(id))?),
                };
                match json {
                    Some(json) => put.execute(params![kind, id, json])?,
                    None => remove.execute(params![kind, id])?,
                };
            }
            let now = EpochMs::now().0;
            let mut accept = transaction.prepare_cached(
                "INSERT OR REPLACE INTO handovers (id, upstream, message, at) VALUES (?, ?, ?, ?)",
            )?;
            for one in accepted {
                let message = one.message.as_deref();
                accept.execute(params![&*one.handover, &*one.upstream, message, now])?;
            }
            if !accepted.is_empty() {
                transaction.execute(
                    "DELETE FROM handovers WHERE at < ?",
                    params![now - HANDOVERS_KEPT_MS],
                )?;
            }
        }
        transaction.commit()?;
        Ok(())
    }

    /// What became of a handover.
    pub(super) fn accepted(&self, handover: &str) -> anyhow::Result<Option<(Text, Option<Text>)>> {
        let found = self
            .connection
            .query_row(
                "SELECT upstream, message FROM handovers WHERE id = ?",
                params![handover],
                |row| Ok((row.get::<_, String>(0)?, row.get::<_, Option<String>>(1)?)),
            )
            .optional()?;
        Ok(found.map(|(upstream, message)| (upstream.into(), message.map(Text::from))))
    }
}

fn read<T: DeserializeOwned>(kind: &str, id: &str, json: &str) -> anyhow::Result<T> {
    // serde's message may quote a value, and values may be secrets: only its place is told.
    serde_json::from_str(json).map_err(|error| {
        anyhow::anyhow!(
            "the record of {kind} `{id}` cannot be read (column {})",
            error.column()
        )
    })
}

fn written<T: Serialize>(value: Option<&T>) -> anyhow::Result<Option<String>> {
    Ok(value.map(serde_json::to_string).transpose()?)
}
