//! The table, the goals and the JSON of `bench`.

use etcdimg::layer::format::Compression;
use serde_json::{Map, Value, json};

use super::rates::{Rates, deflate};
use super::statistics::{Goal, highest, lowest, median};
use super::timing::{Sample, cores};

const PROGRAMS: &str = "etcdimg, programs";
const ARCHIVES: &str = "etcdimg, archives";
const NO_CHANGE: &str = "etcdimg, no change";
const BUILDX: [&str; 2] = ["buildx", "buildx, epoch"];

/// The samples of each candidate, in the order in which they first ran.
#[derive(Debug, Default)]
pub struct BenchSamples(Vec<BuildCandidate>);

#[derive(Clone, Debug)]
struct BuildCandidate {
    name: &'static str,
    samples: Vec<Sample>,
    output_bytes: Option<u64>,
}

/// Everything that the benchmark reports.
#[derive(Debug)]
pub struct BenchReport {
    candidates: Vec<BuildCandidate>,
    rates: Rates,
    archive_bytes: u64,
    connections: usize,
    runs: usize,
}

impl BenchSamples {
    pub fn add(&mut self, name: &'static str, sample: Sample) {
        self.candidate(name).samples.push(sample);
    }

    /// The size of the output of a candidate, in bytes of layers.
    pub fn size(&mut self, name: &'static str, bytes: u64) {
        self.candidate(name).output_bytes = Some(bytes);
    }

    fn candidate(&mut self, name: &'static str) -> &mut BuildCandidate {
        let index = self.0.iter().position(|it| it.name == name).unwrap_or_else(|| {
            self.0.push(BuildCandidate { name, samples: Vec::new(), output_bytes: None });
            self.0.len() - 1
        });
        &mut self.0[index]
    }

    pub fn report(
        &self,
        rates: Rates,
        archive_bytes: u64,
        connections: usize,
        runs: usize,
    ) -> BenchReport {
        BenchReport { candidates: self.0.clone(), rates, archive_bytes, connections, runs }
    }
}

impl BuildCandidate {
    fn values(&self, value: fn(&Sample) -> f64) -> Vec<f64> {
        self.samples.iter().map(value).collect()
    }

    fn json(&self) -> Value {
        let mut all = json!({
            "wall_seconds": self.values(|it| it.wall_seconds),
            "cpu_seconds": self.values(|it| it.cpu_seconds),
            "peak_kib": self.values(|it| it.peak_kib),
            "load": self.values(|it| it.load),
        });
        if let Some(bytes) = self.output_bytes {
            all["output_bytes"] = bytes.into();
        }
        all
    }
}

impl BenchReport {
    fn wall(&self, name: &str) -> f64 {
        let candidate = self.candidates.iter().find(|it| it.name == name);
        candidate.map_or(f64::NAN, |it| median(&it.values(|sample| sample.wall_seconds)))
    }

    /// The least time that a build needs, in seconds on all cores: reading, hashing, compressing.
    #[expect(clippy::cast_precision_loss, reason = "sizes in bytes, far below 2^52")]
    fn floors(&self) -> [(&'static str, f64); 2] {
        let level = deflate(Compression::Gzip.level());
        let (plain, packed) = (self.rates.n_bytes as f64, self.rates.size(&level) as f64);
        let (sha256, archives) = (self.rates.speed("sha256"), self.archive_bytes as f64);
        let common = plain / sha256 + plain / self.rates.speed(&level) + packed / sha256;
        let unpack = archives / sha256 + plain / self.rates.speed("gunzip");
        let cores = cores() as f64;
        [(PROGRAMS, (plain / sha256 + common) / cores), (ARCHIVES, (unpack + common) / cores)]
    }

    #[expect(clippy::cast_precision_loss, reason = "a count")]
    fn goals(&self) -> Vec<Goal> {
        let crane = self.wall("crane append, file").min(self.wall("crane append, push"));
        let mut goals = Vec::new();
        for name in [PROGRAMS, ARCHIVES] {
            let ratio = crane / self.wall(name);
            let text = format!("{name}: at least 2 times faster than the faster crane append");
            goals.push(Goal::new(text, ratio, ratio >= 2.0));
            for peer in BUILDX {
                let ratio = self.wall(peer) / self.wall(name);
                let text = format!("{name}: at least 4 times faster than {peer}");
                goals.push(Goal::new(text, ratio, ratio >= 4.0));
            }
        }
        let seconds = self.wall(NO_CHANGE);
        let connections = self.connections as f64;
        let ours = self.candidates.iter().filter(|it| it.name.starts_with("etcdimg"));
        let peaks: Vec<_> = ours.flat_map(|it| it.values(|sample| sample.peak_kib)).collect();
        let peak = highest(&peaks) / 1024.0;
        goals.push(Goal::new("no change: under 0.3 s", seconds, seconds < 0.3));
        goals.push(Goal::new("no change: connections", connections, self.connections == 0));
        goals.push(Goal::new("etcdimg: peak memory under 128 MiB", peak, peak < 128.0));
        goals
    }

    pub fn text(&self) -> String {
        let mut lines = vec![
            format!(
                "{}, {} cores, {} MB of layers, {} runs in turns, medians\n",
                std::env::consts::ARCH,
                cores(),
                megabytes(self.rates.n_bytes, 1),
                self.runs
            ),
            format!(
                "| {:18} | wall s | lowest | cpu s | peak MiB | output MB | of the floor |",
                ""
            ),
            format!(
                "|{}|-------:|-------:|------:|---------:|----------:|-------------:|",
                "-".repeat(20)
            ),
        ];
        lines.extend(self.candidates.iter().map(|candidate| self.row(candidate)));
        lines.push(String::new());
        lines.extend(self.goals().iter().map(Goal::line));
        lines.push(String::new());
        lines.push(self.floor_line());
        let sizes = self.rates.sizes.iter().map(|(name, size)| {
            format!("level {} {} MB", &name[deflate_prefix()..], megabytes(*size, 2))
        });
        lines.push(format!("sizes: {}", sizes.collect::<Vec<_>>().join(", ")));
        lines.push(self.load_line());
        lines.join("\n") + "\n"
    }

    fn row(&self, candidate: &BuildCandidate) -> String {
        let wall = candidate.values(|it| it.wall_seconds);
        let bytes = candidate.output_bytes.and_then(|it| usize::try_from(it).ok());
        let size = bytes.map_or(String::new(), |it| megabytes(it, 1));
        let floor = self.floors().into_iter().find(|(name, _)| *name == candidate.name);
        let near =
            floor.map_or(String::new(), |(_, floor)| format!("{:.2} x", median(&wall) / floor));
        format!(
            "| {:18} | {:6.2} | {:6.2} | {:5.2} | {:8.0} | {size:>9} | {near:>12} |",
            candidate.name,
            median(&wall),
            lowest(&wall),
            median(&candidate.values(|it| it.cpu_seconds)),
            highest(&candidate.values(|it| it.peak_kib)) / 1024.0,
        )
    }

    fn floor_line(&self) -> String {
        let short = |name: &str| name.split(", ").nth(1).unwrap_or(name).to_owned();
        let floors = self.floors().map(|(name, floor)| format!("{} {floor:.2} s", short(name)));
        let speed = |(name, speed): &(String, f64)| format!("{name} {:.0} MB/s", speed / 1e6);
        let speeds: Vec<_> = self.rates.speeds.iter().map(speed).collect();
        format!("floor: {}; one core: {}", floors.join(", "), speeds.join(", "))
    }

    #[expect(clippy::cast_precision_loss, reason = "a number of cores")]
    fn load_line(&self) -> String {
        let loads: Vec<_> = self.candidates.iter().flat_map(|it| it.values(|it| it.load)).collect();
        let is_busy = lowest(&loads) > cores() as f64 / 2.0 + 1.0;
        let note = "; other programs used this machine, so only the ratios are meaningful";
        format!(
            "load average before the runs: {:.1} to {:.1}{}",
            lowest(&loads),
            highest(&loads),
            if is_busy { note } else { "" }
        )
    }

    pub fn json(&self) -> Value {
        let candidates: Map<_, _> =
            self.candidates.iter().map(|it| (it.name.to_owned(), it.json())).collect();
        let rates: Map<_, _> =
            self.rates.speeds.iter().map(|(name, speed)| (name.clone(), (*speed).into())).collect();
        let sizes: Map<_, _> =
            self.rates.sizes.iter().map(|(name, size)| (name.clone(), (*size).into())).collect();
        let floors: Map<_, _> = self
            .floors()
            .into_iter()
            .map(|(name, floor)| (name.to_owned(), floor.into()))
            .collect();
        json!({
            "cores": cores(),
            "runs": self.runs,
            "plain_bytes": self.rates.n_bytes,
            "archive_bytes": self.archive_bytes,
            "subjects": candidates,
            "floor_seconds": floors,
            "rates": rates,
            "sizes": sizes,
            "connections": self.connections,
            "goals": self.goals().iter().map(Goal::json).collect::<Vec<_>>(),
        })
    }
}

/// The index at which the level begins in the name of a rate.
fn deflate_prefix() -> usize {
    "deflate".len()
}

#[expect(clippy::cast_precision_loss, reason = "sizes in bytes, far below 2^52")]
fn megabytes(bytes: usize, decimals: usize) -> String {
    format!("{:.decimals$}", bytes as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> BenchReport {
        let mut results = BenchSamples::default();
        let sample = |wall_seconds| Sample {
            wall_seconds,
            cpu_seconds: 2.0 * wall_seconds,
            peak_kib: 51200.0,
            load: 0.5,
        };
        for (name, seconds) in [
            (PROGRAMS, [1.0, 1.2, 1.1]),
            (NO_CHANGE, [0.1, 0.1, 0.1]),
            ("crane append, file", [3.0, 3.0, 3.0]),
            (ARCHIVES, [2.0, 2.0, 2.0]),
            ("buildx", [6.0, 6.0, 6.0]),
            ("crane append, push", [2.5, 2.5, 2.5]),
            ("buildx, epoch", [8.0, 8.0, 8.0]),
        ] {
            for it in seconds {
                results.add(name, sample(it));
            }
        }
        results.size(PROGRAMS, 123_456_789);
        let speeds = ["sha256", "deflate1", "deflate4", "deflate6", "deflate9", "gunzip"];
        let rates = Rates {
            n_bytes: 300_000_000,
            speeds: speeds.map(|name| (name.to_owned(), 100_000_000.0)).into(),
            sizes: [("deflate4".to_owned(), 100_000_000)].into(),
        };
        results.report(rates, 90_000_000, 0, 3)
    }

    #[test]
    fn goals_compare_medians() {
        let goals = report().goals();
        let lines: Vec<_> = goals.iter().map(Goal::line).collect();
        assert_eq!(
            lines[..4],
            [
                "met     etcdimg, programs: at least 2 times faster than the faster crane append: 2.27",
                "met     etcdimg, programs: at least 4 times faster than buildx: 5.45",
                "met     etcdimg, programs: at least 4 times faster than buildx, epoch: 7.27",
                "MISSED  etcdimg, archives: at least 2 times faster than the faster crane append: 1.25",
            ]
        );
        assert_eq!(lines[8], "met     etcdimg: peak memory under 128 MiB: 50");
    }

    #[test]
    fn a_row_has_every_column() {
        let report = report();
        let row = report.row(&report.candidates[0]);
        let start = "| etcdimg, programs  |   1.10 |   1.00 |  2.20 |       50 |     123.5 |";
        assert!(row.starts_with(start), "{row}");
        assert!(row.ends_with(" x |"), "{row}");
    }

    #[test]
    fn the_json_has_every_single_run() {
        let json = report().json();
        assert_eq!(json["subjects"][PROGRAMS]["wall_seconds"], json!([1.0, 1.2, 1.1]));
        assert_eq!(json["subjects"][PROGRAMS]["output_bytes"], 123_456_789);
        assert_eq!(json["goals"].as_array().unwrap().len(), 9);
        let names = ["archive_bytes", "connections", "cores", "floor_seconds", "goals"];
        let others = ["plain_bytes", "rates", "runs", "sizes", "subjects"];
        let mut expected: Vec<_> = names.iter().chain(&others).collect();
        expected.sort();
        let keys: Vec<_> = json.as_object().unwrap().keys().collect();
        assert_eq!(keys, expected);
    }
}
