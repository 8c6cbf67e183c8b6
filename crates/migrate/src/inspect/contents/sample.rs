//! Makes small databases of etcd for tests.

use std::collections::BTreeMap;

use crate::inspect::bolt::sample;

/// A record of the history.
#[derive(Clone, Debug)]
pub struct SampleRecord {
    pub main: u8,
    pub key: &'static str,
    /// `None` deletes the key.
    pub value: Option<u8>,
    pub version: u8,
    pub lease: u8,
}

/// What is in a database.
#[derive(Clone, Debug, Default)]
pub struct Example {
    pub history: Vec<SampleRecord>,
    pub compacted: u8,
    pub scheduled: u8,
    /// Id and time.
    pub leases: BTreeMap<u8, u8>,
    pub users: BTreeMap<&'static str, &'static str>,
    pub roles: BTreeMap<&'static str, &'static str>,
    pub is_auth_enabled: bool,
}

impl Example {
    pub fn put(&mut self, main: u8, key: &'static str) -> &mut SampleRecord {
        let before = self.history.iter().rev().find(|record| record.key == key);
        let version = before.filter(|it| it.value.is_some()).map_or(1, |it| it.version + 1);
        self.history.push(SampleRecord { main, key, value: Some(main), version, lease: 0 });
        self.history.last_mut().unwrap()
    }

    pub fn delete(&mut self, main: u8, key: &'static str) {
        self.history.push(SampleRecord { main, key, value: None, version: 0, lease: 0 });
    }

    /// As etcd does it: of each key the newest revision stays, unless that is a deletion.
    pub fn compact(&mut self, at: u8) {
        let newest: BTreeMap<_, _> = self
            .history
            .iter()
            .filter(|record| record.main <= at)
            .map(|record| (record.key, record.main))
            .collect();
        self.history.retain(|record| {
            record.main > at || (newest[record.key] == record.main && record.value.is_some())
        });
        (self.scheduled, self.compacted) = (at, at);
    }

    pub fn file(&self) -> Vec<u8> {
        let history: Vec<_> = self
            .history
            .iter()
            .map(|record| {
                let deletion = if record.value.is_none() { "t" } else { "" };
                (revision(record.main) + deletion, message(record))
            })
            .collect();
        let history: Vec<_> = history.iter().map(|(name, it)| (&**name, &**it)).collect();
        let leases: Vec<_> = self
            .leases
            .iter()
            .map(|(id, ttl)| (format!("\0\0\0\0\0\0\0{}", char::from(*id)), [8, *id, 16, *ttl]))
            .collect();
        let leases: Vec<_> = leases.iter().map(|(id, it)| (&**id, &it[..])).collect();
        let named = |list: &BTreeMap<&'static str, &'static str>| {
            list.iter().map(|(name, it)| (*name, it.as_bytes())).collect::<Vec<_>>()
        };
        let marks =
            [("finishedCompactRev", self.compacted), ("scheduledCompactRev", self.scheduled)];
        let marks: Vec<_> = marks
            .into_iter()
            .filter(|(_, main)| *main > 0)
            .map(|(name, main)| (name, revision(main)))
            .collect();
        let marks: Vec<_> = marks.iter().map(|(name, it)| (*name, it.as_bytes())).collect();
        sample::database(&[
            ("auth", true, &[("authEnabled", &[u8::from(self.is_auth_enabled)])]),
            ("authRoles", true, &named(&self.roles)),
            ("authUsers", true, &named(&self.users)),
            ("key", false, &history),
            ("lease", true, &leases),
            ("meta", true, &marks),
        ])
    }
}

fn revision(main: u8) -> String {
    format!("\0\0\0\0\0\0\0{}_\0\0\0\0\0\0\0\0", char::from(main))
}

/// A `mvccpb.KeyValue`.
fn message(record: &SampleRecord) -> Vec<u8> {
    let key = [&[0x0a, u8::try_from(record.key.len()).unwrap()], record.key.as_bytes()].concat();
    let Some(value) = record.value else { return key };
    let mut message =
        [&key[..], &[0x18, record.main, 0x20, record.version, 0x2a, 1, value]].concat();
    if record.lease != 0 {
        message.extend([0x30, record.lease]);
    }
    message
}
