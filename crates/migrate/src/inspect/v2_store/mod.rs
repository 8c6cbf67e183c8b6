//! The store of the v2 API: the tree that a raft snapshot holds, and what requests in the log make
//! of it.
//!
//! Follows the rules of etcd's own store (`v2store`), so that the tree is what a server would have
//! after it has replayed the log. Writes nothing.

mod contents;
mod members;
mod request;
mod snapshot;
mod time;

pub use contents::V2Contents;
pub use members::changed_member;
pub use request::{Change, Request};
pub use snapshot::parse;

use std::collections::BTreeMap;

/// Expiration times before this one, 2000-01-01 in nanoseconds since 1970, count as "never".
const EARLIEST_EXPIRATION: i64 = 946_684_800_000_000_000;

/// The tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct V2Store {
    root: Node,
    /// Rises by one with every change.
    index: u64,
}

type Folder = BTreeMap<String, Node>;

/// A key or a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Node {
    content: NodeContent,
    modified_index: u64,
    /// In nanoseconds since 1970; `None` means never.
    expires: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum NodeContent {
    Value(String),
    Folder(Folder),
}

/// A key of the v2 API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct V2Key<'a> {
    /// As clients name it, such as `/registry/pods/a`.
    pub path: String,
    pub value: &'a str,
    /// In nanoseconds since 1970: the earliest time of the key and of the folders above it. `None`
    /// means never.
    pub expires: Option<i64>,
}

impl V2Key<'_> {
    /// Whether lists show it: not if `_` begins its name or that of a folder above it.
    pub fn is_visible(&self) -> bool {
        !self.path.contains("/_")
    }
}

impl Default for V2Store {
    /// The store of a new cluster.
    fn default() -> Self {
        let folders = ["0", "1"].map(|name| (name.to_owned(), Node::folder(0, None)));
        let root =
            Node { content: NodeContent::Folder(folders.into()), modified_index: 0, expires: None };
        Self { root, index: 0 }
    }
}

impl V2Store {
    /// Does what a request in the log does. A request that etcd refuses changes nothing.
    pub fn apply(&mut self, request: &Request<'_>) {
        let changed = self.change(request);
        // etcd has told its client why, and the tree is the same.
        let (Some(()) | None) = changed;
    }

    /// What clients have written: all keys below `/1`, in order. Empty folders are not among them.
    pub fn keys(&self) -> Vec<V2Key<'_>> {
        let mut keys = Vec::new();
        if let Some(folder) = self.find(&["1"]).and_then(Node::entries) {
            collect(folder, "", None, &mut keys);
        }
        keys
    }

    /// What there is, for people and for the plan.
    pub fn contents(&self) -> V2Contents {
        V2Contents::of(self)
    }

    /// The keys and folders at the top, without a slash.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let folder = self.find(&["1"]).and_then(Node::entries);
        folder.into_iter().flat_map(BTreeMap::keys).map(String::as_str)
    }

    /// Whether users or roles of the v2 API are stored, or its authentication is enabled.
    pub fn has_auth(&self) -> bool {
        let Some(auth) = self.find(&["2"]).and_then(Node::entries) else { return false };
        // The folders `users` and `roles` stay when the last of them is removed.
        auth.values().any(|node| match &node.content {
            NodeContent::Value(value) => value != "false",
            NodeContent::Folder(entries) => !entries.is_empty(),
        })
    }

    fn change(&mut self, request: &Request<'_>) -> Option<()> {
        let path = clean(&request.path);
        match &request.change {
            Change::CreateUnique => {
                let name = format!("{:020}", self.index + 1);
                let path: Vec<_> = path.iter().copied().chain([&*name]).collect();
                self.create(&path, request, &request.value, false)
            }
            Change::Create => self.create(&path, request, &request.value, false),
            Change::Set => {
                let before = self.find(&path).and_then(Node::value);
                let kept = before.map(str::to_owned);
                let value = if request.keeps_value { kept.as_deref()? } else { &request.value };
                self.create(&path, request, value, true)
            }
            Change::Update => self.update(&path, request),
            Change::CompareAndSwap { value, index } => {
                let node = self.find(writable(&path)?)?;
                node.matches(value, *index).then_some(())?;
                self.update(&path, request)
            }
            Change::Delete { folder, recursive } => {
                let node = self.find(writable(&path)?)?;
                if let NodeContent::Folder(entries) = &node.content {
                    (*recursive || (*folder && entries.is_empty())).then_some(())?;
                }
                self.remove(&path)
            }
            Change::CompareAndDelete { value, index } => {
                self.find(&path)?.matches(value, *index).then_some(())?;
                self.remove(&path)
            }
            Change::Expire { until } => {
                self.expire(*until);
                Some(())
            }
        }
    }

    fn create(
        &mut self,
        path: &[&str],
        request: &Request<'_>,
        value: &str,
        replaces: bool,
    ) -> Option<()> {
        let next = self.index + 1;
        let (name, above) = writable(path)?.split_last()?;
        let folder = self.folder(above)?;
        if let Some(node) = folder.get(*name) {
            (replaces && node.value().is_some()).then_some(())?;
        }
        let expires = request.expires.filter(|time| *time >= EARLIEST_EXPIRATION);
        let node = if request.is_folder {
            Node::folder(next, expires)
        } else {
            let content = NodeContent::Value(value.to_owned());
            Node { content, modified_index: next, expires }
        };
        folder.insert((*name).to_owned(), node);
        self.index = next;
        Some(())
    }

    fn update(&mut self, path: &[&str], request: &Request<'_>) -> Option<()> {
        let next = self.index + 1;
        let node = self.find_mut(writable(path)?)?;
        match &mut node.content {
            NodeContent::Value(value) => {
                if !request.keeps_value {
                    request.value.as_ref().clone_into(value);
                }
                node.modified_index = next;
            }
            // Only the time of a folder can be changed.
            NodeContent::Folder(_) => request.value.is_empty().then_some(())?,
        }
        node.expires = request.expires;
        self.index = next;
        Some(())
    }

    fn remove(&mut self, path: &[&str]) -> Option<()> {
        let (name, above) = path.split_last()?;
        let NodeContent::Folder(folder) = &mut self.find_mut(above)?.content else { return None };
        folder.remove(*name)?;
        self.index += 1;
        Some(())
    }

    /// Removes what had to be removed at that time, the earliest first.
    fn expire(&mut self, until: i64) {
        let mut expired = Vec::new();
        find_expired(&self.root, until, &mut Vec::new(), &mut expired);
        expired.sort();
        for (_, path) in expired {
            let path: Vec<_> = path.iter().map(String::as_str).collect();
            // It may have gone with its folder.
            let (Some(()) | None) = self.remove(&path);
        }
    }

    fn find(&self, path: &[&str]) -> Option<&Node> {
        path.iter().try_fold(&self.root, |node, name| node.entries()?.get(*name))
    }

    fn find_mut(&mut self, path: &[&str]) -> Option<&mut Node> {
        path.iter().try_fold(&mut self.root, |node, name| match &mut node.content {
            NodeContent::Folder(entries) => entries.get_mut(*name),
            NodeContent::Value(_) => None,
        })
    }

    /// The folder of that path, made with those above it if they are missing.
    fn folder(&mut self, path: &[&str]) -> Option<&mut Folder> {
        let next = self.index + 1;
        let mut node = &mut self.root;
        for name in path {
            let NodeContent::Folder(entries) = &mut node.content else { return None };
            let missing = || Node::folder(next, None);
            node = entries.entry((*name).to_owned()).or_insert_with(missing);
        }
        match &mut node.content {
            NodeContent::Folder(entries) => Some(entries),
            NodeContent::Value(_) => None,
        }
    }
}

impl Node {
    fn folder(modified_index: u64, expires: Option<i64>) -> Self {
        Self { content: NodeContent::Folder(Folder::new()), modified_index, expires }
    }

    fn value(&self) -> Option<&str> {
        match &self.content {
            NodeContent::Value(value) => Some(value),
            NodeContent::Folder(_) => None,
        }
    }

    fn entries(&self) -> Option<&Folder> {
        match &self.content {
            NodeContent::Folder(entries) => Some(entries),
            NodeContent::Value(_) => None,
        }
    }

    /// Whether a comparison succeeds: an empty value and the index 0 are not compared. Folders
    /// cannot be compared.
    fn matches(&self, value: &str, index: u64) -> bool {
        let is_value = |actual: &str| value.is_empty() || actual == value;
        self.value().is_some_and(is_value) && (index == 0 || index == self.modified_index)
    }
}

/// The names in a path, as Go's `path.Clean` sees them.
fn clean(path: &str) -> Vec<&str> {
    let mut names = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    names
}

/// The path, unless requests may not change what it names.
fn writable<'a, 'b>(path: &'a [&'b str]) -> Option<&'a [&'b str]> {
    let is_fixed = matches!(path, [] | ["0" | "1"]);
    (!is_fixed).then_some(path)
}

fn collect<'a>(folder: &'a Folder, above: &str, expires: Option<i64>, keys: &mut Vec<V2Key<'a>>) {
    for (name, node) in folder {
        let path = format!("{above}/{name}");
        let expires = expires.into_iter().chain(node.expires).min();
        match &node.content {
            NodeContent::Value(value) => keys.push(V2Key { path, value, expires }),
            NodeContent::Folder(entries) => collect(entries, &path, expires, keys),
        }
    }
}

fn find_expired(
    node: &Node,
    until: i64,
    path: &mut Vec<String>,
    expired: &mut Vec<(i64, Vec<String>)>,
) {
    if let Some(time) = node.expires.filter(|time| *time <= until) {
        expired.push((time, path.clone()));
    }
    for (name, node) in node.entries().into_iter().flatten() {
        path.push(name.clone());
        find_expired(node, until, path, expired);
        path.pop();
    }
}

#[cfg(test)]
mod tests;
