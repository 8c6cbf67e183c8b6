//! Calls of Go.

use super::*;
use crate::plan::ModulesSource;

fn modules(version: &str, goarm: Option<&str>) -> ModulesSource {
    ModulesSource {
        version: version.parse().unwrap(),
        go: "1.25.12".to_owned(),
        commit: "0123456789012345678901234567890123456789".to_owned(),
        go_mod: Digest::of("go.mod"),
        go_sum: Digest::of("go.sum"),
        goos: "linux".to_owned(),
        goarch: "arm".to_owned(),
        goarm: goarm.map(str::to_owned),
    }
}

fn names(compiled: &[Compiled]) -> String {
    compiled.iter().map(|it| it.name.as_str()).collect::<Vec<_>>().join(" ")
}

#[test]
fn etcd_is_compiled_by_the_host() {
    let fake = FakeToolchains::new(Builder::Host);
    let source = modules("3.6.14", Some("7"));
    let compiled = compile_etcd(&fake.context(), &source).unwrap();
    assert_eq!(names(&compiled), "etcd etcdctl etcdutl");
    insta::assert_snapshot!(fake.keys(), @"40a98556540e25af6041afcb7601d042ea71b0756055a450048e3f3de4c32604");
    insta::assert_snapshot!(fake.calls(), @"
    go in /cache
      CALLS=/calls
      GOTOOLCHAIN=local
      HOME=/home/builder
      <env>
      <GOPROXY>
      <GOSUMDB>
      <GONOSUMDB>
      <GOPRIVATE>
      <GONOPROXY>
      <GOINSECURE>
    go in /checkout/sources/3.6.14
      CALLS=/calls
      CGO_ENABLED=0
      GOAMD64=v1
      GOARCH=arm
      GOARM64=v8.0
      GOARM=7
      GOCACHE=/cache/go-build
      GOENV=off
      GOFLAGS=-mod=readonly
      GOMODCACHE=/cache/go-mod
      GOOS=linux
      GOPPC64=power8
      GOPROXY=https://proxy.example
      GORISCV64=rva20u64
      GOTOOLCHAIN=go1.25.12
      GOWORK=off
      HOME=/home/builder
      <env>
      <GOROOT>
      <GOHOSTOS>
      <GOHOSTARCH>
      <GOMODCACHE>
    go in /checkout/sources/3.6.14
      (the same environment)
      <build>
      <-p=2>
      <-buildvcs=false>
      <-trimpath>
      <-installsuffix=cgo>
      <-ldflags=-s -w -X=go.etcd.io/etcd/api/v3/version.GitSHA=0123456>
      <-o>
      </cache/compile/SCRATCH/etcd>
      <go.etcd.io/etcd/server/v3>
    go in /checkout/sources/3.6.14
      (the same environment)
      <build>
      <-p=2>
      <-buildvcs=false>
      <-trimpath>
      <-installsuffix=cgo>
      <-ldflags=-s -w -X=go.etcd.io/etcd/api/v3/version.GitSHA=0123456>
      <-o>
      </cache/compile/SCRATCH/etcdctl>
      <go.etcd.io/etcd/etcdctl/v3>
    go in /checkout/sources/3.6.14
      (the same environment)
      <build>
      <-p=2>
      <-buildvcs=false>
      <-trimpath>
      <-installsuffix=cgo>
      <-ldflags=-s -w -X=go.etcd.io/etcd/api/v3/version.GitSHA=0123456>
      <-o>
      </cache/compile/SCRATCH/etcdutl>
      <go.etcd.io/etcd/etcdutl/v3>
    ");
}

#[test]
fn an_old_etcd_is_compiled_by_the_host() {
    let fake = FakeToolchains::new(Builder::Host);
    let source = modules("3.4.21", None);
    let compiled = compile_etcd(&fake.context(), &source).unwrap();
    assert_eq!(names(&compiled), "etcd etcdctl");
    insta::assert_snapshot!(fake.keys(), @"17c7650de00ca4bc06097455f65f7e7c301cdf7228bfd542b45e4c1fe2913aff");
    insta::assert_snapshot!(fake.calls(), @"
    go in /cache
      CALLS=/calls
      GOTOOLCHAIN=local
      HOME=/home/builder
      <env>
      <GOPROXY>
      <GOSUMDB>
      <GONOSUMDB>
      <GOPRIVATE>
      <GONOPROXY>
      <GOINSECURE>
    go in /checkout/sources/3.4.21
      CALLS=/calls
      CGO_ENABLED=0
      GOAMD64=v1
      GOARCH=arm
      GOARM64=v8.0
      GOCACHE=/cache/go-build
      GOENV=off
      GOFLAGS=-mod=readonly
      GOMODCACHE=/cache/go-mod
      GOOS=linux
      GOPPC64=power8
      GOPROXY=https://proxy.example
      GORISCV64=rva20u64
      GOTOOLCHAIN=go1.25.12
      GOWORK=off
      HOME=/home/builder
      <env>
      <GOROOT>
      <GOHOSTOS>
      <GOHOSTARCH>
      <GOMODCACHE>
    go in /checkout/sources/3.4.21
      (the same environment)
      <build>
      <-p=2>
      <-buildvcs=false>
      <-trimpath>
      <-installsuffix=cgo>
      <-ldflags=-s -X=go.etcd.io/etcd/version.GitSHA=0123456>
      <-o>
      </cache/compile/SCRATCH/etcd>
      <go.etcd.io/etcd>
    go in /checkout/sources/3.4.21
      (the same environment)
      <build>
      <-p=2>
      <-buildvcs=false>
      <-trimpath>
      <-installsuffix=cgo>
      <-ldflags=-s -X=go.etcd.io/etcd/version.GitSHA=0123456>
      <-o>
      </cache/compile/SCRATCH/etcdctl>
      <go.etcd.io/etcd/etcdctl>
    ");
}

#[test]
fn modules_are_downloaded_by_the_host() {
    let fake = FakeToolchains::new(Builder::Host);
    download_modules(&fake.context(), &modules("3.6.14", Some("7"))).unwrap();
    insta::assert_snapshot!(fake.calls(), @"
    go in /cache
      CALLS=/calls
      GOTOOLCHAIN=local
      HOME=/home/builder
      <env>
      <GOPROXY>
      <GOSUMDB>
      <GONOSUMDB>
      <GOPRIVATE>
      <GONOPROXY>
      <GOINSECURE>
    go in /checkout/sources/3.6.14
      CALLS=/calls
      CGO_ENABLED=0
      GOAMD64=v1
      GOARCH=arm
      GOARM64=v8.0
      GOARM=7
      GOCACHE=/cache/go-build
      GOENV=off
      GOFLAGS=-mod=readonly
      GOMODCACHE=/cache/go-mod
      GOOS=linux
      GOPPC64=power8
      GOPROXY=https://proxy.example
      GORISCV64=rva20u64
      GOTOOLCHAIN=go1.25.12
      GOWORK=off
      HOME=/home/builder
      <env>
      <GOROOT>
      <GOHOSTOS>
      <GOHOSTARCH>
      <GOMODCACHE>
    go in /checkout/sources/3.6.14
      (the same environment)
      <mod>
      <download>
    ");
}

#[test]
fn etcd_is_compiled_by_buildx() {
    let fake = FakeToolchains::new(buildx(None));
    let source = modules("3.6.14", Some("7"));
    let compiled = compile_etcd(&fake.context(), &source).unwrap();
    assert_eq!(names(&compiled), "etcd etcdctl etcdutl");
    insta::assert_snapshot!(fake.keys(), @"40a98556540e25af6041afcb7601d042ea71b0756055a450048e3f3de4c32604");
    insta::assert_snapshot!(fake.calls(), @r#"
    docker in /cache
      CALLS=/calls
      DOCKER_HOST=unix:///docker
      HOME=/home/builder
      <buildx>
      <build>
      <--provenance=false>
      <--sbom=false>
      <--progress=rawjson>
      <--cache-from=type=local,src=from>
      <--cache-to=type=local,dest=to>
      <--platform=linux/arm/v7>
      <--file=/cache/compile/SCRATCH/Dockerfile>
      <--output=type=local,dest=/cache/compile/SCRATCH/out>
      </cache/compile/SCRATCH/context>
    # Written by etcdimg: compiles etcd 3.6.14 for linux/arm/v7.
    # The builder, by its digest, on the machine's own architecture.
    FROM --platform=$BUILDPLATFORM golang@sha256:1 AS fetch
    COPY sources/3.6.14/go.mod /etcdimg/sources/3.6.14/go.mod
    COPY sources/3.6.14/go.sum /etcdimg/sources/3.6.14/go.sum
    # Modules, which go.sum pins, and the Go release, whose sum is locked.
    RUN cd /etcdimg/sources/3.6.14 && \
        CGO_ENABLED=0 GOAMD64=v1 GOARCH=arm GOARM=7 GOARM64=v8.0 GOCACHE=/opt/etcdimg/go-build GOENV=off GOFLAGS=-mod=readonly GOMODCACHE=/opt/etcdimg/go-mod GOOS=linux GOPPC64=power8 GORISCV64=rva20u64 GOTOOLCHAIN=go1.25.12 GOWORK=off go mod download
    RUN for sum in /opt/etcdimg/go-mod/cache/download/golang.org/toolchain/@v/v0.0.1-go1.25.12.*.ziphash; do \
        [ ! -e "$sum" ] || grep -qxF -e 'h1:one=' -e 'h1:two=' "$sum" || { echo 'Go 1.25.12 is not a locked one: see etcdimg lock --go-host' >&2; exit 1; }; \
        done

    FROM fetch AS compile
    RUN --network=none --mount=type=cache,id=etcdimg-go-build,target=/opt/etcdimg/go-build cd /etcdimg/sources/3.6.14 && \
        CGO_ENABLED=0 GOAMD64=v1 GOARCH=arm GOARM=7 GOARM64=v8.0 GOCACHE=/opt/etcdimg/go-build GOENV=off GOFLAGS=-mod=readonly GOMODCACHE=/opt/etcdimg/go-mod GOOS=linux GOPPC64=power8 GOPROXY=off GORISCV64=rva20u64 GOTOOLCHAIN=go1.25.12 GOWORK=off go build -p=2 -buildvcs=false -trimpath -installsuffix=cgo '-ldflags=-s -w -X=go.etcd.io/etcd/api/v3/version.GitSHA=0123456' -o /out/etcd go.etcd.io/etcd/server/v3
    RUN --network=none --mount=type=cache,id=etcdimg-go-build,target=/opt/etcdimg/go-build cd /etcdimg/sources/3.6.14 && \
        CGO_ENABLED=0 GOAMD64=v1 GOARCH=arm GOARM=7 GOARM64=v8.0 GOCACHE=/opt/etcdimg/go-build GOENV=off GOFLAGS=-mod=readonly GOMODCACHE=/opt/etcdimg/go-mod GOOS=linux GOPPC64=power8 GOPROXY=off GORISCV64=rva20u64 GOTOOLCHAIN=go1.25.12 GOWORK=off go build -p=2 -buildvcs=false -trimpath -installsuffix=cgo '-ldflags=-s -w -X=go.etcd.io/etcd/api/v3/version.GitSHA=0123456' -o /out/etcdctl go.etcd.io/etcd/etcdctl/v3
    RUN --network=none --mount=type=cache,id=etcdimg-go-build,target=/opt/etcdimg/go-build cd /etcdimg/sources/3.6.14 && \
        CGO_ENABLED=0 GOAMD64=v1 GOARCH=arm GOARM=7 GOARM64=v8.0 GOCACHE=/opt/etcdimg/go-build GOENV=off GOFLAGS=-mod=readonly GOMODCACHE=/opt/etcdimg/go-mod GOOS=linux GOPPC64=power8 GOPROXY=off GORISCV64=rva20u64 GOTOOLCHAIN=go1.25.12 GOWORK=off go build -p=2 -buildvcs=false -trimpath -installsuffix=cgo '-ldflags=-s -w -X=go.etcd.io/etcd/api/v3/version.GitSHA=0123456' -o /out/etcdutl go.etcd.io/etcd/etcdutl/v3

    FROM scratch
    COPY --from=compile /out/ /
    ./sources/3.6.14/go.mod
    ./sources/3.6.14/go.sum
    "#);
}

#[test]
fn what_was_compiled_of_a_module_that_changed_meanwhile_is_not_kept() {
    let fake = FakeToolchains::new(Builder::Host);
    let source = modules("3.6.14", None);
    let edit = "echo edited > \"${CALLS%/*}/checkout/sources/3.6.14/go.sum\"";
    let module = fake.options.root.join("sources/3.6.14/go.sum");
    fake.set_program("go", &format!("{GO}\ncase $1 in -o) {edit} ;; esac\n"));
    let error = compile_etcd(&fake.context(), &source).unwrap_err();
    assert!(matches!(error, CompileError::WrongModule { .. }), "{error:?}");
    fs::write(module, "go.sum").unwrap();
    fake.set_program("go", GO);
    let calls = fake.calls().len();
    compile_etcd(&fake.context(), &source).unwrap();
    assert!(fake.calls().len() > calls);
}
