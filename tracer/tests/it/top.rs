//! `alloctrace top`: as lines through a pipe, and as a screen that somebody sits before.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    program::{Ended, Program, Signal, run, scratch},
    report::Report,
    terminal::Terminal,
    tracer::{alloctrace, alone},
    workload::build,
};

/// A program that loses memory, and the function that it says will be found guilty.
struct Guilty {
    program: Program,
    function: String,
}

impl Guilty {
    fn start(incident: &str) -> Self {
        let mut program = Program::start(&mut Command::new(build(&format!("incidents/{incident}.rs"))));
        let line = program.next_line();
        let function = line.strip_prefix("leak ").unwrap_or_else(|| panic!("{incident} said {line:?}"));
        Self { function: function.to_owned(), program }
    }

    fn pid(&self) -> String {
        self.program.pid().to_string()
    }

    /// It ends as if nothing had been.
    fn assert_unharmed(mut self) {
        assert!(self.program.is_running(), "the target outlives the view");
        self.program.close_input();
        assert_eq!(self.program.wait().code, Some(0));
    }
}

fn top(arguments: &[&str]) -> Ended {
    run(alloctrace(["top"]).args(arguments))
}

/// The lines of sites, block by block.
fn blocks(output: &str) -> Vec<Vec<&str>> {
    let sites = |it: &'_ str| it.lines().skip_while(|it| !it.ends_with(" SITE")).skip(1).count();
    output.split("\n\n").map(|it| it.lines().skip(it.lines().count() - sites(it)).collect()).collect()
}

#[test]
fn one_table_names_the_guilty_first() {
    let guilty = Guilty::start("callbacks");
    let _alone = alone();
    for sort in ["bytes", "growth"] {
        let ended = top(&["-p", &guilty.pid(), "--once", "-d", "3s", "-i", "300ms", "--sort", sort]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(ended.errors.contains("alloctrace: ready"), "{}", ended.errors);
        let blocks = blocks(&ended.output);
        assert_eq!(blocks.len(), 1, "{}", ended.output);
        assert!(blocks[0][0].contains(&guilty.function), "by {sort}:\n{}", ended.output);
        assert!(blocks[0][0].starts_with('▲'), "it grows:\n{}", ended.output);
        assert!(ended.output.contains("trust A: nothing lost"), "{}", ended.output);
    }
    guilty.assert_unharmed();
}

#[test]
fn a_block_of_lines_for_each_interval() {
    let guilty = Guilty::start("peers");
    let _alone = alone();
    let ended = top(&["-p", &guilty.pid(), "--count", "3", "-i", "200ms", "-T", "1"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let blocks = blocks(&ended.output);
    assert_eq!(blocks.len(), 3, "{}", ended.output);
    for block in blocks {
        assert!(block[0].contains(&guilty.function), "{}", ended.output);
    }

    // Without a number it goes on until it is told to end.
    let mut endless =
        Program::start(alloctrace(["top", "-i", "100ms", "-p", &guilty.pid()]).env("TERM", "xterm"));
    for _ in 0..3 {
        while !endless.next_line().contains(&guilty.function) {}
    }
    endless.signal(Signal::INT);
    let ended = endless.wait();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(!ended.output.contains('\x1b'), "a pipe gets no escapes: {}", ended.output);
    guilty.assert_unharmed();
}

#[test]
fn a_target_that_ends() {
    let _alone = alone();
    let ended = top(&["--no-follow", "-i", "100ms", "--", "sh", "-c", "exit 3"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.output.contains("exited with code 3"), "{}", ended.output);
    let ended = top(&["--no-follow", "--once", "-d", "60s", "--", "sh", "-c", "kill -KILL $$"]);
    assert!(ended.output.contains("killed by signal 9"), "{}", ended.output);
}

#[test]
fn a_reader_that_has_seen_enough() {
    let guilty = Guilty::start("cache");
    let _alone = alone();
    let program = env!("CARGO_BIN_EXE_alloctrace");
    let script = format!("{program} top -p {} -i 50ms | head -n 3; echo ${{PIPESTATUS[0]}}", guilty.pid());
    let ended = run(Command::new("bash").args(["-c", &script]));
    assert_eq!(ended.output.lines().count(), 4, "{ended:?}");
    assert!(ended.output.ends_with("\n0\n"), "{ended:?}");
    guilty.assert_unharmed();
}

#[test]
fn wrong_targets() {
    let gone = top(&["-p", &i32::MAX.to_string(), "--once"]);
    assert_eq!(gone.code, Some(6), "{gone:?}");
    let nobody = top(&["--once"]);
    assert_eq!(nobody.code, Some(2), "{nobody:?}");
    let missing = top(&["--once", "--", "/nowhere/to/be/found"]);
    assert_eq!(missing.code, Some(6), "{missing:?}");
}

/// `top` on a screen.
fn watch(directory: &Path, options: &str, size: (u32, u32)) -> Terminal {
    Terminal::run(directory, &format!("'{}' top {options}", env!("CARGO_BIN_EXE_alloctrace")), size)
}

/// Lines of the list: below its head.
fn listed(screen: &str, head: &str) -> Vec<String> {
    let below = screen.lines().skip_while(|it| !it.contains(head)).skip(1);
    below.take_while(|it| !it.is_empty()).map(str::to_owned).collect()
}

fn written(directory: &Path, ending: &str) -> Option<PathBuf> {
    let files = std::fs::read_dir(directory).expect("it is there").flatten().map(|it| it.path());
    files.into_iter().find(|it| it.to_string_lossy().ends_with(ending))
}

#[test]
fn somebody_watches() {
    let guilty = Guilty::start("cache");
    let _alone = alone();
    let directory = scratch("top-watched");
    let terminal = watch(&directory, &format!("-p {} -i 200ms", guilty.pid()), (120, 40));
    let short = guilty.function.rsplit("::").next().expect("a function").to_owned();

    // The guilty one is first, by what it holds and by growth.
    let is_first = |it: &str, head| listed(it, head).first().is_some_and(|it| it.contains(&short));
    terminal.wait_until("the guilty site is first", |it| is_first(it, "SITE"));
    terminal.press(&["g"]);
    terminal.wait_until("by growth too", |it| it.contains("by growth") && is_first(it, "SITE"));
    terminal.press(&["l", "Tab"]);
    let functions = terminal.wait_for("FUNCTION");
    assert!(listed(&functions, "FUNCTION").iter().any(|it| it.contains(&short)), "{functions}");

    // A filter leaves what it names; what was typed is no command.
    terminal.press(&["Tab", "/", &short]);
    terminal.wait_for(&format!("/{short}_"));
    terminal.press(&["Enter"]);
    let filtered = terminal.wait_until("only these", |it| {
        let sites = listed(it, "SITE");
        !sites.is_empty() && sites.iter().all(|it| it.contains(&short))
    });
    assert!(!filtered.contains(&format!("/{short}_")), "{filtered}");
    terminal.press(&["Escape"]);
    terminal.wait_until("all again", |it| !it.contains(&format!("/{short}")));

    // The whole stack, with lines.
    terminal.press(&["Enter"]);
    let stack = terminal.wait_for("(cache.rs:");
    assert!(stack.contains("heap by "), "{stack}");
    terminal.press(&["End"]);
    terminal.wait_until("its outer end", |it| it.contains("_start") || it.contains("libc.so.6"));
    terminal.press(&["Escape"]);
    terminal.wait_for("SITE");

    // A pause: the tracing goes on.
    terminal.press(&["Space"]);
    terminal.wait_until("it falls behind", |it| it.contains("PAUSED, 3 intervals behind"));
    terminal.press(&["Space"]);
    terminal.wait_until("it catches up", |it| !it.contains("PAUSED"));

    terminal.press(&["m"]);
    terminal.wait_for("mark 1 placed");
    terminal.wait_until("the mark is in the timeline", |it| {
        it.lines().any(|it| it.strip_prefix("mark ").is_some_and(|it| it.trim() == "1"))
    });

    // Sizes that leave room for nothing.
    for size in [(20, 5), (1, 1), (300, 3), (2, 60), (80, 24)] {
        terminal.resize(size.0, size.1);
    }
    terminal.press(&["Home"]);
    terminal.wait_until("it is whole again", |it| is_first(it, "SITE") && it.contains("? help"));

    terminal.press(&["s"]);
    terminal.wait_for("written to");
    let capture = written(&directory, ".jsonl.zst").expect("a capture");
    terminal.press(&["f"]);
    terminal.wait_until("a flamegraph is written", |it| it.contains(FLAMEGRAPH));
    let flamegraph = written(&directory, FLAMEGRAPH).expect("a flamegraph");
    assert!(std::fs::read_to_string(flamegraph).expect("it can be read").contains(&short));

    // The target ends, and that is told; the view stays.
    let Guilty { mut program, function } = guilty;
    program.close_input();
    assert_eq!(program.wait().code, Some(0), "the target ends as if nothing had been");
    terminal.wait_for("exited with code 0");
    // It has tidied up after itself, and the keys still work.
    terminal.wait_for("nothing is held");
    terminal.press(&["?"]);
    terminal.wait_for("the traced process goes on");
    terminal.press(&["q"]);
    terminal.assert_given_back();

    let report = Report::read(&capture);
    assert!(report.capture.complete && report.timeline.len() > 3, "what was saved is a whole capture");
    let names = |it: &crate::report::Site| {
        it.frames.iter().filter_map(|it| it.function.as_deref()).any(|it| it.starts_with(&function))
    };
    let first = report.sites.iter().find(|it| it.kind == "heap").expect("a site");
    assert!(names(first), "its first site does not name {function}: {}", first.label());
    assert!(report.losses().is_empty(), "losses: {:?}", report.losses());
}

/// What `f` writes.
const FLAMEGRAPH: &str = ".svg";

#[test]
fn whoever_ends_it_the_terminal_is_given_back() {
    let guilty = Guilty::start("effects");
    let _alone = alone();
    let directory = scratch("top-ended");
    let options = format!("-p {} -i 100ms", guilty.pid());

    let terminal = watch(&directory, &options, (100, 30));
    terminal.wait_for("SITE");
    terminal.wait_until("colours", |_| terminal.has_colours());
    let pid = rustix::process::Pid::from_raw(terminal.pid_of_command() as i32).expect("a pid");
    rustix::process::kill_process(pid, Signal::TERM).expect("it runs");
    terminal.assert_given_back();
    drop(terminal);

    let program = env!("CARGO_BIN_EXE_alloctrace");
    let terminal = Terminal::run(&directory, &format!("NO_COLOR=1 '{program}' top {options}"), (100, 30));
    terminal.wait_until("a site that grows", |it| it.lines().any(|it| it.starts_with('▲')));
    assert!(!terminal.has_colours(), "NO_COLOR means none");
    terminal.press(&["C-c"]);
    terminal.assert_given_back();
    guilty.assert_unharmed();
}

#[test]
fn what_a_launched_command_writes_does_not_go_across_the_screen() {
    let _alone = alone();
    let directory = scratch("top-launched");
    let script = "\"echo noise; echo more noise >&2; read line || exit 7\"";
    let terminal = watch(&directory, &format!("--no-follow -i 100ms -- sh -c {script}"), (100, 30));
    let screen = terminal.wait_for("exited with code 7");
    assert!(!screen.contains("noise"), "{screen}");
    terminal.press(&["q"]);
    let screen = terminal.assert_given_back();
    let path = screen
        .lines()
        .find_map(|it| it.strip_prefix("alloctrace: what the command wrote is in "))
        .unwrap_or_else(|| panic!("the command's output is lost:\n{screen}"));
    assert_eq!(std::fs::read_to_string(path).expect("it can be read"), "noise\nmore noise\n");
    std::fs::remove_file(path).expect("it is ours");
}
