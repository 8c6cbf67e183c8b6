//! The tree in a raft snapshot: the JSON that etcd writes into a file `member/snap/*.snap`.

use serde_json::{Map, Value};

use super::{Folder, Node, NodeContent, V2Store, time};

/// Reads the JSON. `None` if it is not such a tree.
pub fn parse(json: &[u8]) -> Option<V2Store> {
    let document: Value = serde_json::from_slice(json).ok()?;
    let index = document["CurrentIndex"].as_u64()?;
    let Value::Object(mut fields) = document else { return None };
    let Value::Object(root) = fields.remove("Root")? else { return None };
    Some(V2Store { root: node(root)?, index })
}

/// A node with `Children` is a folder, also an empty one.
fn node(mut fields: Map<String, Value>) -> Option<Node> {
    let modified_index = fields.get("ModifiedIndex")?.as_u64()?;
    let expires = fields.get("ExpireTime").and_then(Value::as_str).and_then(time::parse);
    let content = match (fields.remove("Children"), fields.remove("Value")) {
        (Some(Value::Object(children)), _) => NodeContent::Folder(folder(children)?),
        (None | Some(Value::Null), Some(Value::String(value))) => NodeContent::Value(value),
        _ => return None,
    };
    Some(Node { content, modified_index, expires })
}

fn folder(children: Map<String, Value>) -> Option<Folder> {
    let entry = |(name, value)| match value {
        Value::Object(fields) => Some((name, node(fields)?)),
        _ => None,
    };
    children.into_iter().map(entry).collect()
}
