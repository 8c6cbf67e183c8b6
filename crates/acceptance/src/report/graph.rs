//! The upgrade paths as a picture: versions in a row, an arc for each way that data can go.

use std::fmt::Write as _;

use etcd_version::EtcdVersion;

use super::Results;

const STEP: usize = 190;
const BOX: usize = 120;
const MIDDLE: usize = 400;
const MARGIN: usize = 10;
/// The distance from the middle line to the ends of the arcs.
const EDGE: usize = 24;

impl Results {
    /// An SVG: arcs above the versions are upgrades, arcs below are downgrades; dashed arcs were
    /// not tested in this run.
    pub(super) fn graph(&self) -> String {
        let width = STEP * self.bundled.len().max(1);
        // The outermost arcs are the longest upgrade and the downgrades.
        let top = MIDDLE.saturating_sub(EDGE + rise(self.bundled.len().max(2) - 1) / 2 + MARGIN);
        let bottom = MIDDLE + EDGE + rise(1) / 2 + MARGIN;
        let mut out = format!(
            "<svg viewBox=\"0 {top} {width} {}\" role=\"img\" \
             aria-label=\"to which version the data of which version can be migrated\">\n<defs>",
            bottom - top
        );
        for class in ["up", "back", "untested"] {
            let _ = write!(
                out,
                "<marker id=\"{class}\" class=\"{class}\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" \
                 markerWidth=\"13\" markerHeight=\"13\" markerUnits=\"userSpaceOnUse\" \
                 orient=\"auto\"><path d=\"M0 0L8 4L0 8z\"/></marker>"
            );
        }
        out.push_str("</defs>\n");
        for (i, from) in self.bundled.iter().enumerate() {
            for (j, to) in self.bundled.iter().enumerate() {
                // A downgrade goes back by one minor version.
                if i < j || i == j + 1 {
                    self.arc(&mut out, (i, from), (j, to));
                }
            }
        }
        for (i, version) in self.bundled.iter().enumerate() {
            let x = centre(i) - BOX / 2;
            let _ = writeln!(
                out,
                "<rect x=\"{x}\" y=\"{}\" width=\"{BOX}\" height=\"44\" rx=\"8\"/>\
                 <text x=\"{}\" y=\"{}\">{version}</text>",
                MIDDLE - 22,
                centre(i),
                MIDDLE + 6
            );
        }
        out.push_str("</svg>\n");
        out
    }

    fn arc(&self, out: &mut String, from: (usize, &EtcdVersion), to: (usize, &EtcdVersion)) {
        let is_tested = self.has_gone(from.1, to.1);
        let is_up = from.0 < to.0;
        let (x, end) = (centre(from.0), centre(to.0));
        let rise = rise(from.0.abs_diff(to.0));
        let (edge, top) = if is_up {
            (MIDDLE - EDGE, MIDDLE.saturating_sub(EDGE + rise))
        } else {
            (MIDDLE + EDGE, MIDDLE + EDGE + rise)
        };
        let class = match (is_tested, is_up) {
            (true, true) => "up",
            (true, false) => "back",
            (false, _) => "untested",
        };
        let through: Vec<_> = self
            .bundled
            .iter()
            .filter(|it| from.1 < *it && *it < to.1)
            .map(ToString::to_string)
            .collect();
        let through = if through.is_empty() {
            "directly".to_owned()
        } else {
            format!("through {}", through.join(" and "))
        };
        let tested = if is_tested { "tested" } else { "not tested here" };
        let _ = writeln!(
            out,
            "<path class=\"{class}\" d=\"M{x} {edge}Q{} {top} {end} {edge}\" \
             marker-end=\"url(#{class})\"><title>{} to {}, {through}: {tested}</title></path>",
            usize::midpoint(x, end),
            from.1,
            to.1
        );
    }
}

/// How far the control point of an arc is from its ends; the arc itself is half as high. The more
/// minors a migration skips, the higher is its arc.
fn rise(minors: usize) -> usize {
    (34 * minors + 20) * 3 / 2
}

fn centre(index: usize) -> usize {
    STEP * index + STEP / 2
}
