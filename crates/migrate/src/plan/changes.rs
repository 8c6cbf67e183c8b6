//! What the steps of a plan may change in what clients have stored. All else must be the same after
//! the last step.
//!
//! What is left of the time of a lease is not on the list: it begins anew with every server.

use std::collections::BTreeSet;

use super::steps::Step;

/// A way in which the contents may differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ContentChange {
    /// What the log holds beyond the database arrives in it.
    LogReplay,
    /// Leases end when their time is over, and delete their keys.
    LeaseEnd,
    /// A compaction removes history.
    Compaction,
    /// Clients write to the other members of the cluster.
    OtherMembers,
    /// Content of the v2 API becomes keys.
    V2Conversion,
}

/// What each server may change that runs on the data.
const BY_SERVING: &[ContentChange] =
    &[ContentChange::LogReplay, ContentChange::LeaseEnd, ContentChange::Compaction];

const ALL: &[(ContentChange, &str)] = &[
    (ContentChange::LogReplay, "log-replay"),
    (ContentChange::LeaseEnd, "lease-end"),
    (ContentChange::Compaction, "compaction"),
    (ContentChange::OtherMembers, "other-members"),
    (ContentChange::V2Conversion, "v2-conversion"),
];

impl ContentChange {
    pub fn name(self) -> &'static str {
        ALL.iter().find(|(change, _)| *change == self).map_or("", |(_, name)| name)
    }

    /// The change of this name.
    pub fn named(text: &str) -> Option<Self> {
        ALL.iter().find(|(_, name)| *name == text).map(|(change, _)| *change)
    }
}

impl Step {
    /// What this step may change, in a cluster of so many members.
    pub fn may_change(&self, members: usize) -> Vec<ContentChange> {
        match self {
            Self::Backup | Self::Defrag(_) | Self::Record(_) => Vec::new(),
            // Both methods of a downgrade start servers, too.
            Self::CancelDowngrade(_)
            | Self::Serve(_)
            | Self::DropV2 { .. }
            | Self::ConvertV2 { .. }
            | Self::Downgrade { .. } => {
                let others = (members > 1).then_some(ContentChange::OtherMembers);
                let converts = matches!(self, Self::ConvertV2 { .. });
                let keys = converts.then_some(ContentChange::V2Conversion);
                BY_SERVING.iter().copied().chain(others).chain(keys).collect()
            }
        }
    }
}

/// What all steps together may change.
pub fn of(steps: &[Step], members: usize) -> BTreeSet<ContentChange> {
    steps.iter().flat_map(|step| step.may_change(members)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_change_little_and_other_members_more() {
        let names = |steps: &[Step], members| {
            of(steps, members).into_iter().map(ContentChange::name).collect::<Vec<_>>().join(" ")
        };
        let serve = Step::Serve("3.5.33".parse().unwrap());
        let record = Step::Record("3.5.33".parse().unwrap());
        assert_eq!(names(&[Step::Backup, record.clone()], 3), "");
        assert_eq!(names(&[Step::Backup, serve.clone()], 1), "log-replay lease-end compaction");
        assert_eq!(names(&[serve, record], 3), "log-replay lease-end compaction other-members");
    }

    #[test]
    fn every_change_has_a_name_of_its_own() {
        for (change, name) in ALL {
            assert_eq!((ContentChange::named(name), change.name()), (Some(*change), *name));
        }
        assert_eq!(ContentChange::named("everything"), None);
    }
}
