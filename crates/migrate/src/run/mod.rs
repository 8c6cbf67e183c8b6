//! Carries out a plan: starts servers and tools, makes backups, moves data.

pub mod backup;
pub mod binaries;
pub mod check;
pub mod command;
pub mod defrag;
pub mod downgrade;
pub mod file_copy;
mod fitted_flags;
pub mod http;
pub mod json_gateway;
pub mod migration;
pub mod orphan;
pub mod peers;
pub mod poll;
pub mod ports;
pub mod rehearsal;
pub mod restore;
pub mod runner;
pub mod sameness;
pub mod server;
pub mod server_log;
pub mod signal;
pub mod space_check;
pub mod step_context;
pub mod subprocess;
pub mod v2_content;
