//! Tells the program which commit it was built from and which sources its server is made of.
//!
//! `SKYTOWER_COMMIT`: from the environment (packagers), else git's HEAD, else `unknown`.
//! `SKYTOWER_BUILD`: a fingerprint of the sources of the server and the wire. A client that would start
//! another server than the one that runs replaces it: neither version nor commit changes while one edits.
//! Shared by `server/` and `tui/`.

use std::path::{Path, PathBuf};
use std::process::Command;

const SOURCES: &[&str] = &[
    "api-client/src",
    "server/src",
    "assets/wire-v1.dict",
    "Cargo.lock",
];

fn main() {
    let root = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default()).join("..");
    println!("cargo::rerun-if-env-changed=SKYTOWER_COMMIT");
    let commit = std::env::var("SKYTOWER_COMMIT")
        .ok()
        .filter(|commit| !commit.is_empty())
        .or_else(|| commit(&root))
        .unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=SKYTOWER_COMMIT={commit}");

    let mut hash = 0xcbf2_9ce4_8422_2325;
    for source in SOURCES {
        println!("cargo::rerun-if-changed={}", root.join(source).display());
        add(&root.join(source), &mut hash);
    }
    println!("cargo::rustc-env=SKYTOWER_BUILD={hash:016x}");
}

/// HEAD, short; it is looked at again when it moves.
fn commit(root: &Path) -> Option<String> {
    let git = |words: &[&str]| {
        let said = Command::new("git")
            .arg("-C")
            .arg(root)
            .args(words)
            .output()
            .ok()?;
        let said = String::from_utf8(said.stdout)
            .ok()
            .filter(|_| said.status.success())?;
        Some(said.trim().to_owned()).filter(|said| !said.is_empty())
    };
    // Another project's repository around an unpacked archive says nothing about this one.
    git(&["ls-files", "--error-unmatch", "server/build.rs"])?;
    for file in ["HEAD", "logs/HEAD"] {
        let path = root.join(git(&["rev-parse", "--git-path", file])?);
        if path.exists() {
            println!("cargo::rerun-if-changed={}", path.display());
        }
    }
    git(&["rev-parse", "--short=12", "HEAD"])
}

/// FNV-1a over names and contents, in the order of the names.
fn add(path: &Path, hash: &mut u64) {
    if let Ok(entries) = std::fs::read_dir(path) {
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            add(&path, hash);
        }
        return;
    }
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    let content = std::fs::read(path).unwrap_or_default();
    for byte in name.iter().chain(&content) {
        *hash = (*hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
}
