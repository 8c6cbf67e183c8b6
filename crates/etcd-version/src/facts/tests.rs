//! The table that is compiled in, and tables that are wrong.

use super::*;

#[test]
fn etcdutl_and_go_modules_came_with_3_5() {
    check("3.3.17", "etcd etcdctl", "go.etcd.io/etcd go.etcd.io/etcd/etcdctl");
    check("3.4.99", "etcd etcdctl", "go.etcd.io/etcd go.etcd.io/etcd/etcdctl");
    let modules = "go.etcd.io/etcd/server/v3 go.etcd.io/etcd/etcdctl/v3 \
                   go.etcd.io/etcd/etcdutl/v3";
    check("3.5.0-rc.0", "etcd etcdctl etcdutl", modules);
    check("3.7.1", "etcd etcdctl etcdutl", modules);
}

#[test]
fn the_linker_flags_are_those_of_the_release_build() {
    let flags = |version: &str| release_linker_flags(&version.parse().unwrap(), "0123456");
    assert_eq!(flags("3.4.27"), "-s -X=go.etcd.io/etcd/version.GitSHA=0123456");
    assert_eq!(flags("3.6.14"), "-s -w -X=go.etcd.io/etcd/api/v3/version.GitSHA=0123456");
}

#[track_caller]
fn check(version: &str, programs: &str, packages: &str) {
    let version = version.parse().unwrap();
    let known = programs_of(&version);
    let names: Vec<_> = known.iter().map(|name| go_package(&version, name)).collect();
    assert_eq!((known.join(" ").as_str(), names.join(" ").as_str()), (programs, packages));
}

#[test]
fn a_floor_counts_for_everything_behind_it() {
    let facts = Facts::compiled_in();
    let required = |from, to| facts.floor(from, to).and_then(|floor| floor.required.clone());
    let [v3_4, v3_5, v3_6, v3_7] = [4, 5, 6, 7].map(|minor| Series::new(3, minor));
    assert_eq!(required(v3_5, v3_6), Some(EtcdVersion::new(3, 5, 26)));
    assert_eq!(required(v3_5, v3_7), Some(EtcdVersion::new(3, 5, 26)));
    assert_eq!(required(v3_5, v3_5), None);
    assert_eq!(required(v3_4, v3_7), None);
    assert_eq!(required(v3_6, v3_7), None, "wanted, and no more");
    let back = |to, from| facts.floor_after(to, from).and_then(|floor| floor.required.clone());
    let v3_8 = v3_7.next();
    assert_eq!(back(v3_7, v3_8), Some(EtcdVersion::new(3, 7, 2)));
    assert_eq!(back(v3_7, v3_8.next()), Some(EtcdVersion::new(3, 7, 2)));
    assert_eq!((back(v3_7, v3_7), back(v3_6, v3_8)), (None, None));
}

/// A replacement that is not in the table, or that no version knows where the flag is unknown,
/// replaces nothing.
#[test]
fn every_replacement_is_known_where_the_flag_is_not() {
    let facts = Facts::compiled_in();
    for flag in facts.flags() {
        let other = match &flag.replacement {
            None => continue,
            Some(Replacement::Gate(_)) => facts.flag("feature-gates"),
            Some(Replacement::Twin(name) | Replacement::Instead { name, .. }) => facts.flag(name),
        };
        let other = other.unwrap_or_else(|| panic!("{}", flag.name));
        let until = flag.until.unwrap_or_else(|| panic!("{} is known to all", flag.name));
        assert!(other.is_known_to(until.next()), "{} after {until}", flag.name);
    }
    let mut names: Vec<_> = facts.flags().iter().map(|flag| &flag.name).collect();
    names.dedup();
    assert_eq!(names.len(), facts.flags().len(), "a flag twice");
    assert!(names.is_sorted());
}

#[test]
fn a_flag_that_is_gone_has_a_source() {
    for flag in Facts::compiled_in().flags().iter().filter(|flag| flag.until.is_some()) {
        assert!(flag.source.is_some(), "{}", flag.name);
        assert!(flag.reason.is_some() || flag.replacement.is_some(), "{}", flag.name);
    }
}

#[test]
fn an_error_names_its_place() {
    let error = |text: &str| Facts::parse(text).unwrap_err().to_string();
    let broken = |from: &str, to: &str| {
        assert!(TEXT.contains(from), "{from}");
        error(&TEXT.replacen(from, to, 1))
    };
    let errors = [
        broken("\"schemaVersion\": 1", "\"schemaVersion\": 2"),
        broken("\"since\": \"3.5\"", "\"since\": \"3.7\""),
        broken("\"until\": \"3.5\"", "\"until\": 3.5"),
        broken("\"requests\": \"converted\"", "\"requests\": \"later\""),
        broken("\"etcdutl\"]", "\"etcdlib\"]"),
        broken("\"kind\": \"text\"", "\"kind\": \"words\""),
        broken("\"strip\": \"-s\",", ""),
        error(&TEXT[1..]),
    ];
    insta::assert_snapshot!(errors.join("\n"), @r"
    etcd-versions.json, schemaVersion: this program reads version 1 only
    etcd-versions.json, series: the rows are not in ascending order
    etcd-versions.json, replay[0].until: no text
    etcd-versions.json, the table: `replay` has no row for the requests `converted`
    etcd-versions.json, series[1].programs[2]: `etcdlib` is no program of etcd
    etcd-versions.json, flags[1].kind: `words` is no kind of value
    etcd-versions.json, series[0]: `strip` is missing
    etcd-versions.json, the text: trailing characters at line 2 column 18
    ");
}
