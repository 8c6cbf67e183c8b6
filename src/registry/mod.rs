//! Speaks with registries, as distribution-spec 1.1 says: pulls what is asked for by digest, and
//! uploads what they lack.
//!
//! Not responsible for: what a manifest means, or what belongs together (`push`).

mod answer;
mod auth;
mod blobs;
mod bringer;
mod credentials;
mod error;
mod helper;
mod host;
mod journal;
mod login;
mod manifests;
mod manners;
mod pace;
mod payload;
mod puller;
mod remote;
mod scope;
mod upload;

pub use auth::AuthError;
pub use blobs::{Belief, Blob, Bring, Delivery, Moved, SMALL};
pub use bringer::Bringer;
pub use credentials::{Credentials, CredentialsError};
pub use error::RemoteError;
pub use host::{Host, HostOptions};
pub use login::{Login, Secret};
pub use manifests::{Known, Manifest, Unwanted, referrers_tag};
pub use manners::{Manners, Told};
pub use oci::reference::{
    PinnedReference as Reference, Reference as Naming, ReferenceError, Repository, is_tag,
};
pub use payload::Listener;
pub use puller::{Puller, RegistryError};
pub use remote::Remote;
pub use upload::PIECE;

/// Registries need not accept more (distribution-spec, "Pushing Manifests").
const MANIFEST_LIMIT: u64 = 4 << 20;

/// Indexes and image manifests in both dialects: the digest has decided which one it is.
const MANIFEST_TYPES: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.docker.distribution.manifest.v2+json";
