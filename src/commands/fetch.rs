use super::context::Context;
use crate::assemble::{fetch_bases, fetch_modules, fetch_releases};
use crate::cli::{FetchArgs, Input};
use crate::failure::Failure;

pub(super) fn run(context: &Context, arguments: &FetchArgs) -> Result<(), Failure> {
    let (locked, plan) = context.plan(&arguments.choice)?;
    let is_wanted = |input| arguments.only.is_empty() || arguments.only.contains(&input);
    context.with_build_context(&locked, &arguments.trust, |build| {
        if is_wanted(Input::Releases) {
            fetch_releases(&plan, build)?;
        }
        if is_wanted(Input::Modules) {
            fetch_modules(&plan, build)?;
        }
        if is_wanted(Input::Bases) {
            fetch_bases(&plan, build)?;
        }
        Ok(())
    })
}
