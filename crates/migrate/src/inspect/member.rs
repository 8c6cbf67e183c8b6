//! A member of a cluster, as etcd notes it in JSON: in its database, in the tree of the v2 API, and
//! in the log.

use serde_json::{Value, json};

/// A member of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Empty until the member has started for the first time.
    pub name: String,
    pub peer_urls: Vec<String>,
    /// It has no vote yet.
    pub is_learner: bool,
}

impl Member {
    /// Reads `{"id":1,"peerURLs":["http://a:2380"],"name":"n","isLearner":true,…}`. What is missing
    /// or damaged is empty.
    pub fn from_json(json: &[u8]) -> Self {
        let value: Value = serde_json::from_slice(json).unwrap_or_default();
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let urls = value["peerURLs"].as_array();
        Self {
            name: text(&value["name"]).unwrap_or_default(),
            peer_urls: urls
                .into_iter()
                .flatten()
                .filter_map(text)
                .filter(|url| !url.is_empty())
                .collect(),
            is_learner: value["isLearner"] == true,
        }
    }

    /// The members of a new cluster, as `--initial-cluster` lists them:
    /// `a=http://a:2380,b=http://b:2380`.
    pub fn of_initial_cluster(list: &str) -> Vec<Self> {
        let mut members: Vec<Self> = Vec::new();
        for (name, url) in list.split(',').filter_map(|pair| pair.trim().split_once('=')) {
            match members.iter_mut().find(|member| member.name == name) {
                Some(member) => member.peer_urls.push(url.to_owned()),
                None => members.push(Self {
                    name: name.to_owned(),
                    peer_urls: vec![url.to_owned()],
                    is_learner: false,
                }),
            }
        }
        members
    }

    /// The JSON that `from_json` reads.
    pub fn to_json(&self) -> String {
        json!({ "name": self.name, "peerURLs": self.peer_urls, "isLearner": self.is_learner })
            .to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_cluster_is_a_list_of_names_and_urls() {
        let members = Member::of_initial_cluster("a=http://a:1, b=http://b:1?x=y,a=http://c:1");
        let shown: Vec<_> =
            members.iter().map(|member| (&*member.name, member.peer_urls.join(" "))).collect();
        let expected =
            [("a", "http://a:1 http://c:1".to_owned()), ("b", "http://b:1?x=y".to_owned())];
        assert_eq!(shown, expected);
        assert_eq!(Member::of_initial_cluster(""), []);
    }

    #[test]
    fn members_are_read_as_json() {
        for (json, name, peer_urls) in [
            (r#"{"id":1,"peerURLs":["http://a:2380"],"name":"n"}"#, "n", &["http://a:2380"][..]),
            // As Go writes what browsers could mistake for HTML.
            (
                r#"{"peerURLs":["http://[::1]:2380"],"name":"a\u0026b"}"#,
                "a&b",
                &["http://[::1]:2380"],
            ),
            (
                r#"{"name":"\"\\ü\ud83d\ude00","peerURLs":[ "http://a:1" , "" ]}"#,
                "\"\\ü😀",
                &["http://a:1"],
            ),
            // It has not started yet.
            (r#"{"id":18446744073709551615,"peerURLs":["http://a:1"]}"#, "", &["http://a:1"]),
            (r#"{"peerURLs":null,"name":"#, "", &[]),
            (r#"{"attributes":{"name":"x"},"name":"n"}"#, "n", &[]),
        ] {
            let member = Member::from_json(json.as_bytes());
            assert_eq!(
                (member.name.as_str(), &member.peer_urls[..]),
                (name, &peer_urls.iter().map(|&url| url.to_owned()).collect::<Vec<_>>()[..]),
                "{json}"
            );
        }
        let deep = "[".repeat(1 << 20);
        assert_eq!(Member::from_json(deep.as_bytes()), Member::default());
    }
}
