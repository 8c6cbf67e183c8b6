//! The real program, from outside.

mod chains;
mod check;
mod cluster;
mod command_line;
mod damage;
mod deadlines;
mod directory;
mod disk;
mod downgrades;
mod etcd;
mod etcd_flags;
mod events;
mod evidence;
mod identity;
mod interface;
mod kills;
mod log_only;
mod manual;
mod members;
mod migrations;
mod mount;
mod operator_flags;
mod orphans;
mod rehearsal;
mod repeated_copies;
mod require;
mod restore;
mod restore_cluster;
mod restore_only;
mod restored;
mod sameness;
mod schema;
mod setups;
mod shape;
mod shapes;
mod signals;
mod snapshot_status;
mod surroundings;
mod v2_api;
mod v2_content;
mod v2_content_cluster;
mod v2_content_kills;
mod windows;

mod wrapper;

#[test]
fn no_test_file_is_forgotten() {
    let main = include_str!("main.rs");
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(name == "main" || main.contains(&format!("mod {name};")), "{name}");
    }
}
