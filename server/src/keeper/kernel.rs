//! The calls of the kernel that have no safe wrapper.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use rustix::process::Pid;

/// Of `linux/sched.h`; libc's own does not fit its type.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Closes whatever else was inherited: a lock or a socket of the server's own parent, which nobody
/// marked to be closed, would be held for as long as the task runs.
#[allow(
    unsafe_code,
    reason = "called first of all, when no value of this process owns a descriptor above 2"
)]
pub(super) fn close_inherited() {
    // Before Linux 5.9 there is no such call, and what was inherited stays open.
    let _ = unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, 0_u32) };
}

/// Who returns from [`fork`].
pub(super) enum Forked {
    /// The new process.
    Child {
        /// It is in the cgroup already.
        joined: bool,
    },
    /// The old one, with the new one's pid.
    Parent(Pid),
}

/// A new process, born in `cgroup` where there is one: to move it there later takes the kernel
/// milliseconds (it waits for all processors), and what it forked meanwhile would stay outside.
#[allow(
    unsafe_code,
    reason = "a keeper has one thread, so that its copy may do whatever it may do itself"
)]
pub(super) fn fork(cgroup: Option<BorrowedFd<'_>>) -> io::Result<Forked> {
    if let Some(cgroup) = cgroup {
        let arguments = libc::clone_args {
            flags: CLONE_INTO_CGROUP,
            exit_signal: libc::SIGCHLD as u64,
            cgroup: cgroup.as_raw_fd() as u64,
            pidfd: 0,
            child_tid: 0,
            parent_tid: 0,
            stack: 0,
            stack_size: 0,
            tls: 0,
            set_tid: 0,
            set_tid_size: 0,
        };
        let size = size_of::<libc::clone_args>();
        // SAFETY: no stack is named, so that it is a fork; there is one thread.
        match unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size) } {
            0 => return Ok(Forked::Child { joined: true }),
            // An old kernel, or a sandbox that knows only `clone`.
            -1 => {}
            pid => return parent(pid as i32),
        }
    }
    // SAFETY: there is one thread.
    match unsafe { libc::fork() } {
        0 => Ok(Forked::Child { joined: false }),
        -1 => Err(io::Error::last_os_error()),
        pid => parent(pid),
    }
}

fn parent(pid: i32) -> io::Result<Forked> {
    let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::Other)?;
    Ok(Forked::Parent(pid))
}
