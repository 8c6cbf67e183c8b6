//! What the program tells people and other programs: the plan, the status and the log.

pub mod event;
pub mod format;
pub mod json;
pub mod plan_text;
pub mod status;
pub mod status_text;
