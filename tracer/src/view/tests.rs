//! The view of a small recording, as its viewer meets it.

mod processes;
mod screens;

use expect_test::expect;
use ratatui::{
    Terminal,
    backend::TestBackend,
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers},
};

use super::*;
use crate::{
    capture::{EndedRow, FrameRow, Header, IntervalRow, ProcessRow, SiteRow, StackRow},
    profile::sample_recording,
    symbol::Place,
};

/// Keys by their letters; others in brackets: `jj<Enter>`.
pub(super) fn keys(text: &str) -> Vec<KeyEvent> {
    let mut keys = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let name = rest.strip_prefix('<').and_then(|it| it.split_once('>'));
        let (code, modifiers, after) = match name {
            Some((name, after)) => {
                let code = match name {
                    "Enter" => KeyCode::Enter,
                    "Esc" => KeyCode::Esc,
                    "Tab" => KeyCode::Tab,
                    "Back" => KeyCode::Backspace,
                    "Down" => KeyCode::Down,
                    "Up" => KeyCode::Up,
                    "PgDn" => KeyCode::PageDown,
                    "PgUp" => KeyCode::PageUp,
                    "Home" => KeyCode::Home,
                    "End" => KeyCode::End,
                    "C-c" => KeyCode::Char('c'),
                    other => panic!("no key {other}"),
                };
                let control = name.starts_with("C-");
                (code, if control { KeyModifiers::CONTROL } else { KeyModifiers::NONE }, after)
            }
            None => (KeyCode::Char(first), KeyModifiers::NONE, &rest[first.len_utf8()..]),
        };
        keys.push(KeyEvent::new(code, modifiers));
        rest = after;
    }
    keys
}

/// Knows one frame.
struct OnePlace;

impl Places for OnePlace {
    fn places(&mut self, _path: &str, _build_id: Option<&str>, offset: u64) -> Vec<Place> {
        let place = |function: &str, inlined| Place {
            function: Some(function.to_owned()),
            file: Some("/src/app.c".to_owned()),
            line: Some(12),
            inlined,
        };
        if offset == 0x1000 { vec![place("push", true), place("leak", false)] } else { Vec::new() }
    }
}

fn sample_rows() -> Vec<Row> {
    let recording = sample_recording();
    std::iter::once(Row::Header(recording.header.clone())).chain(recording.rows("signal")).collect()
}

/// The sample recording while it is still going on.
fn view() -> View {
    let mut view = View::new(Sort::Bytes);
    view.add(sample_rows().into_iter().filter(|it| !matches!(it, Row::End(_))).collect());
    view.refresh();
    view
}

fn press(view: &mut View, text: &str) -> Option<Wish> {
    keys(text).into_iter().map(|it| view.press(it)).last().flatten()
}

fn screen(view: &mut View, (width, height): (u16, u16)) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| view.draw(frame, true)).unwrap();
    let buffer = terminal.backend().buffer();
    let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
    (0..height).map(|y| line(y).trim_end().to_owned() + "\n").collect()
}

#[test]
fn escape_and_a_key_right_behind_it() {
    let mut view = view();
    press(&mut view, "/leak<Enter>");
    assert_eq!(view.list.len(), 1);
    let wish = view.press(KeyEvent::new(KeyCode::Char('m'), KeyModifiers::ALT));
    assert_eq!((wish, view.list.len()), (Some(Wish::Mark), 2));
}

/// Whatever is shown, no size is too small or too odd.
#[test]
fn any_size() {
    for text in ["", "<Tab>", "<Enter>", "?", "/x", " ", "m", "w", "<Enter>?"] {
        let mut view = view();
        press(&mut view, text);
        for width in (0..24).chain([45, 46, 80, 200]) {
            for height in (0..22).chain([34, 60]) {
                screen(&mut view, (width, height));
            }
        }
    }
}

#[test]
fn colour_is_only_for_those_who_want_it() {
    let mut view = view();
    let mut draw = |has_colours| {
        let mut terminal = Terminal::new(TestBackend::new(120, 40)).unwrap();
        terminal.draw(|frame| view.draw(frame, has_colours)).unwrap();
        let cells = terminal.backend().buffer().content().to_vec();
        cells.iter().any(|it| it.fg != ratatui::style::Color::Reset || it.bg != ratatui::style::Color::Reset)
    };
    assert!(draw(true));
    assert!(!draw(false));
}

#[test]
fn before_the_first_interval() {
    let mut view = View::new(Sort::Bytes);
    view.add(vec![Row::Header(Header { target: "-p 7".to_owned(), ..Header::default() })]);
    view.refresh();
    expect![[r#"
        -p 7   0.0 s
        live 0 B in 0 blocks   0 events/s   trust F: nothing lost
         Sites  Functions    0 by live   heap   window 1 min
                LIVE        GROWTH SITE
        no allocation was seen yet






        ? help   q quit   Enter stack   Tab functions   l/g/b/a sor…
    "#]]
    .assert_eq(&screen(&mut view, (60, 12)));
}

#[test]
fn a_pause_says_what_is_behind() {
    let mut view = view();
    press(&mut view, " ");
    let intervals: Vec<Row> = sample_rows().into_iter().filter(|it| matches!(it, Row::Interval(_))).collect();
    let later = intervals.into_iter().take(2).map(|it| match it {
        Row::Interval(it) => Row::Interval(IntervalRow { t_s: it.t_s + 4.0, ..it }),
        other => other,
    });
    view.add(later.collect());
    assert!(!view.is_stale());
    let first = |view: &mut View| screen(view, (80, 24)).lines().next().unwrap().to_owned();
    assert_eq!(first(&mut view), "7 app   4.0 s   PAUSED, 2 intervals behind");
    press(&mut view, " ");
    assert!(view.is_stale());
    view.refresh();
    assert_eq!(first(&mut view), "7 app   6.0 s");
}

#[test]
fn an_end_is_told() {
    let check = |how: &str, code, expected: &str| {
        let mut view = view();
        let row = |it| match it {
            Row::Process(it) => {
                let ended = Some(EndedRow { t_s: 4.0, how: how.to_owned(), code });
                Some(Row::Process(ProcessRow { ended, ..it }))
            }
            Row::End(it) => Some(Row::End(it)),
            _ => None,
        };
        view.add(sample_rows().into_iter().filter_map(row).collect());
        assert!(view.is_stale() && view.has_ended());
        view.refresh();
        assert!(!view.is_stale());
        assert_eq!(screen(&mut view, (80, 24)).lines().next(), Some(expected));
    };
    check("exit", 3, "7 app   4.0 s   exited with code 3");
    check("signal", 9, "7 app   4.0 s   killed by signal 9");
    check("oom-kill", 9, "7 app   4.0 s   KILLED BY THE OOM KILLER");
}

#[test]
fn a_tracing_that_ends_before_the_target_is_told() {
    let mut view = View::new(Sort::Bytes);
    view.add(sample_rows());
    view.refresh();
    assert_eq!(screen(&mut view, (80, 24)).lines().next(), Some("7 app   4.0 s   TRACING ENDED (signal)"));
}

/// Whatever a program calls its functions and itself, it does not command the terminal.
#[test]
fn names_are_data() {
    let mut view = view();
    let evil = "\x1b[2J\u{9b}31m\nevil\t\u{202e}";
    let rows = sample_rows().into_iter().filter_map(|it| match it {
        Row::Process(it) => Some(Row::Process(ProcessRow { name: evil.to_owned(), ..it })),
        Row::Stack(it) => {
            let frames =
                it.frames.into_iter().map(|it| FrameRow { function: Some(evil.into()), ..it }).collect();
            Some(Row::Stack(StackRow { frames, ..it }))
        }
        _ => None,
    });
    view.add(rows.collect());
    view.refresh();
    for text in ["", "<Tab>", "<Tab><Enter>"] {
        press(&mut view, text);
        let seen = screen(&mut view, (120, 40)) + &view.text(10);
        assert!(seen.contains("\\u{1b}[2J"), "{seen}");
        assert!(!seen.contains(|it: char| it.is_control() && it != '\n' || it == '\u{202e}'), "{seen}");
    }
}

#[test]
fn lines_for_a_pipe() {
    expect![[r#"
        7 app   4.0 s
        live 1.4 KiB in 9 blocks   RSS 1.0 MiB   6 events/s   trust B: 1 truncated stacks
                LIVE        GROWTH     BLOCKS  OLDEST  SHARE SITE
        =     1000 B         0 B/s          1    4.0s  71.4% cache < main
        ▲      400 B      +100 B/s          8    4.0s  28.6% leak < main
    "#]]
    .assert_eq(&view().text(10));
    expect![[r#"
        7 app   4.0 s
        live 1.4 KiB in 9 blocks   RSS 1.0 MiB   6 events/s   trust B: 1 truncated stacks
                LIVE        GROWTH     BLOCKS  OLDEST  SHARE SITE
        =     1000 B         0 B/s          1    4.0s  71.4% cache < main
        … and 1 more sites
    "#]]
    .assert_eq(&view().text(1));
}

/// Neither many intervals nor many sites fill the memory.
#[test]
fn long_runs_stay_small() {
    let mut view = View::new(Sort::Bytes);
    let interval = |at: u32| {
        let site = |site| SiteRow { site, allocated_bytes: i64::from(at), ..SiteRow::default() };
        IntervalRow { t_s: f64::from(at), sites: (0..1000).map(site).collect(), ..IntervalRow::default() }
    };
    for at in 0..1500 {
        view.add(vec![Row::Interval(interval(at))]);
    }
    let recording = view.recording();
    assert!(recording.points() <= MAX_POINTS && recording.times_s.len() <= MAX_INTERVALS);
    assert_eq!((recording.times_s.first(), recording.times_s.last()), (Some(&0.0), Some(&1499.0)));
    // The last seconds are all there.
    assert_eq!(recording.times_s[recording.times_s.len() - 100], 1400.0);
}
