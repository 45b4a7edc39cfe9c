//! How the tracing itself goes.

use serde_json::json;

use super::{overview::Overview, page::Page};
use crate::{event::Loss, report::words};

/// What must not happen to a tracer that keeps up: its own tables or the ring were too small. Other losses are the ways of
/// the programs that it watches, which say nothing about it.
const OVERLOAD: [Loss; 8] = [
    Loss::LostEvents,
    Loss::LostStacks,
    Loss::ScratchBusy,
    Loss::ThreadsFull,
    Loss::ProcessesFull,
    Loss::ObjectsFull,
    Loss::MalformedRecords,
    Loss::UntrackedBlocks,
];

/// For so long a loss is news: a prober that looks once a minute sees it.
const NEWS_S: f64 = 60.0;

/// Intervals that may be late, and seconds in any case.
const LATE_INTERVALS: f64 = 3.0;
const LATE_S: f64 = 10.0;

/// `None`: nobody has answered.
pub(super) fn page(overview: Option<&Overview>) -> Page {
    let Some(overview) = overview else {
        let reasons = ["whoever keeps watch does not answer"];
        return Page::json(503, &json!({ "status": "degraded", "reasons": reasons }));
    };
    let reasons = reasons(overview);
    let status = if reasons.is_empty() { 200 } else { 503 };
    Page::json(
        status,
        &json!({
            "status": if reasons.is_empty() { "ok" } else { "degraded" },
            "reasons": reasons,
            "version": overview.tool_version,
            "host": overview.host,
            "target": overview.target,
            "uptime_s": overview.now_s + overview.since_interval_s,
            "interval_s": overview.interval_s,
            "since_interval_s": overview.since_interval_s,
            "processes": overview.processes.len() as u64 + overview.other_processes.count,
            "events": overview.events,
            "losses": overview.losses,
        }),
    )
}

fn reasons(overview: &Overview) -> Vec<String> {
    let mut reasons = overview.troubles.clone();
    let since_s = overview.since_interval_s;
    if since_s > (overview.interval_s * LATE_INTERVALS).max(LATE_S) {
        reasons.push(format!("behind: the last interval ended {since_s:.0} s ago"));
    }
    let is_new =
        |it: &&Loss| overview.grew_s.get(it.name()).is_some_and(|grew_s| overview.now_s - grew_s < NEWS_S);
    for loss in OVERLOAD.iter().filter(is_new) {
        let count = overview.losses.get(loss.name()).copied().unwrap_or(0);
        reasons.push(format!("{} grows, {count} until now: {}", loss.name(), words::explain(*loss)));
    }
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(overview: &Overview, status: u16, says: &str) {
        let page = page(Some(overview));
        let text = String::from_utf8_lossy(&page.body).into_owned();
        assert_eq!(page.status, status, "{text}");
        assert!(text.contains(says), "{text}");
    }

    fn well() -> Overview {
        let losses = [("lost_events".to_owned(), 3), ("stale_calls".to_owned(), 3)].into();
        Overview { now_s: 100.0, interval_s: 1.0, since_interval_s: 0.5, losses, ..Overview::default() }
    }

    #[test]
    fn what_is_long_ago_is_no_reason() {
        check(&well(), 200, "\"status\": \"ok\"");
        let grew_s = [("lost_events".to_owned(), 39.0)].into();
        check(&Overview { grew_s, ..well() }, 200, "\"reasons\": []");
    }

    #[test]
    fn a_full_ring_is_one() {
        let grew_s = [("lost_events".to_owned(), 41.0)].into();
        check(&Overview { grew_s, ..well() }, 503, "lost_events grows, 3 until now");
    }

    #[test]
    fn what_programs_do_is_none() {
        let grew_s = [("stale_calls".to_owned(), 99.0)].into();
        check(&Overview { grew_s, ..well() }, 200, "\"status\": \"ok\"");
    }

    #[test]
    fn being_late_is_one_and_so_are_troubles() {
        check(&Overview { since_interval_s: 11.0, ..well() }, 503, "ended 11 s ago");
        check(&Overview { since_interval_s: 11.0, interval_s: 5.0, ..well() }, 200, "ok");
        let troubles = vec!["the black box cannot be written".to_owned()];
        check(&Overview { troubles, ..well() }, 503, "the black box cannot be written");
    }

    #[test]
    fn silence_is_one() {
        assert_eq!(page(None).status, 503);
    }
}
