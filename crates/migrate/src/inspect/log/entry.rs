//! A raft entry, and what the request in it says about versions, members and the v2 API.

use etcd_version::Series;
use etcd_version::facts::Requests;

use crate::inspect::protobuf;

/// A raft entry (`raftpb.Entry`), as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    pub index: u64,
    pub content: Content<'a>,
}

/// What an entry asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content<'a> {
    /// A request of the v2 API, also one that servers make themselves. `Requests` says which
    /// versions can replay it.
    V2(Requests, &'a [u8]),
    /// The cluster has agreed on a version, by a request of the v3 API.
    ClusterVersion(Series),
    /// A change of the members (`raftpb.ConfChange`).
    Members(&'a [u8]),
    /// Everything else: keys, leases, users.
    Other,
}

/// `raftpb.EntryType`.
const NORMAL: u64 = 0;
const CONF_CHANGE: u64 = 1;

/// Fields of `etcdserverpb.InternalRaftRequest`.
const V2_REQUEST: u64 = 2;
const CLUSTER_VERSION_SET: u64 = 1300;

impl<'a> Entry<'a> {
    pub fn parse(entry: &'a [u8]) -> Self {
        let data = protobuf::bytes(entry, 4).unwrap_or_default();
        let content = match protobuf::number(entry, 1) {
            NORMAL => request(data),
            CONF_CHANGE => Content::Members(data),
            _ => Content::Other,
        };
        Self { index: protobuf::number(entry, 3), content }
    }
}

/// One of the v2 API comes bare, as 3.4 writes it, or as the second field of a newer request;
/// requests of the v3 API have no such field.
fn request(data: &[u8]) -> Content<'_> {
    if let Some(second) = protobuf::bytes(data, V2_REQUEST) {
        let is_method = !second.is_empty() && second.iter().all(u8::is_ascii_uppercase);
        let request = if is_method { data } else { second };
        return Content::V2(replayed_by(request), request);
    }
    let version = protobuf::bytes(data, CLUSTER_VERSION_SET);
    version.and_then(|set| text(protobuf::bytes(set, 1)?)).map_or(Content::Other, |version| {
        version.parse().map_or(Content::Other, Content::ClusterVersion)
    })
}

/// Which versions can replay a request of the v2 API.
fn replayed_by(request: &[u8]) -> Requests {
    let path = text(protobuf::bytes(request, 3).unwrap_or_default()).unwrap_or_default();
    let is_put = protobuf::bytes(request, 2) == Some(b"PUT");
    let is_converted = is_put && (path == VERSION_PATH || is_attributes(path));
    if is_converted { Requests::Converted } else { Requests::V2 }
}

const VERSION_PATH: &str = "/0/version";

/// The cluster version that a request of the v2 API sets, if it does.
pub fn cluster_version(request: &[u8]) -> Option<Series> {
    let is_set = protobuf::bytes(request, 3) == Some(VERSION_PATH.as_bytes());
    text(protobuf::bytes(request, 4).filter(|_| is_set)?)?.parse().ok()
}

/// `/0/members/8e9e05c52164694d/attributes`.
fn is_attributes(path: &str) -> bool {
    let id = path.strip_prefix("/0/members/").and_then(|rest| rest.strip_suffix("/attributes"));
    id.is_some_and(|id| id.len() <= 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}
