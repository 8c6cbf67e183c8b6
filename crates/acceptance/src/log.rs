//! What a case reports while it runs.

use etcd_version::EtcdVersion;

/// What a case reported while it ran.
#[derive(Clone, Debug, Default)]
pub struct CaseLog {
    pub step: String,
    pub notes: Vec<String>,
    pub migrations: Vec<ProvenMigration>,
}

/// Data was migrated from one version to another and is complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvenMigration {
    pub from: EtcdVersion,
    pub to: EtcdVersion,
}
