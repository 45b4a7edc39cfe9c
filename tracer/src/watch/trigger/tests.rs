//! Triggers, told by small stories of processes.

use super::*;

/// A process with a limit of 100 MiB and of so many MiB each second; what is said when it is wanted first, and the
/// seconds in which it is.
fn check(triggers: &[&str], rss_mib: impl Fn(u32) -> f64, expected: &[(u32, u32)]) -> String {
    let mut all = Triggers::new(triggers.iter().map(|it| it.parse().unwrap()).collect());
    let (mut spans, mut said): (Vec<(u32, u32)>, _) = (Vec::new(), String::new());
    for second in 0..300_u32 {
        let growth = |span_s: f64| {
            let before = second.checked_sub(span_s as u32)?;
            Some((rss_mib(second) - rss_mib(before)) * 1048576.0 / span_s).filter(|it| *it > 0.0)
        };
        let share = rss_mib(second) / 100.0;
        let facts = Situation {
            process: 7,
            name: "app",
            cgroup: Some("/web/front"),
            rss_bytes: (rss_mib(second) * 1048576.0) as u64,
            rss_share: Some(share),
            cgroup_share: Some(share / 2.0),
            pressure: Some(share / 10.0),
            time_to_limit_s: growth(10.0).map(|it| (1.0 - share) * 104857600.0 / it),
            growth: &growth,
        };
        let wanted = all.judge(second.into(), [facts]);
        match spans.last_mut() {
            _ if wanted.is_empty() => {}
            Some(span) if span.1 + 1 == second => span.1 = second,
            _ => spans.push((second, second)),
        }
        if said.is_empty()
            && let Some(wanted) = wanted.into_iter().next()
        {
            said = wanted.reason;
        }
    }
    assert_eq!(spans, expected, "{triggers:?}");
    said
}

#[test]
fn each_condition_has_its_level() {
    let ramp = |second: u32| f64::from(second.min(100));
    let said = check(&["rss-share=80%,calm=1h"], ramp, &[(80, 299)]);
    assert_eq!(said, "it has 80 % of the memory that it may have");
    let said = check(&["cgroup-share=40%,calm=1h"], ramp, &[(80, 299)]);
    assert_eq!(said, "its control group has 40 % of the memory that it may have");
    let said = check(&["pressure=5%,calm=1h"], ramp, &[(50, 299)]);
    assert_eq!(said, "5 % of the time somebody waits for memory");
    let said = check(&["growth=512KiB/s,for=20s,calm=1h"], ramp, &[(20, 299)]);
    assert_eq!(said, "its resident memory grows by 1.0 MiB/s");
    let said = check(&["time-to-limit=20s,calm=1h"], ramp, &[(80, 299)]);
    assert_eq!(said, "if it goes on like this there is no room left in 20.0 s");
    let said = check(&["suspicious,calm=1h"], ramp, &[(9, 299)]);
    assert_eq!(said, "its resident memory grew by 9.0 MiB in 9.0 s, 100 % of it, and goes on");
}

#[test]
fn all_conditions_of_one_must_hold_and_one_trigger_is_enough() {
    let ramp = |second: u32| f64::from(second.min(100));
    check(&["rss-share=80%,growth=1MiB/min,calm=1h"], ramp, &[(80, 299)]);
    // It stands where it was, and has grown by 1 MiB/min at second 4200 only.
    check(&["rss-share=80%,growth=2MiB/s"], ramp, &[]);
    check(&["rss-share=90%,calm=1h", "pressure=7%,calm=1h"], ramp, &[(71, 299)]);
}

#[test]
fn it_must_hold_for_some_time() {
    let peaks = |second: u32| if second % 40 < 20 { 90.0 } else { 10.0 };
    check(&["rss-share=80%,for=30s,calm=5s"], peaks, &[]);
    check(&["rss-share=80%,for=10s,calm=5s"], |it| if it < 50 { peaks(it) } else { 10.0 }, &[(10, 23)]);
}

#[test]
fn it_is_let_go_when_calm_returns_and_not_before() {
    let hill = |second: u32| if (50..100).contains(&second) { 85.0 } else { 10.0 };
    check(&["rss-share=80%,calm=30s"], hill, &[(50, 128)]);
    // Below the level by little is not calm; and it may come back.
    let edge = |second: u32| match second {
        0..50 => 10.0,
        50..60 => 81.0,
        60..150 => 75.0,
        150..200 => 71.0,
        _ => 90.0,
    };
    check(&["rss-share=80%,calm=30s"], edge, &[(50, 178), (200, 299)]);
}

#[test]
fn the_usual_ones_leave_the_healthy_alone() {
    let check = |rss_mib: &dyn Fn(u32) -> f64, expected: &[(u32, u32)]| {
        let mut all = Triggers::new(Trigger::usual());
        let wanted = (0..120).filter(|second| {
            let facts = Situation {
                process: 7,
                name: "app",
                cgroup: None,
                rss_bytes: (rss_mib(*second) * 1048576.0) as u64,
                rss_share: Some(rss_mib(*second) / 100.0),
                cgroup_share: None,
                pressure: Some(0.9),
                time_to_limit_s: None,
                growth: &|_| None,
            };
            !all.judge((*second).into(), [facts]).is_empty()
        });
        let wanted: Vec<u32> = wanted.collect();
        assert_eq!(
            wanted.first().copied().zip(wanted.last().copied()).into_iter().collect::<Vec<_>>(),
            expected
        );
    };
    check(&|_| 95.0, &[]);
    check(&|second| 60.0 + 5.0 * (f64::from(second) * 1.7).sin(), &[]);
    check(&|second| 10.0 + f64::from(second.min(40)) / 4.0, &[(9, 105)]);
}

#[test]
fn the_nearest_comes_first_and_who_is_looked_at_stays() {
    let mut all = Triggers::new(vec!["rss-share=50%".parse().unwrap()]);
    let facts = |process: u32, share: f64| Situation {
        process,
        name: "app",
        cgroup: None,
        rss_bytes: 0,
        rss_share: Some(share),
        cgroup_share: None,
        pressure: None,
        time_to_limit_s: None,
        growth: &|_| None,
    };
    let mut order = |now_s: f64, all_facts: Vec<Situation<'static>>| -> Vec<u32> {
        all.judge(now_s, all_facts).into_iter().map(|it| it.process).collect()
    };
    assert_eq!(order(0.0, vec![facts(1, 0.6), facts(2, 0.9), facts(3, 0.2)]), [2, 1]);
    assert_eq!(order(1.0, vec![facts(1, 0.6), facts(2, 0.9), facts(3, 0.99)]), [2, 1, 3]);
    // Who has ended is wanted no more.
    assert_eq!(order(2.0, vec![facts(1, 0.6)]), [1]);
}

#[test]
fn it_may_be_about_some_only() {
    let full = |_| 90.0;
    check(&["rss-share=80%,name=app,calm=1h"], full, &[(0, 299)]);
    check(&["rss-share=80%,name=other"], full, &[]);
    check(&["rss-share=80%,cgroup=web,calm=1h"], full, &[(0, 299)]);
    check(&["rss-share=80%,cgroup=/web/front/,calm=1h"], full, &[(0, 299)]);
    check(&["rss-share=80%,cgroup=/we"], full, &[]);
}

#[test]
fn what_is_wrong_is_named() {
    let wrong = |text: &str| text.parse::<Trigger>().unwrap_err();
    assert!(wrong("").contains("needs a condition"), "{}", wrong(""));
    assert!(wrong("name=app").contains("needs a condition"));
    assert!(wrong("rss-share=lots").contains("lots"), "{}", wrong("rss-share=lots"));
    assert!(wrong("rss=80%").contains("rss"), "{}", wrong("rss=80%"));
    assert!(wrong("growth=1MiB").contains("rate"), "{}", wrong("growth=1MiB"));
    assert!(wrong("growth=1B/s,growth=1B/s").contains("twice"));
    assert!(wrong("rss-share").contains("string"), "{}", wrong("rss-share"));
}
