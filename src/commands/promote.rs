//! `etcdimg promote`

use std::path::Path;

use serde_json::json;

use super::context::{Context, runtime};
use crate::cli::{Format, PromoteArgs};
use crate::digest::Digest;
use crate::failure::{Failure, Kind};
use crate::layout::Layout;
use oci::Reference;

/// Where else Kubernetes names the version, which has to be changed too.
const PLACES: [&str; 8] = [
    "build/dependencies.yaml: `etcd`, `etcd-image`, `golang: etcd release version`",
    "cluster/gce/manifests/etcd.manifest: the tag and TARGET_VERSION",
    "cluster/gce/upgrade-aliases.sh: ETCD_IMAGE, ETCD_VERSION",
    "cmd/kubeadm/app/constants/constants.go: DefaultEtcdVersion, MinExternalEtcdVersion, SupportedEtcdVersion",
    "hack/lib/etcd.sh: ETCD_VERSION",
    "staging/src/k8s.io/sample-apiserver/artifacts/example/deployment.yaml: the tag",
    "test/e2e/testing-manifests/statefulset/etcd/statefulset.yaml: the tag",
    "test/utils/image/manifest.go: the tag",
];

/// Prints the line that the image promoter copies by, and what else a release touches.
pub(super) fn run(context: &Context, arguments: &PromoteArgs) -> Result<(), Failure> {
    let (digest, tag) = released(context, arguments)?;
    if context.format == Format::Json {
        let promoter = json!({ (digest.to_string()): [&tag] });
        return context.out_json(&json!({ "promoter": promoter, "places": PLACES }));
    }
    context.ui.out(format!("\"{digest}\": [\"{tag}\"]"));
    context.ui.note(
        "it belongs to `dmap:` of etcd in the promoter's images.yaml; then these name the version:",
    );
    for place in PLACES {
        context.ui.note(format!("  {place}"));
    }
    Ok(())
}

fn released(context: &Context, arguments: &PromoteArgs) -> Result<(Digest, String), Failure> {
    let folder = Path::new(&arguments.reference);
    if folder.is_dir() {
        let mut all = Layout::open(folder)?.tagged()?;
        let [_] = &all[..] else {
            let text = format!("`{}` contains {} images, not one", arguments.reference, all.len());
            return Err(Failure::new(Kind::Other, text).hint("name it: REPOSITORY:TAG"));
        };
        let tagged = all.remove(0);
        let no_digest = |_| Failure::new(Kind::Verification, "index.json names no digest");
        let descriptor = tagged.entry.descriptor().map_err(no_digest)?;
        return Ok((descriptor.digest, tagged.tag));
    }
    let reference: Reference = arguments.reference.parse()?;
    let missing = || Failure::new(Kind::Other, "only a tag is promoted: write REPOSITORY:TAG");
    let tag = reference.tag.clone().ok_or_else(missing)?;
    let repository = &reference.repository;
    let registries = context.registries(&arguments.access, &[repository.registry()])?;
    let known = runtime()?
        .block_on(async { registries.pull_from(repository).await.tag_digest(&tag).await })?;
    let digest = known
        .ok_or_else(|| Failure::new(Kind::Unavailable, format!("{reference} does not exist")))?;
    Ok((digest, tag))
}
