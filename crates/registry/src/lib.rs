//! The client of registries, as distribution-spec 1.1 describes them.
//!
//! A [`Registry`] is what all repositories of one host share: TLS, logins and tokens, the limit of
//! requests at once, and what the host was seen to support. A [`RemoteRepository`] is one
//! repository in it: blobs, documents, tags and referrers. [`Registries`] are those of one run.
//!
//! Not responsible for: what a document means, or what belongs together (`documents` and `push` of
//! etcdimg).

mod auth;
mod blob;
mod blobs;
mod capabilities;
pub mod challenge;
mod client;
mod credentials;
mod credentials_error;
mod error;
mod helper;
mod journal;
mod limiter;
mod login;
mod manifests;
mod payload;
mod pull;
mod registries;
mod repository;
mod request;
mod response;
mod scope;
mod upload;

pub use auth::AuthError;
pub use blob::{Blob, BlobOutcome, BlobSource, BlobUpload, ExistenceCheck};
pub use blobs::SINGLE_POST_LIMIT;
pub use capabilities::{Capabilities, Support};
pub use client::{Registry, RegistryOptions};
pub use credentials::Credentials;
pub use credentials_error::CredentialsError;
pub use error::RegistryError;
pub use login::{Login, Secret};
pub use manifests::{PutManifestError, RawDocument, SubjectSupport, referrers_tag};
pub use payload::ProgressListener;
pub use registries::Registries;
pub use repository::RemoteRepository;
pub use upload::CHUNK_BYTES;

/// Registries need not accept more (distribution-spec, "Pushing Manifests").
const MANIFEST_LIMIT: u64 = 4 << 20;

/// Indexes and image manifests, in the media types of OCI and of Docker.
const MANIFEST_TYPES: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.docker.distribution.manifest.v2+json";
