//! One file for each suite, which reads like the document that it proves.

pub mod kubernetes;
pub mod migrate;
pub mod operate;
pub mod rolling_upgrade;
pub mod run;
pub mod stateful_set;
pub mod structure;
pub mod windows;
