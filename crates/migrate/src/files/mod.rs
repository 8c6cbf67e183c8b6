//! Operations on files that know nothing about etcd.

pub mod compare;
pub mod durable;
pub mod mounts;
pub mod ownership;
pub mod tree;
