//! Decides about content of the v2 API, which the target could not keep.
//!
//! Pure: uses no files, no network and no clock.

use std::fmt;

use etcd_version::facts::Requests;
use etcd_version::{EtcdVersion, Facts, Series};

use crate::inspect::current_version::KnownVersion;
use crate::inspect::v2_store::V2Contents;

/// What happens to content of the v2 API where the target could not keep it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum V2Content {
    /// The migration is refused.
    Refuse,
    Drop,
    /// Its keys become keys of the v3 API first.
    Convert,
}

/// How content of the v2 API is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum V2Removal {
    /// By requests of the v2 API. The log goes on, and clients of the v3 API see no change.
    Delete,
    /// By a snapshot of the database, restored with the same version: it holds nothing of the v2
    /// API. Loses the raft log. Without it nobody but an administrator of the v2 API could remove
    /// users.
    Restore,
}

/// Why content of the v2 API is in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum V2Refusal {
    /// The target would not start on it, or would not have it, and nobody said what to do with it.
    Content { contents: V2Contents, to: EtcdVersion, members: usize },
    /// It would have to be removed from a cluster of several members. Where all of them migrate at
    /// the same time, the requests of a slow one reach others that are at etcd 3.6 already, which
    /// die of them.
    Cluster { contents: V2Contents, members: usize },
    /// Keys cannot be converted, because keys can only be written with credentials.
    NeedsCredentials,
    /// … because with the alarm NOSPACE no key can be written.
    NeedsSpace,
}

impl fmt::Display for V2Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Content { contents, to, .. } if to.series() > last_series() => write!(
                f,
                "clients of the v2 API have stored {contents}, and etcd {} does not start on that",
                last_series().next()
            ),
            Self::Content { contents, to, .. } => write!(
                f,
                "clients of the v2 API have stored {contents}, and a downgrade to {to} would lose it"
            ),
            Self::Cluster { contents, members } => write!(
                f,
                "clients of the v2 API have stored {contents} in a cluster of {members} members, and \
                 migrate removes that only from a cluster of one"
            ),
            Self::NeedsCredentials => f.write_str(
                "keys of the v2 API cannot be converted: the data has authentication enabled, and \
                 writing keys needs credentials",
            ),
            Self::NeedsSpace => f.write_str(
                "keys of the v2 API cannot be converted: the data has the NOSPACE alarm, with which \
                 etcd writes no key",
            ),
        }
    }
}

impl V2Refusal {
    /// What to do instead.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Content { members: ..=1, .. } => {
                "`--v2-content=convert` writes its keys into the v3 API first, `--v2-content=drop` \
                 removes it; with `--plan` they say what would happen"
            }
            Self::Content { .. } | Self::Cluster { .. } => {
                "with all members at the version of the data, restart one of them with `--enable-v2`, \
                 copy through it what is still needed into v3 keys, delete all v2 keys, users and \
                 roles; then run migrate again, member by member"
            }
            Self::NeedsCredentials => {
                "disable authentication for the migration: `etcdctl auth disable`; or remove the \
                 keys: `--v2-content=drop`"
            }
            Self::NeedsSpace => {
                "compact and defragment the database and run `etcdctl alarm disarm`, or remove the \
                 keys: `--v2-content=drop`"
            }
        }
    }
}

impl V2Removal {
    /// How this content is removed.
    pub fn of(contents: &V2Contents) -> Self {
        if contents.has_auth { Self::Restore } else { Self::Delete }
    }
}

/// The last minor version that keeps content of the v2 API.
pub fn last_series() -> Series {
    Facts::current().replayed_until(Requests::V2)
}

/// Whether there is content that the target could not keep.
pub fn is_lost(from: &KnownVersion, to: &EtcdVersion) -> bool {
    !from.v2.is_empty() && (to.series() > last_series() || to.series() < from.series)
}

/// An error if content would be lost and may not be, or cannot be taken along.
pub fn refuse(from: &KnownVersion, to: &EtcdVersion, content: V2Content) -> Result<(), V2Refusal> {
    if !is_lost(from, to) {
        return Ok(());
    }
    let members = from.members;
    let writes_keys = content == V2Content::Convert && from.v2.has_visible_keys();
    match content {
        V2Content::Refuse => {
            Err(V2Refusal::Content { contents: from.v2.clone(), to: to.clone(), members })
        }
        _ if members > 1 => Err(V2Refusal::Cluster { contents: from.v2.clone(), members }),
        _ if writes_keys && from.needs_credentials => Err(V2Refusal::NeedsCredentials),
        _ if writes_keys && from.cluster.is_full => Err(V2Refusal::NeedsSpace),
        V2Content::Convert | V2Content::Drop => Ok(()),
    }
}

/// What a step adds to its name.
impl fmt::Display for V2Removal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Delete => "",
            Self::Restore => " and a snapshot",
        })
    }
}

#[cfg(test)]
#[path = "v2_content_tests.rs"]
mod tests;
