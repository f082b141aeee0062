//! What an infrastructure cannot do, in SkyPilot's own words (`sky/clouds/*.py`, 0.14.1).
//!
//! Only what holds for every cluster of a cloud is ruled out beforehand; what depends on a cluster's
//! settings (spot machines, TPU pods) is left to SkyPilot.

use skytower_api_client::entity::Refusal;
use skytower_api_client::policy::AUTOSTOP_TO_STOP;

struct Inability {
    cloud: &'static str,
    /// Why a cluster cannot be stopped.
    stop: &'static str,
    /// Why it cannot be stopped by autostop either, where SkyPilot has a sentence of its own.
    autostop: Option<&'static str>,
    /// Why it cannot even tear itself down.
    autodown: Option<&'static str>,
}

const fn no_stop(cloud: &'static str, stop: &'static str) -> Inability {
    Inability {
        cloud,
        stop,
        autostop: None,
        autodown: None,
    }
}

const INABILITIES: &[Inability] = &[
    Inability {
        cloud: "slurm",
        stop: "Stopping is supported only for container clusters on Slurm clusters with Pyxis installed.",
        autostop: Some(
            "Autostop is supported only for container clusters on Slurm clusters with Pyxis installed.",
        ),
        autodown: None,
    },
    Inability {
        cloud: "kubernetes",
        stop: "Stopping clusters is not supported on Kubernetes.",
        autostop: Some("Auto-stop is not supported on Kubernetes."),
        autodown: None,
    },
    Inability {
        cloud: "ssh",
        stop: "Stopping clusters is not supported on SSH.",
        autostop: None,
        autodown: None,
    },
    no_stop("lambda", "Lambda cloud does not support stopping VMs."),
    no_stop("runpod", "Stopping not supported."),
    no_stop("cudo", "Stopping not supported."),
    no_stop(
        "fluidstack",
        "Stopping clusters in FluidStack is not supported in SkyPilot",
    ),
    no_stop(
        "shadeform",
        "Stopping instances not supported on Shadeform.",
    ),
    Inability {
        cloud: "hyperbolic",
        stop: "Stopping not supported.",
        autostop: Some("Auto-stop not supported."),
        autodown: Some("Auto-down not supported."),
    },
    Inability {
        cloud: "primeintellect",
        stop: "Stopping not supported.",
        autostop: None,
        autodown: Some("Auto down not supported yet."),
    },
    Inability {
        cloud: "verda",
        stop: "Stopping not supported on Verda.",
        autostop: Some("Auto-stop is not supported on Verda."),
        autodown: Some("Auto-down is not supported on Verda."),
    },
    Inability {
        cloud: "yotta",
        stop: "Stopping not supported.",
        autostop: Some("Auto-stop not supported yet on Yotta."),
        autodown: Some("Auto-down is not supported yet on Yotta."),
    },
];

/// What a cluster's cloud rules out. `container`: it may run in containers, which on Slurm makes the
/// difference, so nothing is ruled out beforehand.
pub(super) fn refusals(cloud: Option<&str>, container: bool) -> Vec<Refusal> {
    let Some(cloud) = cloud.map(str::to_lowercase) else {
        return Vec::new();
    };
    let Some(inability) = INABILITIES
        .iter()
        .find(|inability| inability.cloud == cloud)
        .filter(|inability| !(container && inability.cloud == "slurm"))
    else {
        return Vec::new();
    };
    let refusal = |action: &str, reason: &str| Refusal {
        action: action.into(),
        reason: reason.into(),
    };
    let autostop = inability.autostop.unwrap_or(inability.stop);
    vec![
        refusal("cluster.stop", inability.stop),
        match inability.autodown {
            Some(autodown) => refusal("cluster.autostop", autodown),
            None => refusal(AUTOSTOP_TO_STOP, autostop),
        },
    ]
}
