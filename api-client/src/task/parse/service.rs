//! How a service is served.

use std::collections::BTreeMap;

use super::super::{LoadBalancing, Probe, Resources, ServiceSpec};
use super::field::Field;
use super::known::{POLICY, PROBE, SERVICE};
use super::report::Report;
use super::scalar::Meaning;
use super::tree::{Node, Value};
use super::variables::Values;
use crate::nearest::nearest;

// SkyServe's.
const UPSCALE_DELAY_SECONDS: u32 = 300;
const DOWNSCALE_DELAY_SECONDS: u32 = 1200;

/// How many replicas there are.
struct Scale {
    least: u32,
    most: u32,
    target: Option<f64>,
    up: u32,
    down: u32,
}

impl Scale {
    fn fixed(replicas: u32) -> Self {
        Self {
            least: replicas,
            most: replicas,
            target: None,
            up: UPSCALE_DELAY_SECONDS,
            down: DOWNSCALE_DELAY_SECONDS,
        }
    }
}

pub(super) fn service(
    field: &Field<'_, '_>,
    resources: Option<(&Field<'_, '_>, &Resources)>,
    values: &Values<'_>,
    report: &mut Report,
) -> ServiceSpec {
    let mut spec = ServiceSpec {
        readiness_probe: Probe::default(),
        min_replicas: 1,
        max_replicas: 1,
        target_qps_per_replica: None,
        upscale_delay_seconds: UPSCALE_DELAY_SECONDS,
        downscale_delay_seconds: DOWNSCALE_DELAY_SECONDS,
        port: 0,
        load_balancing_policy: LoadBalancing::default(),
    };
    let (mut replicas, mut policy, mut port) = (None, None, None);
    for (key, entry) in field.entries(report) {
        if SERVICE.here.contains(&key) && entry.is_nothing() {
            continue;
        }
        match key {
            "readiness_probe" => spec.readiness_probe = probe(&entry, values, report),
            "replicas" => replicas = Some(entry),
            "replica_policy" => policy = Some(entry),
            "ports" => port = Some(entry),
            "load_balancing_policy" => {
                spec.load_balancing_policy = load_balancing(&entry, report);
            }
            _ => SERVICE.refuse(key, &entry, report),
        }
    }
    let scale = match (replicas, policy) {
        (Some(replicas), Some(_)) => {
            replicas.wrong(
                report,
                "there is a `replica_policy` too; only one of them counts",
            );
            Scale::fixed(1)
        }
        (Some(replicas), None) => Scale::fixed(replicas.whole(1, report).unwrap_or(1)),
        (None, Some(policy)) => scale(&policy, report),
        (None, None) => Scale::fixed(1),
    };
    spec.min_replicas = scale.least;
    spec.max_replicas = scale.most;
    spec.target_qps_per_replica = scale.target;
    spec.upscale_delay_seconds = scale.up;
    spec.downscale_delay_seconds = scale.down;
    spec.port = match port {
        Some(port) => one_port(&port, report),
        None => port_of(field, resources, report),
    };
    spec
}

fn one_port(field: &Field<'_, '_>, report: &mut Report) -> u16 {
    if let Some(Meaning::Whole(port)) = field.meaning()
        && let Ok(port @ 1..) = u16::try_from(port)
        && !field.raw().is_some_and(|raw| raw.contains(':'))
    {
        return port;
    }
    field.wrong(
        report,
        format!("must be a port from 1 to 65535, not {}", field.shown()),
    );
    0
}

/// The only port of the resources.
fn port_of(
    service: &Field<'_, '_>,
    resources: Option<(&Field<'_, '_>, &Resources)>,
    report: &mut Report,
) -> u16 {
    let ports = resources.map(|(_, resources)| &resources.ports[..]);
    match ports {
        Some([port]) => *port,
        Some([]) if resources.is_some_and(|(field, _)| says(field, "ports")) => {
            // What is wrong with them has been said.
            0
        }
        Some([]) | None => {
            service.wrong(
                report,
                "needs the port that a replica listens on: `ports` here, or one in `resources.ports`",
            );
            0
        }
        Some(_) => {
            service.wrong(
                report,
                "`resources.ports` has several ports; say with `ports` here which one is served",
            );
            0
        }
    }
}

/// Whether a mapping has a field that is not nothing.
fn says(field: &Field<'_, '_>, name: &str) -> bool {
    let Value::Map(pairs) = &field.node.value else {
        return false;
    };
    pairs.iter().any(|pair| {
        pair.key == name && {
            let field = Field {
                path: String::new(),
                line: pair.line,
                node: &pair.node,
            };
            !field.is_nothing()
        }
    })
}

fn scale(field: &Field<'_, '_>, report: &mut Report) -> Scale {
    let mut scale = Scale::fixed(1);
    let (mut least, mut most) = (None, None);
    let mut whole = true;
    for (key, entry) in field.entries(report) {
        if POLICY.here.contains(&key) && entry.is_nothing() {
            continue;
        }
        match key {
            "min_replicas" => {
                least = entry.whole(0, report);
                whole &= least.is_some();
            }
            "max_replicas" => {
                most = entry.whole(1, report);
                whole &= most.is_some();
            }
            "target_qps_per_replica" if matches!(entry.node.value, Value::Map(_)) => {
                entry.wrong(
                    report,
                    "all replicas are on this machine; name one number, not one for each accelerator",
                );
                whole = false;
            }
            "target_qps_per_replica" => {
                scale.target = entry.above_zero(report);
                whole &= scale.target.is_some();
            }
            "upscale_delay_seconds" => {
                scale.up = entry.whole(0, report).unwrap_or(UPSCALE_DELAY_SECONDS);
            }
            "downscale_delay_seconds" => {
                scale.down = entry.whole(0, report).unwrap_or(DOWNSCALE_DELAY_SECONDS);
            }
            _ => POLICY.refuse(key, &entry, report),
        }
    }
    // How the numbers go together is looked at only when all of them are numbers.
    if !whole || !matches!(field.node.value, Value::Map(_)) {
        return scale;
    }
    let Some(least) = least else {
        field.wrong(report, "needs `min_replicas`");
        return scale;
    };
    match (most, scale.target) {
        (Some(most), _) if most < least => field.wrong(
            report,
            format!("`max_replicas` {most} is less than `min_replicas` {least}"),
        ),
        (Some(most), None) if most != least => field.wrong(
            report,
            "needs `target_qps_per_replica` to choose between `min_replicas` and `max_replicas`",
        ),
        (None, Some(_)) => field.wrong(
            report,
            "`target_qps_per_replica` needs `max_replicas` as well",
        ),
        (None, None) if least == 0 => {
            field.wrong(report, "`min_replicas` 0 needs `max_replicas` as well");
        }
        _ => {}
    }
    scale.least = least;
    scale.most = most.unwrap_or(least);
    scale
}

fn load_balancing(field: &Field<'_, '_>, report: &mut Report) -> LoadBalancing {
    const ALL: [LoadBalancing; 2] = [LoadBalancing::LeastLoad, LoadBalancing::RoundRobin];
    let Some(raw) = field.text(report) else {
        return LoadBalancing::default();
    };
    if let Some(policy) = ALL.into_iter().find(|policy| policy.word() == raw) {
        return policy;
    }
    let message = match nearest(raw, ALL.map(LoadBalancing::word)) {
        _ if raw == "instance_aware_least_load" => {
            "all replicas are on this machine; use `least_load`".to_owned()
        }
        Some(near) => format!("there is no such policy; did you mean `{near}`?"),
        None => "there is no such policy; there are `least_load` and `round_robin`".to_owned(),
    };
    field.wrong(report, message);
    LoadBalancing::default()
}

fn probe(field: &Field<'_, '_>, values: &Values<'_>, report: &mut Report) -> Probe {
    let mut probe = Probe::default();
    if !matches!(field.node.value, Value::Map(_)) {
        probe.path = path(field, values, report).unwrap_or_default();
        return probe;
    }
    let mut has_path = false;
    for (key, entry) in field.entries(report) {
        if PROBE.here.contains(&key) && entry.is_nothing() {
            continue;
        }
        match key {
            "path" => {
                has_path = true;
                probe.path = path(&entry, values, report).unwrap_or_default();
            }
            "initial_delay_seconds" => {
                probe.initial_delay_seconds = entry.whole(0, report).unwrap_or_default();
            }
            "timeout_seconds" => {
                probe.timeout_seconds = entry.whole(1, report).unwrap_or_default();
            }
            "post_data" => probe.post_data = post_data(&entry, values, report),
            "headers" => probe.headers = headers(&entry, values, report),
            _ => PROBE.refuse(key, &entry, report),
        }
    }
    if !has_path {
        field.wrong(report, "needs `path`");
    }
    probe
}

fn path(field: &Field<'_, '_>, values: &Values<'_>, report: &mut Report) -> Option<String> {
    let path = values.put_into(field.text(report)?);
    if path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Some(path);
    }
    // What it is with the values in it is not said: they may be secrets.
    field.wrong(
        report,
        format!(
            "must be a path that begins with `/`, without spaces, not {}",
            field.shown()
        ),
    );
    None
}

fn post_data(field: &Field<'_, '_>, values: &Values<'_>, report: &mut Report) -> Option<String> {
    match &field.node.value {
        Value::Scalar(_) => {
            let text = values.put_into(field.text(report)?);
            if serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok() {
                return Some(text);
            }
            field.wrong(
                report,
                "must be JSON, or a mapping; in quotation marks: `'{\"a\": 1}'`",
            );
            None
        }
        Value::Map(_) => {
            let value = json(field.node, values);
            if value.is_none() {
                field.wrong(report, "has a number that JSON cannot say");
            }
            value.map(|value| value.to_string())
        }
        Value::List(_) => {
            field.wrong(report, "must be JSON text, or a mapping, not a list");
            None
        }
    }
}

/// The value as JSON; none when it holds what JSON has not.
fn json(node: &Node<'_>, values: &Values<'_>) -> Option<serde_json::Value> {
    Some(match &node.value {
        Value::Scalar(scalar) => match super::scalar::meaning(scalar) {
            Meaning::Nothing => serde_json::Value::Null,
            Meaning::Flag(flag) => flag.into(),
            Meaning::Whole(number) => serde_json::Number::from_i128(number)?.into(),
            Meaning::Fraction(number) => serde_json::Number::from_f64(number)?.into(),
            Meaning::Text => values.put_into(&scalar.text).into(),
        },
        Value::List(list) => {
            let list: Option<Vec<_>> = list.iter().map(|node| json(node, values)).collect();
            list?.into()
        }
        Value::Map(pairs) => {
            let map: Option<serde_json::Map<_, _>> = pairs
                .iter()
                .map(|pair| Some((values.put_into(&pair.key), json(&pair.node, values)?)))
                .collect();
            map?.into()
        }
    })
}

fn headers(
    field: &Field<'_, '_>,
    values: &Values<'_>,
    report: &mut Report,
) -> BTreeMap<String, String> {
    let mut headers = BTreeMap::new();
    for (key, entry) in field.entries(report) {
        let Some(raw) = entry.text(report) else {
            continue;
        };
        let (name, value) = (values.put_into(key), values.put_into(raw));
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(token) {
            entry.wrong(report, "is not the name of an HTTP header");
        } else if !value
            .bytes()
            .all(|byte| matches!(byte, b'\t' | b' '..=b'~'))
        {
            entry.wrong(report, "a header's value is one line of ASCII");
        } else {
            headers.insert(name, value);
        }
    }
    headers
}
