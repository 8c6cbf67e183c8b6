//! Errors of registries, of pushes and of the documents that they push.

use super::*;

fn auth(source: AuthError) -> RegistryError {
    RegistryError::Auth { what: what(), source }
}

fn helper() -> CredentialsError {
    CredentialsError::Helper { name: text("pass"), why: "it is not on PATH" }
}

#[test]
fn registries() {
    let cause = TransferError::Connect(text("refused"));
    let failed = RegistryError::Failed { what: what(), attempts: 3, cause };
    let unexpected = RegistryError::UnexpectedResponse { what: what(), why: text("no location") };
    let digest =
        RegistryError::WrongDigest { what: what(), expected: expected(), received: received() };
    let file = RegistryError::WrongFile {
        what: what(),
        path: text("blobs/sha256/0"),
        expected: expected(),
        received: received(),
    };
    let login = || AuthError::NoCredentials { registry: text("registry") };
    let not_pinned = ReferenceError::NotPinned(text("busybox"));
    let rows = vec![
        ("RegistryError::Failed", failed.into()),
        ("RegistryError::Refused", refused(StatusCode::BAD_REQUEST).into()),
        ("RegistryError::Refused, 403", refused(StatusCode::FORBIDDEN).into()),
        ("RegistryError::UnexpectedResponse", unexpected.into()),
        ("RegistryError::WrongDigest", digest.into()),
        ("RegistryError::WrongFile", file.into()),
        ("RegistryError::Auth", auth(login()).into()),
        ("RegistryError::Auth, credentials", auth(AuthError::Credentials(helper())).into()),
        ("RegistryError::Io", RegistryError::Io { what: what(), source: denied() }.into()),
        ("RegistryError::Fetch", RegistryError::Fetch(wrong_digest()).into()),
        ("CredentialsError", helper().into()),
        ("ReferenceError", not_pinned.into()),
    ];
    insta::assert_snapshot!(table(rows), @"
    RegistryError::Failed, exit 5
    error: cannot push etcd:3.7.1-0: cannot connect: refused, after 3 attempts
    hint: run the command again: it continues where it stopped

    RegistryError::Refused, exit 5
    error: cannot push etcd:3.7.1-0: 400 Bad Request, DENIED
    hint: run the command again: it continues where it stopped

    RegistryError::Refused, 403, exit 5
    error: cannot push etcd:3.7.1-0: 403 Forbidden, DENIED
    hint: log in with `docker login REGISTRY` or `podman login REGISTRY`, or use `--username USER --password-stdin`

    RegistryError::UnexpectedResponse, exit 5
    error: cannot push etcd:3.7.1-0: unexpected response from the registry: no location
    hint: run the command again: it continues where it stopped

    RegistryError::WrongDigest, exit 4
    error: cannot push etcd:3.7.1-0: the registry returned a different digest
      expected sha256:EXPECTED
      received sha256:RECEIVED
    hint: check the layout with `etcdimg verify`

    RegistryError::WrongFile, exit 4
    error: cannot push etcd:3.7.1-0: `blobs/sha256/0` does not match its digest
      expected sha256:EXPECTED
      received sha256:RECEIVED
    hint: check the layout with `etcdimg verify`

    RegistryError::Auth, exit 5
    error: cannot push etcd:3.7.1-0
      because: registry asks for a login, and none is known for it
    hint: log in with `docker login REGISTRY` or `podman login REGISTRY`, or use `--username USER --password-stdin`

    RegistryError::Auth, credentials, exit 1
    error: cannot push etcd:3.7.1-0
      because: the credential helper `pass` cannot be used: it is not on PATH

    RegistryError::Io, exit 7
    error: cannot push etcd:3.7.1-0
      because: permission denied

    RegistryError::Fetch, exit 4
    error: cannot fetch `etcd.tar.gz`
      https://mirror: wrong digest
        expected sha256:EXPECTED
        received sha256:RECEIVED, after 2 attempts
    hint: the registry, or a proxy in front of it, sent bytes that do not match their digest: tell its operator

    CredentialsError, exit 1
    error: the credential helper `pass` cannot be used: it is not on PATH

    ReferenceError, exit 1
    error: `busybox` is not pinned: write `@sha256:` and 64 hex digits after it
    ");
}

fn taken(next: Option<&str>) -> PushError {
    PushError::Taken {
        repository: "registry/etcd".into(),
        tag: "3.7.1-0".into(),
        expected: expected(),
        received: received(),
        next: next.map(Into::into),
    }
}

#[test]
fn pushes() {
    let partly =
        |source| PushError::PartlyTagged { done: text("3.7.1-0"), source: Box::new(source) };
    let unknown = |source| PushError::TagUnknown { tag: text("3.7.1-0"), source: Box::new(source) };
    let registry = |code| PushError::Registry(refused(code));
    let documents = |code| PushError::Documents(DocumentError::Registry(refused(code)));
    let no_tag = LayoutError::NoTag { path: path(), tag: text("3.7.1-0") };
    let rows = vec![
        ("Registry", registry(StatusCode::BAD_REQUEST).into()),
        ("Registry, denied", registry(StatusCode::UNAUTHORIZED).into()),
        ("Documents, of a registry", documents(StatusCode::BAD_REQUEST).into()),
        ("Documents", PushError::Documents(DocumentError::NotFound(text("etcd:3.7.1-0"))).into()),
        ("PartlyTagged", partly(registry(StatusCode::FORBIDDEN)).into()),
        ("PartlyTagged, taken", partly(taken(None)).into()),
        ("PartlyTagged, another", partly(PushError::Tag(text("?"))).into()),
        ("TagUnknown", unknown(documents(StatusCode::BAD_REQUEST)).into()),
        ("Layout", PushError::Layout(no_tag).into()),
        ("Taken, with a next one", taken(Some("3.7.1-1")).into()),
        ("Taken", taken(None).into()),
        ("NoPlatform", PushError::NoPlatform(text("linux/amd64")).into()),
        ("Tag", PushError::Tag(text("?")).into()),
    ];
    insta::assert_snapshot!(table(rows), @"
    Registry, exit 5
    error: cannot push etcd:3.7.1-0: 400 Bad Request, DENIED
    hint: run the command again: it continues where it stopped
    hint: no tag has moved

    Registry, denied, exit 5
    error: cannot push etcd:3.7.1-0: 401 Unauthorized, DENIED
    hint: log in with `docker login REGISTRY` or `podman login REGISTRY`, or use `--username USER --password-stdin`

    Documents, of a registry, exit 5
    error: cannot push etcd:3.7.1-0: 400 Bad Request, DENIED
    hint: run the command again: it continues where it stopped
    hint: no tag has moved

    Documents, exit 5
    error: etcd:3.7.1-0 does not exist

    PartlyTagged, exit 5
    error: only these tags are set: 3.7.1-0
      because: cannot push etcd:3.7.1-0: 403 Forbidden, DENIED
    hint: log in with `docker login REGISTRY` or `podman login REGISTRY`, or use `--username USER --password-stdin`

    PartlyTagged, taken, exit 8
    error: only these tags are set: 3.7.1-0
      because: registry/etcd has another image tagged 3.7.1-0
      expected sha256:EXPECTED
      received sha256:RECEIVED
    hint: `--force` moves the tag to this image

    PartlyTagged, another, exit 1
    error: only these tags are set: 3.7.1-0
      because: `?` is not a tag

    TagUnknown, exit 5
    error: cannot determine whether tag 3.7.1-0 was updated
      because: cannot push etcd:3.7.1-0: 400 Bad Request, DENIED
    hint: run the command again: it continues where it stopped

    Layout, exit 1
    error: `/folder/file` has no image tagged 3.7.1-0
    hint: make a layout with `etcdimg build --out DIR`

    Taken, with a next one, exit 8
    error: registry/etcd has another image tagged 3.7.1-0
      expected sha256:EXPECTED
      received sha256:RECEIVED
    hint: the next free tag is 3.7.1-1: set `revision: 1` in versions.yaml and build again
    hint: `--force` moves the tag to this image

    Taken, exit 8
    error: registry/etcd has another image tagged 3.7.1-0
      expected sha256:EXPECTED
      received sha256:RECEIVED
    hint: `--force` moves the tag to this image

    NoPlatform, exit 1
    error: the layout has no image for linux/amd64
    hint: `etcdimg build --platform OS/ARCH` adds it to the layout

    Tag, exit 1
    error: `?` is not a tag
    ");
}

#[test]
fn documents() {
    let invalid = DocumentError::Invalid { digest: expected(), why: text("it has no layers") };
    let not = LayoutError::NotALayout { path: path(), why: text("there is no index.json") };
    let rows = vec![
        ("Invalid", invalid.into()),
        ("Descriptor", DocumentError::Descriptor(text("it has no size")).into()),
        ("MissingBlob", DocumentError::MissingBlob(expected()).into()),
        ("NotFound", DocumentError::NotFound(text("etcd:3.7.1-0")).into()),
        ("Registry", DocumentError::Registry(refused(StatusCode::UNAUTHORIZED)).into()),
        ("Layout", DocumentError::Layout(not).into()),
    ];
    insta::assert_snapshot!(table(rows), @"
    Invalid, exit 4
    error: the document sha256:EXPECTED cannot be used: it has no layers
    hint: run `etcdimg verify` to see what is wrong with the layout, then build it again

    Descriptor, exit 4
    error: the descriptor of a document cannot be used: it has no size
    hint: run `etcdimg verify` to see what is wrong with the layout, then build it again

    MissingBlob, exit 4
    error: the layout does not contain the blob sha256:EXPECTED
    hint: run `etcdimg verify` to see what is wrong with the layout, then build it again

    NotFound, exit 5
    error: etcd:3.7.1-0 does not exist

    Registry, exit 5
    error: cannot push etcd:3.7.1-0: 401 Unauthorized, DENIED
    hint: log in with `docker login REGISTRY` or `podman login REGISTRY`, or use `--username USER --password-stdin`

    Layout, exit 1
    error: `/folder/file` is not an OCI image layout: there is no index.json
    hint: make a layout with `etcdimg build --out DIR`
    ");
}
