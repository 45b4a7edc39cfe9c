//! Budgets and what is told of them, by the rows of made-up runs.

use super::*;
use crate::{
    capture::{
        CgroupSample, EndedRow, FrameRow, Header, IntervalRow, ProcessRow, ProcessSample, Row, SiteRow,
        StackRow,
    },
    watch::Config,
};

const MIB: u64 = 1 << 20;

/// A run of some processes, a second at a time.
struct World {
    watched: Watched,
    alerts: Alerts,
    config: Config,
    second: u32,
}

impl World {
    fn new(config: &str) -> Self {
        let config = Config::parse(config).unwrap();
        let mut watched = Watched::default();
        let header = Header {
            started: "2026-11-21T10:00:00Z".to_owned(),
            host: "vm".to_owned(),
            tier: "auto".to_owned(),
            ..Header::default()
        };
        let frames = ["grow", "serve", "main"].iter().zip(0..).map(|(name, offset)| FrameRow {
            module: 0,
            offset,
            function: Some((*name).into()),
        });
        let stack = StackRow { id: 0, stop: "complete".to_owned(), frames: frames.collect() };
        watched.add([Row::Header(header), Row::Stack(stack)]);
        let alerts = Alerts::new(config.budget.clone(), &config.alerts);
        Self { watched, alerts, config, second: 0 }
    }

    fn begin(&mut self, id: u32, name: &str) {
        let row = ProcessRow {
            id,
            pid: 100 + id,
            name: name.to_owned(),
            cgroup: Some(format!("/apps/{name}")),
            began_s: f64::from(self.second),
            ..ProcessRow::default()
        };
        self.watched.add([Row::Process(row)]);
    }

    fn end(&mut self, id: u32) {
        let row = self.watched.recording.processes[&id].clone();
        let ended = EndedRow { t_s: f64::from(self.second), how: "signal".to_owned(), code: 9 };
        self.watched.add([Row::Process(ProcessRow { ended: Some(ended), ..row })]);
    }

    /// A second passes, at whose end processes have so much; what is told.
    fn second(&mut self, rss_bytes: &[(u32, u64)]) -> Vec<Alert> {
        let processes = rss_bytes.iter().map(|(process, bytes)| ProcessSample {
            process: *process,
            rss_bytes: Some(*bytes),
            live_bytes: *bytes as i64,
            ..ProcessSample::default()
        });
        let names = |id: &u32| self.watched.recording.processes[id].name.clone();
        let cgroups = rss_bytes.iter().map(|(process, bytes)| CgroupSample {
            path: format!("/apps/{}", names(process)),
            memory_bytes: *bytes,
            limit_bytes: Some(1000 * MIB),
            ..CgroupSample::default()
        });
        let sites = rss_bytes.iter().map(|(process, bytes)| SiteRow {
            site: *process,
            process: *process,
            kind: "resident".to_owned(),
            via: "page fault".to_owned(),
            stack: 0,
            allocated_bytes: *bytes as i64,
            allocated_blocks: 1 + *bytes as i64 / 4096,
            peak_bytes: *bytes as i64,
            live_error_bytes: 4096,
            ..SiteRow::default()
        });
        let row = IntervalRow {
            t_s: f64::from(self.second),
            processes: processes.collect(),
            cgroups: cgroups.collect(),
            sites: sites.collect(),
            ..IntervalRow::default()
        };
        self.watched.add([Row::Interval(row)]);
        self.second += 1;
        self.alerts.judge(&self.watched)
    }

    /// Some seconds; the states that were told, with the seconds.
    fn run(&mut self, seconds: u32, rss_bytes: impl Fn(u32) -> Vec<(u32, u64)>) -> Vec<(u32, String)> {
        let mut told = Vec::new();
        for _ in 0..seconds {
            let second = self.second;
            let say = |it: &Alert| format!("{} {}", it.state(), it.subject_name());
            told.extend(self.second(&rss_bytes(second)).iter().map(|it| (second, say(it))));
        }
        told
    }
}

impl Alert {
    fn subject_name(&self) -> &str {
        match &self.subject {
            Subject::Process { name, .. } => name,
            Subject::Group { path } => path,
        }
    }
}

fn check(told: &[(u32, String)], expected: &[(u32, &str)]) {
    let expected: Vec<(u32, String)> = expected.iter().map(|(at, it)| (*at, (*it).to_owned())).collect();
    assert_eq!(told, expected);
}

#[test]
fn who_grows_is_told_once_and_who_does_not_never() {
    let mut world =
        World::new("[[budget]]\nmax-growth = '1MiB/min'\nover = '1min'\n[alerts]\nresolve-after = '20s'");
    world.begin(1, "leak");
    world.begin(2, "fine");
    let told = world.run(300, |t| vec![(1, u64::from(t) * MIB / 40), (2, 50 * MIB + u64::from(t % 7) * MIB)]);
    check(&told, &[(60, "error leak")]);
    // The slope of the window goes down, and then it is calm for 20 seconds.
    let told = world.run(300, |_| vec![(1, 300 * MIB / 40), (2, 50 * MIB)]);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].1 == "resolved leak" && (320..380).contains(&told[0].0), "{told:?}");
}

#[test]
fn a_warning_comes_before_the_error() {
    let mut world = World::new("[[budget]]\nlabel = 'b'\nmax-rss = '100MiB'");
    world.begin(1, "app");
    let told = world.run(30, |t| vec![(1, u64::from(t) * 5 * MIB)]);
    check(&told, &[(16, "warning app"), (20, "error app")]);
    let firing = |error, warning| {
        BTreeMap::from([
            (("b".to_owned(), Severity::Warning), warning),
            (("b".to_owned(), Severity::Error), error),
        ])
    };
    assert_eq!(world.alerts.firing(), firing(1, 0));
    let told = world.run(100, |_| vec![(1, 10 * MIB)]);
    check(&told, &[(90, "resolved app")]);
    assert_eq!(world.alerts.firing(), firing(0, 0));
    assert!(world.alerts.matters.is_empty(), "nothing is left of it");
}

#[test]
fn an_end_resolves_and_a_restart_is_another_process() {
    let mut world = World::new("[[budget]]\nname = 'app'\nmax-rss = '100MiB'");
    world.begin(1, "app");
    check(&world.run(3, |_| vec![(1, 200 * MIB)]), &[(0, "error app")]);
    world.end(1);
    world.begin(2, "app");
    check(&world.run(1, |_| vec![(2, 10 * MIB)]), &[(3, "resolved app")]);
    check(&world.run(1, |_| vec![(2, 150 * MIB)]), &[(4, "error app")]);
    world.end(2);
    let told = world.second(&[]);
    assert_eq!(told[0].event, Event::Resolved(Reason::Ended("killed by signal 9".to_owned())));
    assert!(world.alerts.matters.is_empty() && world.alerts.courses.is_empty());
}

#[test]
fn a_group_has_its_budget() {
    let mut world = World::new("[[budget]]\ncgroup = '/apps'\nmax-cgroup = '50%'\nwarn-at = '100%'");
    world.begin(1, "a");
    world.begin(2, "b");
    let told = world.run(10, |t| vec![(1, u64::from(t) * 100 * MIB), (2, 10 * MIB)]);
    check(&told, &[(5, "error /apps/a")]);
    world.end(1);
    check(&world.run(5, |_| vec![(2, 10 * MIB)]), &[(12, "resolved /apps/a")]);
}

#[test]
fn only_an_exact_heap_has_live_bytes() {
    let mut world = World::new("[[budget]]\nmax-live = '1MiB'");
    world.begin(1, "a");
    check(&world.run(3, |_| vec![(1, 200 * MIB)]), &[]);
    let tier = crate::capture::TierRow { process: 1, tier: "exact".to_owned(), ..Default::default() };
    world.watched.add([Row::Tier(tier)]);
    check(&world.run(3, |_| vec![(1, 200 * MIB)]), &[]);
    let site = SiteRow {
        site: 9,
        process: 1,
        kind: "heap".to_owned(),
        allocated_bytes: 3 << 20,
        allocated_blocks: 3,
        ..SiteRow::default()
    };
    world.watched.add([Row::Interval(IntervalRow { t_s: 6.0, sites: vec![site], ..IntervalRow::default() })]);
    world.second = 7;
    let told = world.second(&[(1, 200 * MIB)]);
    assert_eq!((told.len(), told[0].measured), (1, (3 << 20) as f64));
}

#[test]
fn other_budgets_hold_from_then_on() {
    let mut world = World::new(
        "[[budget]]\nlabel = 'x'\nmax-rss = '100MiB'\n[[budget]]\nlabel = 'y'\nmax-rss = '100MiB'",
    );
    world.begin(1, "app");
    check(&world.run(2, |_| vec![(1, 200 * MIB)]), &[(0, "error app"), (0, "error app")]);
    // The second is the first now; the first is gone, and a new one is there.
    let config = Config::parse(
        "[[budget]]\nlabel = 'y'\nmax-rss = '100MiB'\n[[budget]]\nlabel = 'z'\nmax-rss = '190MiB'",
    );
    let config = config.unwrap();
    let over = world.alerts.configure(&world.watched, config.budget.clone(), &world.config.alerts);
    let over: Vec<_> = over.iter().map(|it| (it.budget.as_str(), &it.event)).collect();
    assert_eq!(over, [("x", &Event::Resolved(Reason::Withdrawn))]);
    let told = world.second(&[(1, 200 * MIB)]);
    assert_eq!(told.iter().map(|it| it.budget.as_str()).collect::<Vec<_>>(), ["z"]);
}

#[test]
fn a_course_goes_on_under_an_unchanged_budget() {
    let text = "[[budget]]\nmax-growth = '1MiB/min'\nover = '1min'";
    let mut world = World::new(text);
    world.begin(1, "leak");
    let leak = |t: u32| vec![(1, u64::from(t) * MIB / 10)];
    check(&world.run(50, leak), &[]);
    let other = Config::parse(&format!("[[budget]]\nmax-rss = '1GiB'\n{text}")).unwrap();
    world.alerts.configure(&world.watched, other.budget, &other.alerts);
    check(&world.run(20, leak), &[(60, "error leak")]);
}

#[test]
fn an_alert_says_all() {
    let mut world = World::new("[[budget]]\nlabel = 'no leaks'\nmax-growth = '1MiB/min'\nover = '1min'");
    world.begin(1, "leak");
    let alert = (0..70).find_map(|t| world.second(&[(1, MIB + t * MIB / 4)]).pop()).unwrap();
    assert_eq!(
        alert.line(),
        "alert error: leak (process 101): 15.0 MiB/min over 1 min 0 s, 1.0 MiB/min allowed by max-growth of budget \"no leaks\"; \
         its limit of 1000.0 MiB is 1 h 5 min away; 100 % of the growth by grow < serve < main"
    );
    let expected = serde_json::json!({
        "schema": "alloctrace.alert/1",
        "id": "vm/2026-11-21T10:00:00Z/no leaks/max-growth/1",
        "host": "vm",
        "time": "2026-11-21T10:01:00.000Z",
        "t_s": 60.0,
        "state": "error",
        "severity": "error",
        "since_s": 60.0,
        "repeat": 0,
        "reason": null,
        "ended": null,
        "budget": "no leaks",
        "limit": "max-growth",
        "over_s": 60.0,
        "unit": "bytes/s",
        "allowed": MIB as f64 / 60.0,
        "measured": MIB as f64 / 4.0,
        "message": alert.line(),
        "subject": {
            "kind": "process",
            "pid": 101,
            "name": "leak",
            "command": "",
            "cgroup": "/apps/leak",
            "tier": "growth",
        },
        "limit_bytes": 1000 * MIB,
        "time_to_limit_s": 3936.0,
        "share_of": "the growth",
        "stacks": [{
            "functions": ["grow", "serve", "main"],
            "complete": true,
            "via": "page fault",
            "kind": "resident",
            "sampled": true,
            "live_bytes": 16 * MIB,
            "live_blocks": 1 + 16 * MIB / 4096,
            "live_error_bytes": 4096,
            "grown_bytes": 15 * MIB,
            "growth_bytes_per_s": MIB as f64 / 4.0,
            "share": 1.0,
        }],
        "why_no_stacks": null,
        "more": "alloctrace record -p 101 -d 60s",
    });
    let json = alert.json();
    for (field, value) in expected.as_object().unwrap() {
        assert_eq!(json[field], *value, "{field}");
    }
    assert_eq!(json.as_object().unwrap().len(), expected.as_object().unwrap().len());
}

#[test]
fn stacks_are_those_of_the_process_and_why_there_are_none_is_said() {
    let mut world = World::new("[[budget]]\nname = 'b'\nmax-rss = '100MiB'");
    world.begin(1, "a");
    world.begin(2, "b");
    let told = world.second(&[(1, 500 * MIB), (2, 200 * MIB)]);
    assert_eq!(told[0].evidence.stacks.len(), 1);
    assert_eq!(told[0].evidence.stacks[0].live.bytes, (200 * MIB) as i64);
    world.begin(3, "b");
    let processes =
        vec![ProcessSample { process: 3, rss_bytes: Some(200 * MIB), ..ProcessSample::default() }];
    world.watched.add([Row::Interval(IntervalRow { t_s: 1.0, processes, ..IntervalRow::default() })]);
    let told = world.alerts.judge(&world.watched);
    assert!(told[0].evidence.stacks.is_empty());
    assert!(told[0].evidence.why_none.as_ref().unwrap().contains("no page fault was sampled"));
}

#[test]
fn a_share_is_of_whatever_limit_there_is_above() {
    let told = |budget: &str| {
        let mut world = World::new(&format!("[[budget]]\n{budget}"));
        world.begin(1, "a");
        world.begin(2, "b");
        let group = |path: &str, memory_bytes, limit_bytes| CgroupSample {
            path: path.to_owned(),
            memory_bytes,
            limit_bytes,
            ..CgroupSample::default()
        };
        let process = |process| ProcessSample { process, rss_bytes: Some(MIB), ..ProcessSample::default() };
        let cgroups =
            vec![group("/apps", 95, Some(100)), group("/apps/a", 40, None), group("/apps/b", 10, Some(100))];
        let processes = vec![process(1), process(2)];
        world.watched.add([Row::Interval(IntervalRow { processes, cgroups, ..IntervalRow::default() })]);
        let told = world.alerts.judge(&world.watched);
        told.iter().map(|it| it.subject_name().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(told("max-cgroup = '90%'"), ["/apps"]);
    assert_eq!(told("name = 'a'\nmax-cgroup = '90%'"), ["/apps"]);
    assert_eq!(told("cgroup = '/apps/b'\nmax-cgroup = '10%'"), ["/apps/b"]);
    assert_eq!(told("max-cgroup = 40"), ["/apps/a"]);
}

#[test]
fn the_worst_of_many_stacks_are_named() {
    let mut world =
        World::new("[[budget]]\nmax-rss = '100MiB'\n[[budget]]\nmax-growth = '1MiB/min'\nover = '10s'");
    world.begin(1, "many");
    let site = |site: u32, bytes: i64| SiteRow {
        site,
        process: 1,
        kind: "heap".to_owned(),
        stack: 0,
        allocated_bytes: bytes,
        allocated_blocks: 1 + bytes / 100,
        via: format!("f{site}"),
        ..SiteRow::default()
    };
    let mut told = Vec::new();
    for second in 0..20u32 {
        let sites: Vec<SiteRow> = match second {
            // As much as all others, and never more.
            0 => (10..3000).map(|it| site(it, i64::from(it) * 1000)).collect(),
            // Some grow, each more than the one before; the greatest is none of the oldest.
            _ => (10..20).map(|it| site(it, i64::from(it) * (1000 + i64::from(second) * 100_000))).collect(),
        };
        let rss_bytes = Some(20 * MIB + u64::from(second) * 10 * MIB);
        let processes = vec![ProcessSample { process: 1, rss_bytes, ..ProcessSample::default() }];
        let t_s = f64::from(second);
        world.watched.add([Row::Interval(IntervalRow { t_s, processes, sites, ..IntervalRow::default() })]);
        told.extend(world.alerts.judge(&world.watched));
    }
    let vias = |limit: &str| {
        let alert = told.iter().find(|it| it.limit.name() == limit).unwrap();
        let (stacks, shares) =
            (&alert.evidence.stacks, alert.evidence.stacks.iter().map(|it| it.share).sum::<f64>());
        (stacks.iter().map(|it| it.via.as_str()).collect::<Vec<_>>(), shares)
    };
    // Of what is live the ten are little beside three thousand others.
    let (by_size, share) = vias("max-rss");
    assert_eq!(by_size[..5], ["f19", "f18", "f17", "f16", "f15"]);
    assert!(share < 0.02, "{share}");
    let (by_growth, share) = vias("max-growth");
    assert_eq!(by_growth, ["f19", "f18", "f17", "f16", "f15"]);
    let expected = f64::from((15..20).sum::<u32>()) / f64::from((10..20).sum::<u32>());
    assert!((share - expected).abs() < 1e-3, "{share} {expected}");
}
