use super::context::Context;
use crate::assemble::fetch_all;
use crate::cli::ChoiceArgs;
use crate::failure::Failure;

pub(super) fn run(context: &Context, arguments: &ChoiceArgs) -> Result<(), Failure> {
    let (locked, plan) = context.plan(arguments)?;
    context.in_workshop(&locked, |workshop| Ok(fetch_all(&plan, workshop)?))
}
