//! From a layout into registries, so that no tag ever names something incomplete: blobs, then
//! image manifests, then the index, what refers to them, and the tags last.
//!
//! `content` reads what there is, `plan` decides (pure), `run` obeys. Not responsible for: how a
//! registry is spoken to (`registry`), or what is built.

mod check;
mod content;
mod docker;
mod error;
mod plan;
mod pull;
mod referrers;
mod run;

pub use content::{Content, Image, Piece};
pub use error::PushError;
pub use plan::{Forecast, Found, PushPlan, ReferrerPlan, Survey, TagPlan, Wish, plan};
pub use pull::{documents, get};
pub use referrers::subject;
pub use run::{BlobReport, ManifestReport, Overwrite, Pusher, Report, TagReport, TagState, Way};
