use std::collections::BTreeSet;
use std::path::Path;

use serde_json::json;

use super::access::Access;
use super::context::{Context, runtime};
use crate::cli::{Format, VerifyArgs};
use crate::failure::{Failure, Kind};
use crate::layout::Layout;
use crate::push::{self, Content};
use crate::registry::Naming;
use crate::ui::size;
use crate::verify::{Report, verify};

pub(super) fn run(context: &Context, arguments: &VerifyArgs) -> Result<(), Failure> {
    let place = Path::new(&arguments.place);
    let is_reference = !place.exists() && arguments.place.parse::<Naming>().is_ok();
    let report = if is_reference {
        pull_and_verify(context, arguments)?
    } else {
        verify(&Layout::open(place)?)?
    };
    match context.format {
        Format::Json => context.out_json(&report)?,
        Format::Text | Format::GithubMatrix => context.ui.out(text(&report)),
    }
    if report.faults.is_empty() {
        return Ok(());
    }
    let faults: Vec<_> = report.faults.iter().map(|fault| format!("  {fault}")).collect();
    let count = match faults.len() {
        1 => "1 fault".to_owned(),
        n => format!("{n} faults"),
    };
    let text = format!("`{}` has {count}\n{}", arguments.place, faults.join("\n"));
    let failure = Failure::new(Kind::Verification, text);
    if is_reference {
        return Err(failure
            .hint("a tag that names this must not be used; `etcdimg promote` must not list it"));
    }
    Err(failure.hint("remove the layout and run `etcdimg build` again"))
}

/// A layout of what a registry has, looked at and thrown away; its blobs stay in the cache.
fn pull_and_verify(context: &Context, arguments: &VerifyArgs) -> Result<Report, Failure> {
    let naming: Naming = arguments.place.parse()?;
    let access = Access::new(context, &arguments.access, &[naming.repository.registry()])?;
    let store = context.store()?;
    let io = |error: std::io::Error| Failure::new(Kind::Io, error);
    let folder = tempfile::tempdir_in(store.root().join("tmp")).map_err(io)?;
    let (layout, _guard) = Layout::create(folder.path())?;
    let pulling = async {
        let remote = access.pulling(&naming.repository).await;
        let repository = remote.repository().clone();
        let named = Naming { repository: repository.clone(), ..naming.clone() };
        let (root, documents) = push::documents(&remote, &named).await?;
        for document in documents.values() {
            store.write(&document.bytes)?;
            layout.add_blob(&store, &document.digest)?;
        }
        let descriptor = json!({
            "mediaType": root.media_type, "digest": root.digest, "size": root.bytes.len(),
        });
        let whole = Content::read(&layout, &descriptor)?;
        let puller = access.puller(&store);
        let pieces: BTreeSet<_> = whole.images.iter().flat_map(|image| &image.pieces).collect();
        for piece in pieces {
            puller.pull_blob(&repository, piece.digest, piece.size).await?;
            layout.add_blob(&store, &piece.digest)?;
        }
        let tag = naming.tag.clone().unwrap_or_else(|| root.digest.to_string());
        Ok::<_, Failure>(layout.tag(&[(tag, descriptor)])?)
    };
    runtime()?.block_on(pulling)?;
    Ok(verify(&layout)?)
}

fn text(report: &Report) -> String {
    let images = report.images.iter().map(|image| {
        format!(
            "{} {} {} {} layers, {} programs, {}",
            image.digest,
            image.tag,
            image.platform,
            image.layers,
            image.programs,
            size(image.size_bytes)
        )
    });
    images.collect::<Vec<_>>().join("\n")
}
