//! The test environment of etcdimg, in place of scripts: it installs the real programs that tests
//! use, makes fixtures where registries cannot be reached, and runs benchmarks. Nothing of it is
//! shipped.
//!
//! `cargo xtask` lists the tasks. Their results go to standard output, messages to standard error.

mod apt;
mod bases;
mod bench;
mod builder_image;
mod buildkit;
mod built;
mod busybox;
mod cli;
mod command;
mod cross;
mod daemon;
mod debian_package;
mod error;
mod foreign;
mod go;
mod interrupt;
mod oci_layout;
mod part;
mod real_etcd;
mod real_parts;
mod registry;
mod root_tar;
mod windows_programs;
mod work;
mod workspace;

use std::process::ExitCode;

use clap::Parser as _;

use cli::{BuilderImageArgs, BusyboxBaseArgs, DebianPackageArgs, RealParts, Task, XtaskCli};
use error::{Result, TaskError};

fn main() -> ExitCode {
    let cli = XtaskCli::parse();
    let result = interrupt::catch().map_err(TaskError::from).and_then(|()| run(cli.task));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::from(failure.code())
        }
    }
}

fn run(task: Task) -> Result<()> {
    match task {
        Task::Cross => cross::provide().map(drop),
        Task::Go => {
            if let Some(folder) = go::provide()? {
                println!("{}", folder.display());
            }
            Ok(())
        }
        Task::DebianPackage(arguments) => debian_package(&arguments),
        Task::BusyboxBase(arguments) => busybox_base(&arguments),
        Task::Bases { directory } => {
            println!("{}", bases::all(&directory)?.join(" "));
            Ok(())
        }
        Task::NanoserverStandIn { os_version, directory } => {
            println!("{}", bases::nanoserver(&os_version, &directory)?);
            Ok(())
        }
        Task::BuilderImage(arguments) => builder_image(&arguments),
        Task::RealEtcd { debian } => {
            println!("{}", real_etcd::provide(debian)?.display());
            Ok(())
        }
        Task::WindowsPrograms => {
            println!("{}", windows_programs::provide()?.display());
            Ok(())
        }
        Task::TestForeign { triple, qemu } => foreign::test(&triple, qemu.as_deref()),
        Task::RealParts { what: RealParts::Install } => {
            print!("{}", real_parts::tools::install()?.lines());
            Ok(())
        }
        Task::RealParts { what: RealParts::Run { command } } => real_parts::run(&command),
        Task::Bench(arguments) => bench::run(&arguments),
    }
}

fn debian_package(arguments: &DebianPackageArgs) -> Result<()> {
    let DebianPackageArgs { suite, architecture, packages } = arguments;
    let packages: Vec<_> = packages.iter().map(String::as_str).collect();
    let debian = debian_package::DebianSuite { suite, architecture };
    for file in debian_package::files(debian, &packages)? {
        println!("{}", file.display());
    }
    Ok(())
}

fn busybox_base(arguments: &BusyboxBaseArgs) -> Result<()> {
    let BusyboxBaseArgs { suite, platform, out } = arguments;
    match out {
        Some(out) => println!("{}", busybox::write(suite.as_deref(), platform, out)?),
        None => println!("{}", busybox::base_of_cache(suite.as_deref(), platform)?),
    }
    Ok(())
}

fn builder_image(arguments: &BuilderImageArgs) -> Result<()> {
    let root = workspace::root();
    let request = builder_image::BuilderImageOptions {
        catalog: arguments.directory.as_deref().unwrap_or(&root),
        with_rust: !arguments.without_rust,
        out: &arguments.out,
        repository: arguments.repository.as_deref(),
    };
    println!("{}", builder_image::make(&request)?);
    Ok(())
}
