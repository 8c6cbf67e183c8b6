//! Databases before and after, what is counted in them, and what is found to differ.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::compare::{AllowedChanges, Comparison, ComparisonError, Rules};
use super::sample::Example;
use super::*;
use crate::inspect::log::writes::Writes;
use crate::scratch::ScratchDirectory;

/// Three keys, of which one was changed and one deleted; one belongs to a lease of 60 seconds.
fn example() -> Example {
    let mut example = Example::default();
    example.put(2, "/a");
    example.put(3, "/b");
    example.put(4, "/c").lease = 7;
    example.put(5, "/a");
    example.delete(6, "/b");
    example.put(7, "/b");
    example.put(8, "/gone");
    example.delete(9, "/gone");
    example.leases = BTreeMap::from([(7, 60), (8, 100)]);
    example.users = BTreeMap::from([("alice", "1"), ("root", "2")]);
    example.roles = BTreeMap::from([("root", "")]);
    example
}

struct Pair {
    scratch: ScratchDirectory,
    has_copy: bool,
    depth: Depth,
}

impl Pair {
    fn path(&self, name: &str, example: &Example) -> PathBuf {
        self.scratch.write(name, &example.file());
        self.scratch.path().join(name)
    }

    fn compare(
        &self,
        before: &Example,
        after: &Example,
        rules: &Rules<'_>,
    ) -> Result<AllowedChanges, ComparisonError> {
        let [before, after] =
            [("before", before), ("after", after)].map(|(name, it)| self.path(name, it));
        let first = read(&before, self.depth, None)?;
        // As it comes out of the journal.
        let first: Contents = first.to_string().parse().unwrap();
        let last = read(&after, self.depth, Some(&first))?;
        Comparison {
            before: &first,
            after: &last,
            before_db: self.has_copy.then_some(&before),
            after_db: &after,
            rules,
        }
        .run()
    }
}

/// Requests that put and delete a key of two bytes, and one that ends a lease.
fn put(key: [u8; 2]) -> Vec<u8> {
    [&[0x22, 4, 0x0a, 2][..], &key].concat()
}

fn delete(key: [u8; 2]) -> Vec<u8> {
    [&[0x2a, 4, 0x0a, 2][..], &key].concat()
}

fn revoke(lease: u8) -> [u8; 4] {
    [0x4a, 2, 8, lease]
}

fn quiet(writes: &Writes) -> Rules<'_> {
    Rules {
        writes: Some(writes),
        left: None,
        served: Some(Duration::from_secs(10)),
        converts: false,
    }
}

/// What is said about a change of the example, with a copy and without one.
#[track_caller]
fn check(change: impl Fn(&mut Example), rules: &Rules<'_>, with_copy: &str, without: &str) {
    for (has_copy, expected) in [(true, with_copy), (false, without)] {
        let pair = Pair { scratch: ScratchDirectory::new(), has_copy, depth: Depth::Full };
        let mut after = example();
        change(&mut after);
        let said = match pair.compare(&example(), &after, rules) {
            Ok(allowed) => {
                let mut phrases = allowed.phrases();
                phrases.extend(allowed.unproven.iter().map(|what| format!("not {what}")));
                phrases.join(", ")
            }
            Err(ComparisonError::Differs(difference)) => format!("error: {difference}"),
            Err(ComparisonError::Unreadable(error)) => panic!("{error}"),
        };
        assert_eq!(said, expected, "copy: {has_copy}");
    }
}

#[test]
fn figures_are_those_of_the_database() {
    let pair = Pair { scratch: ScratchDirectory::new(), has_copy: true, depth: Depth::Full };
    let mut example = example();
    let look = |example: &Example| {
        let contents = read(&pair.path("db", example), Depth::Full, None).unwrap();
        let Contents { revisions, revision, compacted, leases, users, roles, .. } = contents;
        [contents.keys.unwrap(), revisions, revision, compacted, leases, users, roles]
    };
    assert_eq!(look(&example), [3, 8, 9, 0, 2, 2, 1]);
    example.compact(9);
    assert_eq!(look(&example), [3, 3, 9, 9, 2, 2, 1]);
    assert_eq!(look(&Example::default()), [0, 0, 1, 0, 0, 0, 0]);
}

#[test]
fn keys_are_counted_without_a_list_of_them() {
    const KEYS: [&str; 5] = ["/a", "/b", "/c", "/d", "/e"];
    let scratch = ScratchDirectory::new();
    for seed in 0..300 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut example = Example::default();
        for main in 2..40 {
            let key = KEYS[random.usize(..KEYS.len())];
            let last = example.history.iter().rev().find(|record| record.key == key);
            if random.u8(..4) == 0 && last.is_some_and(|record| record.value.is_some()) {
                example.delete(main, key);
            } else {
                example.put(main, key);
            }
            if random.u8(..12) == 0 {
                example.compact(random.u8(example.compacted.max(1)..main));
            }
        }
        // One that was not finished.
        example.scheduled += u8::from(random.bool());
        scratch.write("db", &example.file());
        let db = scratch.path().join("db");
        let counted = keys::count(&mut open(&db).unwrap()).unwrap();
        let contents = read(&db, Depth::Full, None).unwrap();
        assert_eq!(contents.keys, Some(counted.live), "{seed}: {example:?}");
        assert_eq!(contents.revisions, counted.revisions);
    }
}

#[test]
fn everything_that_was_there_must_be_there_as_it_was() {
    let writes = Writes::default();
    let rules = &quiet(&writes);
    let lost = "error: there were 8 revisions, and now there are 7";
    check(|_| {}, rules, "", "");
    check(
        |it| {
            it.history.remove(1);
        },
        rules,
        "error: revision 3 of the key `/b` is missing",
        lost,
    );
    check(
        |it| it.history[0].value = Some(0),
        rules,
        "error: revision 2 of the key `/a` has another content",
        "error: the 8 revisions are not the same",
    );
    check(
        |it| it.history[3].lease = 8,
        rules,
        "error: revision 5 of the key `/a` has another content",
        "error: the 8 revisions are not the same",
    );
    check(
        |it| it.history.clear(),
        rules,
        "error: the revision went back from 9 to 1",
        "error: the revision went back from 9 to 1",
    );
    check(
        |it| {
            it.leases.insert(8, 99);
        },
        rules,
        "error: the lease 8 has another TTL",
        "error: the 2 leases are not the same",
    );
    check(
        |it| {
            it.leases.insert(9, 1);
        },
        rules,
        "error: the lease 9 was not there before",
        "error: there were 2 leases, and now there are 3",
    );
    for (name, what) in [("alice", "is missing"), ("bob", "was not there before")] {
        check(
            |it| {
                if it.users.remove(name).is_none() {
                    it.users.insert(name, "");
                }
            },
            rules,
            &format!("error: the user `{name}` {what}"),
            &format!(
                "error: there were 3 users and roles, and now there are {}",
                if name == "bob" { 4 } else { 2 }
            ),
        );
    }
    check(
        |it| {
            it.roles.insert("root", "less");
        },
        rules,
        "error: the role `root` was changed",
        "error: the 3 users and roles are not the same",
    );
    check(
        |it| it.is_auth_enabled = true,
        rules,
        "error: the settings of authentication were changed",
        "error: the 3 users and roles are not the same",
    );
}

#[test]
fn what_is_new_needs_a_reason() {
    let mut writes = Writes::default();
    let deleted = "error: the key `/a` was deleted at revision 10";
    let written = "error: revision 10 of the key `/new\\xc3\\xa9` was written meanwhile";
    let new = |it: &mut Example| {
        it.put(10, "/newé");
    };
    check(|it| it.delete(10, "/a"), &quiet(&writes), deleted, deleted);
    check(new, &quiet(&writes), written, written);
    let one = "1 revision that was written meanwhile";
    let anybody = Rules { writes: None, left: None, served: None, converts: false };
    check(|it| it.delete(10, "/a"), &anybody, one, one);
    let converts = Rules { converts: true, ..quiet(&writes) };
    check(new, &converts, "1 key that was converted", "1 key that was converted");
    let with_lease = |it: &mut Example| {
        it.put(10, "/new").lease = 9;
        it.leases.insert(9, 60);
    };
    check(
        with_lease,
        &converts,
        "1 lease that was granted meanwhile, 1 key that was converted",
        "1 key that was converted, not the leases, some of which may have ended",
    );
    check(|it| it.delete(10, "/a"), &converts, deleted, deleted);
    writes.add(&delete(*b"/a"));
    check(|it| it.delete(10, "/a"), &quiet(&writes), one, one);
    check(new, &quiet(&writes), written, written);
}

#[test]
fn what_the_log_has_put_must_be_there() {
    let mut writes = Writes::default();
    writes.add(&put(*b"/a"));
    writes.add(&put(*b"/n"));
    let both = |it: &mut Example| {
        it.put(10, "/a");
        it.put(11, "/n");
    };
    let two = "2 revisions that were written meanwhile";
    check(both, &quiet(&writes), two, two);
    let missing = "error: what the log had of the key `/n` was not written";
    check(
        |it| {
            it.put(10, "/a");
        },
        &quiet(&writes),
        missing,
        missing,
    );
    let missing = missing.replace("/n", "/a");
    check(|_| {}, &quiet(&writes), &missing, &missing);
    let mut left = Writes::default();
    left.add(&put(*b"/n"));
    let in_the_log = Rules { left: Some(&left), ..quiet(&writes) };
    let one = "1 revision that was written meanwhile";
    check(
        |it| {
            it.put(10, "/a");
        },
        &in_the_log,
        one,
        one,
    );
    check(|_| {}, &in_the_log, &missing, &missing);
    let gone = "error: the key `/a` was deleted at revision 12";
    let deletes = |it: &mut Example| {
        both(it);
        it.delete(12, "/a");
    };
    check(deletes, &quiet(&writes), gone, gone);
    writes.add(&delete(*b"/a"));
    let three = "3 revisions that were written meanwhile";
    check(deletes, &quiet(&writes), three, three);
}

#[test]
fn a_lease_may_end_when_its_time_is_over_and_take_its_keys_along() {
    let writes = Writes::default();
    let ended = |it: &mut Example| {
        it.leases.remove(&7);
        it.delete(10, "/c");
    };
    let slow = Rules { served: Some(Duration::from_mins(1)), ..quiet(&writes) };
    let said = "1 lease that has ended, 1 key that a lease has deleted";
    let unproven = "1 key that a lease has deleted, not the leases, some of which may have ended";
    check(ended, &slow, said, unproven);
    check(ended, &Rules { served: None, ..quiet(&writes) }, said, unproven);
    check(ended, &quiet(&writes), "error: the lease 7 is missing", unproven);
    // The log ends it, and grants another one of the same id.
    let mut revokes = Writes::default();
    revokes.add(&revoke(7));
    check(ended, &quiet(&revokes), said, unproven);
    let one = "1 key that a lease has deleted";
    check(|it| it.delete(10, "/c"), &quiet(&revokes), one, one);
    // The lease is still there.
    let deleted = "error: the key `/c` was deleted at revision 10";
    check(|it| it.delete(10, "/c"), &slow, deleted, deleted);
}

#[test]
fn a_compaction_may_remove_what_is_not_the_newest() {
    let writes = Writes::default();
    let rules = &quiet(&writes);
    let unproven = "not the history, of which a compaction has removed a part";
    check(|it| it.compact(9), rules, "5 revisions that a compaction has removed", unproven);
    check(|it| it.compact(5), rules, "1 revision that a compaction has removed", unproven);
    // Half done.
    check(
        |it| {
            it.scheduled = 9;
            it.history.remove(0);
        },
        rules,
        "1 revision that a compaction has removed",
        unproven,
    );
    check(
        |it| {
            it.compact(9);
            it.history.remove(0);
        },
        rules,
        "error: revision 4 of the key `/c` is missing",
        unproven,
    );
    // A deletion and a compaction later than all that was there.
    let later = |it: &mut Example| {
        it.delete(10, "/c");
        it.put(11, "/a");
        it.compact(11);
    };
    let mut both = Writes::default();
    both.add(&delete(*b"/c"));
    both.add(&delete(*b"/a"));
    let said = "1 revision that was written meanwhile, 8 revisions that a compaction has removed";
    check(
        later,
        &quiet(&both),
        &said.replace("8 rev", "7 rev"),
        &format!("1 revision that was written meanwhile, {unproven}"),
    );
    let mut only = Writes::default();
    only.add(&delete(*b"/a"));
    check(
        later,
        &quiet(&only),
        "error: revision 4 of the key `/c` is missing",
        &format!("1 revision that was written meanwhile, {unproven}"),
    );
}

#[test]
fn a_line_of_the_journal_is_whole_or_nothing() {
    let pair = Pair { scratch: ScratchDirectory::new(), has_copy: true, depth: Depth::Full };
    for depth in [Depth::Full, Depth::Quick] {
        let contents = read(&pair.path("db", &example()), depth, None).unwrap();
        let line = contents.to_string();
        assert_eq!(line.parse(), Ok(contents));
        for at in 0..line.len() - 1 {
            // Shorter numbers are numbers, too.
            let cut = line[..at].parse::<Contents>();
            assert!(cut.is_err(), "{}", &line[..at]);
        }
    }
}

#[test]
fn a_quick_look_reads_parts_of_the_history() {
    assert_eq!(parts(1), [(0, 1)]);
    assert_eq!(parts(20), [(0, 4), (5, 20)]);
    for newest in [64, 1000, 123_456, 1 << 40] {
        let parts = parts(newest);
        assert!(parts.len() >= 50, "{parts:?}");
        assert_eq!((parts[0].0, parts[parts.len() - 1].1), (0, newest));
        assert!(parts.windows(2).all(|pair| pair[0].1 + 1 == pair[1].0), "{parts:?}");
        assert!(parts.iter().any(|(first, _)| *first == newest - 15), "{parts:?}");
    }
}

#[test]
fn a_quick_look_sees_what_is_new_and_what_differs_in_its_parts() {
    let writes = Writes::default();
    let pair = Pair { scratch: ScratchDirectory::new(), has_copy: true, depth: Depth::Quick };
    let mut before = Example::default();
    for main in 2..100 {
        before.put(main, "/a");
    }
    let compare = |before: &Example, after: &Example| {
        let looked = pair.compare(before, after, &quiet(&writes));
        looked.map(|_| ()).map_err(|stop| match stop {
            ComparisonError::Differs(difference) => difference.to_string(),
            ComparisonError::Unreadable(error) => error.to_string(),
        })
    };
    let mut short = before.clone();
    short.history.truncate(40);
    assert_eq!(compare(&short, &short), Ok(()));
    let mut longer = short.clone();
    longer.delete(120, "/a");
    let deleted = "the key `/a` was deleted at revision 120".to_owned();
    assert_eq!(compare(&short, &longer), Err(deleted));
    let mut other = short.clone();
    other.history[39].value = Some(0);
    let changed = "revision 41 of the key `/a` has another content".to_owned();
    assert_eq!(compare(&short, &other), Err(changed));
}

#[test]
fn what_is_damaged_is_an_error() {
    let scratch = ScratchDirectory::new();
    let file = example().file();
    for length in (0..file.len() - 1).step_by(97) {
        scratch.write("db", &file[..length]);
        let db = scratch.path().join("db");
        assert!(read(&db, Depth::Full, None).is_err(), "{length}");
    }
    fs::remove_file(scratch.path().join("db")).unwrap();
    assert!(read(&scratch.path().join("db"), Depth::Quick, None).is_err());
}
