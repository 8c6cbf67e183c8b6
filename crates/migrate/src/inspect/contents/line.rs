//! `Contents` as one line of text, for the journal.

use std::fmt;
use std::str::FromStr;

use super::digest::ContentDigest;
use super::{Contents, Depth};

impl fmt::Display for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let depth = match self.depth {
            Depth::Full => "full",
            Depth::Quick => "quick",
        };
        write!(f, "depth={depth}")?;
        if let Some(keys) = self.keys {
            write!(f, " keys={keys}")?;
        }
        write!(
            f,
            " revisions={} revision={} compacted={} scheduled={} leases={} users={} roles={} \
             history={} lease-digest={} user-digest={}",
            self.revisions,
            self.revision,
            self.compacted,
            self.scheduled,
            self.leases,
            self.users,
            self.roles,
            self.history,
            self.leases_digest,
            self.users_digest
        )
    }
}

impl FromStr for Contents {
    type Err = ();

    /// An error if a field is missing or damaged: half of a comparison is worth nothing.
    fn from_str(text: &str) -> Result<Self, ()> {
        let value = |name: &str| {
            let mut fields = text.split(' ').filter_map(|field| field.split_once('='));
            fields.find(|(field, _)| *field == name).map(|(_, value)| value).ok_or(())
        };
        let number = |name| value(name)?.parse::<u64>().map_err(drop);
        let digest = |name| value(name)?.parse::<ContentDigest>();
        Ok(Self {
            depth: match value("depth")? {
                "full" => Depth::Full,
                "quick" => Depth::Quick,
                _ => return Err(()),
            },
            keys: value("keys").ok().map(|keys| keys.parse().map_err(drop)).transpose()?,
            revisions: number("revisions")?,
            added: 0,
            revision: number("revision")?,
            compacted: number("compacted")?,
            scheduled: number("scheduled")?,
            leases: number("leases")?,
            users: number("users")?,
            roles: number("roles")?,
            history: digest("history")?,
            leases_digest: digest("lease-digest")?,
            users_digest: digest("user-digest")?,
        })
    }
}
