//! Computes the steps from the version of the data to the target version. Changes nothing.

pub mod bundled;
pub mod changes;
pub mod space;
pub mod spelling;
pub mod steps;
pub mod tools;
pub mod v2_content;
