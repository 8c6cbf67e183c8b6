//! Which run created a container, an image or a temporary folder. A run removes leftovers of killed
//! runs, and nothing else.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::str::FromStr;

/// The file in a folder with the owner of that folder.
const FILE: &str = "owner";

/// A process, with everything that makes its PID unique.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    boot: String,
    namespace: String,
    process: u32,
    started: String,
}

impl Owner {
    /// This program.
    pub fn this() -> Self {
        let process = std::process::id();
        let (boot, namespace) = here();
        let started = started(process).unwrap_or_default();
        Self { boot, namespace, process, started }
    }

    /// Whether the process has ended. `false` for other machines and other PID namespaces, where
    /// that cannot be known.
    pub fn is_gone(&self) -> bool {
        let (boot, namespace) = here();
        let is_here = !boot.is_empty() && (&self.boot, &self.namespace) == (&boot, &namespace);
        is_here && started(self.process).as_ref() != Some(&self.started)
    }

    /// Writes the owner into a folder.
    pub fn mark(&self, folder: &Path) -> io::Result<()> {
        fs::write(folder.join(FILE), self.to_string())
    }
}

/// Removes folders with that prefix that killed runs of the same user left.
pub fn sweep(parent: &Path, prefix: &str) {
    let user = rustix::process::geteuid().as_raw();
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let is_ours = entry.file_name().to_string_lossy().starts_with(prefix)
            && entry.metadata().is_ok_and(|known| known.is_dir() && known.uid() == user);
        let owner = fs::read_to_string(entry.path().join(FILE)).unwrap_or_default();
        if is_ours && owner.parse::<Owner>().is_ok_and(|owner| owner.is_gone()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Identifies the boot of the machine and the namespace of process ids.
fn here() -> (String, String) {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let namespace = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    let digits = |text: &str| text.chars().filter(char::is_ascii_alphanumeric).collect::<String>();
    (digits(&boot), digits(&namespace.to_string_lossy()))
}

/// When a process started, unless it has ended.
fn started(process: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // proc_pid_stat(5): the name may hold anything; the state follows, the start is field 22.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    let has_ended = ["Z", "X"].contains(&state);
    fields.nth(18).filter(|_| !has_ended).map(str::to_owned)
}

/// In a form that is valid as the tag of an image and as the value of a label.
impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}-{}", self.boot, self.namespace, self.process, self.started)
    }
}

impl FromStr for Owner {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let parts: Vec<_> = text.trim().split('-').collect();
        let [boot, namespace, process, started] = parts[..] else { return Err(()) };
        Ok(Self {
            boot: boot.to_owned(),
            namespace: namespace.to_owned(),
            process: process.parse().map_err(drop)?,
            started: started.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_program_is_not_gone_and_others_only_if_they_were_here() {
        let this = Owner::this();
        assert_eq!(this.to_string().parse(), Ok(this.clone()));
        for (owner, is_gone) in [
            (this.clone(), false),
            // The same PID, but another start time: the PID was reused.
            (Owner { started: "1".to_owned(), ..this.clone() }, true),
            // No process has such a number.
            (Owner { process: u32::MAX, ..this.clone() }, true),
            (Owner { process: u32::MAX, boot: "another".to_owned(), ..this.clone() }, false),
            (Owner { process: u32::MAX, namespace: "pid1".to_owned(), ..this }, false),
        ] {
            assert_eq!(owner.is_gone(), is_gone, "{owner}");
        }
        assert_eq!("4711".parse::<Owner>(), Err(()));
    }

    #[test]
    fn folders_of_the_dead_are_swept() {
        let parent = tempfile::tempdir().unwrap();
        let this = Owner::this();
        let dead = Owner { started: "1".to_owned(), ..this.clone() };
        for (name, owner) in [("run-a", Some(&this)), ("run-b", Some(&dead)), ("run-c", None)] {
            fs::create_dir(parent.path().join(name)).unwrap();
            if let Some(owner) = owner {
                owner.mark(&parent.path().join(name)).unwrap();
            }
        }
        fs::create_dir(parent.path().join("other")).unwrap();
        dead.mark(&parent.path().join("other")).unwrap();
        sweep(parent.path(), "run-");
        let left = fs::read_dir(parent.path()).unwrap().map(|it| it.unwrap().file_name());
        let mut left: Vec<_> = left.collect();
        left.sort();
        assert_eq!(left, ["other", "run-a", "run-c"]);
    }
}
