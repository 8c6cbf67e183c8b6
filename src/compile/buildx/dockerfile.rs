//! The Dockerfile of a compile: three stages, of which only the first has a network.

use crate::process::Invocation;

/// What a stage does.
pub(in crate::compile) enum Step {
    /// Copies paths of the repository to the same place.
    Copy(Vec<String>),
    /// Why the next line is there.
    Comment(&'static str),
    /// A variable of all steps that follow.
    Variable(&'static str, String),
    /// A line of shell.
    Shell(String),
    /// A compiler, as the host would call it.
    Compiler(Invocation),
}

/// `fetch` may use the network, `compile` may not; its `/out` is what comes out.
pub(in crate::compile) fn dockerfile(
    what: &str,
    image: &str,
    caches: &[(&str, &str)],
    fetch: &[Step],
    compile: &[Step],
) -> String {
    let mounts: Vec<_> = caches
        .iter()
        .map(|(id, target)| format!("--mount=type=cache,id={id},target={target} "))
        .collect();
    let stage = |steps: &[Step], flags: &str| {
        let lines: Vec<_> = steps.iter().map(|step| format!("{}\n", line(step, flags))).collect();
        lines.concat()
    };
    format!(
        "# Written by etcdimg: compiles {what}.\n\
         # The builder, by its digest, on the machine's own architecture.\n\
         FROM --platform=$BUILDPLATFORM {image} AS fetch\n\
         {}\n\
         FROM fetch AS compile\n\
         {}\n\
         FROM scratch\n\
         COPY --from=compile /out/ /\n",
        stage(fetch, ""),
        stage(compile, &format!("--network=none {}", mounts.concat())),
    )
}

fn line(step: &Step, flags: &str) -> String {
    match step {
        Step::Comment(text) => format!("# {text}"),
        Step::Variable(name, value) => format!("ENV {name}={value}"),
        Step::Copy(paths) => {
            // A folder keeps its name only when it is the destination's.
            let copy = |path: &String| format!("COPY {path} {}/{path}", super::ROOT);
            paths.iter().map(copy).collect::<Vec<_>>().join("\n")
        }
        Step::Shell(text) => format!("RUN {flags}{text}"),
        Step::Compiler(invocation) => format!("RUN {flags}{}", wrapped(&invocation.to_string())),
    }
}

/// One argument to a line is easier to read; a quoted one may hold spaces and stays whole.
fn wrapped(command: &str) -> String {
    command.replacen(" && ", " && \\\n    ", 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dockerfile_is_read_by_people_too() {
        let fetch = [
            Step::Copy(vec!["sources/1/go.mod".into()]),
            Step::Comment("Modules, which go.sum pins."),
            Step::Shell("cd /etcdimg && go mod download".into()),
        ];
        let compile = [Step::Shell("go build -o /out/etcd etcd".into())];
        let text = dockerfile("etcd 1", "go@sha256:1", &[("go", "/go")], &fetch, &compile);
        insta::assert_snapshot!(text, @"
        # Written by etcdimg: compiles etcd 1.
        # The builder, by its digest, on the machine's own architecture.
        FROM --platform=$BUILDPLATFORM go@sha256:1 AS fetch
        COPY sources/1/go.mod /etcdimg/sources/1/go.mod
        # Modules, which go.sum pins.
        RUN cd /etcdimg && go mod download

        FROM fetch AS compile
        RUN --network=none --mount=type=cache,id=go,target=/go go build -o /out/etcd etcd

        FROM scratch
        COPY --from=compile /out/ /
        ");
    }
}
