//! Executes recipes with the compilers of this machine.

use super::error::CompileError;
use super::recipe::Recipe;
use super::scratch::{keep, log};
use super::{CompileContext, Compiled};

/// Runs the calls of a recipe and puts the program into the store.
pub(super) fn run(context: &CompileContext<'_>, recipe: &Recipe) -> Result<Compiled, CompileError> {
    let log = log(&context.options.work, &recipe.log)?;
    for call in &recipe.calls {
        context.ui.command(call.to_string());
        call.run(&log).map_err(context.options.failed(&recipe.what))?;
    }
    keep(context, recipe, &recipe.output)
}
