//! Which fields there are, and what is said of those that cannot be honoured here.

use super::field::Field;
use super::report::Report;
use crate::nearest::nearest;

/// The fields of one mapping.
pub(super) struct Known {
    /// Those that are honoured.
    pub(super) here: &'static [&'static str],
    /// Those that SkyPilot has and this machine cannot honour: why, and what to do.
    pub(super) not_here: &'static [(&'static str, &'static str)],
}

impl Known {
    /// Says why `key` is not taken. To be called for every field that is not one of those honoured.
    pub(super) fn refuse(&self, key: &str, field: &Field<'_, '_>, report: &mut Report) {
        if let Some((_, why)) = self.not_here.iter().find(|(name, _)| *name == key) {
            // Nothing was asked for.
            if !field.is_nothing() {
                field.wrong(report, why);
            }
            return;
        }
        if key.starts_with('_') {
            field.wrong(
                report,
                "SkyPilot writes this for itself; it means nothing here; remove it",
            );
            return;
        }
        let message = match (elsewhere(key), nearest(key, self.names())) {
            (Some(message), _) => message,
            (None, Some(near)) => format!("there is no such field; did you mean `{near}`?"),
            (None, None) => "there is no such field; remove it".to_owned(),
        };
        field.wrong(report, message);
    }

    fn names(&self) -> impl Iterator<Item = &'static str> {
        let not_here = self.not_here.iter().map(|(name, _)| *name);
        self.here.iter().copied().chain(not_here)
    }
}

/// What is said of a field that is in the wrong mapping.
fn elsewhere(key: &str) -> Option<String> {
    [
        (&TASK, "to the task itself, further left"),
        (&RESOURCES, "under `resources`"),
        (&SERVICE, "under `service`"),
        (&PROBE, "under `service.readiness_probe`"),
        (&POLICY, "under `service.replica_policy`"),
        (&AUTOSTOP, "under `resources.autostop`"),
        (&RECOVERY, "under `resources.job_recovery`"),
    ]
    .into_iter()
    .find_map(|(known, place)| {
        if known.here.contains(&key) {
            return Some(format!("there is no such field here; it belongs {place}"));
        }
        let (_, why) = known.not_here.iter().find(|(name, _)| *name == key)?;
        Some((*why).to_owned())
    })
}

pub(super) static HEADER: Known = Known {
    here: &["name", "execution"],
    not_here: &[
        ("primary_tasks", GROUP),
        ("termination_delay", GROUP),
        ("inter_connection", GROUP),
    ],
};

/// Why there are no job groups.
pub(super) const GROUP: &str = "tasks of one job run one after the other here; start those that shall run side by side on their own";

pub(super) static TASK: Known = Known {
    here: &[
        "name",
        "workdir",
        "num_nodes",
        "resources",
        "envs",
        "secrets",
        "file_mounts",
        "setup",
        "run",
        "service",
        "config",
    ],
    not_here: &[
        (
            "event_callback",
            "nothing is called when a status changes; remove it, or do it at the end of `run`",
        ),
        (
            "volumes",
            "there are no volumes here; `file_mounts` copies local files and folders",
        ),
        (
            "volume_mounts",
            "there are no volumes here; `file_mounts` copies local files and folders",
        ),
        (
            "pool",
            "there are no pools here; remove it, and start managed jobs as they are",
        ),
        (
            "managed_secrets",
            "there is no store of secrets here; use `secrets`, and give the values with --secret",
        ),
        (
            "inputs",
            "it serves to choose between clouds, and there are none here; remove it",
        ),
        (
            "outputs",
            "it serves to choose between clouds, and there are none here; remove it",
        ),
        (
            "api_server_access",
            "tasks run as you, with all that you may; remove it",
        ),
        (
            "file_mounts_mapping",
            "SkyPilot writes this for itself; it means nothing here; remove it",
        ),
        (
            "execution",
            "it belongs to the first document of a pipeline, which has only it and `name`",
        ),
        ("primary_tasks", GROUP),
        ("termination_delay", GROUP),
        ("inter_connection", GROUP),
    ],
};

pub(super) static RESOURCES: Known = Known {
    here: &[
        "cpus",
        "memory",
        "accelerators",
        "ports",
        "autostop",
        "infra",
        "use_spot",
        "job_recovery",
        "labels",
    ],
    not_here: &[
        (
            "any_of",
            "there is only this machine to choose from; name one set of resources",
        ),
        (
            "ordered",
            "there is only this machine to choose from; name one set of resources",
        ),
        ("cloud", NO_CLOUD),
        ("region", NO_CLOUD),
        ("zone", NO_CLOUD),
        (
            "instance_type",
            "there is only this machine; say what is needed with `cpus` and `memory`",
        ),
        (
            "image_id",
            "tasks run on this machine as it is, without images or containers; remove it, and install what is missing in `setup`",
        ),
        ("disk_size", DISK),
        ("disk_tier", DISK),
        ("ephemeral_storage", DISK),
        ("local_disk", DISK),
        (
            "network_tier",
            "nodes talk over this machine's loopback; remove it",
        ),
        (
            "volumes",
            "there are no volumes here; `file_mounts` copies local files and folders",
        ),
        (
            "accelerator_args",
            "only TPUs of a cloud have these; remove it",
        ),
        (
            "priority",
            "jobs start in the order in which they came; remove it",
        ),
        (
            "priority_class",
            "jobs start in the order in which they came; remove it",
        ),
        ("max_hourly_cost", "nothing is billed here; remove it"),
        (
            "spot_recovery",
            "it is called `job_recovery` now; there are no spot machines here",
        ),
        (
            "hooks",
            "hooks are not run here; do it at the end of `run`, or remove them",
        ),
    ],
};

const NO_CLOUD: &str = "there are no clouds here; remove it";

const DISK: &str = "all nodes share this machine's disk; remove it";

pub(super) static AUTOSTOP: Known = Known {
    here: &["idle_minutes", "down", "wait_for"],
    not_here: &[
        (
            "hook",
            "hooks are not run here; do it at the end of `run`, or remove it",
        ),
        (
            "hook_timeout",
            "hooks are not run here; do it at the end of `run`, or remove it",
        ),
    ],
};

pub(super) static RECOVERY: Known = Known {
    here: &["strategy", "max_restarts_on_errors"],
    not_here: &[(
        "recover_on_exit_codes",
        "`max_restarts_on_errors` counts for every exit code here; remove it",
    )],
};

pub(super) static SERVICE: Known = Known {
    here: &[
        "readiness_probe",
        "replicas",
        "replica_policy",
        "ports",
        "load_balancing_policy",
    ],
    not_here: &[
        (
            "tls",
            "the load balancer speaks HTTP on this machine only; remove it",
        ),
        (
            "load_balancer",
            "the load balancer has no settings but `load_balancing_policy`; remove it",
        ),
        ("pool", "there are no pools here; a service has `replicas`"),
        (
            "workers",
            "there are no pools here; a service has `replicas`",
        ),
    ],
};

pub(super) static PROBE: Known = Known {
    here: &[
        "path",
        "initial_delay_seconds",
        "timeout_seconds",
        "post_data",
        "headers",
    ],
    not_here: &[
        (
            "endpoint_probe_interval_seconds",
            "how often replicas are probed cannot be set here; remove it",
        ),
        (
            "consecutive_failure_threshold_timeout",
            "how long a replica may fail cannot be set here; remove it",
        ),
    ],
};

pub(super) static POLICY: Known = Known {
    here: &[
        "min_replicas",
        "max_replicas",
        "target_qps_per_replica",
        "upscale_delay_seconds",
        "downscale_delay_seconds",
    ],
    not_here: &[
        (
            "num_overprovision",
            "no replicas are kept in reserve here; raise `min_replicas`",
        ),
        ("dynamic_ondemand_fallback", SPOT),
        ("base_ondemand_fallback_replicas", SPOT),
        ("spot_placer", SPOT),
    ],
};

pub(super) const SPOT: &str = "there are no spot machines here; remove it";

/// What `config` may override in SkyPilot. None of it is here.
pub(super) static CONFIG: Known = Known {
    here: &[],
    not_here: &[
        ("docker", "there are no containers here; remove it"),
        ("nvidia_gpus", "drivers are left as they are; remove it"),
        ("ssh", "there are no machines behind SSH here; remove it"),
        ("kubernetes", "there is no Kubernetes here; remove it"),
        ("slurm", "there is no Slurm here; remove it"),
        ("azure", NO_CLOUD),
        ("gcp", NO_CLOUD),
        ("vast", NO_CLOUD),
        (
            "active_workspace",
            "the workspace is said when the task is started; remove it",
        ),
        (
            "hooks",
            "hooks are not run here; do it at the end of `run`, or remove them",
        ),
    ],
};
