//! What servers note about the members of their cluster in the tree, below `/0`.

use super::{Node, Request, V2Store};
use crate::inspect::member::Member;
use crate::inspect::protobuf;

/// `raftpb.ConfChangeType`.
pub(super) const ADD_NODE: u64 = 0;
pub(super) const REMOVE_NODE: u64 = 1;
pub(super) const ADD_LEARNER_NODE: u64 = 3;

impl V2Store {
    /// Does what a change of the members does (`raftpb.ConfChange`): servers note their members in
    /// the tree, too, and each note raises the index.
    pub fn change_members(&mut self, change: &[u8]) {
        let (id, changed_member) = changed_member(change);
        let id = format!("{id:x}");
        let member = ["0", "members", &id];
        let attributes = ["0", "members", &id, "raftAttributes"];
        let removed = ["0", "removed_members", &id];
        let changed = match protobuf::number(change, 2) {
            REMOVE_NODE => {
                self.remove(&member).and_then(|()| self.create(&removed, &Request::NOTE, "", false))
            }
            ADD_NODE | ADD_LEARNER_NODE if self.find(&removed).is_some() => None,
            ADD_NODE | ADD_LEARNER_NODE if self.find(&attributes).is_none() => {
                self.create(&attributes, &Request::NOTE, &changed_member.to_json(), false)
            }
            // A learner was promoted, or a member has other URLs.
            kind => self.update_member(&attributes, kind == ADD_NODE, changed_member),
        };
        // Servers refuse it, and the tree is the same.
        let (Some(()) | None) = changed;
    }

    fn update_member(&mut self, path: &[&str], is_promoted: bool, change: Member) -> Option<()> {
        let before = Member::from_json(self.find(path)?.value()?.as_bytes());
        let after = if is_promoted {
            Member { is_learner: false, ..before }
        } else {
            Member { peer_urls: change.peer_urls, ..before }
        };
        let value = after.to_json().into();
        self.update(path, &Request { value, ..Request::NOTE })
    }

    /// The members of the cluster, each with its number in hexadecimal. Empty if servers have noted
    /// none.
    pub fn members(&self) -> Vec<(&str, Member)> {
        let folder = self.find(&["0", "members"]).and_then(Node::entries);
        folder
            .into_iter()
            .flatten()
            .filter_map(|(id, node)| {
                let note = |name| node.entries()?.get(name)?.value();
                let member = Member::from_json(note("raftAttributes")?.as_bytes());
                let published = note("attributes").map(|json| Member::from_json(json.as_bytes()));
                let name = published.map_or(member.name, |published| published.name);
                Some((id.as_str(), Member { name, ..member }))
            })
            .collect()
    }
}

/// The number of the member that a change (`raftpb.ConfChange`) is about, and what it says about
/// it.
pub fn changed_member(change: &[u8]) -> (u64, Member) {
    let context = protobuf::bytes(change, 4).unwrap_or_default();
    (protobuf::number(change, 3), Member::from_json(context))
}
