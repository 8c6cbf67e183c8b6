//! Reads a snapshot: the file of `etcdctl snapshot save`, or a copied `member/snap/db`.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use crate::error::{MigrateError, MigrateErrorKind};
use crate::inspect::current_version::{self, CurrentVersion, Trust, UnclearVersion};
use crate::inspect::data_dir::{DataDir, DataDirContents};
use crate::inspect::member_data::{self, MemberData};
use crate::inspect::sha256::Sha256;

/// A database has whole pages, each a multiple of this.
const SECTOR_BYTES: u64 = 512;
/// What `etcdctl snapshot save` adds behind the database.
const SHA256_BYTES: u64 = 32;
const PART_BYTES: usize = 1 << 20;

/// A snapshot.
#[derive(Debug)]
pub struct Snapshot {
    /// What its database says; it has no log.
    pub data: MemberData,
    /// Whether its checksum follows the database.
    pub has_sum: bool,
    pub size_bytes: u64,
}

/// What the checksum behind a database says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// A copied database has none.
    Missing,
    Valid,
    /// The file is not what was saved.
    Wrong,
}

/// Reads a snapshot. An error if the file is cut off, or is none.
pub fn read(path: &Path) -> Result<Snapshot, MigrateError> {
    let unreadable = |error| MigrateError::file("read the snapshot", path, &error);
    let metadata = fs::metadata(path).map_err(unreadable)?;
    let size_bytes = metadata.len();
    let has_sum = match size_bytes % SECTOR_BYTES {
        0 if size_bytes > 0 => false,
        SHA256_BYTES => true,
        _ => {
            let what = format_args!(
                "{} is not a whole snapshot: {size_bytes} bytes are neither a database nor one with \
                 its checksum",
                path.display()
            );
            return Err(MigrateError::new(MigrateErrorKind::NotMigratable, what)
                .hint("copy it again from where it was made"));
        }
    };
    Ok(Snapshot { data: member_data::read_db(path)?, has_sum, size_bytes })
}

/// Which etcd wrote a snapshot with this data.
pub fn version(data: MemberData) -> Result<CurrentVersion, UnclearVersion> {
    let contents = DataDirContents::Etcd3(Box::new(data));
    let found = DataDir { contents, file: None, is_ours: true };
    current_version::current_version(&found, Trust::Data)
}

impl Snapshot {
    /// Reads the whole file and compares it with its checksum.
    pub fn checksum(&self, path: &Path) -> Result<Checksum, MigrateError> {
        if !self.has_sum {
            return Ok(Checksum::Missing);
        }
        let compared = File::open(path).and_then(|file| compare(file, self.size_bytes));
        compared.map_err(|error| MigrateError::file("read the snapshot", path, &error))
    }
}

fn compare(mut file: File, size_bytes: u64) -> io::Result<Checksum> {
    let mut database = (&mut file).take(size_bytes - SHA256_BYTES);
    let (mut actual, mut part) = (Sha256::default(), vec![0; PART_BYTES]);
    loop {
        match database.read(&mut part)? {
            0 => break,
            count => actual.add(&part[..count]),
        }
    }
    let mut expected = [0; 32];
    file.read_exact(&mut expected)?;
    Ok(if actual.finish() == expected { Checksum::Valid } else { Checksum::Wrong })
}

/// The error of a snapshot whose checksum is wrong.
pub fn wrong_checksum(path: &Path) -> MigrateError {
    let what = format_args!(
        "{} is damaged: it does not have the checksum with which it was saved",
        path.display()
    );
    MigrateError::new(MigrateErrorKind::NotMigratable, what)
        .id("wrong-checksum")
        .hint("copy it again from where it was made, or take another snapshot")
}
