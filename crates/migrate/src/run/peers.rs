//! Whether enough of the other members of a cluster can be reached to make a quorum.
//!
//! Connects to their peer addresses and sends nothing, so no certificate is needed. Does not check
//! what the members say: a server does that.

use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use crate::inspect::member_data::Member;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// The other members of a cluster.
#[derive(Debug)]
pub struct Peers {
    /// The peer URLs of each other member.
    others: Vec<Vec<String>>,
    /// How many of them make a quorum together with this member.
    pub needed: usize,
}

impl Peers {
    /// `members` are all members of the cluster, `name` is the name of this one.
    pub fn of(members: &[Member], name: &str) -> Self {
        let quorum = members.len() / 2 + 1;
        let others: Vec<_> = members.iter().filter(|member| member.name != name).collect();
        // If none has this name, this member is among the others.
        let is_known = others.len() < members.len();
        Self {
            others: others.into_iter().map(|member| member.peer_urls.clone()).collect(),
            needed: quorum - usize::from(is_known),
        }
    }

    /// How many other members accept a connection right now.
    pub fn reachable(&self) -> usize {
        self.others.iter().filter(|urls| urls.iter().any(|url| is_reachable(url))).count()
    }
}

fn is_reachable(url: &str) -> bool {
    let Some((_, address)) = url.split_once("://") else { return false };
    let addresses = address.trim_end_matches('/').to_socket_addrs();
    let mut addresses = addresses.into_iter().flatten();
    addresses.any(|address| TcpStream::connect_timeout(&address, CONNECT_TIMEOUT).is_ok())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn members(count: usize) -> Vec<Member> {
        let member = |index| Member {
            name: format!("m{index}"),
            peer_urls: vec![format!("https://127.0.0.1:{index}")],
            is_learner: false,
        };
        (0..count).map(member).collect()
    }

    #[test]
    fn a_quorum_counts_the_own_member() {
        for (count, needed) in [(2, 1), (3, 1), (4, 2), (5, 2)] {
            let peers = Peers::of(&members(count), "m0");
            assert_eq!((peers.others.len(), peers.needed), (count - 1, needed), "of {count}");
        }
        let peers = Peers::of(&members(3), "renamed");
        assert_eq!((peers.others.len(), peers.needed), (3, 2));
    }

    #[test]
    fn members_are_reachable_where_somebody_listens() {
        let listeners = ["127.0.0.1:0", "[::1]:0"].map(TcpListener::bind);
        let mut members = members(3);
        let mut expected = 0;
        for (member, listener) in members[1..].iter_mut().zip(listeners.iter().flatten()) {
            let address = listener.local_addr().unwrap();
            // The first address of a member need not be the one that answers.
            member.peer_urls = vec!["http://127.0.0.1:1".into(), format!("http://{address}/")];
            expected += 1;
        }
        let peers = Peers::of(&members, "m0");
        assert!(expected > 0);
        assert_eq!(peers.reachable(), expected);
        drop(listeners);
        assert_eq!(peers.reachable(), 0);
    }
}
