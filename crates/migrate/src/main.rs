//! The program `migrate`: passes its arguments and environment to the library.

use std::env;
use std::process::ExitCode;

fn main() -> ExitCode {
    etcd_migrate::main(env::args_os().skip(1), &|name| env::var_os(name))
}
