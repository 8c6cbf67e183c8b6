//! `etcdimg plan`: prints the plan.

use super::context::Context;
use crate::cli::{ChoiceArgs, Format};
use crate::failure::{Failure, Kind};
use crate::plan::matrix;

pub(super) fn run(context: &Context, arguments: &ChoiceArgs) -> Result<(), Failure> {
    let (_, plan) = context.plan(arguments)?;
    match context.format {
        Format::Text => context.ui.out(plan.to_string().trim_end()),
        Format::Json => context.out_json(&plan)?,
        Format::GithubMatrix => {
            // One line, as `>> $GITHUB_OUTPUT` wants it.
            let line = serde_json::to_string(&matrix(&plan))
                .map_err(|error| Failure::new(Kind::Other, error))?;
            context.ui.out(line);
        }
    }
    Ok(())
}
