//! What each error becomes: its message, its hints and its exit code. A hint that changes changes a
//! line here.

mod builds;
mod inputs;
mod registries;

use std::path::PathBuf;

use reqwest::StatusCode;

use super::*;
use crate::digest::Digest;
use crate::fetch::{MirrorFailure, TransferError};

fn expected() -> Digest {
    Digest::of("expected")
}

fn received() -> Digest {
    Digest::of("received")
}

fn text(text: &str) -> String {
    text.to_owned()
}

fn path() -> PathBuf {
    "/folder/file".into()
}

fn denied() -> io::Error {
    io::ErrorKind::PermissionDenied.into()
}

fn full() -> io::Error {
    io::ErrorKind::StorageFull.into()
}

/// One line or more for each error: its variant, the exit code, and the message with its hints.
/// Digests are shortened.
fn table(rows: Vec<(&str, Failure)>) -> String {
    let shown = |(name, failure): (&str, Failure)| {
        let message = failure.to_string();
        let message = message.replace(&expected().to_string(), "sha256:EXPECTED");
        let message = message.replace(&received().to_string(), "sha256:RECEIVED");
        format!("{name}, exit {}\n{message}\n", failure.kind().code())
    };
    let rows: Vec<_> = rows.into_iter().map(shown).collect();
    rows.join("\n")
}

fn fault() -> Fault {
    Fault {
        file: text("versions.yaml"),
        line: 7,
        field: text("rust"),
        problem: text("this is no release"),
        instead: text("1.95.0"),
    }
}

fn store_io(source: io::Error) -> StoreError {
    StoreError::Io { action: "write", path: path(), source }
}

fn mirrors(cause: TransferError) -> FetchError {
    let failure = MirrorFailure { source: text("https://mirror"), attempts: 2, cause };
    FetchError::Mirrors { name: text("etcd.tar.gz"), failures: vec![failure] }
}

fn wrong_digest() -> FetchError {
    mirrors(TransferError::WrongDigest { expected: expected(), received: received() })
}

fn what() -> String {
    text("push etcd:3.7.1-0")
}

fn refused(code: StatusCode) -> RegistryError {
    RegistryError::Refused { what: what(), code, message: text("DENIED") }
}
