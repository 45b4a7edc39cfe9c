//! Programs of the distribution, counted by us and by valgrind, which replaces the allocator and shares nothing
//! with us: allocations, frees, bytes asked for, and what is in use at the end must be the same numbers.
//!
//! No difference is allowed, since none is left:
//! * both count a realloc as one allocation and one free, and one to size zero as a free;
//! * neither sees what the dynamic loader takes from its own small allocator before the C library is there;
//! * at exit valgrind would have the libraries free what they never free: it is told not to;
//! * valgrind starts its program with variables of its own, and programs copy their environment: ours get the
//!   same, under other names of the same length where the loader would act on them.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    program::{needed, run, scratch},
    report::{Report, Site},
    tracer::{alloctrace, alone},
};

#[test]
fn ls() {
    let directory = scratch("agreement-ls");
    for number in 0..60 {
        let below = directory.join(format!("listed/{}/{number}", number % 7));
        std::fs::create_dir_all(&below).expect("make a directory");
        std::fs::write(below.join(format!("file-{number}")), "text").expect("write a file");
    }
    check(&directory, &needed("ls", "coreutils"), &["-lR", "listed"]);
}

#[test]
fn sqlite() {
    let statements = "
        create table t(a integer primary key, b text);
        with recursive n(i) as (select 1 union all select i + 1 from n where i < 5000)
            insert into t select i, 'row ' || i from n;
        create index x on t(b);
        select count(*), max(length(b)) from t;
        select b from t where a % 7 = 3 order by b desc limit 20;
        delete from t where a % 3 = 0;
        vacuum;";
    let arguments = ["-batch", "-init", "/dev/null", ":memory:", statements];
    check(&scratch("agreement-sqlite"), &needed("sqlite3", "sqlite3"), &arguments);
}

#[test]
fn perl() {
    let script = r#"
        my (%h, @l);
        for my $i (1..4000) { $h{"key$i"} = [$i, "value" x ($i % 7)]; push @l, join(",", 1..($i % 30)); }
        delete $h{"key$_"} for 1..2000;
        my $text = ""; $text .= $_ for @l; $text =~ s/1,2/two/g;
        print scalar(keys %h), " ", length($text), "\n";"#;
    check(&scratch("agreement-perl"), &needed("perl", "perl"), &["-e", script]);
}

#[derive(Debug, PartialEq)]
struct Counts {
    allocations: i64,
    frees: i64,
    allocated_bytes: i64,
    in_use_bytes: i64,
    in_use_blocks: i64,
}

fn check(directory: &Path, program: &Path, arguments: &[&str]) {
    let _alone = alone();
    let (theirs, their_output) = by_valgrind(directory, program, arguments);
    let (ours, our_output) = by_alloctrace(directory, program, arguments);
    assert!(our_output.starts_with(&their_output), "{} did the same work twice", program.display());
    assert!(theirs.allocations > 100, "it did something: {theirs:?}");
    println!("valgrind   {theirs:?}\nalloctrace {ours:?}");
    assert_eq!(ours, theirs, "alloctrace (left) and valgrind (right) on {}", program.display());
}

fn by_alloctrace(directory: &Path, program: &Path, arguments: &[&str]) -> (Counts, String) {
    let capture = directory.join("capture.jsonl.zst");
    let mut command = alloctrace(["record", "--no-follow", "-o"]);
    command.arg(&capture).arg("--").arg(program).args(arguments);
    command.current_dir(directory).env_clear().envs(environment_under_valgrind(directory));
    let ended = run(&mut command);
    assert_eq!(ended.code, Some(0), "{}", ended.errors);
    let report = Report::read(&capture);
    assert!(report.losses().is_empty(), "losses: {:?}", report.losses());
    assert_eq!(report.totals.unknown_frees, 0, "all blocks are known");
    let sum = |part: fn(&Site) -> i64| report.sites.iter().filter(|it| it.kind == "heap").map(part).sum();
    let counts = Counts {
        allocations: sum(|it| it.allocated_blocks),
        frees: sum(|it| it.freed_blocks),
        allocated_bytes: sum(|it| it.allocated_bytes),
        in_use_bytes: sum(|it| it.live_bytes),
        in_use_blocks: sum(|it| it.live_blocks),
    };
    (counts, ended.output)
}

fn by_valgrind(directory: &Path, program: &Path, arguments: &[&str]) -> (Counts, String) {
    let mut command = valgrind(directory);
    command.args(["--tool=memcheck", "--run-libc-freeres=no", "--run-cxx-freeres=no"]);
    let ended = run(command.arg(program).args(arguments));
    assert_eq!(ended.code, Some(0), "{}", ended.errors);
    // `==7==     in use at exit: 32,654 bytes in 78 blocks`
    // `==7==   total heap usage: 152 allocs, 74 frees, 103,412 bytes allocated`
    let numbers = |start: &str| -> Vec<i64> {
        let line =
            ended.errors.lines().find_map(|it| it.split_once(start)).map(|(_, rest)| rest.replace(',', ""));
        let line = line.unwrap_or_else(|| panic!("no {start:?} from valgrind:\n{}", ended.errors));
        line.split_whitespace().filter_map(|it| it.parse().ok()).collect()
    };
    let (in_use, usage) = (numbers("in use at exit:"), numbers("total heap usage:"));
    let ([in_use_bytes, in_use_blocks], [allocations, frees, allocated_bytes]) = (&in_use[..], &usage[..])
    else {
        panic!("valgrind speaks otherwise:\n{}", ended.errors)
    };
    let counts = Counts {
        allocations: *allocations,
        frees: *frees,
        allocated_bytes: *allocated_bytes,
        in_use_bytes: *in_use_bytes,
        in_use_blocks: *in_use_blocks,
    };
    (counts, ended.output)
}

fn valgrind(directory: &Path) -> Command {
    let valgrind: PathBuf = needed("valgrind", "valgrind");
    let mut command = Command::new(valgrind);
    command.current_dir(directory).env_clear();
    // A hash of its own in each run would make perl's tables differ.
    command.envs([("PATH", "/usr/bin:/bin"), ("LC_ALL", "C"), ("PERL_HASH_SEED", "0")]);
    command
}

/// What a program finds in its environment there, without effect on the loader.
fn environment_under_valgrind(directory: &Path) -> Vec<(String, String)> {
    let ended = run(valgrind(directory).arg("-q").arg(needed("env", "coreutils")));
    assert_eq!(ended.code, Some(0), "{}", ended.errors);
    let harmless = |name: &str| match name {
        "LD_PRELOAD" => "LD_PRELOAX".to_owned(),
        "LD_LIBRARY_PATH" => "LD_LIBRARY_PATX".to_owned(),
        other => other.to_owned(),
    };
    let variables = ended.output.lines().filter_map(|it| it.split_once('='));
    variables.map(|(name, value)| (harmless(name), value.to_owned())).collect()
}
