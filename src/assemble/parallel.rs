//! Does several things at once, within the cores and the memory of this machine.

use std::num::NonZero;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Memory for one compile, in bytes: what the linker of a large Go program needs, and a reserve.
const BYTES_EACH: u64 = 1 << 30;

/// How compilers share this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CompilerJobs {
    /// How many compilers run at once.
    pub n_workers: usize,
    /// How many jobs each of them may run.
    pub jobs_each: usize,
}

/// Shares the cores among compilers, as many as the memory allows. `at_once` is the user's own
/// choice of their number: a builder may have other machines.
pub(super) fn share(n_items: usize, n_cores: usize, at_once: Option<usize>) -> CompilerJobs {
    let n_workers = at_once.unwrap_or_else(|| n_cores.min(by_memory())).min(n_items).max(1);
    CompilerJobs { n_workers, jobs_each: n_cores.div_ceil(n_workers) }
}

/// The number of cores of this machine.
pub(super) fn n_cores() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

/// Calls `work` for each item, several at once; results are in the order of the items. After the
/// first error no other item is begun, and those in progress are finished.
pub(super) fn each<I: Sync, T: Send, E: Send>(
    items: &[I],
    n_workers: usize,
    work: impl Fn(&I) -> Result<T, E> + Sync,
) -> Result<Vec<T>, E> {
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let done = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..n_workers.min(items.len()) {
            scope.spawn(|| {
                while !failed.load(Ordering::Relaxed) {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(i) else { break };
                    let result = work(item);
                    failed.fetch_or(result.is_err(), Ordering::Relaxed);
                    done.lock().unwrap_or_else(PoisonError::into_inner).push((i, result));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(i, _)| *i);
    done.into_iter().map(|(_, result)| result).collect()
}

fn by_memory() -> usize {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available = available_bytes(&text)
        .map_or(usize::MAX, |bytes| usize::try_from(bytes / BYTES_EACH).unwrap_or(usize::MAX));
    available.max(1)
}

/// Reads the text of `/proc/meminfo`; `None` where there is no such file.
fn available_bytes(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_the_order_of_the_items() {
        let doubled = each(&[1, 2, 3, 4, 5], 2, |n| Ok::<_, ()>(n * 2));
        assert_eq!(doubled, Ok(vec![2, 4, 6, 8, 10]));
        assert_eq!(each(&[0; 0], 2, |n| Ok::<_, ()>(n * 2)), Ok(Vec::new()));
    }

    #[test]
    fn cores_are_shared_and_none_is_left_idle() {
        assert_eq!(share(1, 8, None), CompilerJobs { n_workers: 1, jobs_each: 8 });
        assert_eq!(share(3, 1, None), CompilerJobs { n_workers: 1, jobs_each: 1 });
        assert!(share(3, 8, None).jobs_each >= 3);
    }

    #[test]
    fn a_user_who_asks_for_more_compiles_than_cores_gets_them() {
        let shares = share(3, 1, Some(3));
        assert_eq!(shares, CompilerJobs { n_workers: 3, jobs_each: 1 });
        let barrier = std::sync::Barrier::new(3);
        // Only three workers at the same time get past the barrier.
        let done = each(&[1, 2, 3], shares.n_workers, |n| {
            barrier.wait();
            Ok::<_, ()>(*n)
        });
        assert_eq!(done, Ok(vec![1, 2, 3]));
    }

    #[test]
    fn nothing_is_begun_after_a_failure() {
        let begun = AtomicUsize::new(0);
        let result = each(&[0; 100], 1, |_| {
            begun.fetch_add(1, Ordering::Relaxed);
            Err::<(), _>("no")
        });
        assert_eq!((result, begun.into_inner()), (Err("no"), 1));
    }

    #[test]
    fn memory_is_read_as_the_kernel_writes_it() {
        let text = "MemTotal:       24606612 kB\nMemAvailable:   2048 kB\n";
        assert_eq!(available_bytes(text), Some(2 << 20));
        assert_eq!(available_bytes(""), None);
    }
}
