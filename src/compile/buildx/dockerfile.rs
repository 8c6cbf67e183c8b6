//! The Dockerfile of a compile: three stages, of which only the first has a network.

use super::super::recipe::{BUILDER_ROOT, Recipe};
use super::{BuilderRun, out};
use crate::process::Invocation;

/// One instruction of the stage that downloads.
#[derive(Debug)]
pub(in crate::compile) enum Instruction {
    /// Copies paths of the repository to the same place in the builder.
    Copy(Vec<String>),
    /// Why the next line is there.
    Comment(&'static str),
    /// An environment variable of all instructions that follow.
    Env(&'static str, String),
    /// A line of shell.
    Shell(String),
    /// A program, called as the host would call it.
    Run(Invocation),
}

/// A folder that the builder keeps between builds.
#[derive(Debug)]
pub(in crate::compile) struct CacheMount {
    pub id: String,
    pub folder: String,
}

/// The stage `fetch` may use the network, `compile` may not; the result is the folder `/out` of
/// `compile`.
pub(super) fn dockerfile(image: &str, run: &BuilderRun) -> String {
    let fetch = joined(&run.fetch, |it| format!("{}\n", instruction(it)));
    let mounts =
        joined(&run.caches, |it| format!("--mount=type=cache,id={},target={} ", it.id, it.folder));
    let compile =
        joined(&run.recipes, |it| format!("RUN --network=none {mounts}{}\n", compile(it)));
    format!(
        "# Written by etcdimg: compiles {}.\n\
         # The builder, by its digest, on the machine's own architecture.\n\
         FROM --platform=$BUILDPLATFORM {image} AS fetch\n\
         {fetch}\n\
         FROM fetch AS compile\n\
         {compile}\n\
         FROM scratch\n\
         COPY --from=compile /out/ /\n",
        run.what,
    )
}

fn joined<T>(items: &[T], line: impl Fn(&T) -> String) -> String {
    items.iter().map(line).collect::<Vec<_>>().concat()
}

fn instruction(instruction: &Instruction) -> String {
    match instruction {
        Instruction::Comment(text) => format!("# {text}"),
        Instruction::Env(name, value) => format!("ENV {name}={value}"),
        // One line for each path: a copied folder keeps its name only if the destination has it.
        Instruction::Copy(paths) => {
            let copies = paths.iter().map(|path| format!("COPY {path} {BUILDER_ROOT}/{path}"));
            copies.collect::<Vec<_>>().join("\n")
        }
        Instruction::Shell(text) => format!("RUN {text}"),
        Instruction::Run(invocation) => format!("RUN {}", wrapped(invocation)),
    }
}

/// A recipe as one line of shell. It must not be split into several `RUN`: its build folder is a
/// cache, which may be empty again in the next one.
fn compile(recipe: &Recipe) -> String {
    let out = out(recipe.program);
    let (last, first) = match &recipe.calls[..] {
        [] => return String::new(),
        [only] if recipe.output == out => return wrapped(only),
        [first @ .., last] => (last, first),
    };
    let first = joined(first, |call| format!("({call}) && \\\n    "));
    let copy = format!("mkdir -p /out && cp {} {}", recipe.output.display(), out.display());
    format!("{first}{last} && \\\n    {copy}")
}

/// A call in two lines: its folder, then the program.
fn wrapped(call: &Invocation) -> String {
    call.to_string().replacen(" && ", " && \\\n    ", 1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn call(program: &str) -> Invocation {
        Invocation {
            program: program.into(),
            arguments: vec!["build".into()],
            folder: "/etcdimg".into(),
            passed_on: BTreeMap::new(),
            environment: BTreeMap::new(),
        }
    }

    fn recipe(program: &'static str, calls: Vec<Invocation>, output: &str) -> Recipe {
        let (what, log) = (String::new(), String::new());
        Recipe { program, what, log, calls, output: output.into() }
    }

    #[test]
    fn a_dockerfile_is_read_by_people_too() {
        let run = BuilderRun {
            what: "etcd 1 for linux/arm".into(),
            platform: "linux/arm".into(),
            log: "log".into(),
            inputs: Vec::new(),
            written: None,
            fetch: vec![
                Instruction::Copy(vec!["sources/1/go.mod".into()]),
                Instruction::Comment("Modules, which go.sum pins."),
                Instruction::Shell("cd /etcdimg && go mod download".into()),
            ],
            caches: vec![CacheMount { id: "go".into(), folder: "/go".into() }],
            recipes: vec![
                recipe("etcd", vec![call("go")], "/out/etcd"),
                recipe("migrate", vec![call("clean"), call("cargo")], "/target/migrate"),
            ],
        };
        insta::assert_snapshot!(dockerfile("go@sha256:1", &run), @"
        # Written by etcdimg: compiles etcd 1 for linux/arm.
        # The builder, by its digest, on the machine's own architecture.
        FROM --platform=$BUILDPLATFORM go@sha256:1 AS fetch
        COPY sources/1/go.mod /etcdimg/sources/1/go.mod
        # Modules, which go.sum pins.
        RUN cd /etcdimg && go mod download

        FROM fetch AS compile
        RUN --network=none --mount=type=cache,id=go,target=/go cd /etcdimg && \\
            go build
        RUN --network=none --mount=type=cache,id=go,target=/go (cd /etcdimg && clean build) && \\
            cd /etcdimg && cargo build && \\
            mkdir -p /out && cp /target/migrate /out/migrate

        FROM scratch
        COPY --from=compile /out/ /
        ");
    }
}
