//! What a run has gone through: how many events it has seen, and when something was lost last.

use std::collections::BTreeMap;

use crate::{
    capture::{IntervalRow, Recording},
    cost::Cost,
};

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wear {
    /// Allocations and frees, of processes that are forgotten too.
    pub events: u64,
    /// By the name of a loss: when it was seen to grow last, in seconds since tracing began.
    pub grew_s: BTreeMap<String, f64>,
}

impl Wear {
    /// To be called with each interval before the recording takes it in.
    pub(super) fn note(&mut self, recording: &Recording, row: &IntervalRow) {
        for site in &row.sites {
            let before = recording.sites.get(&site.site).and_then(|it| it.points.last());
            let before = before.map_or(Cost::default(), |it| it.allocated + it.freed);
            let new = site.allocated_blocks + site.freed_blocks - before.blocks;
            self.events += u64::try_from(new).unwrap_or(0);
        }
        for (loss, count) in &row.loss {
            if *count > recording.losses.get(loss).copied().unwrap_or(0) {
                self.grew_s.insert(loss.clone(), row.t_s);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        capture::{IntervalRow, Row, SiteRow},
        watch::Watched,
    };

    fn row(t_s: f64, allocated_blocks: i64, freed_blocks: i64, lost: u64) -> Row {
        let site = SiteRow { allocated_blocks, freed_blocks, ..SiteRow::default() };
        let loss = [("lost_events".to_owned(), lost)].into();
        Row::Interval(IntervalRow { t_s, sites: vec![site], loss, ..IntervalRow::default() })
    }

    #[test]
    fn events_are_counted_once_and_losses_when_they_grow() {
        let mut watched = Watched::default();
        watched.add([row(1.0, 5, 2, 0), row(2.0, 9, 9, 3)]);
        assert_eq!(watched.wear.events, 18);
        watched.add([row(3.0, 9, 9, 3)]);
        assert_eq!((watched.wear.events, watched.wear.grew_s["lost_events"]), (18, 2.0));
        watched.recording.sites.clear();
        watched.add([row(4.0, 10, 9, 4)]);
        assert_eq!(watched.wear.grew_s["lost_events"], 4.0);
    }
}
