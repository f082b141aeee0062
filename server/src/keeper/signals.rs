//! Signals that a keeper gets, as bytes that a poll wakes up for.

use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{
    SIGALRM, SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGXFSZ,
};
use signal_hook::{flag, low_level};

pub(super) struct Signals {
    wake: UnixStream,
    stop: Arc<AtomicBool>,
    kill: Arc<AtomicBool>,
}

impl Signals {
    /// From now on SIGTERM asks to stop the task, SIGUSR1 to kill it, and what else a keeper may get does
    /// nothing. All are caught, none is ignored: what is ignored would stay so in the task.
    pub(super) fn catch() -> io::Result<Self> {
        let (wake, end) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        let (stop, kill) = <(Arc<AtomicBool>, Arc<AtomicBool>)>::default();
        // Before the byte that wakes.
        flag::register(SIGTERM, stop.clone())?;
        flag::register(SIGUSR1, kill.clone())?;
        for signal in [SIGCHLD, SIGTERM, SIGUSR1] {
            low_level::pipe::register(signal, end.try_clone()?)?;
        }
        let nothing = Arc::new(AtomicBool::new(false));
        for signal in [SIGHUP, SIGINT, SIGQUIT, SIGALRM, SIGUSR2, SIGXFSZ] {
            flag::register(signal, nothing.clone())?;
        }
        Ok(Self { wake, stop, kill })
    }

    /// Wakes up whoever polls it.
    pub(super) fn wake(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// Takes note of the wake-ups so far. What they were about is looked at afterwards, never before.
    pub(super) fn heard(&mut self) {
        let mut bytes = [0; 64];
        while matches!(self.wake.read(&mut bytes), Ok(read) if read > 0) {}
    }

    /// Was it asked to stop the task since the last question.
    pub(super) fn stop(&self) -> bool {
        self.stop.swap(false, Ordering::SeqCst)
    }

    /// Was it asked to kill the task since the last question.
    pub(super) fn kill(&self) -> bool {
        self.kill.swap(false, Ordering::SeqCst)
    }
}
