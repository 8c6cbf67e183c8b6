//! How the registry of the tests behaves: its normal behaviour, and the lies that a test asks for.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::lying_registry::State;

/// How the registry behaves when it does not lie.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "every habit is one")]
pub struct Behaviour {
    pub mounts_own: bool,
    pub mounts_others: bool,
    pub mounts_from_anywhere: bool,
    pub takes_single_post: bool,
    pub takes_chunks: bool,
    /// What has arrived of a broken request stays.
    pub keeps_partial: bool,
    pub relative_locations: bool,
    pub knows_referrers: bool,
    pub says_digests: bool,
    pub largest_body: usize,
    pub smallest_chunk: usize,
    /// Bytes of a body are read no faster than this many each millisecond.
    pub pace: Option<usize>,
    /// The `Authorization` headers that are accepted; `None`: no login is needed.
    pub lets_in: Option<LetsIn>,
}

#[derive(Clone, Debug)]
pub struct LetsIn {
    pub authorization: BTreeSet<String>,
    pub challenge: String,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            mounts_own: true,
            mounts_others: true,
            mounts_from_anywhere: false,
            takes_single_post: false,
            takes_chunks: true,
            keeps_partial: true,
            relative_locations: false,
            knows_referrers: true,
            says_digests: true,
            largest_body: usize::MAX,
            smallest_chunk: 0,
            pace: None,
            lets_in: None,
        }
    }
}

/// What the registry does instead of the right thing, or besides it.
#[derive(Clone)]
pub enum Lie {
    /// Reads the body, does nothing and says this.
    Says(u16, &'static [(&'static str, &'static str)], &'static str),
    /// Says this, with a challenge, before it has read the body, and hangs up.
    SaysEarly(u16, &'static str),
    /// Hangs up after so many bytes of the body, if it has more.
    Cuts(usize),
    /// Does it, and hangs up without a word.
    DoesSilently,
    /// Does it, and says this.
    DoesButSays(u16),
    /// Does it, and sends another value of a header; `None` leaves the header out.
    DoesButHeader(&'static str, Option<String>),
    /// Does it, and ends the answer in the middle.
    DoesButTruncates,
    /// Does nothing and says nothing.
    Stalls,
    /// Sends single bytes slowly, and never ends.
    Trickles,
    /// Something happens just before.
    After(Arc<dyn Fn(&mut State) + Send + Sync>),
    /// Sends somewhere else.
    Redirects(u16, String),
}

pub(crate) struct Rule {
    pub method: &'static str,
    /// What the target contains.
    pub part: String,
    pub skip: usize,
    pub times: usize,
    pub lie: Lie,
    /// How often it was told.
    pub told: usize,
}
