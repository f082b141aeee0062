//! The folders of nodes: each is a home of its own, with what the task brings along.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, symlink};
use std::path::{Component, Path, PathBuf};

use skytower_api_client::task::Task;

/// Where a task's `workdir` lies on a node, below its home, as at SkyPilot.
pub(super) const WORKDIR: &str = "sky_workdir";

/// The folder of one node.
pub(super) fn node(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("node-{number}"))
}

/// Makes the folders of a work's nodes and copies its files there.
pub(super) fn prepare(
    engine: &Path,
    folder: &Path,
    nodes: usize,
    task: &Task,
) -> Result<(), String> {
    for number in 0..nodes {
        let home = node(folder, number);
        let workdir = home.join(WORKDIR);
        make(&workdir).map_err(|error| cannot("make", &workdir, &error))?;
        if let Some(from) = &task.workdir {
            bring(engine, Path::new(from), &workdir)?;
        }
        for (to, from) in &task.file_mounts {
            bring(engine, Path::new(from), &inside(&home, &workdir, to)?)?;
        }
    }
    Ok(())
}

/// Where a mount goes: `~/x` and `/x` below the node's home, `x` below its working folder.
fn inside(home: &Path, workdir: &Path, to: &str) -> Result<PathBuf, String> {
    let (below, rest) = match to.strip_prefix("~/").or_else(|| to.strip_prefix('/')) {
        Some(rest) => (home, rest),
        None => (workdir, to),
    };
    let plain = Path::new(rest)
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if rest.is_empty() || !plain {
        return Err(format!(
            "file_mounts: `{to}` is not a place below the node's home"
        ));
    }
    Ok(below.join(rest))
}

fn bring(engine: &Path, from: &Path, to: &Path) -> Result<(), String> {
    let real = from
        .canonicalize()
        .map_err(|error| cannot("read", from, &error))?;
    if engine.starts_with(&real) {
        return Err(format!(
            "{} holds the engine's own files: it cannot be copied into itself",
            from.display()
        ));
    }
    copy(&real, to).map_err(|(path, error)| cannot("copy", &path, &error))
}

fn cannot(verb: &str, path: &Path, error: &io::Error) -> String {
    let why = match error.kind() {
        io::ErrorKind::NotFound => "there is no such file or folder".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    };
    format!("cannot {verb} {}: {why}", path.display())
}

fn make(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
}

/// Copies over what is there, as rsync would; links stay links.
fn copy(from: &Path, to: &Path) -> Result<(), (PathBuf, io::Error)> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |error| (path, error)
    };
    let kind = fs::symlink_metadata(from).map_err(at(from))?.file_type();
    if kind.is_dir() {
        make(to).map_err(at(to))?;
        for entry in fs::read_dir(from).map_err(at(from))? {
            let entry = entry.map_err(at(from))?;
            copy(&entry.path(), &to.join(entry.file_name()))?;
        }
    } else if kind.is_symlink() {
        let target = fs::read_link(from).map_err(at(from))?;
        replace(to).map_err(at(to))?;
        symlink(target, to).map_err(at(to))?;
    } else if kind.is_file() {
        if let Some(parent) = to.parent() {
            make(parent).map_err(at(parent))?;
        }
        replace(to).map_err(at(to))?;
        fs::copy(from, to).map_err(at(from))?;
    }
    // Sockets, pipes and devices mean nothing in a copy.
    Ok(())
}

/// A running program's file cannot be written over, but it can be replaced.
fn replace(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes a folder of the engine's, however it was left.
pub(super) fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_copied_links_stay_links_and_nothing_escapes() {
        let temporary = tempfile::tempdir().unwrap();
        let from = temporary.path().join("project");
        fs::create_dir_all(from.join("src")).unwrap();
        fs::write(from.join("src/main.py"), "print(1)").unwrap();
        symlink("src/main.py", from.join("run.py")).unwrap();
        let engine = temporary.path().join("engine");
        fs::create_dir(&engine).unwrap();
        let mut task = Task {
            workdir: Some(from.to_str().unwrap().to_owned()),
            ..Task::default()
        };
        let mounts = [("~/data/x", "src"), ("y", "src/main.py")];
        for (to, what) in mounts {
            let what = from.join(what).to_str().unwrap().to_owned();
            task.file_mounts.insert(to.to_owned(), what);
        }
        let folder = engine.join("clusters/dev");
        for _ in 0..2 {
            prepare(&engine, &folder, 2, &task).unwrap();
        }
        for number in 0..2 {
            let home = node(&folder, number);
            let link = home.join("sky_workdir/run.py");
            assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
            assert_eq!(fs::read_to_string(link).unwrap(), "print(1)");
            assert!(home.join("data/x/main.py").is_file());
            assert!(home.join("sky_workdir/y").is_file());
        }
        task.file_mounts
            .insert("../../up".to_owned(), "/etc/hostname".to_owned());
        assert!(
            prepare(&engine, &folder, 1, &task)
                .unwrap_err()
                .contains("../../up")
        );
    }

    #[test]
    fn what_is_missing_or_holds_the_engine_is_named() {
        let temporary = tempfile::tempdir().unwrap();
        let engine = temporary.path().join("state/engine");
        fs::create_dir_all(&engine).unwrap();
        let folder = engine.join("jobs/1-0");
        let with = |workdir: &Path| Task {
            workdir: Some(workdir.to_str().unwrap().to_owned()),
            ..Task::default()
        };
        let missing = temporary.path().join("nowhere");
        let said = prepare(&engine, &folder, 1, &with(&missing)).unwrap_err();
        assert!(
            said.ends_with("nowhere: there is no such file or folder"),
            "{said}"
        );
        let said = prepare(&engine, &folder, 1, &with(temporary.path())).unwrap_err();
        assert!(said.contains("cannot be copied into itself"), "{said}");
    }
}
