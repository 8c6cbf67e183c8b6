use super::context::Context;
use crate::cli::{Format, VerifyArgs};
use crate::failure::{Failure, Kind};
use crate::layout::Layout;
use crate::ui::size;
use crate::verify::{Report, verify};

pub(super) fn run(context: &Context, arguments: &VerifyArgs) -> Result<(), Failure> {
    let layout = Layout::open(&arguments.layout)?;
    let report = verify(&layout)?;
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
    let text = format!("`{}` has {count}\n{}", arguments.layout.display(), faults.join("\n"));
    Err(Failure::new(Kind::Verification, text)
        .hint("remove the layout and run `etcdimg build` again"))
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
