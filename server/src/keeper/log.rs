//! A task's log: what it wrote, byte for byte, as long as there is room.

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom, Write as _};

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use super::process::boot_ms;

/// How long a full disk is left alone before it is tried again.
const RETRY_MS: u64 = 1000;
/// Large files give up space in steps of this size: a multiple of every common block.
const BLOCK: u64 = 64 * 1024;
const SMALL_BLOCK: u64 = 4096;

/// Where a log begins: the oldest bytes of a long one are no longer there, while all others stay at
/// their places. The position in the file stays as well.
pub fn log_start(mut file: &File) -> io::Result<u64> {
    let here = file.stream_position()?;
    let start = match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(0)) {
        Ok(start) => start,
        // Nothing is there at all.
        Err(Errno::NXIO) => file.metadata()?.len(),
        // Nothing can have been taken out of it either.
        Err(Errno::INVAL | Errno::OPNOTSUPP) => 0,
        Err(error) => return Err(error.into()),
    };
    file.seek(SeekFrom::Start(here))?;
    Ok(start)
}

/// The log that a keeper writes.
pub(super) struct Log {
    /// None where it could not be opened: it is full from the beginning.
    file: Option<File>,
    /// Where the next byte goes.
    end: u64,
    /// Where the first byte is that is kept.
    start: u64,
    cap: u64,
    block: u64,
    /// The oldest can be taken out; where not, what comes after the cap is not kept.
    rolls: bool,
    full: bool,
    dropped: u64,
    losing: Option<Losing>,
    /// Why bytes were lost, the last time.
    lost_because: Option<Errno>,
    line_begun: bool,
}

/// Bytes that could not be written, since the last that could.
struct Losing {
    bytes: u64,
    retry_at: u64,
}

impl Log {
    /// Goes on with a log, or begins it.
    pub(super) fn open(file: File, cap: u64) -> io::Result<Self> {
        let end = file.metadata()?.len();
        Ok(Self {
            start: log_start(&file)?.min(end),
            end,
            cap,
            block: if cap < 16 * BLOCK { SMALL_BLOCK } else { BLOCK },
            rolls: true,
            full: false,
            dropped: 0,
            losing: None,
            lost_because: None,
            line_begun: false,
            file: Some(file),
        })
    }

    /// One that keeps nothing, for a reason.
    pub(super) fn nowhere(because: &io::Error) -> Self {
        Self {
            file: None,
            end: 0,
            start: 0,
            cap: 0,
            block: BLOCK,
            rolls: false,
            full: true,
            dropped: 0,
            losing: None,
            lost_because: Errno::from_io_error(because).or(Some(Errno::IO)),
            line_begun: false,
        }
    }

    /// Keeps what can be kept. It never fails: whoever writes must not learn of it.
    pub(super) fn append(&mut self, bytes: &[u8]) {
        let mut bytes = bytes;
        if self.full {
            self.dropped += bytes.len() as u64;
            return;
        }
        if let Some(losing) = &mut self.losing {
            if boot_ms() < losing.retry_at {
                losing.bytes += bytes.len() as u64;
                self.dropped += bytes.len() as u64;
                return;
            }
            self.tell_loss();
        }
        if !self.rolls {
            let room = self.cap.saturating_sub(self.end - self.start);
            let kept = bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX));
            if kept < bytes.len() {
                self.write(&bytes[..kept]);
                self.dropped += (bytes.len() - kept) as u64;
                self.full = true;
                self.write_line("the log is full: what follows is not kept");
                return;
            }
        }
        while !bytes.is_empty() && self.losing.is_none() {
            // In pieces, so that what is kept never grows far beyond the cap.
            let (piece, rest) = bytes.split_at(bytes.len().min(self.block as usize));
            self.write(piece);
            self.roll();
            bytes = rest;
        }
        if let Some(losing) = &mut self.losing {
            losing.bytes += bytes.len() as u64;
            self.dropped += bytes.len() as u64;
        }
    }

    /// A line of ours among those of the task.
    pub(super) fn say(&mut self, text: &str) {
        if !self.full && self.losing.is_none() {
            self.write_line(text);
            self.roll();
        }
    }

    /// Says what was lost, if there is room for that by now. Returns how many bytes the log does not
    /// hold of those that were written, and why, for people.
    pub(super) fn finish(mut self) -> (u64, Option<String>) {
        self.tell_loss();
        let why = if let Some(error) = self.lost_because {
            let error = io::Error::from(error);
            Some(format!("a part of its log could not be written: {error}"))
        } else if self.full {
            Some("its log was full".to_owned())
        } else {
            None
        };
        (self.dropped, why)
    }

    fn tell_loss(&mut self) {
        if let Some(Losing { bytes, .. }) = self.losing.take() {
            self.write_line(&format!("{bytes} bytes could not be written here"));
            if let Some(still) = &mut self.losing {
                still.bytes = bytes;
            }
        }
    }

    fn write_line(&mut self, text: &str) {
        let begun = if self.line_begun { "\n" } else { "" };
        let before = self.dropped;
        self.write(format!("{begun}[skytower] {text}\n").as_bytes());
        // Ours are not the task's.
        self.dropped = before;
        if let Some(losing) = &mut self.losing {
            losing.bytes = 0;
        }
    }

    fn write(&mut self, mut bytes: &[u8]) {
        let Some(file) = &mut self.file else { return };
        while !bytes.is_empty() {
            match file.write(bytes) {
                Ok(0) => return self.lose(bytes.len(), Errno::NOSPC),
                Ok(written) => {
                    self.end += written as u64;
                    self.line_begun = bytes[written - 1] != b'\n';
                    bytes = &bytes[written..];
                }
                Err(error) => match Errno::from_io_error(&error) {
                    Some(Errno::INTR) => {}
                    error => return self.lose(bytes.len(), error.unwrap_or(Errno::IO)),
                },
            }
        }
    }

    fn lose(&mut self, bytes: usize, because: Errno) {
        self.dropped += bytes as u64;
        self.lost_because = Some(because);
        self.losing = Some(Losing {
            bytes: bytes as u64,
            retry_at: boot_ms() + RETRY_MS,
        });
    }

    /// Takes out the oldest when there is more than the cap, in steps so large that it is seldom.
    fn roll(&mut self) {
        if !self.rolls || self.end - self.start <= self.cap {
            return;
        }
        let keep = self.cap - self.cap / 8;
        let start = (self.end - keep.min(self.end)) / self.block * self.block;
        let from = self.start / self.block * self.block;
        if start <= self.start {
            return;
        }
        let Some(file) = &self.file else { return };
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match fallocate(file, flags, from, start - from) {
            Ok(()) => {
                self.dropped += start - self.start;
                self.start = start;
            }
            // The file system has no holes.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => self.rolls = false,
            // Once more the next time.
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    fn log(cap: u64) -> (tempfile::NamedTempFile, Log) {
        let file = tempfile::NamedTempFile::new().unwrap();
        let append = File::options().append(true).open(file.path()).unwrap();
        let log = Log::open(append, cap).unwrap();
        (file, log)
    }

    #[test]
    fn bytes_stay_as_they_are_and_ours_are_lines_of_their_own() {
        let (file, mut log) = log(1 << 20);
        log.append(b"\xff\0no newline");
        log.say("first");
        log.append(b"whole\n");
        log.say("second");
        assert_eq!(log.finish(), (0, None));
        assert_eq!(
            std::fs::read(file.path()).unwrap(),
            b"\xff\0no newline\n[skytower] first\nwhole\n[skytower] second\n"
        );
    }

    #[test]
    fn the_newest_are_kept_at_their_places() {
        let (file, mut log) = log(1 << 20);
        let wrote: Vec<u8> = (0..6 << 20_u32)
            .map(|at| (at / 4096 % 251) as u8 + 1)
            .collect();
        for piece in wrote.chunks(100_000) {
            log.append(piece);
            assert!(log.end - log.start <= (1 << 20) + BLOCK);
        }
        let (dropped, why) = log.finish();
        assert_eq!(why, None);
        let mut read = File::open(file.path()).unwrap();
        let start = log_start(&read).unwrap();
        assert_eq!(start, dropped);
        assert!(wrote.len() as u64 - start >= (1 << 20) * 3 / 4);
        let mut kept = Vec::new();
        assert_eq!(read.stream_position().unwrap(), 0);
        read.seek(SeekFrom::Start(start)).unwrap();
        read.read_to_end(&mut kept).unwrap();
        assert!(kept == wrote[start as usize..]);
        assert!(read.metadata().unwrap().blocks() * 512 <= (1 << 20) + 2 * BLOCK);
    }

    #[test]
    fn a_log_that_goes_on_knows_where_it_begins() {
        let (file, mut first) = log(SMALL_BLOCK * 4);
        first.append(&vec![b'x'; 100_000]);
        let (start, end) = (first.start, first.end);
        assert!(start > 0);
        first.finish();
        let append = File::options().append(true).open(file.path()).unwrap();
        let again = Log::open(append, SMALL_BLOCK * 4).unwrap();
        assert_eq!((again.start, again.end), (start, end));
    }

    #[test]
    fn where_nothing_can_be_taken_out_the_first_are_kept() {
        let (file, mut log) = log(1000);
        log.rolls = false;
        log.append(&[b'x'; 990]);
        log.append(&[b'y'; 990]);
        log.append(&[b'z'; 990]);
        log.say("nothing");
        assert_eq!(log.finish(), (1970, Some("its log was full".to_owned())));
        let text = std::fs::read_to_string(file.path()).unwrap();
        let (kept, said) = text.split_at(1000);
        assert_eq!(kept, "x".repeat(990) + &"y".repeat(10));
        assert_eq!(
            said,
            "\n[skytower] the log is full: what follows is not kept\n"
        );
    }

    #[test]
    fn a_full_disk_loses_bytes_that_are_counted_and_told_when_there_is_room() {
        let full = File::options().append(true).open("/dev/full").unwrap();
        let mut log = Log::open(full, 1 << 20).unwrap();
        log.append(&[b'x'; 100]);
        log.append(&[b'x'; 23]);
        let (file, mut good) = self::log(1 << 20);
        // The disk has room again.
        log.file = good.file.take();
        log.losing.as_mut().unwrap().retry_at = 0;
        log.append(b"on\n");
        let (dropped, why) = log.finish();
        assert_eq!(dropped, 123);
        let why = why.unwrap();
        assert!(why.contains("No space left on device"), "{why}");
        assert_eq!(
            std::fs::read_to_string(file.path()).unwrap(),
            "[skytower] 123 bytes could not be written here\non\n"
        );
    }

    #[test]
    fn without_a_file_everything_is_lost_and_told() {
        let mut log = Log::nowhere(&Errno::NOSPC.into());
        log.append(&[b'x'; 100]);
        log.say("nothing");
        let (dropped, why) = log.finish();
        assert_eq!(dropped, 100);
        assert!(why.unwrap().contains("No space left on device"));
    }

    #[test]
    fn a_disk_that_stays_full_is_told_at_the_end() {
        let full = File::options().append(true).open("/dev/full").unwrap();
        let mut log = Log::open(full, 1 << 20).unwrap();
        log.append(&[b'x'; 100]);
        log.losing.as_mut().unwrap().retry_at = 0;
        log.append(&[b'x'; 10]);
        assert_eq!(log.losing.as_ref().unwrap().bytes, 110);
        assert_eq!(log.finish().0, 110);
    }
}
