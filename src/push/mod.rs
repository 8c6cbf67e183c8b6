//! From a layout or a registry into a repository, so that no tag ever names something incomplete:
//! blobs, then image manifests, then the index, what refers to them, and the tags last.
//!
//! `plan` decides (pure), `run` executes. Not responsible for: how requests are sent (`registry`),
//! how documents are read (`documents`), or what is built.

mod check;
mod error;
mod estimate;
mod plan;
mod referrers;
mod report;
mod run;
mod state;

pub use error::PushError;
pub use estimate::RequestEstimate;
pub use plan::{PushPlan, PushRequest, ReferrerPlan, TagPlan, plan};
pub use report::{BlobReport, ManifestReport, PushReport, TagReport, TagState};
pub use run::{Overwrite, Pusher};
pub use state::{BlobLocation, RemoteState};
