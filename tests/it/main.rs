//! The library and the program against servers on 127.0.0.1 that can lie.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "tests start programs, and print what they measured"
)]

mod acceptance;
mod acceptance_mutants;
mod acceptance_runs;
mod architecture;
mod base_faults;
mod build_kills;
mod builders;
mod catalog;
mod catalog_fixture;
mod clients;
mod copy;
mod faults;
mod fetch;
mod fetch_faults;
mod interface;
mod layout_fixture;
mod lies;
mod login_files;
mod lying_manifests;
mod lying_registry;
mod manifest_scripts;
mod manifests;
mod mutable_image;
mod package_host;
mod package_scripts;
mod packages;
mod patch;
mod plan;
mod platforms;
mod platforms_pulled;
mod private_ca;
mod push;
mod push_broken;
mod push_command;
mod push_fixture;
mod push_killed;
mod push_logins;
mod push_real;
mod push_tags;
mod registry_pull;
mod release_fixture;
mod release_server;
mod report_picture;
mod reproducible;
mod require;
mod run;
mod schema;
mod sparse;
mod stand_in;
mod stdout;
mod toolchain;
mod verify;
mod windows;
mod wire;

#[test]
fn no_file_of_these_tests_is_forgotten() {
    let listed = include_str!("main.rs");
    for entry in std::fs::read_dir("tests/it").unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if let Some(module) = name.strip_suffix(".rs").filter(|module| *module != "main") {
            assert!(listed.contains(&format!("mod {module};")), "main.rs does not list {name}");
        }
    }
}
