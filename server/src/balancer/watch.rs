//! Noticing that the engine has written.

use std::ffi::CString;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::unix::AsyncFd;

use super::files::BACKENDS;
use super::note;

/// How often the file is looked at where the kernel does not tell.
const LOOK: Duration = Duration::from_millis(50);

/// Tells when the file with the backends is another one.
pub(super) enum Watch {
    Told {
        events: AsyncFd<OwnedFd>,
        name: CString,
    },
    /// The kernel tells only so many for each user.
    Looking {
        file: PathBuf,
        last: Option<(u64, i64, i64)>,
    },
}

impl Watch {
    /// Whatever is written after this is noticed.
    pub(super) fn new(folder: &Path) -> Self {
        match Self::told(folder) {
            Ok(watch) => watch,
            Err(error) => {
                note(format_args!(
                    "{BACKENDS} is looked at {} times a second, because the kernel does not tell of changes ({error})",
                    1000 / LOOK.as_millis()
                ));
                Self::looking(folder)
            }
        }
    }

    fn told(folder: &Path) -> std::io::Result<Self> {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        inotify::add_watch(
            &inotify,
            folder,
            WatchFlags::MOVED_TO | WatchFlags::CLOSE_WRITE | WatchFlags::ONLYDIR,
        )?;
        #[expect(
            deprecated,
            reason = "it is unsound for what does not own its descriptor; its successor is not safe to call"
        )]
        let events = AsyncFd::new(inotify)?;
        Ok(Self::Told {
            events,
            name: CString::new(BACKENDS)?,
        })
    }

    fn looking(folder: &Path) -> Self {
        let file = folder.join(BACKENDS);
        Self::Looking {
            last: look(&file),
            file,
        }
    }

    /// Returns when it may be another one. Nothing is lost when this is given up.
    pub(super) async fn changed(&mut self) {
        match self {
            Self::Told { events, name } => loop {
                let Ok(mut ready) = events.readable().await else {
                    // Cannot be while the runtime runs.
                    return std::future::pending().await;
                };
                let mut changed = false;
                let mut buffer = [MaybeUninit::uninit(); 1024];
                let mut reader = inotify::Reader::new(ready.get_inner(), &mut buffer);
                while let Ok(event) = reader.next() {
                    // One without a name: some were lost.
                    changed |= event.file_name().is_none_or(|file| file == name.as_c_str());
                }
                ready.clear_ready();
                if changed {
                    return;
                }
            },
            Self::Looking { file, last } => loop {
                tokio::time::sleep(LOOK).await;
                let now = look(file);
                if now != *last {
                    *last = now;
                    return;
                }
            },
        }
    }
}

fn look(file: &Path) -> Option<(u64, i64, i64)> {
    let found = std::fs::metadata(file).ok()?;
    Some((found.ino(), found.mtime(), found.mtime_nsec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    async fn notices(folder: &Path, mut watch: Watch) {
        for round in 0..3 {
            // What the balancer itself writes is none of it.
            fs::write(folder.join("other.json"), "").unwrap();
            fs::write(folder.join("draft"), format!("{round}")).unwrap();
            fs::rename(folder.join("draft"), folder.join(BACKENDS)).unwrap();
            tokio::time::timeout(Duration::from_mins(1), watch.changed())
                .await
                .unwrap();
        }
    }

    #[tokio::test]
    async fn a_new_file_is_noticed_with_the_kernel_and_without() {
        let folder = tempfile::tempdir().unwrap();
        notices(folder.path(), Watch::told(folder.path()).unwrap()).await;
        notices(folder.path(), Watch::looking(folder.path())).await;
    }

    #[tokio::test]
    async fn other_files_are_not_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let mut watch = Watch::told(folder.path()).unwrap();
        fs::write(folder.path().join("balancer.json"), "").unwrap();
        let mut changed = std::pin::pin!(watch.changed());
        // Events are there as soon as the file is.
        for _ in 0..10 {
            tokio::select! {
                biased;
                () = changed.as_mut() => panic!("it is another file"),
                () = tokio::task::yield_now() => {}
            }
        }
        fs::write(folder.path().join(BACKENDS), "").unwrap();
        changed.await;
    }
}
