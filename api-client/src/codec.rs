//! Messages as bytes: JSON text, or JSON compressed with zstd at level 1.
//!
//! One frame is one message, compressed on its own, so that the bytes can be shared by all clients
//! with the same view. Small frames compress well only with the dictionary in `assets/wire-v1.dict`,
//! which both sides hold: a change of one job is 130 bytes, without it 371.
//!
//! Inside is JSON and not `MessagePack`, measured on 100,000 jobs with zstd at level 1
//! (`cargo bench -p skytower-api-client`, 2 busy cores, CPU time):
//!
//! | | size | encode | decode |
//! |---|---|---|---|
//! | JSON | 3.80 MB | 85 ms | 130 ms |
//! | `MessagePack` with names | 3.65 MB | 55 ms | 107 ms |
//!
//! A quarter of the CPU time of a snapshot, which is encoded once for all clients of a view, does not buy
//! a second format: the same message is text for people, and text is what rows are read from everywhere
//! else.

use std::cell::RefCell;
use std::sync::LazyLock;

use bytes::Bytes;
use zstd::bulk::{Compressor, Decompressor};
use zstd::dict::{DecoderDictionary, EncoderDictionary};

use crate::wire::ServerMessage;

static DICTIONARY: &[u8] = include_bytes!("../../assets/wire-v1.dict");
/// Higher ones cost more and save next to nothing (`cargo bench -p skytower-api-client`).
const LEVEL: i32 = 1;

/// The largest message a client accepts once decompressed, in bytes: a bound against a hostile peer.
pub const MAX_MESSAGE: usize = 256 * 1024 * 1024;

/// How messages travel on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Encoding {
    /// JSON text frames.
    Json,
    /// Compressed binary frames.
    Zstd,
}

/// A frame could not be read.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not JSON, or not of the declared shape.
    #[error("a message that is not valid: {0}")]
    Json(#[from] serde_json::Error),
    /// Not compressed as agreed, or larger than allowed.
    #[error("a frame that cannot be decompressed: {0}")]
    Zstd(#[source] std::io::Error),
    /// Made by a neighbour with another dictionary: nothing could be read out of it but garbage.
    #[error(
        "a frame compressed with another dictionary ({theirs:08x} instead of {ours:08x}): client and server are of versions that do not fit"
    )]
    Dictionary {
        /// The id of the neighbour's.
        theirs: u32,
        /// The id of the one here.
        ours: u32,
    },
    /// Decompressed to something that is not text.
    #[error("a frame that is not UTF-8")]
    Utf8,
}

/// The dictionary made ready, once for all threads: a frame of a few hundred bytes must not pay for that.
static TO_COMPRESS: LazyLock<EncoderDictionary<'static>> =
    LazyLock::new(|| EncoderDictionary::copy(DICTIONARY, LEVEL));
static TO_DECOMPRESS: LazyLock<DecoderDictionary<'static>> =
    LazyLock::new(|| DecoderDictionary::copy(DICTIONARY));

thread_local! {
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// The bytes of a message.
pub fn encode(message: &ServerMessage, encoding: Encoding) -> Bytes {
    // Our own types: maps have string keys and nothing fails to serialise.
    let json = serde_json::to_vec(message).unwrap_or_default();
    let mut frame = match encoding {
        Encoding::Json => json,
        Encoding::Zstd => compress(&json).unwrap_or_default(),
    };
    // Frames are kept for whoever asks the same; the room made for incompressible bytes is not.
    frame.shrink_to_fit();
    frame.into()
}

fn compress(json: &[u8]) -> std::io::Result<Vec<u8>> {
    COMPRESSOR.with_borrow_mut(|slot| {
        let compressor = match slot {
            Some(compressor) => compressor,
            None => slot.insert(Compressor::with_prepared_dictionary(&TO_COMPRESS)?),
        };
        compressor.compress(json)
    })
}

/// Reads a text frame; `None` for a message type this version does not know.
pub fn decode_text(json: &str) -> Result<Option<ServerMessage>, DecodeError> {
    Ok(ServerMessage::decode(json)?)
}

/// Reads a binary frame; `None` for a message type this version does not know.
pub fn decode_binary(frame: &[u8]) -> Result<Option<ServerMessage>, DecodeError> {
    let size = zstd::zstd_safe::get_frame_content_size(frame)
        .ok()
        .flatten()
        .filter(|size| *size <= MAX_MESSAGE as u64)
        .ok_or_else(|| DecodeError::Zstd(std::io::Error::other("size missing or too large")))?;
    let ours = dictionary_id();
    if let Some(theirs) = zstd::zstd_safe::get_dict_id_from_frame(frame)
        && theirs.get() != ours
    {
        let theirs = theirs.get();
        return Err(DecodeError::Dictionary { theirs, ours });
    }
    let json = DECOMPRESSOR
        .with_borrow_mut(|slot| {
            let decompressor = match slot {
                Some(decompressor) => decompressor,
                None => slot.insert(Decompressor::with_prepared_dictionary(&TO_DECOMPRESS)?),
            };
            decompressor.decompress(frame, size as usize)
        })
        .map_err(DecodeError::Zstd)?;
    let json = std::str::from_utf8(&json).map_err(|_| DecodeError::Utf8)?;
    Ok(ServerMessage::decode(json)?)
}

/// The id that stands in every frame made with the dictionary; 0 when there is none.
fn dictionary_id() -> u32 {
    TO_DECOMPRESS
        .as_ddict()
        .get_dict_id()
        .map_or(0, std::num::NonZeroU32::get)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entity::{Job, Owner};
    use crate::wire::Change;
    use crate::{EpochMs, Key, Kind, Phase};

    /// A managed job that began to run, with names that the dictionary did not learn.
    fn delta(job_id: i64) -> ServerMessage {
        let job = Job {
            key: Key::new("hpc", Kind::Job, format_args!("{job_id}/0")),
            source: "hpc".into(),
            name: "ablation-vit-12".into(),
            job_name: "ablation-vit-12".into(),
            owner: Some(Owner {
                id: "7c211433".into(),
                name: "heidi".into(),
            }),
            workspace: Some("vision".into()),
            status: "RUNNING".into(),
            phase: Phase::Running,
            job_id,
            submitted_at: Some(EpochMs(1_816_273_455_123)),
            started_at: Some(EpochMs(1_816_273_549_877)),
            resources: Some("1x[A100:8]".into()),
            infra: Some("Slurm (alps)".into()),
            accelerators: Some("A100:8".into()),
            gpus: Some(8.0),
            schedule_state: Some("ALIVE".into()),
            cluster: Some(format!("ablation-vit-12-{job_id}-7c211433").into()),
            node_names: Some("alps-017".into()),
            priority: Some(0),
            ..Job::default()
        };
        ServerMessage::Delta {
            since: 48_211,
            revision: 48_212,
            changes: vec![Change::Upsert(job.into())],
        }
    }

    #[test]
    fn a_change_of_one_row_is_small() {
        let message = delta(70_414);
        let frame = encode(&message, Encoding::Zstd);
        let json = encode(&message, Encoding::Json);
        // 154; without the dictionary it is 362.
        assert!(frame.len() <= 170, "{} of {}", frame.len(), json.len());
        assert_eq!(decode_binary(&frame).unwrap(), Some(message));
    }

    #[test]
    fn a_frame_made_with_another_dictionary_is_refused() {
        let samples: Vec<_> = (0..400)
            .map(|i| serde_json::to_vec(&delta(i * 7919 % 90_001)).unwrap())
            .collect();
        let other = zstd::dict::from_samples(&samples, 1024).unwrap();
        let mut compressor = Compressor::with_dictionary(LEVEL, &other).unwrap();
        let frame = compressor.compress(&samples[0]).unwrap();
        let error = decode_binary(&frame).unwrap_err();
        assert!(
            matches!(error, DecodeError::Dictionary { theirs, ours } if theirs != ours && ours != 0),
            "{error}"
        );
        assert!(error.to_string().contains("another dictionary"));
    }

    #[test]
    fn a_frame_made_without_a_dictionary_can_be_read() {
        let message = delta(1);
        let json = serde_json::to_vec(&message).unwrap();
        let frame = zstd::bulk::compress(&json, LEVEL).unwrap();
        assert_eq!(decode_binary(&frame).unwrap(), Some(message));
    }

    #[test]
    fn a_frame_says_how_large_it_gets_and_lies_are_found() {
        let frame = encode(&delta(1), Encoding::Zstd);
        let mut cut = frame.to_vec();
        cut.truncate(frame.len() - 3);
        assert!(matches!(decode_binary(&cut), Err(DecodeError::Zstd(_))));
        assert!(decode_binary(b"").is_err());
        assert!(decode_binary(b"{}").is_err());
    }
}
