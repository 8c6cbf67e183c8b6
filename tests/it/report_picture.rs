//! The HTML report, drawn by a real browser.

use std::collections::BTreeSet;
use std::fs;
use std::io::Cursor;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use etcdimg::acceptance::{
    CaseLog, CaseResult, FailureDetail, Outcome, ProvenMigration, Results, Suite,
};

use crate::require;

fn case(suite: Suite, name: &str, proves: &str, outcome: Outcome, seconds: u64) -> CaseResult {
    CaseResult {
        suite,
        case: name.to_owned(),
        proves: proves.to_owned(),
        outcome,
        log: CaseLog::default(),
        took: Duration::from_secs(seconds),
    }
}

/// Results of all kinds: passed, failed and skipped cases, tested and untested migrations.
fn results() -> Results {
    let version = |text: &str| text.parse().unwrap();
    let mut up =
        case(Suite::Migrate, "up-3.6.14-3.7.1", "data of 3.6.14 is whole", Outcome::Passed, 7);
    up.log.migrations.push(ProvenMigration { from: version("3.6.14"), to: version("3.7.1") });
    let mut longest = case(Suite::Migrate, "longest", "all the way", Outcome::Passed, 24);
    longest.log.migrations.push(ProvenMigration { from: version("3.4.21"), to: version("3.7.1") });
    let mut down = case(Suite::Migrate, "down-3.7.1-3.6.14", "and back", Outcome::Passed, 5);
    down.log.migrations.push(ProvenMigration { from: version("3.7.1"), to: version("3.6.14") });
    let detail = FailureDetail {
        what: "it took 31 s to stop".to_owned(),
        command: Some("/usr/local/bin/etcd-3.7.1 --name=member0".to_owned()),
        log: vec!["{\"level\":\"info\",\"msg\":\"received signal; shutting down\"}".to_owned()],
        ..FailureDetail::default()
    };
    let mut serve =
        case(Suite::Run, "serve", "a server starts and stops", Outcome::Failed(detail), 31);
    serve.log.step.push_str("stop it with SIGTERM");
    let skipped = Outcome::Skipped("podman is not installed".to_owned());
    Results {
        reference: "registry.example.com/etcd:3.7.1-0".to_owned(),
        platform: "linux/amd64".to_owned(),
        runtime: "rootfs",
        bundled: ["3.4.21", "3.5.33", "3.6.14", "3.7.1"].map(version).to_vec(),
        cases: vec![
            case(Suite::Structure, "paths", "every program is there", Outcome::Passed, 1),
            serve,
            up,
            longest,
            down,
            case(Suite::Kubernetes, "static-pod", "migrate runs first", skipped, 0),
        ],
        planned: 6,
        required: vec![],
        took: Duration::from_secs(68),
    }
}

#[test]
#[ignore = "needs a browser"]
fn a_browser_draws_the_page() {
    let browser = require::browser();
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("results.html");
    fs::write(&page, results().html()).unwrap();
    let path = folder.path().join("page.png");
    let drawn = draw(browser, &page, &path);
    let bytes = fs::read(&path).unwrap_or_else(|_| panic!("no picture: {drawn}"));
    if let Some(keep) = std::env::var_os("ETCDIMG_KEEP_PICTURE") {
        fs::write(keep, &bytes).unwrap();
    }
    let picture = Picture::decode(&bytes);
    assert_eq!((picture.width, picture.height), (1000, 1300));
    // A blank page has one colour.
    let colours: BTreeSet<_> = picture.pixels.iter().collect();
    assert!(colours.len() > 50, "{} colours", colours.len());
    // Of report.css: what passed, what failed, the ways up and back.
    for (name, colour) in
        [("ok", "1a7f4b"), ("bad", "c0362c"), ("up", "2563c9"), ("back", "b4690e")]
    {
        let seen = picture.pixels.iter().filter(|pixel| hex::encode(pixel) == colour).count();
        assert!(seen > 20, "{name}: {seen} pixels");
    }
    // There is something in each third of the page.
    for third in picture.pixels.chunks(picture.pixels.len().div_ceil(3)) {
        assert!(third.iter().collect::<BTreeSet<_>>().len() > 10);
    }
}

fn draw(browser: &str, page: &Path, picture: &Path) -> String {
    let profile = picture.with_extension("profile");
    let drawn = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"])
        .args(["--disable-dev-shm-usage", "--force-device-scale-factor=1"])
        .arg("--window-size=1000,1300")
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(format!("--screenshot={}", picture.display()))
        .arg(format!("file://{}", page.display()))
        .output()
        .unwrap();
    String::from_utf8_lossy(&drawn.stderr).into_owned()
}

/// What browsers write: PNG with 8 bits for each of red, green, blue, and perhaps alpha.
struct Picture {
    width: u32,
    height: u32,
    pixels: Vec<[u8; 3]>,
}

impl Picture {
    fn decode(bytes: &[u8]) -> Self {
        let mut reader = png::Decoder::new(Cursor::new(bytes)).read_info().unwrap();
        let mut decoded = vec![0; reader.output_buffer_size().unwrap()];
        let frame = reader.next_frame(&mut decoded).unwrap();
        assert_eq!(frame.bit_depth, png::BitDepth::Eight);
        let n_samples = frame.color_type.samples();
        assert!(n_samples >= 3, "{:?}", frame.color_type);
        let pixels = decoded[..frame.buffer_size()].chunks(n_samples);
        let pixels = pixels.map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect();
        Self { width: frame.width, height: frame.height, pixels }
    }
}
