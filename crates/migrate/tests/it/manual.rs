//! docs/migrate.md: what it tells people to type, and the messages that it quotes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::directory::{Directory, free_port, outcome};
use crate::etcd::{Real, Seed, real};

fn manual() -> String {
    fs::read_to_string(repository().join("docs/migrate.md")).unwrap()
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The commands in the blocks of the manual that begin with `migrate`, each in one line.
fn commands(manual: &str) -> Vec<String> {
    let blocks = manual.split("\n```").skip(1).step_by(2);
    let text: Vec<_> = blocks.map(|block| block.replace("\\\n", " ")).collect();
    let lines = text.iter().flat_map(|block| block.lines());
    let commands = lines.filter(|line| line.starts_with("migrate "));
    commands.map(|line| line.split(" # ").next().unwrap().trim().to_owned()).collect()
}

/// Runs a line as a person would, with values of this machine in place of the examples. `migrate`
/// is a script that adds what a test needs.
fn run(real: &Real, line: &str, seed: &Seed, snapshot: &Path) {
    let directory = Directory::new();
    let (_, newest) = real.ends();
    let is_restore = line.contains(" restore ");
    if !is_restore {
        copy(&seed.directory.path("data"), &directory.path("data"));
    }
    let fixes = line.contains("--fix");
    directory.write("etcd.yaml", manifest(if fixes { OLD_FLAG } else { "" }).as_bytes());
    let starts_servers =
        !["status", "check"].iter().any(|it| line.starts_with(&format!("migrate {it}")));
    let (bin, port) = (real.bin_dir.display(), free_port());
    let added =
        if starts_servers { format!("--bin-dir {bin} --port {port}") } else { String::new() };
    let program = format!("#!/bin/sh\nexec {} \"$@\" {added}\n", env!("CARGO_BIN_EXE_migrate"));
    directory.write("bin/migrate", program.as_bytes());
    fs::set_permissions(directory.path("bin/migrate"), fs::Permissions::from_mode(0o755)).unwrap();
    let data_dir = if line.contains("--data-dir") { "" } else { "--data-dir data " };
    let rest = format!("{data_dir}--target-version {newest} --target-storage etcd3 --name m");
    let line = line
        .replace('…', &rest)
        .replace("/var/lib/etcd", "data")
        .replace("/backup/2026-11-28.db", snapshot.to_str().unwrap())
        .replace("/etc/kubernetes/manifests/", "")
        .replace("3.7.1", newest)
        .replace("3.6.14", real.version(6))
        .replace("m1", "m");
    let mut command = Command::new("sh");
    command.args(["-c", &line]).current_dir(&directory.0).env_clear();
    let path = std::env::var("PATH").unwrap();
    command.env("PATH", format!("{}:{path}", directory.path("bin").display()));
    command.env("ETCD_ARGS", "--name=m --data-dir=/var/lib/etcd --auto-compaction-retention=8");
    command.env("DO_NOT_MOVE_BINARIES", "true");
    command.env("LISTEN_PEER_URLS", format!("http://127.0.0.1:{}", free_port()));
    let (code, _, stderr) = outcome(&command.output().unwrap());
    assert_eq!(code, Some(0), "{line}\n{stderr}");
    if fixes {
        let written = fs::read_to_string(directory.path("etcd-3.7.yaml")).unwrap();
        assert_eq!(written, manifest(""));
    }
    let is_journey = is_restore || line.contains("--v2-content");
    assert!(!is_journey || directory.version() == format!("{newest}/etcd3"), "{line}");
}

/// Unknown to the newest version.
const OLD_FLAG: &str = "--enable-v2=false, ";

fn manifest(flag: &str) -> String {
    format!(
        "# kept\n\
         apiVersion: v1\n\
         kind: Pod\n\
         spec:\n  \
           containers:\n  \
           - name: etcd\n    \
             command: [etcd, --name=m, {flag}--data-dir=/var/lib/etcd]\n"
    )
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").args([from, to]).status().unwrap();
    assert!(status.success());
}

#[test]
#[ignore = "needs etcd servers"]
fn every_command_of_the_manual_does_what_it_says() {
    let real = real();
    let seed = real.seed(real.version(5));
    let snapshot = seed.directory.path("snapshot.db");
    let etcd = real.start(&seed.directory, real.version(5));
    etcd.run(&["snapshot", "save", snapshot.to_str().unwrap()]);
    drop(etcd);
    let manual = manual();
    let commands = commands(&manual);
    for name in ["status", "check", "rehearse", "restore", "--v2-content"] {
        let begins = format!("migrate {name}");
        assert!(commands.iter().any(|command| command.starts_with(&begins)), "{begins}");
    }
    for command in &commands {
        run(real, command, &seed, &snapshot);
    }
}

#[test]
#[ignore = "needs etcd servers"]
fn the_manual_s_example_of_a_status_has_the_lines_of_a_real_one() {
    let real = real();
    let seed = real.seed(real.version(5));
    let mut command = Command::new(env!("CARGO_BIN_EXE_migrate"));
    command.args(["status", "--data-dir"]).arg(seed.directory.path("data"));
    let (code, status, stderr) = outcome(&command.output().unwrap());
    assert_eq!(code, Some(0), "{stderr}");
    let labels = |text: &str| -> Vec<String> {
        let lines = text.lines().filter_map(|line| line.strip_prefix("  "));
        let lines = lines.filter(|line| !line.starts_with(' '));
        lines.map(|line| line.split("  ").next().unwrap().to_owned()).collect()
    };
    let manual = manual();
    let example = manual.split("```").find(|block| block.starts_with("\ndata directory"));
    let example = labels(example.expect("an example of a status"));
    let shown = labels(&status);
    assert!(shown.len() > 5, "{status}");
    for label in &shown {
        assert!(example.contains(label), "the manual's example lacks `{label}`\n{status}");
    }
}

/// Parts of a message that the program fills in.
fn is_filled_in(word: &str) -> bool {
    let word = word.trim_matches(|it: char| !it.is_alphanumeric() && !"/`…".contains(it));
    word.contains('…')
        || word.contains('/')
        || word.starts_with('`')
        || word.starts_with(|it: char| it.is_ascii_digit())
}

#[test]
fn every_message_that_the_manual_quotes_is_one_of_ours() {
    let mut source = String::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                source.push_str(&fs::read_to_string(path).unwrap());
            }
        }
    }
    // A literal goes on in the next line.
    let source = source.split("\\\n").map(str::trim_start).collect::<String>();
    let manual = manual();
    let (_, refusals) = manual.split_once("## What is refused").unwrap();
    let (refusals, _) = refusals.split_once("\n## ").unwrap();
    let quotes: Vec<_> =
        refusals.lines().filter_map(|line| line.strip_prefix("| \"")?.split('"').next()).collect();
    assert!(quotes.len() > 9, "{quotes:?}");
    for quote in quotes {
        let words: Vec<_> = quote.split_whitespace().collect();
        for part in words.split(|word| is_filled_in(word)).filter(|part| part.len() > 1) {
            let part = part.join(" ");
            assert!(source.contains(&part), "no message of migrate says `{part}`: {quote}");
        }
    }
}
