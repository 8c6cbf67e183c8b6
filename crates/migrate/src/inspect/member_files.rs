//! Lists the files that a copy of the data consists of, wherever they really lie, and under which
//! name they go into the copy. Changes nothing.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};

use crate::files::{mounts, tree};
use crate::inspect::data_dir::is_leftover;
use crate::inspect::layout::{DataLayout, Part, Shape, WORK_DIR};
use crate::platform;

/// Everything that a copy of `member` consists of.
#[derive(Debug, Default)]
pub struct MemberFiles {
    /// Each comes after the one that it is in.
    pub directories: Vec<Source>,
    pub files: Vec<FileSource>,
    /// What is not copied, with the reason.
    pub left_out: Vec<(PathBuf, &'static str)>,
}

/// Where something is, and where it goes.
#[derive(Debug)]
pub struct Source {
    pub from: PathBuf,
    /// Its path in the copy: `member/wal`.
    pub to: PathBuf,
}

/// A file with what it was when it was listed.
#[derive(Debug)]
pub struct FileSource {
    pub from: PathBuf,
    /// Its path in the copy.
    pub to: PathBuf,
    pub bytes: u64,
    /// Another one after any change.
    pub mark: String,
}

impl FileSource {
    pub fn of(from: PathBuf, to: PathBuf) -> io::Result<Self> {
        let metadata = fs::metadata(&from)?;
        let mark = platform::change_mark(&from, &metadata);
        Ok(Self { from, to, bytes: metadata.len(), mark })
    }

    /// Whether nobody has written to the file since it was listed.
    pub fn is_unchanged(&self) -> io::Result<bool> {
        Ok(platform::change_mark(&self.from, &fs::metadata(&self.from)?) == self.mark)
    }
}

impl MemberFiles {
    /// Lists them. Links and mount points at `member` and its parts are followed, and a log apart
    /// is part of the copy.
    pub fn of(layout: &DataLayout) -> io::Result<Self> {
        let mut list = Self::default();
        let to = PathBuf::from("member");
        list.directory(&layout.member, &to);
        let is_part = |name: &Path| {
            Part::ALL.iter().any(|part| name.as_os_str() == part.name())
                || layout.member.join(name) == layout.wal
        };
        list.walk(&layout.member, &to, &|name| !is_part(name), &mounts::below(&layout.member))?;
        for part in Part::ALL {
            let (directory, to) = (layout.directory(part), to.join(part.name()));
            list.directory(directory, &to);
            // Others may have files in a directory that was not made by etcd.
            let is_own = layout.shape(directory) == Shape::Plain;
            let is_wanted = |name: &Path| is_own || part.is_of_etcd(name.as_os_str());
            list.walk(directory, &to, &is_wanted, &mounts::below(directory))?;
        }
        Ok(list)
    }

    /// All files together, in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// Another number when somebody has written to the data.
    pub fn fingerprint(&self) -> String {
        let mut hasher = DefaultHasher::new();
        for file in self.files.iter().filter(|file| file.to.starts_with("member")) {
            (&file.to, &file.mark).hash(&mut hasher);
        }
        format!("{:016x}", hasher.finish())
    }

    fn directory(&mut self, from: &Path, to: &Path) {
        self.directories.push(Source { from: from.to_owned(), to: to.to_owned() });
    }

    fn walk(
        &mut self,
        from: &Path,
        to: &Path,
        is_wanted: &dyn Fn(&Path) -> bool,
        mounts: &[PathBuf],
    ) -> io::Result<()> {
        let entries = fs::read_dir(from)?.collect::<io::Result<Vec<_>>>()?;
        let mut names: Vec<_> = entries.into_iter().map(|entry| entry.file_name()).collect();
        names.sort();
        for name in names {
            let is_ours = name == WORK_DIR || name == tree::LOST_AND_FOUND;
            let path = from.join(&name);
            if is_ours || !is_wanted(Path::new(&name)) || is_leftover(&path) {
                continue;
            }
            match kind(&path, mounts)? {
                SourceKind::File => self.files.push(FileSource::of(path, to.join(name))?),
                SourceKind::Directory => {
                    let to = to.join(name);
                    self.directory(&path, &to);
                    self.walk(&path, &to, &|_| true, mounts)?;
                }
                SourceKind::Other(why) => self.left_out.push((path, why)),
            }
        }
        Ok(())
    }
}

enum SourceKind {
    File,
    Directory,
    Other(&'static str),
}

/// What a path is, after links to files are followed.
fn kind(path: &Path, mounts: &[PathBuf]) -> io::Result<SourceKind> {
    let is_link = fs::symlink_metadata(path)?.is_symlink();
    let metadata = match fs::metadata(path) {
        Err(error) if is_link && error.kind() == io::ErrorKind::NotFound => {
            return Ok(SourceKind::Other("it is a link that leads nowhere"));
        }
        metadata => metadata?,
    };
    if metadata.is_file() {
        return Ok(SourceKind::File);
    }
    if !metadata.is_dir() {
        return Ok(SourceKind::Other("it is neither a file nor a directory"));
    }
    let is_mount = !mounts.is_empty() && mounts.contains(&fs::canonicalize(path)?);
    Ok(if is_link {
        SourceKind::Other("it is a link to a directory that etcd does not use")
    } else if is_mount {
        SourceKind::Other("it is a mount point that etcd does not use")
    } else {
        SourceKind::Directory
    })
}

#[cfg(test)]
#[path = "member_files_tests.rs"]
mod tests;
