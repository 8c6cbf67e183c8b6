//! The pairs of bundled versions that data is migrated between.

use etcd_version::EtcdVersion;

pub(super) fn minors(bundled: &[EtcdVersion]) -> Vec<&EtcdVersion> {
    // In ascending order, so the last one of a minor is its newest.
    bundled.chunk_by(|a, b| a.series() == b.series()).filter_map(<[_]>::last).collect()
}

pub(super) fn steps(bundled: &[EtcdVersion]) -> Vec<(&EtcdVersion, &EtcdVersion)> {
    let minors = minors(bundled);
    minors.iter().copied().zip(minors.iter().copied().skip(1)).collect()
}

pub(super) fn patches(bundled: &[EtcdVersion]) -> Vec<(&EtcdVersion, &EtcdVersion)> {
    let of_minor = bundled.chunk_by(|a, b| a.series() == b.series());
    let pairs = of_minor
        .filter_map(<[_]>::split_last)
        .flat_map(|(newest, older)| older.iter().map(move |it| (it, newest)));
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_lead_from_minor_to_minor_and_patches_to_their_newest() {
        check("3.5.33 3.6.14", "3.5.33-3.6.14", "");
        check("3.4.21 3.5.33 3.6.14", "3.4.21-3.5.33 3.5.33-3.6.14", "");
        check("3.5.30 3.5.33 3.6.14", "3.5.33-3.6.14", "3.5.30-3.5.33");
        check(
            "3.4.21 3.4.25 3.5.30 3.5.31 3.5.33",
            "3.4.25-3.5.33",
            "3.4.21-3.4.25 3.5.30-3.5.33 3.5.31-3.5.33",
        );
        check("3.7.1", "", "");
    }

    #[track_caller]
    fn check(bundled: &str, expected_steps: &str, expected_patches: &str) {
        let bundled: Vec<EtcdVersion> = bundled.split(' ').map(|it| it.parse().unwrap()).collect();
        let join = |pairs: Vec<(&EtcdVersion, &EtcdVersion)>| {
            let pairs = pairs.iter().map(|(from, to)| format!("{from}-{to}"));
            pairs.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(join(steps(&bundled)), expected_steps);
        assert_eq!(join(patches(&bundled)), expected_patches);
    }
}
