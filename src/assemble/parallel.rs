//! Compiles several things at once, within the cores and the memory there are.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// What the linker of one large Go program needs, with room to spare.
const BYTES_EACH: u64 = 1 << 30;

/// Calls `work` for each item, with the number of jobs it may start; `at_once` is what a person
/// wants, who may know of other machines. The first error ends the
/// rest: what is being worked on is finished, nothing else is begun.
pub(super) fn each<I: Sync, T: Send, E: Send>(
    items: &[I],
    n_cores: usize,
    at_once: Option<usize>,
    work: impl Fn(&I, usize) -> Result<T, E> + Sync,
) -> Result<Vec<T>, E> {
    let n_workers = at_once.unwrap_or_else(|| n_cores.min(by_memory())).min(items.len()).max(1);
    let jobs = n_cores.div_ceil(n_workers);
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let done = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..n_workers {
            scope.spawn(|| {
                while !failed.load(Ordering::Relaxed) {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(i) else { break };
                    let result = work(item, jobs);
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

/// From the text of `/proc/meminfo`, where there is one.
fn available_bytes(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_stand_in_the_order_of_the_items() {
        let doubled = each(&[1, 2, 3, 4, 5], 2, None, |n, _| Ok::<_, ()>(n * 2));
        assert_eq!(doubled, Ok(vec![2, 4, 6, 8, 10]));
    }

    #[test]
    fn cores_are_shared_and_none_is_left_idle() {
        let jobs = |n_items: usize, n_cores| {
            each(&vec![(); n_items], n_cores, None, |(), jobs| Ok::<_, ()>(jobs)).unwrap()[0]
        };
        assert_eq!(jobs(1, 8), 8);
        assert_eq!(jobs(3, 1), 1);
        assert!(jobs(3, 8) >= 3);
    }

    #[test]
    fn who_asks_for_more_than_there_are_cores_gets_it() {
        let barrier = std::sync::Barrier::new(3);
        let jobs = each(&[(); 3], 1, Some(3), |(), jobs| {
            // Only three at the same time get past it.
            barrier.wait();
            Ok::<_, ()>(jobs)
        });
        assert_eq!(jobs, Ok(vec![1; 3]));
    }

    #[test]
    fn nothing_is_begun_after_a_failure() {
        let begun = AtomicUsize::new(0);
        let result = each(&[0; 100], 1, None, |_, _| {
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
