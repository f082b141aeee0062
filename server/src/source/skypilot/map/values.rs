//! Values as SkyPilot writes them.

use serde_json::Value;
use skytower_api_client::entity::Owner;
use skytower_api_client::{EpochMs, Text};

/// Epoch seconds; zero and negative ones stand for "not yet".
pub(super) fn moment(seconds: Option<f64>) -> Option<EpochMs> {
    seconds
        .filter(|seconds| seconds.is_finite() && *seconds > 0.0)
        .map(EpochMs::from_seconds)
}

/// A word; empty, `-` and `None` stand for "unknown".
pub(super) fn word(raw: Option<String>) -> Option<Text> {
    raw.filter(|raw| !matches!(raw.trim(), "" | "-" | "None"))
        .map(Text::from)
}

/// Who it belongs to.
pub(super) fn owner(id: Option<String>, name: Option<String>) -> Option<Owner> {
    let id = word(id)?;
    let name = word(name).unwrap_or_else(|| id.clone());
    Some(Owner { id, name })
}

/// `Slurm (lab)`, as SkyPilot writes it.
pub(super) fn infra(cloud: Option<&Text>, region: Option<&Text>) -> Option<Text> {
    match (cloud, region) {
        (Some(cloud), Some(region)) => Some(format!("{cloud} ({region})").into()),
        (Some(cloud), None) => Some(cloud.clone()),
        _ => None,
    }
}

/// Accelerators per node.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Accelerators {
    /// `A100:2`.
    pub(super) text: Option<Text>,
    /// Their number.
    pub(super) count: f64,
}

impl Accelerators {
    fn of(pairs: &[(String, f64)]) -> Self {
        let text: Vec<_> = pairs
            .iter()
            .map(|(name, count)| format!("{name}:{count}"))
            .collect();
        Self {
            text: (!text.is_empty()).then(|| text.join(", ").into()),
            count: pairs.iter().map(|(_, count)| count).sum(),
        }
    }

    /// Number over all nodes; none when there are none.
    pub(super) fn over(&self, nodes: u32) -> Option<f64> {
        self.text
            .is_some()
            .then(|| self.count * f64::from(nodes.max(1)))
    }
}

/// Reads accelerators: clusters give the repr of a Python dict (`{'A100': 8}`), jobs a JSON object.
pub(super) fn accelerators(raw: Option<&Value>) -> Accelerators {
    match raw {
        Some(Value::Object(map)) => {
            let pairs: Vec<_> = map
                .iter()
                .filter_map(|(name, count)| Some((name.clone(), count.as_f64()?)))
                .collect();
            Accelerators::of(&pairs)
        }
        Some(Value::String(repr)) => {
            let inside = repr.trim().trim_start_matches('{').trim_end_matches('}');
            Accelerators::of(&pairs(inside))
        }
        _ => Accelerators::default(),
    }
}

fn pairs(list: &str) -> Vec<(String, f64)> {
    list.split(',')
        .filter_map(|pair| {
            let (name, count) = pair.rsplit_once(':')?;
            let name = name.trim().trim_matches(['\'', '"']);
            let count = count.trim().parse().ok()?;
            (!name.is_empty()).then(|| (name.to_owned(), count))
        })
        .collect()
}

/// Accelerators in a resources string such as `1x[A100:2]` or `2x(gpus=A100:2, cpus=2, ...)`.
pub(super) fn accelerators_in(resources: &str) -> Accelerators {
    let inside = resources
        .split_once(['[', '('])
        .map_or("", |(_, inside)| inside)
        .trim_end_matches([']', ')']);
    if let Some(gpus) = inside
        .split(", ")
        .find_map(|part| part.strip_prefix("gpus="))
    {
        return Accelerators::of(&pairs(gpus));
    }
    let found: Vec<_> = pairs(inside)
        .into_iter()
        .filter(|(name, _)| !matches!(name.to_lowercase().as_str(), "cpu" | "mem" | "memory"))
        .filter(|(name, _)| !name.contains('='))
        .collect();
    Accelerators::of(&found)
}

/// Number of nodes in front of a resources string: `2x[…]`.
pub(super) fn nodes_in(resources: &str) -> Option<u32> {
    resources.split_once('x')?.0.trim().parse().ok()
}
