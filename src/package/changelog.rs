//! The version of a package, and the changelog that names it.

use std::io::Write as _;

use super::{HOMEPAGE, NAME, PackageError, PackageJob};
use crate::layer::{GzipWriter, LayerError};

/// The level of small texts, as Debian wants them.
const BEST: i32 = 9;

/// The tag as Debian orders versions: `3.6.0~rc.3-0` is before `3.6.0-0`.
pub(super) fn version(tag: &str) -> String {
    match tag.rsplit_once('-') {
        Some((etcd, revision)) => format!("{}-{revision}", etcd.replace('-', "~")),
        None => tag.to_owned(),
    }
}

/// The changelog, compressed. Its time is that of the package.
pub(super) fn changelog(job: &PackageJob<'_>) -> Result<Vec<u8>, PackageError> {
    let seconds = i64::try_from(job.plan.epoch_seconds).unwrap_or(i64::MAX);
    let time = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX);
    let time = time.strftime("%a, %d %b %Y %H:%M:%S +0000");
    let text = format!(
        "{NAME} ({}) stable; urgency=medium\n\n  * {HOMEPAGE}/blob/main/CHANGELOG.md\n\n -- {}  {time}\n",
        version(&job.plan.tag),
        job.maintainer
    );
    let compress = || {
        let mut gzip = GzipWriter::new(Vec::new(), BEST)?;
        gzip.write_all(text.as_bytes())?;
        gzip.finish()
    };
    Ok(compress().map_err(LayerError::Io)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_as_debian_orders_them() {
        assert_eq!(version("3.7.1-0"), "3.7.1-0");
        assert_eq!(version("3.6.0-rc.3-12"), "3.6.0~rc.3-12");
    }
}
