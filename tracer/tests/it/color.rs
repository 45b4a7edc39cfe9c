//! Colours, as terminals, pipes and the usual variables want them.

use std::{path::Path, process::Command};

use crate::{
    program::{needed, run, scratch},
    tracer::{alloctrace, alloctrace_says, alone},
};

const ESCAPE: char = '\x1b';

/// What decides on colours beside what a case sets. Where `CI` is set, a dumb terminal has them.
const DECISIVE: [&str; 4] = ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "CI"];

fn undecided(command: &mut Command) -> &mut Command {
    DECISIVE.iter().fold(command, |command, it| command.env_remove(it))
}

fn capture() -> String {
    let path = scratch("color").join("capture.jsonl.zst");
    let path = path.to_str().expect("its path is text").to_owned();
    let _alone = alone();
    let ended = alloctrace_says(["record", "-o", &path, "--", "ls", "/"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(!ended.output.contains(ESCAPE), "a pipe has no colours: {ended:?}");
    path
}

#[test]
fn colours_are_for_terminals() {
    let capture = capture();
    let report = |options: &[&str], variables: &[(&str, &str)]| -> bool {
        let mut command = alloctrace(["report", &capture]);
        let ended = run(undecided(command.args(options)).envs(variables.iter().copied()));
        assert!(ended.code == Some(0) && ended.output.contains("who holds the memory"), "{ended:?}");
        ended.output.contains(ESCAPE)
    };
    assert!(!report(&[], &[("TERM", "xterm")]));
    assert!(report(&["--color", "always"], &[("NO_COLOR", "1")]), "what is typed wins");
    assert!(report(&[], &[("CLICOLOR_FORCE", "1")]));
    assert!(!report(&["--color", "never"], &[("CLICOLOR_FORCE", "1")]));

    let file = Path::new(&capture).with_file_name("report.txt");
    let file = file.to_str().expect("its path is text");
    alloctrace_says(["report", &capture, "--color", "auto", "-o", file]);
    assert!(!std::fs::read_to_string(file).expect("it was written").contains(ESCAPE));

    // With a terminal of its own.
    let program = env!("CARGO_BIN_EXE_alloctrace");
    let terminal = |variables: &[(&str, &str)]| -> bool {
        let mut command = Command::new(needed("script", "bsdutils"));
        command.args([
            "--quiet",
            "--return",
            "--command",
            &format!("{program} report {capture}"),
            "/dev/null",
        ]);
        let ended = run(undecided(&mut command).env("TERM", "xterm").envs(variables.iter().copied()));
        assert!(ended.code == Some(0) && ended.output.contains("who holds the memory"), "{ended:?}");
        ended.output.contains(ESCAPE)
    };
    assert!(terminal(&[]));
    assert!(!terminal(&[("NO_COLOR", "1")]));
    assert!(!terminal(&[("TERM", "dumb")]));
    assert!(terminal(&[("TERM", "dumb"), ("CI", "true")]), "logs of CI services show colours");
}
