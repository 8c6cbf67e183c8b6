//! Compiles all programs of one etcd version in one run of buildx.

use super::super::CompileContext;
use super::super::buildx::{BuilderRun, CacheMount, Instruction, out};
use super::super::options::BuildxOptions;
use super::super::recipe::BUILDER_WORK;
use super::command::Go;
use super::programs;
use crate::catalog::Lock;
use crate::plan::ModulesSource;

pub(super) fn run(
    context: &CompileContext<'_>,
    buildx: &BuildxOptions,
    source: &ModulesSource,
) -> BuilderRun {
    let version = &source.version;
    let go = Go::in_builder(context.options, buildx, source);
    let platform = go.platform();
    let inputs = ["go.mod", "go.sum"].map(|name| format!("sources/{version}/{name}"));
    let recipes = programs(source).map(|(name, package)| go.recipe(name, package, &out(name)));
    BuilderRun {
        what: format!("etcd {version} for {platform}"),
        log: format!("buildx-etcd-{version}-{}", platform.replace('/', "-")),
        platform,
        inputs: inputs.to_vec(),
        written: None,
        fetch: vec![
            Instruction::Copy(inputs.to_vec()),
            Instruction::Comment(
                "Modules, which go.sum pins, and the Go release, whose sum is locked.",
            ),
            Instruction::Run(go.download_with_network()),
            Instruction::Shell(check_sum(context.lock, &source.go)),
        ],
        caches: vec![CacheMount {
            id: "etcdimg-go-build".to_owned(),
            folder: format!("{BUILDER_WORK}/go-build"),
        }],
        recipes: recipes.collect(),
    }
}

/// A line of shell that fails when Go downloaded a release which is not locked. A release that
/// is installed in the image has no sum; the digest of the image pins it.
fn check_sum(lock: &Lock, go: &str) -> String {
    let locked = lock.toolchains.iter().filter(|it| it.go == go);
    let sums: Vec<_> = locked.map(|it| format!(" -e '{}'", it.sum)).collect();
    let sums = sums.concat();
    let folder = format!("{BUILDER_WORK}/go-mod/cache/download/golang.org/toolchain/@v");
    format!(
        "for sum in {folder}/v0.0.1-go{go}.*.ziphash; do \\\n    \
         [ ! -e \"$sum\" ] || grep -qxF{sums} \"$sum\" || {{ \
         echo 'Go {go} is not a locked one: see etcdimg lock --go-host' >&2; exit 1; }}; \\\n    \
         done"
    )
}
