//! One case of a suite: a name, what it proves, and the procedure.

use std::fmt;

use super::stage::{Stage, Stop};

type Play = Box<dyn Fn(&Stage<'_>) -> Result<(), Stop> + Send + Sync>;

/// One thing that a suite proves.
pub struct Case {
    pub name: String,
    /// In one sentence.
    pub proves: String,
    pub play: Play,
}

impl Case {
    pub fn new(
        name: impl Into<String>,
        proves: impl Into<String>,
        play: impl Fn(&Stage<'_>) -> Result<(), Stop> + Send + Sync + 'static,
    ) -> Self {
        Self { name: name.into(), proves: proves.into(), play: Box::new(play) }
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case").field("name", &self.name).finish_non_exhaustive()
    }
}
