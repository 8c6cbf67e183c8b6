//! Time and memory of a program, measured by `time`, which includes its children.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::command::{Cmd, find};
use crate::error::{ErrorContext as _, Result, TaskError};

/// Time and memory of one run.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub wall_seconds: f64,
    pub cpu_seconds: f64,
    pub peak_kib: f64,
    /// The load average before the run.
    pub load: f64,
}

/// Measures programs with `time`.
#[derive(Debug)]
pub struct Clock {
    time: PathBuf,
    work: PathBuf,
}

impl Clock {
    pub fn new(work: &Path) -> Result<Self> {
        let time = find("time").ok_or_else(|| {
            TaskError::new("there is no program `time`").hint("apt-get install time")
        })?;
        Ok(Self { time, work: work.to_owned() })
    }

    /// Measures a program, with changes to its environment; an error if it fails.
    pub fn run(&self, words: &[String], change: impl FnOnce(Cmd) -> Cmd) -> Result<Sample> {
        let file = self.work.join("time");
        let load = load()?;
        let command =
            Cmd::new(&self.time).arg("-o").arg(&file).args(["-f", "%U %S %M"]).args(words);
        let begin = Instant::now();
        change(command).text()?;
        let wall_seconds = begin.elapsed().as_secs_f64();
        let text = fs::read_to_string(&file).context(file.display())?;
        let [user, system, peak_kib] = numbers(&text)?;
        Ok(Sample { wall_seconds, cpu_seconds: user + system, peak_kib, load })
    }
}

fn numbers(text: &str) -> Result<[f64; 3]> {
    let words = text.split_whitespace().map(str::parse);
    let all: std::result::Result<Vec<f64>, _> = words.collect();
    let all = all.ok().and_then(|all| all.try_into().ok());
    all.ok_or_else(|| TaskError::new(format!("`time` wrote `{}`", text.trim())))
}

/// The load average of the last minute.
pub fn load() -> Result<f64> {
    let text = fs::read_to_string("/proc/loadavg")?;
    Ok(text.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or(0.0))
}

pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_writes_three_numbers() {
        let [user, system, peak] = numbers("0.25 0.50 10240\n").unwrap();
        assert!((user + system - 0.75).abs() < 1e-9 && (peak - 10240.0).abs() < 1e-9);
        assert!(numbers("Command terminated by signal 9\n0 0 1\n").is_err());
    }
}
