//! etcdimg builds, tests and releases the etcd image that can move its own data.
//!
//! ARCHITECTURE.md has the picture and the order in which to read the modules.

pub mod digest;
pub mod failure;
pub mod fetch;
pub mod http;
pub mod registry;
pub mod store;
pub mod ui;
