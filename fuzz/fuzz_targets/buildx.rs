//! The JSON lines of `docker buildx build --progress=rawjson`.
#![no_main]

use std::path::Path;

use etcdimg::compile::ProgressLog;
use etcdimg::ui::{ProgressMode, Ui, Verbosity};

libfuzzer_sys::fuzz_target!(|text: &str| {
    let ui = Ui::new(Verbosity::Quiet, ProgressMode::None);
    let mut progress = ProgressLog::new(Path::new("/dev/null"), "etcd", &ui);
    text.lines().for_each(|line| progress.line(line));
    progress.finish().expect("/dev/null takes everything");
});
