//! The media types of documents and layers: OCI's, and Docker's older ones.

/// image-spec `config.md`.
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// image-spec `manifest.md`.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// image-spec `image-index.md`.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub const LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

/// Distribution, "Image Manifest Version 2, Schema 2".
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub const DOCKER_MANIFEST_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
pub const DOCKER_FOREIGN_LAYER: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";

/// Whether a document of this type lists manifests, in either dialect.
pub fn is_index(media_type: &str) -> bool {
    media_type == INDEX || media_type == DOCKER_MANIFEST_LIST
}

/// Whether a layer of this type must not be copied into other registries (image-spec `layer.md`,
/// "Non-Distributable Layers"; Docker says "foreign").
pub fn is_nondistributable(media_type: &str) -> bool {
    media_type.contains("nondistributable") || media_type.contains("foreign")
}
