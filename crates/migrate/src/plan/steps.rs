//! Computes the steps from the current version of the data to the target version.
//!
//! Pure: uses no files, no network and no clock.

use std::fmt;

use etcd_version::{Bundled, EtcdVersion, Facts, Series};

use crate::inspect::current_version::{ClusterState, CurrentVersion, Evidence, KnownVersion};
use crate::inspect::version_pair::{Storage, VersionPair};
use crate::plan::v2_content::{self, V2Content, V2Refusal, V2Removal};

/// How far a downgrade may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Downgrades {
    OneMinor,
    SeveralMinors,
}

/// What the caller allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanOptions {
    pub downgrades: Downgrades,
    pub v2_content: V2Content,
    pub defrag: Defrag,
}

/// Whether the database gives back what it does not use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defrag {
    No,
    /// After the last step that changes the data.
    AtTheEnd,
}

/// One step of a migration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make a backup before anything changes the data.
    Backup,
    /// Start this etcd and cancel the downgrade that an earlier run began.
    CancelDowngrade(EtcdVersion),
    /// Start this etcd, wait until the cluster has reached its minor version, stop it.
    Serve(EtcdVersion),
    /// Start this etcd and remove what clients of the v2 API have stored. Also what `Serve` does.
    DropV2 { version: EtcdVersion, removal: V2Removal },
    /// The same, but first write their keys into the v3 API.
    ConvertV2 { version: EtcdVersion, removal: V2Removal, size_bytes: u64 },
    /// Go back one minor version.
    Downgrade { from: EtcdVersion, to: EtcdVersion, method: DowngradeMethod },
    /// Write the database anew without the space that it does not use, by the tool of this version.
    Defrag(EtcdVersion),
    /// Write the version into `version.txt`.
    Record(EtcdVersion),
}

/// How a downgrade is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DowngradeMethod {
    /// `etcdctl downgrade`, which etcd has from 3.6 on. Loses nothing.
    InPlace,
    /// A snapshot, restored by the older version. Loses the raft log and the other members.
    Snapshot,
}

/// Why there are no steps to the target version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoPath {
    Etcd2Storage,
    UnknownMajor(Series),
    TargetNotBundled {
        to: EtcdVersion,
        bundled: Bundled,
    },
    NotBundled {
        to: EtcdVersion,
        missing: Series,
    },
    UnsafeSteppingStone {
        to: EtcdVersion,
        bundled: EtcdVersion,
        required: EtcdVersion,
    },
    /// No version that can open the data can replay its log.
    LogBeforeData {
        until: Series,
        data: Series,
    },
    /// There is content of the v2 API, and it cannot be dealt with.
    V2(V2Refusal),
    /// A member has found that its data is not that of the others.
    CorruptAlarm,
    /// Too few members have ever started for a quorum.
    NeverStarted {
        started: usize,
        voters: usize,
    },
    /// An operator has enabled a downgrade that has not ended.
    OpenDowngrade {
        to: Series,
    },
    TooFarBack {
        from: Series,
        to: EtcdVersion,
    },
    ClusterDowngrade {
        to: EtcdVersion,
        members: usize,
    },
    DowngradeNeedsCredentials {
        from: Series,
        to: EtcdVersion,
    },
}

impl fmt::Display for NoPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Etcd2Storage => f.write_str("etcd2 storage is not supported"),
            Self::UnknownMajor(series) => {
                write!(f, "etcd {series} is not supported: only etcd 3 is")
            }
            Self::TargetNotBundled { to, bundled } => {
                let list: Vec<_> = bundled.versions().iter().map(ToString::to_string).collect();
                write!(f, "this image bundles no etcd {to}, only {}", list.join(", "))
            }
            Self::NotBundled { to, missing } => {
                write!(f, "cannot go to {to}: this image bundles no etcd {missing}")
            }
            Self::UnsafeSteppingStone { to, bundled, required } => write!(
                f,
                "cannot go to {to}: the way leads through etcd {}, of which only {required} and \
                 later are safe, and this image bundles {bundled}",
                bundled.series()
            ),
            Self::LogBeforeData { until, data } => write!(
                f,
                "the log holds requests that only etcd {until} and older can replay, but the data \
                 is at etcd {data}"
            ),
            Self::V2(refusal) => refusal.fmt(f),
            Self::CorruptAlarm => f.write_str(
                "the data has the CORRUPT alarm: a member has found that its data differs from that of \
                 the others, and no etcd becomes healthy with it",
            ),
            Self::NeverStarted { started, voters } => write!(
                f,
                "of the {voters} members with a vote, only {started} ever started: there is no quorum"
            ),
            Self::OpenDowngrade { to } => {
                write!(f, "a downgrade to {to} was enabled on the running cluster and has not ended")
            }
            Self::TooFarBack { from, to } => {
                write!(f, "cannot go from {from} back to {to}: more than one minor version")
            }
            Self::ClusterDowngrade { to, members } => write!(
                f,
                "cannot go back to {to}: the data belongs to a cluster of {members} members, and \
                 one member cannot go back alone"
            ),
            Self::DowngradeNeedsCredentials { from, to } => write!(
                f,
                "cannot go from {from} back to {to}: the data has authentication enabled, and etcd \
                 3.7 goes back only with credentials"
            ),
        }
    }
}

impl NoPath {
    /// A word for programs.
    pub fn id(&self) -> &'static str {
        match self {
            Self::Etcd2Storage => "etcd2-storage",
            Self::UnknownMajor(_) => "unknown-version",
            Self::TargetNotBundled { .. } | Self::NotBundled { .. } => "not-bundled",
            Self::UnsafeSteppingStone { .. } => "unsafe-stepping-stone",
            Self::LogBeforeData { .. } => "log-before-data",
            Self::V2(_) => "v2-content",
            Self::CorruptAlarm => "corrupt-alarm",
            Self::NeverStarted { .. } => "never-started",
            Self::OpenDowngrade { .. } => "open-downgrade",
            Self::TooFarBack { .. } => "too-far-back",
            Self::ClusterDowngrade { .. } => "cluster-downgrade",
            Self::DowngradeNeedsCredentials { .. } => "auth-downgrade",
        }
    }

    /// What to do instead, if there is something.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::TooFarBack { .. } => {
                Some("`--allow-multi-step-downgrade` goes back several minor versions, one by one")
            }
            Self::NotBundled { .. } => Some("use an image that bundles it first, then this one"),
            Self::ClusterDowngrade { .. } => Some(
                "run `etcdctl downgrade enable` on the running cluster (from etcd 3.6 on), or \
                 restore a snapshot on every member",
            ),
            Self::DowngradeNeedsCredentials { .. } => {
                Some("disable authentication for the downgrade: `etcdctl auth disable`")
            }
            Self::LogBeforeData { .. } => {
                Some("restore a copy or a snapshot: no etcd that knows the data can start on it")
            }
            Self::V2(refusal) => Some(refusal.hint()),
            Self::CorruptAlarm => Some(
                "find out which member is right, replace the others, and run `etcdctl alarm disarm`",
            ),
            Self::NeverStarted { .. } => Some(
                "start the new members with the version of the data, or take them out by `etcdctl \
                 member remove`, then run migrate again",
            ),
            Self::OpenDowngrade { .. } => Some(
                "finish it with that version on every member, or end it by `etcdctl downgrade cancel`",
            ),
            Self::Etcd2Storage => Some(
                "an image of the etcd 3.0 to 3.3 time can convert it; if this was data of etcd 3, its \
                 database is missing: restore a snapshot or a copy",
            ),
            _ => None,
        }
    }
}

/// The steps to the target version, or why there are none.
///
/// The target etcd itself makes the last upgrade by one minor version when it starts, so that one
/// is only recorded. Rolling upgrades of clusters rely on it.
pub fn steps(
    origin: &CurrentVersion,
    to: &VersionPair,
    bundled: &Bundled,
    allowed: PlanOptions,
) -> Result<Vec<Step>, NoPath> {
    if to.storage == Storage::Etcd2 || *origin == CurrentVersion::Etcd2 {
        return Err(NoPath::Etcd2Storage);
    }
    let to = &to.version;
    if to.major() != 3 {
        return Err(NoPath::UnknownMajor(to.series()));
    }
    if !bundled.versions().contains(to) {
        return Err(NoPath::TargetNotBundled { to: to.clone(), bundled: bundled.clone() });
    }
    let CurrentVersion::Etcd3(from) = origin else { return Ok(vec![Step::Record(to.clone())]) };
    if from.series.major != 3 {
        return Err(NoPath::UnknownMajor(from.series));
    }
    v2_content::refuse(from, to, allowed.v2_content).map_err(NoPath::V2)?;
    refuse_against_downgrade(from, to)?;
    let moves = if to.minor() < from.series.minor {
        down(from, to, bundled, allowed)?
    } else {
        up(from, to, bundled, allowed.v2_content)?
    };
    if moves.iter().any(Step::changes_data) {
        refuse_hopeless(from)?;
    }
    let defrag = (allowed.defrag == Defrag::AtTheEnd).then(|| Step::Defrag(to.clone()));
    let backup = (!moves.is_empty() || defrag.is_some()).then_some(Step::Backup);
    let mut steps: Vec<Step> = backup.into_iter().chain(moves).collect();
    let arrived = Step::Record(to.clone());
    if steps.last() != Some(&arrived) {
        steps.push(arrived);
    }
    if let Some(defrag) = defrag {
        steps.insert(steps.len() - 1, defrag);
    }
    Ok(steps)
}

/// The step that takes content of the v2 API out of the data.
fn remove_v2(from: &KnownVersion, version: EtcdVersion, content: V2Content) -> Step {
    let removal = V2Removal::of(&from.v2);
    if content == V2Content::Convert && from.v2.has_visible_keys() {
        return Step::ConvertV2 { version, removal, size_bytes: from.v2.size_bytes };
    }
    Step::DropV2 { version, removal }
}

/// An error if no server would become healthy, whatever the steps are.
fn refuse_hopeless(from: &KnownVersion) -> Result<(), NoPath> {
    let ClusterState { voters, started_voters: started, is_corrupt, .. } = from.cluster;
    if is_corrupt {
        return Err(NoPath::CorruptAlarm);
    }
    if from.members > 1 && started < voters / 2 + 1 {
        return Err(NoPath::NeverStarted { started, voters });
    }
    Ok(())
}

/// An error if an operator has enabled a downgrade: only its target and the version of the data
/// start then.
fn refuse_against_downgrade(from: &KnownVersion, to: &EtcdVersion) -> Result<(), NoPath> {
    match from.cluster.open_downgrade {
        Some(goal) if ![goal, from.series].contains(&to.series()) => {
            Err(NoPath::OpenDowngrade { to: goal })
        }
        _ => Ok(()),
    }
}

fn up(
    from: &KnownVersion,
    to: &EtcdVersion,
    bundled: &Bundled,
    v2_content: V2Content,
) -> Result<Vec<Step>, NoPath> {
    // Data of a patch that is too old, or unknown, is first served by one of its own minor version
    // that puts it in order. In the middle of a rolling upgrade that was done before the next
    // version took over, and the data is at its minor version until all members have.
    let is_cleared = from.evidence == Evidence::DataBeforeOurFile;
    let is_below_floor = required(from.series, to).is_some_and(|required| {
        !is_cleared && from.exact.as_ref().is_none_or(|version| version < required)
    });
    // If the next minor version cannot replay the log, the current one first writes a raft
    // snapshot.
    let rises = to.series() > from.series;
    let has_old_log = rises && from.replayed_until.is_some_and(|until| until <= from.series);
    if let Some(until) = from.replayed_until.filter(|until| rises && *until < from.series) {
        return Err(NoPath::LogBeforeData { until, data: from.series });
    }
    // The last version that has the v2 API takes its content out.
    let last_with_v2 = v2_content::is_lost(from, to).then(v2_content::last_series);
    let repeats_own = is_below_floor || has_old_log || last_with_v2 == Some(from.series);
    let first = from.series.minor.saturating_add(u64::from(!repeats_own));
    let mut steps = Vec::new();
    if from.abandons_downgrade {
        let version =
            if from.series == to.series() { to.clone() } else { newest(bundled, from.series, to)? };
        steps.push(Step::CancelDowngrade(version));
    }
    for minor in first..to.minor() {
        let series = Series::new(3, minor);
        let version = newest(bundled, series, to)?;
        if let Some(required) = required(series, to).filter(|required| version < **required) {
            let (to, required) = (to.clone(), required.clone());
            return Err(NoPath::UnsafeSteppingStone { to, bundled: version, required });
        }
        let served = if last_with_v2 == Some(series) {
            remove_v2(from, version.clone(), v2_content)
        } else {
            Step::Serve(version.clone())
        };
        steps.extend([served, Step::Record(version)]);
    }
    Ok(steps)
}

fn down(
    from: &KnownVersion,
    to: &EtcdVersion,
    bundled: &Bundled,
    allowed: PlanOptions,
) -> Result<Vec<Step>, NoPath> {
    if allowed.downgrades == Downgrades::OneMinor && from.series.minor > to.minor() + 1 {
        return Err(NoPath::TooFarBack { from: from.series, to: to.clone() });
    }
    if from.members > 1 {
        return Err(NoPath::ClusterDowngrade { to: to.clone(), members: from.members });
    }
    // The newest version comes first, so that a missing one is reported before any step.
    let mut newer = newest(bundled, from.series, to)?;
    let mut steps = Vec::new();
    // A restored snapshot holds nothing of the v2 API, so there is nothing to do to drop it.
    if v2_content::is_lost(from, to) && allowed.v2_content == V2Content::Convert {
        let step = remove_v2(from, newer.clone(), V2Content::Convert);
        steps.extend(Some(step).filter(|step| matches!(step, Step::ConvertV2 { .. })));
    }
    for minor in (to.minor()..from.series.minor).rev() {
        let older = if minor == to.minor() {
            to.clone()
        } else {
            newest(bundled, Series::new(3, minor), to)?
        };
        let floor = Facts::current().floor_after(older.series(), from.series);
        let required = floor.and_then(|floor| floor.required.as_ref());
        if let Some(required) = required.filter(|required| older < **required) {
            let (to, required) = (to.clone(), required.clone());
            return Err(NoPath::UnsafeSteppingStone { to, bundled: older, required });
        }
        // A downgrade in place needs the credentials of an administrator, which this program does
        // not have.
        let facts = Facts::current().of(older.series());
        let in_place = facts.downgrade_in_place && !from.needs_credentials;
        if !(in_place || facts.downgrade_by_snapshot) {
            return Err(NoPath::DowngradeNeedsCredentials { from: from.series, to: to.clone() });
        }
        let method = if in_place { DowngradeMethod::InPlace } else { DowngradeMethod::Snapshot };
        let record = Step::Record(older.clone());
        steps.extend([Step::Downgrade { from: newer, to: older.clone(), method }, record]);
        newer = older;
    }
    Ok(steps)
}

/// The first patch of a minor version whose data may go on to `to`.
fn required(series: Series, to: &EtcdVersion) -> Option<&'static EtcdVersion> {
    Facts::current().floor(series, to.series())?.required.as_ref()
}

fn newest(bundled: &Bundled, series: Series, to: &EtcdVersion) -> Result<EtcdVersion, NoPath> {
    let versions = bundled.versions().iter().filter(|version| version.series() == series);
    versions.max().cloned().ok_or(NoPath::NotBundled { to: to.clone(), missing: series })
}

impl Step {
    /// Whether the data is replaced by a restored snapshot of itself.
    pub fn restores_data(&self) -> bool {
        match self {
            Self::Downgrade { method, .. } => *method == DowngradeMethod::Snapshot,
            Self::DropV2 { removal, .. } | Self::ConvertV2 { removal, .. } => {
                *removal == V2Removal::Restore
            }
            Self::Backup
            | Self::CancelDowngrade(_)
            | Self::Serve(_)
            | Self::Defrag(_)
            | Self::Record(_) => false,
        }
    }

    /// Whether the data itself may be changed.
    pub fn changes_data(&self) -> bool {
        !matches!(self, Self::Backup | Self::Record(_))
    }

    /// Whether content of the v2 API does not survive it.
    pub fn ends_v2(&self) -> bool {
        matches!(
            self,
            Self::DropV2 { .. }
                | Self::ConvertV2 { .. }
                | Self::Downgrade { method: DowngradeMethod::Snapshot, .. }
        )
    }

    /// The version that is served to upgrade the data to it, if that is the step.
    pub fn served(&self) -> Option<&EtcdVersion> {
        match self {
            Self::Serve(version)
            | Self::DropV2 { version, .. }
            | Self::ConvertV2 { version, .. } => Some(version),
            _ => None,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Backup => f.write_str("backup"),
            Self::CancelDowngrade(version) => write!(f, "cancel the downgrade with {version}"),
            Self::Serve(version) => write!(f, "serve {version}"),
            Self::DropV2 { version, removal } => {
                write!(f, "drop v2 content with {version}{removal}")
            }
            Self::ConvertV2 { version, removal, .. } => {
                write!(f, "convert v2 content with {version}{removal}")
            }
            Self::Downgrade { from, to, method: DowngradeMethod::InPlace } => {
                write!(f, "downgrade {from} to {to} in place")
            }
            Self::Downgrade { from, to, method: DowngradeMethod::Snapshot } => {
                write!(f, "downgrade {from} to {to} by snapshot")
            }
            Self::Defrag(version) => write!(f, "defragment with {version}"),
            Self::Record(version) => write!(f, "record {version}"),
        }
    }
}

#[cfg(test)]
#[path = "steps_tests.rs"]
mod tests;
