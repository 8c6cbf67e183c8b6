//! One case of a suite: a name, what it proves, and the procedure.

use std::fmt;

use super::context::CaseContext;
use super::error::CaseError;

type Procedure = Box<dyn Fn(&CaseContext<'_>) -> Result<(), CaseError> + Send + Sync>;

/// One thing that a suite proves.
pub struct Case {
    pub name: String,
    /// In one sentence.
    pub proves: String,
    pub run: Procedure,
}

impl Case {
    pub fn new(
        name: impl Into<String>,
        proves: impl Into<String>,
        run: impl Fn(&CaseContext<'_>) -> Result<(), CaseError> + Send + Sync + 'static,
    ) -> Self {
        Self { name: name.into(), proves: proves.into(), run: Box::new(run) }
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case").field("name", &self.name).finish_non_exhaustive()
    }
}
