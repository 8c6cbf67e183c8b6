//! Whose certificates are accepted, by every command that downloads.

use std::path::PathBuf;

use clap::Args;

/// Whose certificates are accepted.
#[derive(Clone, Debug, Default, Args)]
pub struct TrustArgs {
    /// PEM file with additional trusted certificate authorities
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Registry whose certificate is not verified, or that has no TLS (may be given several times)
    #[arg(long, value_name = "HOST[:PORT]")]
    pub insecure_registry: Vec<String>,
}
