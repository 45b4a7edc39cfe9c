//! Says so when a target works and no allocator call is seen: an empty table must not look like "no allocations".

use std::{collections::HashMap, time::Duration};

use super::progress::say;
use crate::kernel::process;

/// A program that allocates at all does it more often than once in so much time of a CPU.
const ACTIVE: Duration = Duration::from_secs(3);

/// Waits for the first call.
#[derive(Default)]
pub(super) struct Silence {
    is_over: bool,
    /// What each process had used when it was first met.
    cpu_at_start: HashMap<u32, Duration>,
}

impl Silence {
    /// An allocator call was seen.
    pub(super) fn end(&mut self) {
        self.is_over = true;
    }

    /// To be called now and then: says it, once.
    pub(super) fn complain(&mut self, tgids: impl Iterator<Item = u32>) {
        if self.is_over {
            return;
        }
        let used = tgids.filter_map(|it| Some((it, self.used(it, process::cpu_time(it)?)))).collect();
        let Some((busiest, total)) = active(used) else { return };
        self.is_over = true;
        say(&complaint(busiest, &process::describe(busiest).name, total));
    }

    /// The CPU time of a process since it was first met.
    fn used(&mut self, tgid: u32, now: Duration) -> Duration {
        now.saturating_sub(*self.cpu_at_start.entry(tgid).or_insert(now))
    }
}

/// The busiest process, and the time of all, if that is enough to wonder.
fn active(used: Vec<(u32, Duration)>) -> Option<(u32, Duration)> {
    let total: Duration = used.iter().map(|(_, it)| *it).sum();
    let (busiest, _) = used.into_iter().max_by_key(|(_, it)| *it)?;
    (total >= ACTIVE).then_some((busiest, total))
}

fn complaint(busiest: u32, name: &str, total: Duration) -> String {
    format!(
        "no allocator call has been seen, though {:.0} s of CPU time have been used since tracing began, most of it by \
         process {busiest} ({name})\n\
         Either nothing is allocated just now, or the memory comes from an allocator that is not known here.\n\
         `alloctrace doctor -p {busiest}` says which allocators there are and which functions look like one;\n\
         --alloc and --free trace those; --tier growth follows how the memory grows without any.",
        total.as_secs_f64(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn time_counts_from_the_first_look() {
        let mut silence = Silence::default();
        assert_eq!(silence.used(7, 90 * SECOND), Duration::ZERO);
        assert_eq!(silence.used(7, 92 * SECOND), 2 * SECOND);
        assert_eq!(silence.used(8, SECOND), Duration::ZERO);
    }

    #[test]
    fn what_all_have_used_together_is_enough() {
        assert_eq!(active(vec![(7, SECOND), (8, SECOND)]), None);
        assert_eq!(active(vec![(7, SECOND), (8, 2 * SECOND)]), Some((8, 3 * SECOND)));
        assert_eq!(active(Vec::new()), None);
    }
}
