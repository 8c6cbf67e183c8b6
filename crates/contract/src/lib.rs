//! The image's contract (docs/image.md): paths, modes, ports, environment, labels.
//!
//! The build writes these values, `etcdimg verify` compares images with it, and the reader of
//! a label gets the type that the writer had. Pure. Not responsible for: which versions an image
//! bundles, or what differs between versions of etcd (`etcd_version`).
//!
//! The acceptance suites `structure` and `windows` know paths, ports and modes a second time, on
//! purpose: they hold the contract against the released images, so a change made only here fails.

pub mod labels;
pub mod paths;
pub mod run;

pub use labels::{EtcdOrigin, EtcdSource, LabelError, LayerName, MigrateOrigin};
pub use paths::PathStyle;
