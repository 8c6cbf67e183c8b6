use super::context::Context;
use super::image_location::{BlobFilter, ImageLocation};
use crate::cli::{Format, VerifyArgs};
use crate::documents::ListedImage;
use crate::failure::{Failure, Kind};
use crate::ui::size;
use crate::verify::{VerifyReport, verify, verify_sparse};

pub(super) fn run(context: &Context, arguments: &VerifyArgs) -> Result<(), Failure> {
    let wanted: BlobFilter<'_> =
        if arguments.sparse { &ListedImage::own_blobs } else { &|image| image.blobs.clone() };
    let place = ImageLocation::open(context, &arguments.access, &arguments.place, wanted)?;
    let report =
        if arguments.sparse { verify_sparse(&place.layout)? } else { verify(&place.layout)? };
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
    if place.is_reference() {
        return Err(failure
            .hint("a tag that names this must not be used; `etcdimg promote` must not list it"));
    }
    if !report.left.is_empty() && !arguments.sparse {
        return Err(failure.hint(
            "`build --sparse` leaves layers of Windows bases out, and `verify --sparse` accepts that",
        ));
    }
    Err(failure.hint("remove the layout and run `etcdimg build` again"))
}

fn text(report: &VerifyReport) -> String {
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
