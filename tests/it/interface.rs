//! What scripts rely on: the flags of every command, and the shape of every JSON document. Texts of
//! help are here too, since they are the reference that people read; they may change, flags and
//! shapes only on purpose. `INSTA_UPDATE=always` writes the files in `snapshots/` anew.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

use crate::catalog_fixture::CatalogFixture;
use crate::layout_fixture::LayoutFixture;
use crate::lies::Behaviour;
use crate::mutable_image::MutableImage;
use crate::push_command::PushCommandFixture;

/// `--help` of a command, as wide as where no terminal is.
fn help(words: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_etcdimg"));
    for variable in ["COLUMNS", "ARCH", "REGISTRY", "PUSH_REGISTRY", "ETCDIMG_CACHE"] {
        command.env_remove(variable);
    }
    let output = command.args(words).arg("--help").output().unwrap();
    assert!(output.status.success(), "{words:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().flat_map(|line| [line.trim_end(), "\n"]).collect()
}

/// A command and all below it, with what `--help` says.
fn commands(words: &[&str]) -> Vec<(String, String)> {
    let text = help(words);
    let listed = text.split_once("\nCommands:\n").map_or("", |(_, rest)| rest);
    let names: Vec<_> = listed
        .lines()
        .take_while(|line| line.starts_with("  "))
        .filter(|line| !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect();
    let mut found = vec![([&["etcdimg"], words].concat().join(" "), text)];
    for name in names {
        found.extend(commands(&[words, &[&name]].concat()));
    }
    found
}

/// `-q, --quiet`: every flag that a help text explains.
fn flags(text: &str) -> BTreeSet<String> {
    let explained = text.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
    let names = explained.flat_map(|line| {
        let spelled = line.split("  ").next().unwrap_or(line);
        spelled.split([' ', ',', '=', '[']).filter(|word| word.len() > 1 && word.starts_with('-'))
    });
    names.map(|name| name.trim_end_matches("...").to_owned()).collect()
}

#[test]
fn the_help_of_every_command_is_as_it_was_reviewed() {
    let texts = commands(&[]).into_iter().map(|(name, text)| format!("$ {name} --help\n{text}\n"));
    insta::assert_snapshot!("help", texts.collect::<String>());
}

#[test]
fn commands_keep_their_flags() {
    let commands = commands(&[]);
    assert!(commands.len() > 10, "{}", commands.len());
    let lines = commands.iter().map(|(name, text)| {
        let flags: Vec<_> = flags(text).into_iter().collect();
        format!("{name}: {}\n", flags.join(" "))
    });
    insta::assert_snapshot!("flags", lines.collect::<String>());
}

/// Keys and types of a document, a line each; elements of a list are one.
fn shape(value: &Value) -> String {
    fn walk(value: &Value, path: &str, lines: &mut BTreeSet<String>) {
        let kind = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(values) => {
                for value in values {
                    walk(value, &format!("{path}[]"), lines);
                }
                "list"
            }
            Value::Object(fields) => {
                for (name, value) in fields {
                    walk(value, &format!("{path}.{name}"), lines);
                }
                "object"
            }
        };
        lines.insert(format!("{path}: {kind}"));
    }
    let mut lines = BTreeSet::new();
    walk(value, "", &mut lines);
    lines.into_iter().map(|line| line + "\n").collect()
}

#[track_caller]
fn parsed(stdout: &str) -> Value {
    serde_json::from_str(stdout).unwrap_or_else(|error| panic!("{error}: {stdout}"))
}

#[test]
fn json_documents_keep_their_shape() {
    let fixture = CatalogFixture::with_release();
    let mut shapes = String::new();
    let mut add = |what: &str, stdout: &str| {
        shapes += &["## ", what, "\n", &shape(&parsed(stdout)), "\n"].concat();
    };
    let json = ["--format", "json"];
    add("plan", &fixture.run("plan", &json).ok());
    add("build", &fixture.run("build", &json).ok());
    add("verify", &fixture.run("verify", &json).ok());
    let packer = CatalogFixture::with_release();
    add("package", &packer.run("package", &json).ok());
    add("cache ls", &fixture.finish(fixture.command("cache").arg("ls").args(json)).ok());
    let kind = ["--kind=static-pod"];
    let mut manifests = fixture.command("manifests");
    add("manifests", &fixture.finish(manifests.args(kind).args(json)).ok());
    let test = |arguments: &[&str]| {
        let mut test = fixture.command("test");
        test.arg(fixture.out()).arg("--suite=structure").args(arguments);
        fixture.finish(test.args(json)).stdout
    };
    add("test --list", &test(&["--list"]));
    // The stand-ins of programs pass some cases and fail others.
    add("test --suite=structure", &test(&[]));
    let mut image = MutableImage::open(&fixture.out());
    image.config["architecture"] = "arm64".into();
    image.save();
    add("verify, with faults", &fixture.run("verify", &json).stdout);
    let pusher = PushCommandFixture::new(Behaviour::default());
    add("push", &pusher.push(&LayoutFixture::small(), &json).ok());
    insta::assert_snapshot!("json", shapes);
}
