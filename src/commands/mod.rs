//! One file for each command. A command reads files, calls the modules below and prints.

mod access;
mod build;
mod cache;
mod context;
mod copy;
mod failures;
mod fetch;
mod image_location;
mod layout_set;
mod lock;
mod manifests;
mod package;
mod plan;
mod promote;
mod push;
mod test;
mod verify;

use clap::CommandFactory;

use crate::cli::{Cli, Command};
use crate::failure::{Failure, Kind};
use context::Context;

/// Runs the command of the command line.
pub fn run(cli: Cli) -> Result<(), Failure> {
    let context = Context::new(cli.global)?;
    match cli.command {
        Command::Plan(choice) => plan::run(&context, &choice),
        Command::Lock(arguments) => lock::run(&context, &arguments),
        Command::Fetch(choice) => fetch::run(&context, &choice),
        Command::Build(mut arguments) => {
            arguments.choice.default_to_amd64();
            build::run(&context, &arguments)
        }
        Command::AllBuild(arguments) => build::run(&context, &arguments),
        Command::Package(arguments) => package::run(&context, &arguments),
        Command::Push(arguments) => push::run(&context, &arguments),
        Command::AllPush(arguments) => push::build_and_run(&context, &arguments),
        Command::Copy(arguments) => copy::run(&context, &arguments),
        Command::Promote(arguments) => promote::run(&context, &arguments),
        Command::Verify(arguments) => verify::run(&context, &arguments),
        Command::Test(arguments) => test::run(&context, &arguments),
        Command::Manifests(arguments) => manifests::run(&context, &arguments),
        Command::Cache(command) => cache::run(&context, &command),
        Command::Completions { shell } => {
            completions(&context, shell);
            Ok(())
        }
        Command::Man => man(&context),
    }
}

fn completions(context: &Context, shell: clap_complete::Shell) {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "etcdimg", &mut script);
    context.ui.out(String::from_utf8_lossy(&script).trim_end());
}

fn man(context: &Context) -> Result<(), Failure> {
    let mut page = Vec::new();
    clap_mangen::Man::new(Cli::command())
        .render(&mut page)
        .map_err(|error| Failure::new(Kind::Io, error))?;
    context.ui.out(String::from_utf8_lossy(&page).trim_end());
    Ok(())
}
