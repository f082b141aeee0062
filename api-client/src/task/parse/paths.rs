//! `workdir` and `file_mounts`: paths on this machine, and where on a node their copies lie.
//!
//! Whether they exist is for whoever copies them to find out: nothing here looks at the disk.

use std::collections::BTreeMap;

use super::field::Field;
use super::report::Report;
use super::tree::Value;
use super::variables::Values;

const NO_REPOSITORY: &str =
    "repositories are not fetched here; clone it, and name the local folder";
const NO_BUCKET: &str =
    "buckets and other stores are not reached from here; name a local path, or fetch it in `setup`";

/// Where the paths of a file begin.
pub(super) struct Here<'h> {
    /// The folder of relative paths.
    pub(super) folder: &'h str,
    /// The folder that `~` means.
    pub(super) home: Option<&'h str>,
}

/// The folder that is copied to every node.
pub(super) fn workdir(
    field: &Field<'_, '_>,
    here: &Here<'_>,
    values: &Values<'_>,
    report: &mut Report,
) -> Option<String> {
    if matches!(field.node.value, Value::Map(_)) {
        field.wrong(report, NO_REPOSITORY);
        return None;
    }
    let raw = field.text(report)?;
    let path = values.put_into(raw);
    let git = path.starts_with("git@") || (path.contains("://") && !path.starts_with('/'));
    let found = if git {
        Err(NO_REPOSITORY.to_owned())
    } else {
        here.absolute(&path)
    };
    found.map_err(|why| field.wrong(report, why)).ok()
}

/// Where on a node to what is copied there.
pub(super) fn file_mounts(
    field: &Field<'_, '_>,
    here: &Here<'_>,
    values: &Values<'_>,
    has_workdir: bool,
    report: &mut Report,
) -> BTreeMap<String, String> {
    let mut mounts = BTreeMap::new();
    for (key, entry) in field.entries(report) {
        let place = match on_node(&values.put_into(key)) {
            Ok(place) if place == "~/sky_workdir" && has_workdir => {
                entry.wrong(
                    report,
                    "is the place of `workdir`; name what lies in it one by one",
                );
                continue;
            }
            Ok(place) => place,
            Err(why) => {
                entry.wrong(report, why);
                continue;
            }
        };
        if matches!(entry.node.value, Value::Map(_)) {
            entry.wrong(report, NO_BUCKET);
            continue;
        }
        let Some(raw) = entry.text(report) else {
            continue;
        };
        let source = values.put_into(raw);
        let found = if source.contains("://") {
            Err(NO_BUCKET.to_owned())
        } else if source.ends_with('/') {
            // SkyPilot's rule: rsync gives it a meaning of its own.
            Err("a path must not end with `/`".to_owned())
        } else {
            here.absolute(&source)
        };
        match found {
            Ok(_) if mounts.contains_key(&place) => {
                entry.wrong(
                    report,
                    "is a place that another line of `file_mounts` fills",
                );
            }
            Ok(source) => {
                mounts.insert(place, source);
            }
            Err(why) => entry.wrong(report, why),
        }
    }
    mounts
}

impl Here<'_> {
    /// The absolute path without `.` and `..`.
    fn absolute(&self, path: &str) -> Result<String, String> {
        if path.is_empty() {
            return Err("must be a path, not nothing".to_owned());
        }
        if path.starts_with('/') {
            return Ok(plain(path));
        }
        let Some(rest) = path.strip_prefix('~') else {
            return Ok(plain(&format!("{}/{path}", self.folder)));
        };
        if !rest.is_empty() && !rest.starts_with('/') {
            return Err(
                "`~` with a name is not known here; write the path of that folder".to_owned(),
            );
        }
        match self.home {
            Some(home) => Ok(plain(&format!("{home}{rest}"))),
            None => {
                Err("there is no home folder that `~` could mean; write the whole path".to_owned())
            }
        }
    }
}

/// An absolute path without `.`, `..` and empty parts.
fn plain(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// Where on a node something is put: below its folder, or below `~`.
fn on_node(path: &str) -> Result<String, String> {
    if path.ends_with('/') {
        return Err("a path must not end with `/`".to_owned());
    }
    if path.contains("://") {
        return Err("the place must be on the node; nothing is copied to stores here".to_owned());
    }
    if path.contains('\0') {
        return Err("must not have a character of value 0".to_owned());
    }
    if path.starts_with('/') {
        return Err(
            "lies outside of the node, in this machine's own files; use `~/…` or a relative path"
                .to_owned(),
        );
    }
    let (home, rest) = match path.strip_prefix("~/") {
        Some(rest) => ("~/", rest),
        None if path.starts_with('~') => {
            return Err("must name something below `~/`".to_owned());
        }
        None => ("", path),
    };
    let mut parts = Vec::new();
    for part in rest.split('/') {
        match part {
            ".." if parts.pop().is_none() => {
                return Err("leaves the node's folder".to_owned());
            }
            "" | "." | ".." => {}
            part => parts.push(part),
        }
    }
    if parts.is_empty() {
        return Err("must name something below the node's folder".to_owned());
    }
    Ok(format!("{home}{}", parts.join("/")))
}
