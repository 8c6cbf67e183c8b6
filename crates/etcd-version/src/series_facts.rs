//! What differs between the minor versions of etcd: programs, Go packages, and the machines that
//! etcd supports. One table, read by everybody who needs such a fact.

use crate::EtcdVersion;

/// The facts of all versions from one minor on, up to the next row.
struct SeriesFacts {
    /// Major and minor.
    since: (u64, u64),
    programs: &'static [&'static str],
    /// The Go package of the server.
    server_package: &'static str,
    /// Behind `go.etcd.io/etcd/<program>`, the Go package of the other programs.
    tool_suffix: &'static str,
    /// The Go package whose variable `GitSHA` is the commit.
    version_package: &'static str,
    /// What the release build tells the Go linker to strip.
    strip: &'static str,
    /// `GOARCH` of the machines on which etcd starts without `ETCD_UNSUPPORTED_ARCH`
    /// (etcd, server/etcdmain/etcd.go, checkSupportArch).
    architectures: &'static [&'static str],
}

/// In ascending order. 3.5 is the only cut so far: it divided etcd into Go modules, and took the
/// commands that work on files out of etcdctl into etcdutl (etcd, CHANGELOG-3.5.md).
const FACTS: [SeriesFacts; 2] = [
    SeriesFacts {
        since: (0, 0),
        programs: &["etcd", "etcdctl"],
        server_package: "go.etcd.io/etcd",
        tool_suffix: "",
        version_package: "go.etcd.io/etcd/version",
        strip: "-s",
        architectures: &["amd64", "ppc64le"],
    },
    SeriesFacts {
        since: (3, 5),
        programs: &["etcd", "etcdctl", "etcdutl"],
        server_package: "go.etcd.io/etcd/server/v3",
        tool_suffix: "/v3",
        version_package: "go.etcd.io/etcd/api/v3/version",
        strip: "-s -w",
        architectures: &["amd64", "arm64", "ppc64le", "s390x"],
    },
];

fn facts(version: &EtcdVersion) -> &'static SeriesFacts {
    let series = (version.major(), version.minor());
    let [first, later @ ..] = &FACTS;
    later.iter().rev().find(|facts| facts.since <= series).unwrap_or(first)
}

/// The programs of every version that there is.
pub const ALL_PROGRAMS: [&str; 3] = ["etcd", "etcdctl", "etcdutl"];

/// The programs that a version consists of.
pub fn programs_of(version: &EtcdVersion) -> &'static [&'static str] {
    facts(version).programs
}

/// The Go package of a program, which is its `main`.
pub fn go_package(version: &EtcdVersion, program: &str) -> String {
    let facts = facts(version);
    if program == "etcd" {
        return facts.server_package.to_owned();
    }
    format!("go.etcd.io/etcd/{program}{}", facts.tool_suffix)
}

/// What etcd's release build gives the Go linker (`-ldflags`), for a commit in its short form.
pub fn release_linker_flags(version: &EtcdVersion, short_commit: &str) -> String {
    let SeriesFacts { strip, version_package, .. } = facts(version);
    format!("{strip} -X={version_package}.GitSHA={short_commit}")
}

/// Whether etcd starts on a machine (by its `GOARCH`) without being told by
/// `ETCD_UNSUPPORTED_ARCH`.
pub fn supports_architecture(version: &EtcdVersion, goarch: &str) -> bool {
    facts(version).architectures.contains(&goarch)
}

#[cfg(test)]
mod tests {
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
        assert!(known.iter().all(|name| ALL_PROGRAMS.contains(name)));
    }
}
