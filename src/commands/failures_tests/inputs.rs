//! Errors of what goes into an image: the catalog, the cache, bases.

use super::*;
use crate::layer::HeaderError;

#[test]
fn the_catalog_and_the_plan() {
    let io = LoadError::Io { path: path(), source: denied() };
    let stale = LockError::Stale { expected: expected(), actual: received() };
    let platform = "linux/amd64".parse().unwrap();
    let rows = vec![
        ("Fault", fault().into()),
        ("LoadError::Fault", LoadError::Fault(fault()).into()),
        ("LoadError::Io", io.into()),
        ("LockError::Fault", LockError::Fault(fault()).into()),
        ("LockError::Stale", stale.into()),
        ("PlanError::UnknownPlatform", PlanError::UnknownPlatform(platform).into()),
        ("PlanError::UnlockedRelease", PlanError::UnlockedRelease(text("etcd.tar.gz")).into()),
        ("PlanError::UnknownBase", PlanError::UnknownBase(text("busybox")).into()),
    ];
    insta::assert_snapshot!(table(rows), @"
    Fault, exit 3
    error: versions.yaml:7: rust: this is no release
      write instead: 1.95.0

    LoadError::Fault, exit 3
    error: versions.yaml:7: rust: this is no release
      write instead: 1.95.0

    LoadError::Io, exit 3
    error: cannot read `/folder/file`
      because: permission denied
    hint: run etcdimg in a checkout of its repository, or give one with `-C DIR`

    LockError::Fault, exit 3
    error: versions.yaml:7: rust: this is no release
      write instead: 1.95.0

    LockError::Stale, exit 3
    error: etcdimg.lock is stale
      expected sha256:EXPECTED, the catalog as it is now
      received sha256:RECEIVED, the catalog it was made from
    hint: run `etcdimg lock` and review the diff

    PlanError::UnknownPlatform, exit 3
    error: targets/ has no file for linux/amd64

    PlanError::UnlockedRelease, exit 3
    error: etcdimg.lock has no release archive `etcd.tar.gz`
    hint: set `origin: release` in the target file and run `etcdimg lock`

    PlanError::UnknownBase, exit 3
    error: versions.yaml has no base `busybox`
    ");
}

#[test]
fn the_cache_and_what_is_fetched() {
    let mismatch = StoreError::Mismatch {
        name: text("etcd.tar.gz"),
        expected: expected(),
        actual: received(),
    };
    let corrupt = || StoreError::Corrupt { digest: expected(), actual: received() };
    let rows = vec![
        ("StoreError::Io", store_io(denied()).into()),
        ("StoreError::Io, full", store_io(full()).into()),
        ("StoreError::Mismatch", mismatch.into()),
        ("StoreError::Corrupt", corrupt().into()),
        ("StoreError::Missing", StoreError::Missing(expected()).into()),
        ("FetchError::Store", FetchError::Store(store_io(full())).into()),
        ("FetchError::Store, corrupt", FetchError::Store(corrupt()).into()),
        ("FetchError::Mirrors", mirrors(TransferError::Connect(text("refused"))).into()),
        ("FetchError::Mirrors, wrong bytes", wrong_digest().into()),
    ];
    insta::assert_snapshot!(table(rows), @"
    StoreError::Io, exit 7
    error: cannot write `/folder/file`
      because: permission denied

    StoreError::Io, full, exit 7
    error: cannot write `/folder/file`
      because: no storage space
    hint: free space with `etcdimg cache gc`, or use another disk with `--cache-dir`

    StoreError::Mismatch, exit 4
    error: `etcd.tar.gz` has the wrong digest
      expected sha256:EXPECTED
      received sha256:RECEIVED
    hint: the file was replaced or the lock is wrong: find out which before you change the lock

    StoreError::Corrupt, exit 4
    error: the cache entry sha256:EXPECTED was corrupted and has been removed
      received sha256:RECEIVED
    hint: run the command again

    StoreError::Missing, exit 5
    error: the cache has no sha256:EXPECTED
    hint: run `etcdimg fetch` without `--offline`

    FetchError::Store, exit 7
    error: cannot write `/folder/file`
      because: no storage space
    hint: free space with `etcdimg cache gc`, or use another disk with `--cache-dir`

    FetchError::Store, corrupt, exit 4
    error: the cache entry sha256:EXPECTED was corrupted and has been removed
      received sha256:RECEIVED
    hint: the file was replaced or the lock is wrong: find out which before you change the lock

    FetchError::Mirrors, exit 5
    error: cannot fetch `etcd.tar.gz`
      https://mirror: cannot connect: refused, after 2 attempts
    hint: `--mirror URL` adds another source: an https://, http:// or file:// URL with {version} and {file} in it
    hint: `--from source` compiles etcd from Go modules instead; a label of the image records it

    FetchError::Mirrors, wrong bytes, exit 4
    error: cannot fetch `etcd.tar.gz`
      https://mirror: wrong digest
        expected sha256:EXPECTED
        received sha256:RECEIVED, after 2 attempts
    hint: the file was replaced or the lock is wrong: find out which before you change the lock
    ");
}

#[test]
fn lookups() {
    let reference = || text("registry/busybox:1");
    let no_sum = LookupError::NoSum { file: text("etcd.tar.gz"), tried: vec![text("mirror: 404")] };
    let disagree = LookupError::Disagree {
        file: text("etcd.tar.gz"),
        said: vec![text("mirror: one"), text("other: two")],
    };
    let base = LookupError::Base { reference: reference(), why: text("it is no image") };
    let platform = "linux/amd64".parse().unwrap();
    let no_platform = LookupError::NoPlatform { reference: reference(), platform };
    let rows = vec![
        ("LookupError::NoSum", no_sum.into()),
        ("LookupError::Disagree", disagree.into()),
        ("LookupError::Base", base.into()),
        ("LookupError::NoPlatform", no_platform.into()),
        ("LookupError::Registry", LookupError::Registry(refused(StatusCode::NOT_FOUND)).into()),
    ];
    insta::assert_snapshot!(table(rows), @"
    LookupError::NoSum, exit 5
    error: no mirror has the digest of `etcd.tar.gz`
      mirror: 404
    hint: `--mirror URL` adds another source; it must have SHA256SUMS in the folder of the archives

    LookupError::Disagree, exit 4
    error: mirrors disagree about `etcd.tar.gz`
      mirror: one
      other: two
    hint: find out which one is right before you lock it; etcd 3.4.15, for example, was uploaded twice

    LookupError::Base, exit 5
    error: `registry/busybox:1` cannot be read: it is no image
    hint: `--mirror URL` adds another source; it must have SHA256SUMS in the folder of the archives

    LookupError::NoPlatform, exit 5
    error: `registry/busybox:1` has no image for linux/amd64
    hint: `--mirror URL` adds another source; it must have SHA256SUMS in the folder of the archives

    LookupError::Registry, exit 5
    error: cannot push etcd:3.7.1-0: 404 Not Found, DENIED
    hint: run the command again: it continues where it stopped
    ");
}

#[test]
fn layouts_and_layers() {
    let io = |source| LayoutError::Io { action: "write", path: path(), source };
    let not = LayoutError::NotALayout { path: path(), why: text("there is no index.json") };
    let no_tag = LayoutError::NoTag { path: path(), tag: text("3.7.1-0") };
    let several = LayoutError::SeveralTags { path: path(), tags: vec![text("a"), text("b")] };
    let short = LayerError::Short { path: text("bin/sh"), expected: 2, actual: 1 };
    let wrong = LayoutError::WrongBlob { digest: expected(), actual: received() };
    let rows = vec![
        ("LayoutError::Io", io(denied()).into()),
        ("LayoutError::Io, full", io(full()).into()),
        ("LayoutError::NotALayout", not.into()),
        ("LayoutError::NoTag", no_tag.into()),
        ("LayoutError::SeveralTags", several.into()),
        ("LayoutError::WrongBlob", wrong.into()),
        ("LayerError::Io", LayerError::Io(full()).into()),
        ("LayerError::Store", LayerError::Store(store_io(full())).into()),
        ("LayerError::Header", LayerError::Header(HeaderError::Number(1 << 60)).into()),
        ("LayerError::Short", short.into()),
    ];
    insta::assert_snapshot!(table(rows), @"
    LayoutError::Io, exit 7
    error: cannot write `/folder/file`
      because: permission denied

    LayoutError::Io, full, exit 7
    error: cannot write `/folder/file`
      because: no storage space
    hint: use another disk with `--out DIR`; the previous content of the layout is still valid

    LayoutError::NotALayout, exit 1
    error: `/folder/file` is not an OCI image layout: there is no index.json
    hint: make a layout with `etcdimg build --out DIR`

    LayoutError::NoTag, exit 1
    error: `/folder/file` has no image tagged 3.7.1-0
    hint: make a layout with `etcdimg build --out DIR`

    LayoutError::SeveralTags, exit 1
    error: `/folder/file` holds several images: a, b
    hint: make a layout with `etcdimg build --out DIR`

    LayoutError::WrongBlob, exit 4
    error: the blob sha256:EXPECTED is not what its name says
      expected sha256:EXPECTED
      received sha256:RECEIVED

    LayerError::Io, exit 7
    error: cannot write a layer
      because: no storage space
    hint: free space with `etcdimg cache gc`, or use another disk with `--cache-dir`

    LayerError::Store, exit 7
    error: cannot write `/folder/file`
      because: no storage space
    hint: free space with `etcdimg cache gc`, or use another disk with `--cache-dir`

    LayerError::Header, exit 1
    error: 1152921504606846976 is too large for a ustar header

    LayerError::Short, exit 1
    error: `bin/sh` ended after 1 of 2 bytes
    ");
}

#[test]
fn bases() {
    let base = || text("busybox");
    let wrong_platform = BaseError::WrongPlatform {
        base: base(),
        expected: text("linux/amd64"),
        received: text("linux/arm64"),
    };
    let no_platform = BaseError::NoPlatform { base: base(), platform: text("linux/amd64") };
    let unreadable = BaseError::Unreadable { base: base(), why: text("its config is empty") };
    let registry = |error: FetchError| BaseError::Registry(RegistryError::Fetch(error));
    let layout = LayoutError::WrongBlob { digest: expected(), actual: received() };
    let rows = vec![
        ("Offline", BaseError::Offline(base()).into()),
        ("NoPlatform", no_platform.into()),
        ("WrongPlatform", wrong_platform.into()),
        ("NoWindows", BaseError::NoWindows { base: base() }.into()),
        ("Unreadable", unreadable.into()),
        ("Io", BaseError::Io { path: path(), source: denied() }.into()),
        ("Registry", registry(mirrors(TransferError::Connect(text("refused")))).into()),
        ("Registry, wrong bytes", registry(wrong_digest()).into()),
        ("Registry, full", registry(FetchError::Store(store_io(full()))).into()),
        ("Layout", BaseError::Layout(layout).into()),
        ("Layer", BaseError::Layer(LayerError::Io(full())).into()),
        ("Store", BaseError::Store(StoreError::Missing(expected())).into()),
    ];
    insta::assert_snapshot!(table(rows), @"
    Offline, exit 5
    error: the base busybox is not in the cache, and --offline is set
    hint: run `etcdimg fetch` without `--offline`

    NoPlatform, exit 4
    error: the base busybox has no image for linux/amd64
    hint: to use another base, make one from the distribution's busybox: `scripts/busybox-base linux/amd64 FILE`, then `--base busybox=rootfs:FILE@DIGEST`

    WrongPlatform, exit 4
    error: the base busybox is for linux/arm64, the image for linux/amd64
    hint: to use another base, make one from the distribution's busybox: `scripts/busybox-base linux/amd64 FILE`, then `--base busybox=rootfs:FILE@DIGEST`

    NoWindows, exit 4
    error: the base busybox has no os.version in its config, so the Windows that runs it is unknown
    hint: use an image of Nano Server: `--base NAME=REPOSITORY@DIGEST`

    Unreadable, exit 4
    error: the base busybox cannot be read: its config is empty
    hint: to use another base, make one from the distribution's busybox: `scripts/busybox-base linux/amd64 FILE`, then `--base busybox=rootfs:FILE@DIGEST`

    Io, exit 7
    error: cannot read `/folder/file`
      because: permission denied

    Registry, exit 5
    error: cannot fetch `etcd.tar.gz`
      https://mirror: cannot connect: refused, after 2 attempts
    hint: run the command again: it continues where it stopped
    hint: to use another base, make one from the distribution's busybox: `scripts/busybox-base linux/amd64 FILE`, then `--base busybox=rootfs:FILE@DIGEST`

    Registry, wrong bytes, exit 4
    error: cannot fetch `etcd.tar.gz`
      https://mirror: wrong digest
        expected sha256:EXPECTED
        received sha256:RECEIVED, after 2 attempts
    hint: the registry, or a proxy in front of it, sent bytes that do not match their digest: tell its operator
    hint: to use another base, make one from the distribution's busybox: `scripts/busybox-base linux/amd64 FILE`, then `--base busybox=rootfs:FILE@DIGEST`

    Registry, full, exit 7
    error: cannot write `/folder/file`
      because: no storage space
    hint: free space with `etcdimg cache gc`, or use another disk with `--cache-dir`

    Layout, exit 4
    error: the blob sha256:EXPECTED is not what its name says
      expected sha256:EXPECTED
      received sha256:RECEIVED

    Layer, exit 7
    error: cannot write a layer
      because: no storage space
    hint: free space with `etcdimg cache gc`, or use another disk with `--cache-dir`

    Store, exit 5
    error: the cache has no sha256:EXPECTED
    hint: run `etcdimg fetch` without `--offline`
    ");
}
