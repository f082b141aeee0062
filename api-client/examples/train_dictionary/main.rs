//! Makes `assets/wire-v1.dict`, the dictionary that small frames are compressed with, from messages of
//! an organisation that never was, and measures it on messages of another one.
//!
//! ```console
//! $ cargo run --release -p skytower-api-client --example train_dictionary             # measures sizes
//! $ cargo run --release -p skytower-api-client --example train_dictionary -- 16384 assets/wire-v1.dict
//! ```
//!
//! A new dictionary is a new protocol: clients with the old one refuse its frames. It is made anew only
//! together with a new name of the subprotocol.

#![allow(clippy::print_stdout, reason = "it is run by hand")]

mod samples;

use std::io;

use samples::{LEARNED, Organisation, UNSEEN};
use skytower_api_client::Kind;
use zstd::bulk::{Compressor, compress};
use zstd::dict::{EncoderDictionary, from_samples};

/// Messages that are learned from: about a hundred times the dictionary's size, as zstd advises.
const LESSONS: usize = 6000;
const MEASURED: usize = 2000;
const LEVEL: i32 = 1;

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    match (arguments.next(), arguments.next()) {
        (None, _) => compare(),
        (Some(size), Some(path)) => {
            let size = size.parse().map_err(io::Error::other)?;
            let dictionary = train(size)?;
            println!("{path}: {} bytes", dictionary.len());
            std::fs::write(path, dictionary)
        }
        (Some(_), None) => Err(io::Error::other("say a size and a file, or nothing")),
    }
}

fn train(size: usize) -> io::Result<Vec<u8>> {
    let mut organisation = Organisation::new(&LEARNED, 1);
    let lessons = (0..LESSONS)
        .map(|_| Ok(serde_json::to_vec(&organisation.message())?))
        .collect::<io::Result<Vec<_>>>()?;
    from_samples(&lessons, size)
}

/// Bytes per message by size of the dictionary, on messages that none has seen.
fn compare() -> io::Result<()> {
    let mut organisation = Organisation::new(&UNSEEN, 2);
    let mut groups: Vec<(&str, Vec<Vec<u8>>)> = Vec::new();
    let mut group = |name, of: &mut dyn FnMut() -> serde_json::Result<Vec<u8>>| {
        let messages = (0..MEASURED).map(|_| of()).collect::<Result<_, _>>();
        messages.map(|messages| groups.push((name, messages)))
    };
    group("any message", &mut || {
        serde_json::to_vec(&organisation.message())
    })?;
    for kind in Kind::ALL {
        group(kind.noun(), &mut || {
            serde_json::to_vec(&organisation.one_row(*kind))
        })?;
    }

    let sizes = [4, 8, 16, 24, 32, 64];
    let dictionaries = sizes
        .iter()
        .map(|kib| Ok(EncoderDictionary::copy(&train(kib * 1024)?, LEVEL)))
        .collect::<io::Result<Vec<_>>>()?;
    print!("{:<14} {:>7} {:>7}", "mean bytes", "JSON", "none");
    for kib in sizes {
        print!(" {:>7}", format!("{kib} KiB"));
    }
    println!();
    for (name, messages) in &groups {
        let mean = |total: usize| total / messages.len();
        let alone = messages
            .iter()
            .map(|message| Ok(compress(message, LEVEL)?.len()))
            .sum::<io::Result<usize>>()?;
        let plain = messages.iter().map(Vec::len).sum();
        print!("{name:<14} {:>7} {:>7}", mean(plain), mean(alone));
        for dictionary in &dictionaries {
            let mut compressor = Compressor::with_prepared_dictionary(dictionary)?;
            let total = messages
                .iter()
                .map(|message| Ok(compressor.compress(message)?.len()))
                .sum::<io::Result<usize>>()?;
            print!(" {:>7}", mean(total));
        }
        println!();
    }
    Ok(())
}
