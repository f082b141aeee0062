//! Messages as bytes: JSON text, or JSON compressed with zstd at level 1.
//!
//! One frame is one message, compressed on its own, so that the bytes can be shared by all clients
//! with the same view. Small frames compress well only with the dictionary in `assets/wire-v1.dict`,
//! which both sides hold.

use std::cell::RefCell;

use bytes::Bytes;

use crate::wire::ServerMessage;

static DICTIONARY: &[u8] = include_bytes!("../../assets/wire-v1.dict");

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
    /// Decompressed to something that is not text.
    #[error("a frame that is not UTF-8")]
    Utf8,
}

thread_local! {
    static COMPRESSOR: RefCell<Option<zstd::bulk::Compressor<'static>>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
}

/// The bytes of a message.
pub fn encode(message: &ServerMessage, encoding: Encoding) -> Bytes {
    // Our own types: maps have string keys and nothing fails to serialise.
    let json = serde_json::to_vec(message).unwrap_or_default();
    match encoding {
        Encoding::Json => json.into(),
        Encoding::Zstd => compress(&json).unwrap_or_default().into(),
    }
}

fn compress(json: &[u8]) -> std::io::Result<Vec<u8>> {
    COMPRESSOR.with_borrow_mut(|slot| {
        let compressor = match slot {
            Some(compressor) => compressor,
            None => slot.insert(zstd::bulk::Compressor::with_dictionary(1, DICTIONARY)?),
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
    let json = DECOMPRESSOR
        .with_borrow_mut(|slot| {
            let decompressor = match slot {
                Some(decompressor) => decompressor,
                None => slot.insert(zstd::bulk::Decompressor::with_dictionary(DICTIONARY)?),
            };
            decompressor.decompress(frame, size as usize)
        })
        .map_err(DecodeError::Zstd)?;
    let json = std::str::from_utf8(&json).map_err(|_| DecodeError::Utf8)?;
    Ok(ServerMessage::decode(json)?)
}
