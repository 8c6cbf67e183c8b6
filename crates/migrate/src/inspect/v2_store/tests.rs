//! Tests of the tree: what each request makes of it, and what a snapshot holds.

use super::members::{ADD_LEARNER_NODE, ADD_NODE, REMOVE_NODE};
use super::*;
use crate::inspect::member::Member;

/// Fields of a request: texts and numbers by field number.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn new(method: &str, path: &str) -> Self {
        Self::default().text(2, method).text(3, path)
    }

    fn text(mut self, field: u8, text: &str) -> Self {
        self.0.extend([field << 3 | 2, u8::try_from(text.len()).unwrap()]);
        self.0.extend(text.as_bytes());
        self
    }

    /// Only fields up to 15 have a tag of one byte.
    fn number(mut self, field: u64, number: u64) -> Self {
        for mut rest in [field << 3, number] {
            while rest > 0x7f {
                self.0.push((rest & 0x7f | 0x80).to_le_bytes()[0]);
                rest >>= 7;
            }
            self.0.push(rest.to_le_bytes()[0]);
        }
        self
    }

    fn value(self, text: &str) -> Self {
        self.text(4, text)
    }
}

/// What the requests leave: each key with its value, then the index of the tree.
fn after(requests: impl IntoIterator<Item = Message>) -> String {
    print(&store_after(requests))
}

fn print(store: &V2Store) -> String {
    let keys = store.keys();
    let keys = keys.iter().map(|key| match key.expires {
        None => format!("{}={} ", key.path, key.value),
        Some(time) => format!("{}={} until {} ", key.path, key.value, time / 1_000_000_000),
    });
    format!("{}at {}", keys.collect::<String>(), store.index)
}

fn put(path: &str, value: &str) -> Message {
    Message::new("PUT", path).value(value)
}

const EXISTS: u64 = 8;
const IS_FOLDER: u64 = 5;
const EXPIRES: u64 = 9;
const KEEPS_VALUE: u64 = 17;

#[test]
fn a_set_replaces_keys_and_makes_folders() {
    assert_eq!(after([put("/1/a/b", "1"), put("/1/a/b", "2")]), "/a/b=2 at 2");
    assert_eq!(after([put("/1/a", "1"), put("/1/a/b", "2")]), "/a=1 at 1");
    let folder = Message::new("PUT", "/1/a").number(IS_FOLDER, 1);
    assert_eq!(after([folder, put("/1/a", "2"), put("/1/a/b", "3")]), "/a/b=3 at 2");
    assert_eq!(after([put("/1", "1"), put("/", "1"), put("/1/../0", "1")]), "at 0");
    assert_eq!(after([put("1//a/./", "1")]), "/a=1 at 1");
}

#[test]
fn keys_are_created_once() {
    let create = |value: &str| put("/1/a", value).number(EXISTS, 0);
    assert_eq!(after([create("1"), create("2")]), "/a=1 at 1");
    let unique = || Message::new("POST", "/1/q").value("v");
    let expected = "/q/00000000000000000001=v /q/00000000000000000002=v at 2";
    assert_eq!(after([unique(), unique()]), expected);
}

#[test]
fn an_update_needs_a_key() {
    let update = || put("/1/a", "2").number(EXISTS, 1);
    assert_eq!(after([update()]), "at 0");
    assert_eq!(after([put("/1/a", "1"), update()]), "/a=2 at 2");
}

#[test]
fn a_comparison_that_fails_changes_nothing() {
    let swap = |value: &str, index| put("/1/a", "2").text(6, value).number(7, index);
    let with = |message| after([put("/1/a", "1"), message]);
    assert_eq!(with(swap("1", 0)), "/a=2 at 2");
    assert_eq!(with(swap("", 1)), "/a=2 at 2");
    assert_eq!(with(swap("1", 1).number(EXISTS, 1)), "/a=2 at 2");
    assert_eq!(with(swap("0", 1)), "/a=1 at 1");
    assert_eq!(with(swap("1", 2)), "/a=1 at 1");
    let delete = |value: &str| Message::new("DELETE", "/1/a").text(6, value);
    assert_eq!(with(delete("1")), "at 2");
    assert_eq!(with(delete("0")), "/a=1 at 1");
}

#[test]
fn folders_are_deleted_when_the_request_says_so() {
    let delete = || Message::new("DELETE", "/1/a");
    let with = |message| after([put("/1/a/b", "1"), message]);
    assert_eq!(with(delete()), "/a/b=1 at 1");
    assert_eq!(with(delete().number(IS_FOLDER, 1)), "/a/b=1 at 1");
    assert_eq!(with(delete().number(12, 1)), "at 2");
    assert_eq!(with(Message::new("DELETE", "/1").number(12, 1)), "/a/b=1 at 1");
}

#[test]
fn keys_expire_when_the_cluster_says_so() {
    let second = 1_000_000_000;
    let time = |seconds: u64| (1_700_000_000 + seconds) * second;
    let timed = |path: &str, seconds| put(path, "v").number(EXPIRES, time(seconds));
    let sync = |seconds| Message::new("SYNC", "").number(15, time(seconds));
    let three = || [timed("/1/a", 5), timed("/1/b", 1), put("/1/c", "v")];
    let all = "/a=v until 1700000005 /b=v until 1700000001 /c=v at 3";
    assert_eq!(after(three()), all);
    assert_eq!(after(three().into_iter().chain([sync(1)])), "/a=v until 1700000005 /c=v at 4");
    let refreshed = timed("/1/b", 9).number(EXISTS, 1).number(KEEPS_VALUE, 1);
    let rest = "/b=v until 1700000009 /c=v at 5";
    assert_eq!(after(three().into_iter().chain([refreshed, sync(5)])), rest);
    // A folder takes what is in it along, and a key in it lives no longer.
    let folder = Message::new("PUT", "/1/d").number(IS_FOLDER, 1).number(EXPIRES, time(3));
    let within = || [folder_of(&folder), timed("/1/d/a", 9)];
    assert_eq!(after(within()), "/d/a=v until 1700000003 at 2");
    assert_eq!(after(within().into_iter().chain([sync(3)])), "at 3");
    // Before the year 2000.
    assert_eq!(after([put("/1/a", "v").number(EXPIRES, second)]), "/a=v at 1");
}

fn folder_of(message: &Message) -> Message {
    Message(message.0.clone())
}

#[test]
fn notes_about_members_raise_the_index() {
    let mut store = V2Store::default();
    let mut index_after = |kind, id| {
        let change = Message::default().number(2, kind).number(3, id);
        store.change_members(&change.0);
        store.index
    };
    assert_eq!(index_after(ADD_NODE, 7), 1);
    assert_eq!(index_after(ADD_LEARNER_NODE, 8), 2);
    // It is promoted, and the other one moves.
    assert_eq!(index_after(ADD_NODE, 8), 3);
    assert_eq!(index_after(2, 7), 4);
    // Removed, which takes two changes, and never added again.
    assert_eq!(index_after(REMOVE_NODE, 8), 6);
    assert_eq!(index_after(ADD_NODE, 8), 6);
    assert_eq!(index_after(REMOVE_NODE, 9), 6);
}

#[test]
fn the_members_are_those_that_servers_have_noted() {
    const UPDATE_NODE: u64 = 2;
    let mut store = V2Store::default();
    assert_eq!(store.members(), []);
    let mut change = |kind, id, context: &str| {
        store.change_members(&Message::default().number(2, kind).number(3, id).text(4, context).0);
        let members = store.members();
        let shown = members.iter().map(|(id, Member { name, peer_urls, is_learner })| {
            let learner = if *is_learner { " learns" } else { "" };
            format!("{id} {name}={}{learner}", peer_urls.join(","))
        });
        shown.collect::<Vec<_>>()
    };
    assert_eq!(
        change(ADD_NODE, 7, r#"{"name":"a","peerURLs":["http://a:1"]}"#),
        ["7 a=http://a:1"]
    );
    let learner = r#"{"peerURLs":["http://b:1"],"isLearner":true}"#;
    assert_eq!(change(ADD_LEARNER_NODE, 26, learner), ["1a =http://b:1 learns", "7 a=http://a:1"]);
    assert_eq!(
        change(ADD_NODE, 26, r#"{"id":26,"isPromote":true}"#),
        ["1a =http://b:1", "7 a=http://a:1"]
    );
    assert_eq!(
        change(UPDATE_NODE, 7, r#"{"id":7,"peerURLs":["http://c:1","http://d:1"]}"#),
        ["1a =http://b:1", "7 a=http://c:1,http://d:1"]
    );
    assert_eq!(change(REMOVE_NODE, 7, ""), ["1a =http://b:1"]);
    let attributes = r#"{"name":"b","clientURLs":[]}"#;
    let request = Message::new("PUT", "/0/members/1a/attributes").text(4, attributes);
    store.apply(&Request::read(&request.0).unwrap());
    assert_eq!(store.members()[0].1.name, "b");
}

#[test]
fn what_only_asks_is_no_request() {
    for message in [Message::new("QGET", "/1/a"), Message::default(), Message::new("put", "/1/a")] {
        assert_eq!(Request::read(&message.0), None);
    }
}

const SNAPSHOT: &str = r#"{"Root":{"Path":"/","CreatedIndex":0,"ModifiedIndex":0,
    "ExpireTime":"0001-01-01T00:00:00Z","Value":"","Children":{
    "0":{"Path":"/0","CreatedIndex":0,"ModifiedIndex":0,"ExpireTime":"0001-01-01T00:00:00Z",
        "Value":"","Children":{"version":{"Path":"/0/version","CreatedIndex":5,"ModifiedIndex":5,
        "ExpireTime":"0001-01-01T00:00:00Z","Value":"3.4.0","Children":null}}},
    "1":{"Path":"/1","CreatedIndex":0,"ModifiedIndex":0,"ExpireTime":"0001-01-01T00:00:00Z",
        "Value":"","Children":{"a":{"Path":"/1/a","CreatedIndex":7,"ModifiedIndex":8,
        "ExpireTime":"2023-11-14T22:13:25.5Z","Value":"v","Children":null},
        "_hidden":{"Path":"/1/_hidden","CreatedIndex":9,"ModifiedIndex":9,
        "ExpireTime":"0001-01-01T00:00:00Z","Value":"","Children":{}}}}}},
    "WatcherHub":{},"CurrentIndex":9,"Stats":{},"CurrentVersion":2}"#;

#[test]
fn a_snapshot_is_read_and_goes_on() {
    let mut store = parse(SNAPSHOT.as_bytes()).unwrap();
    assert_eq!(print(&store), "/a=v until 1700000005 at 9");
    let swap = put("/1/a", "w").number(7, 8);
    store.apply(&Request::read(&swap.0).unwrap());
    assert_eq!(print(&store), "/a=w at 10");
    store.apply(&Request::read(&put("/1/_hidden/x", "y").0).unwrap());
    assert_eq!(print(&store), "/_hidden/x=y /a=w at 11");
}

#[test]
fn damage_is_no_snapshot() {
    for end in 0..SNAPSHOT.len() {
        assert_eq!(parse(&SNAPSHOT.as_bytes()[..end]), None);
    }
    assert_eq!(parse(SNAPSHOT.replace("\"Value\":\"v\"", "\"Value\":1").as_bytes()), None);
}

#[test]
fn users_roles_and_an_enabled_authentication_are_found() {
    let has_auth = |requests: Vec<Message>| store_after(requests).has_auth();
    let folder = |path| Message::new("PUT", path).number(IS_FOLDER, 1);
    assert!(!has_auth(vec![]));
    assert!(!has_auth(vec![folder("/2"), folder("/2/users"), put("/2/enabled", "false")]));
    assert!(has_auth(vec![put("/2/enabled", "true")]));
    assert!(has_auth(vec![put("/2/users/root", "{}")]));
}

fn store_after(requests: impl IntoIterator<Item = Message>) -> V2Store {
    let mut store = V2Store::default();
    for message in requests {
        store.apply(&Request::read(&message.0).unwrap());
    }
    store
}

#[test]
fn contents_count_hidden_keys_and_empty_folders() {
    assert!(store_after([]).contents().is_empty());
    let folder = Message::new("PUT", "/1/empty/inner").number(IS_FOLDER, 1);
    let store = store_after([
        put("/1/a/b", "value"),
        put("/1/a/_b/c", "1"),
        put("/1/_c", "2"),
        put("/1/d_", "3"),
        folder,
    ]);
    let expected = V2Contents {
        keys: 4,
        hidden_keys: 2,
        names: ["/_c", "/a", "/d_", "/empty"].map(str::to_owned).to_vec(),
        has_auth: false,
        size_bytes: 9 + 8 + 4 + 4,
    };
    assert_eq!(store.contents(), expected);
    // etcd 3.6 does not start on an empty folder either.
    let folder = Message::new("PUT", "/1/empty").number(IS_FOLDER, 1);
    assert!(!store_after([folder]).contents().is_empty());
}

#[test]
fn bytes_that_are_no_text_count_as_etcd_writes_them_into_a_snapshot() {
    let mut message = put("/1/a?", "v?");
    for byte in &mut message.0 {
        *byte = if *byte == b'?' { 0xff } else { *byte };
    }
    assert_eq!(after([message]), "/a\u{fffd}=v\u{fffd} at 1");
}
