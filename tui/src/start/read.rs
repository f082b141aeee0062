//! Reading a task file: the only place here that touches the disk.

use std::io::Read as _;
use std::path::PathBuf;

use skytower_api_client::Text;
use skytower_api_client::action::Start;
use skytower_api_client::task::{Given, Mistake, TaskFile, parse};

/// What stands for standard input.
pub const STDIN: &str = "-";

/// The largest file that is sent, in bytes: a request with it fits what a server takes.
pub const LARGEST: usize = 512 * 1024;

/// A file that was read: what is sent, and what it says.
#[derive(Clone, Debug, PartialEq)]
pub struct Read {
    /// What is sent.
    pub start: Start,
    /// What it says, or all that is wrong with it.
    pub task: Result<TaskFile, Vec<Mistake>>,
}

/// Reads the task file at `path` for `start`, which holds all that was given beside it.
pub fn read(path: &str, start: Start) -> Result<Read, String> {
    let yaml = text(path)?;
    // As with `sky`: relative paths are meant from where one is, not from where the file is.
    let folder = std::env::current_dir()
        .map_err(|error| format!("the current folder cannot be found: {error}"))?;
    let start = Start {
        file: path.into(),
        yaml,
        folder: folder.to_string_lossy().into_owned(),
        ..start
    };
    let given = Given {
        folder: &start.folder,
        envs: start.envs.clone(),
        secrets: start.secrets.clone(),
    };
    let task = parse(&start.file, &start.yaml, &given);
    Ok(Read { start, task })
}

fn text(path: &str) -> Result<String, String> {
    let named = if path == STDIN {
        "standard input".to_owned()
    } else {
        format!("`{}`", Text::new(path))
    };
    let cannot = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => format!("there is no file {named}"),
        std::io::ErrorKind::IsADirectory => format!("{named} is a folder"),
        _ => format!("{named} cannot be read: {error}"),
    };
    let mut bytes = Vec::new();
    // One byte more than is taken, so that a larger one is noticed; a device without end ends here.
    let most = LARGEST as u64 + 1;
    if path == STDIN {
        std::io::stdin().lock().take(most).read_to_end(&mut bytes)
    } else {
        let at = at(path);
        let kind = std::fs::metadata(&at).map_err(cannot)?;
        if kind.is_dir() {
            return Err(format!("{named} is a folder"));
        }
        std::fs::File::open(at)
            .map_err(cannot)?
            .take(most)
            .read_to_end(&mut bytes)
    }
    .map_err(cannot)?;
    if bytes.len() > LARGEST {
        let most = LARGEST / 1024;
        return Err(format!(
            "{named} is larger than the {most} kB that a task file may have"
        ));
    }
    String::from_utf8(bytes).map_err(|_| format!("{named} is not text (UTF-8)"))
}

/// The task files (and other folders) of a folder, each with `/` behind a folder's name.
pub fn folder(path: &str) -> Result<Vec<String>, String> {
    let at = if path.is_empty() {
        PathBuf::from(".")
    } else {
        at(path)
    };
    let entries = std::fs::read_dir(at)
        .map_err(|error| format!("the folder `{}` cannot be read: {error}", Text::new(path)))?;
    let (mut files, mut folders) = (Vec::new(), Vec::new());
    for entry in entries.flatten() {
        // A name that is not text cannot be typed either.
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        // What a link leads to counts.
        let Ok(kind) = std::fs::metadata(entry.path()) else {
            continue;
        };
        if kind.is_dir() {
            folders.push(format!("{name}/"));
        } else if matches!(name.rsplit_once('.'), Some((_, "yaml" | "yml"))) {
            files.push(name);
        }
    }
    files.sort_unstable();
    folders.sort_unstable();
    files.append(&mut folders);
    Ok(files)
}

/// The place of a path as people write it.
fn at(path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => PathBuf::from(home).join(rest),
        _ => PathBuf::from(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_a_task_file_is_said() {
        let desk = tempfile::tempdir().unwrap();
        let path = |name: &str| desk.path().join(name).to_str().unwrap().to_owned();
        std::fs::write(path("big.yaml"), vec![b' '; LARGEST + 1]).unwrap();
        std::fs::write(path("noise.yaml"), [0xff, 0xfe]).unwrap();
        std::fs::write(path("note.txt"), "").unwrap();
        std::fs::create_dir(path("more")).unwrap();
        for (name, about) in [
            ("none.yaml", "there is no file"),
            ("more", "is a folder"),
            ("big.yaml", "larger than the 512 kB"),
            ("noise.yaml", "not text"),
        ] {
            let said = read(&path(name), Start::default()).unwrap_err();
            assert!(said.contains(about), "{said}");
        }
        let said = read("/dev/zero", Start::default()).unwrap_err();
        assert!(said.contains("larger than"), "{said}");
        let found = folder(desk.path().to_str().unwrap()).unwrap();
        assert_eq!(found, ["big.yaml", "noise.yaml", "more/"]);
    }
}
