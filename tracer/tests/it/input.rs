//! What people type and files they bring: each mistake has a clear message, its exit code, and spoils nothing.

use std::{
    fs::Permissions,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use crate::{
    program::{Ended, PATIENCE, Program, needed, run, scratch, within},
    report::Report,
    tracer::{Tracer, alloctrace, alloctrace_says, alone},
    workload::build,
};

const ERROR: i32 = 1;
const USAGE: i32 = 2;
const PRIVILEGE: i32 = 5;
const TARGET_GONE: i32 = 6;

/// It ended with this code, and said each of these on standard error, within a few lines.
fn assert_refused(ended: &Ended, codes: &[i32], words: &[&str]) {
    assert!(codes.iter().any(|it| ended.code == Some(*it)), "exit code, wanted one of {codes:?}: {ended:?}");
    for word in words {
        assert!(ended.errors.contains(word), "{word:?} is not in the message: {ended:?}");
    }
    assert!(ended.errors.lines().count() <= 12, "a message, no litany: {ended:?}");
    assert!(!ended.errors.contains("panicked"), "a message, no panic: {ended:?}");
}

#[test]
fn usage() {
    let wrong: [&[&str]; 12] = [
        &["record"],
        &["record", "-p"],
        &["record", "-p", "many"],
        &["record", "-p", "0"],
        &["record", "-p", "-1"],
        &["record", "-p", "1", "--", "ls"],
        &["record", "-p", "1", "-d", "5 parsecs"],
        &["record", "-p", "1", "-i", "0"],
        &["record", "-p", "1", "--no-such-option"],
        &["report"],
        &["report", "capture", "--format", "papyrus"],
        &["no-such-command"],
    ];
    for arguments in wrong {
        let ended = alloctrace_says(arguments);
        assert_refused(&ended, &[USAGE], &[]);
        assert!(!ended.errors.is_empty() && ended.output.is_empty(), "{arguments:?}: {ended:?}");
    }
}

#[test]
fn a_pid_that_does_not_exist() {
    let _alone = alone();
    let directory = scratch("no-pid");
    // One that existed until now; numbers are not reused so soon.
    let pid = {
        let mut gone = Program::start(&mut Command::new(needed("true", "coreutils")));
        gone.close_input();
        let pid = gone.pid();
        gone.wait();
        pid.to_string()
    };
    let ended = run(alloctrace(["record", "-p", &pid]).current_dir(&directory));
    assert_refused(&ended, &[TARGET_GONE], &[&pid]);
    assert_is_empty(&directory);
}

#[test]
fn a_command_that_is_not_found() {
    let _alone = alone();
    let directory = scratch("no-command");
    let ended = run(alloctrace(["record", "--", "no-such-command-anywhere"]).current_dir(&directory));
    assert_refused(&ended, &[TARGET_GONE, USAGE], &["no-such-command-anywhere"]);
    assert_is_empty(&directory);

    let script = directory.join("not-executable");
    std::fs::write(&script, "text").expect("write a file");
    let ended = run(alloctrace(["record", "--"]).arg(&script).current_dir(&directory));
    assert_refused(&ended, &[TARGET_GONE, USAGE], &["not-executable"]);
}

#[test]
fn a_kernel_thread() {
    let _alone = alone();
    let directory = scratch("kernel-thread");
    // kthreadd, the parent of all kernel threads, is process 2 wherever they are visible.
    let name = std::fs::read_to_string("/proc/2/comm").unwrap_or_default();
    assert_eq!(name.trim(), "kthreadd", "this test runs where the machine's processes are visible");
    let ended = run(alloctrace(["record", "-p", "2"]).current_dir(&directory));
    assert_refused(&ended, &[ERROR, TARGET_GONE], &["kernel thread"]);
    assert_is_empty(&directory);
}

#[test]
fn an_existing_capture() {
    let _alone = alone();
    let path = scratch("existing").join("capture.jsonl.zst");
    std::fs::write(&path, "precious").expect("write a file");
    let ended = alloctrace_says(["record", "-o", as_text(&path), "--", "true"]);
    assert_refused(&ended, &[ERROR, USAGE], &[as_text(&path), "--force"]);
    assert_eq!(std::fs::read(&path).expect("it is still there"), b"precious");

    let ended = alloctrace_says(["record", "--force", "-o", as_text(&path), "--", "/no/such/command"]);
    assert_refused(&ended, &[TARGET_GONE], &["/no/such/command"]);
    assert_eq!(std::fs::read(&path).expect("it is still there"), b"precious", "there is no new one");

    let ended = alloctrace_says(["record", "--force", "-o", as_text(&path), "--", "true"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(Report::read(&path).capture.complete);
}

#[test]
fn a_directory_that_does_not_exist() {
    let _alone = alone();
    let path = scratch("nowhere").join("missing/capture.jsonl.zst");
    let ended = alloctrace_says(["record", "-o", as_text(&path), "--", "true"]);
    assert_refused(&ended, &[ERROR, USAGE], &[as_text(&path)]);
}

#[test]
fn a_read_only_directory() {
    let _alone = alone();
    // Root may write into any directory but one of a read-only file system.
    let mount = Mount::new("read-only", "size=1m,ro");
    let path = mount.path.join("capture.jsonl.zst");
    let ended = alloctrace_says(["record", "-o", as_text(&path), "--", "true"]);
    assert_refused(&ended, &[ERROR, USAGE], &[as_text(&path), "ead-only"]);
}

#[test]
fn a_full_disk() {
    let _alone = alone();
    let mount = Mount::new("full", "size=64k");
    let path = mount.path.join("capture.jsonl.zst");
    let mut target = Program::start(&mut Command::new(build("incidents/peers.rs")));
    target.next_line();
    let mut command =
        alloctrace(["record", "-i", "10ms", "-p", &target.pid().to_string(), "-o", as_text(&path)]);
    let mut tracer = Program::start(&mut command);
    tracer.close_input();
    tracer.wait_for_error("alloctrace: ready");
    // By itself, as soon as an interval finds no room.
    let ended = tracer.wait();
    assert_refused(&ended, &[ERROR], &[as_text(&path), "No space left"]);
    assert!(target.is_running(), "the target does not suffer for it");
    let report = Report::read(&path);
    assert!(!report.capture.complete, "the capture says that it was cut");
    assert!(!report.timeline.is_empty(), "what was flushed can be read");
    assert!(report.totals.allocated_blocks > 0, "what was flushed can be read");
}

#[test]
fn no_privilege() {
    // A copy, and a place to work in, that anybody may use.
    let place = std::env::temp_dir().join(format!("alloctrace-unprivileged-{}", std::process::id()));
    std::fs::create_dir_all(&place).expect("make a directory");
    let program = place.join("alloctrace");
    std::fs::copy(env!("CARGO_BIN_EXE_alloctrace"), &program).expect("copy the program");
    std::fs::set_permissions(&place, Permissions::from_mode(0o777)).expect("open it to all");
    let mut unprivileged = Command::new(needed("setpriv", "util-linux"));
    unprivileged.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--"]).arg(&program);
    let ended = run(unprivileged.args(["record", "--", "true"]).current_dir(&place));
    let left: Vec<_> =
        std::fs::read_dir(&place).expect("it is there").flatten().map(|it| it.file_name()).collect();
    std::fs::remove_dir_all(&place).expect("remove it");
    assert_refused(&ended, &[PRIVILEGE], &["root"]);
    assert_eq!(left, ["alloctrace"], "no empty capture is left behind");
}

/// A program of 32 bits: `mov eax, 29; int 0x80; jmp` back, which is `pause()` for ever.
#[test]
fn a_32_bit_target() {
    let _alone = alone();
    let directory = scratch("elf32");
    let path = directory.join("pause32");
    std::fs::write(&path, elf32()).expect("write a program");
    std::fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("make it executable");
    let ended = run(alloctrace(["record", "--"]).arg(&path).current_dir(&directory));
    assert_refused(&ended, &[ERROR, TARGET_GONE], &["32"]);

    // Where the kernel runs such programs, one that runs already.
    if let Ok(mut target) = Command::new(&path).spawn() {
        let ended = run(alloctrace(["record", "-p", &target.id().to_string()]).current_dir(&directory));
        let still_there = target.try_wait().expect("it is our child").is_none();
        let _ = target.kill();
        let _ = target.wait();
        assert!(still_there, "the target is left alone");
        assert_refused(&ended, &[ERROR], &["32"]);
    }
}

fn elf32() -> Vec<u8> {
    let code = [0xb8, 29, 0, 0, 0, 0xcd, 0x80, 0xeb, 0xf7];
    let base = 0x0804_8000_u32;
    let headers = 52 + 32;
    let mut file = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let halves = |file: &mut Vec<u8>, of: &[u16]| of.iter().for_each(|it| file.extend(it.to_le_bytes()));
    let words = |file: &mut Vec<u8>, of: &[u32]| of.iter().for_each(|it| file.extend(it.to_le_bytes()));
    // Executable, for the 386.
    halves(&mut file, &[2, 3]);
    // Version, entry, program headers, no section headers, flags.
    words(&mut file, &[1, base + headers, 52, 0, 0]);
    // Sizes and counts of the headers.
    halves(&mut file, &[52, 32, 1, 40, 0, 0]);
    // One segment to load, the whole file, readable and executable.
    let length = headers + code.len() as u32;
    words(&mut file, &[1, 0, base, base, length, length, 5, 4096]);
    file.extend(code);
    file
}

#[test]
fn a_capture_that_is_missing() {
    let path = scratch("missing").join("capture.jsonl.zst");
    assert_refused(&Report::try_read(&path, &[]), &[ERROR], &[as_text(&path), "No such file"]);
}

#[test]
fn a_directory_as_a_capture() {
    let path = scratch("directory");
    assert_refused(&Report::try_read(&path, &[]), &[ERROR], &[as_text(&path)]);
}

#[test]
fn files_that_are_no_captures() {
    let directory = scratch("no-captures");
    // A fixed sequence without any pattern.
    let mut state = 1_u32;
    let mut random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let random: Vec<u8> = (0..10_000).map(|_| random()).collect();
    let mut behind_magic = vec![0x28, 0xb5, 0x2f, 0xfd];
    behind_magic.extend(&random);
    let other_json = b"{\"type\":\"header\",\"schema\":\"something.else/7\"}\n".to_vec();
    let contents = [
        ("empty", Vec::new()),
        ("random", random),
        ("behind-magic", behind_magic),
        ("text", b"it is only text\n".repeat(100)),
        ("other-json", other_json),
        ("zeros", vec![0; 5000]),
    ];
    for (name, bytes) in contents {
        let path = directory.join(name);
        std::fs::write(&path, bytes).expect("write a file");
        assert_refused(&Report::try_read(&path, &[]), &[ERROR], &[as_text(&path)]);
    }
}

#[test]
fn a_capture_cut_off_anywhere() {
    let whole = std::fs::read(capture()).expect("read the capture");
    let directory = scratch("cut");
    let path = directory.join("capture.jsonl.zst");
    let (mut readable, mut last) = (0, 0);
    for part in 1..20 {
        let length = whole.len() * part / 20;
        std::fs::write(&path, &whole[..length]).expect("write a file");
        let ended = Report::try_read(&path, &[]);
        if ended.code == Some(0) {
            let report = Report::read(&path);
            assert!(!report.capture.complete, "cut at {length} of {}: it says so", whole.len());
            let blocks = report.totals.allocated_blocks;
            assert!(blocks >= last, "cut at {length}: more of the file says no less: {blocks} after {last}");
            (readable, last) = (readable + 1, blocks);
        } else {
            assert_eq!(readable, 0, "cut at {length}: a shorter piece could be read: {ended:?}");
            assert_refused(&ended, &[ERROR], &[as_text(&path)]);
        }
    }
    assert!(readable >= 10, "most pieces can be read, up to their last interval: {readable} of 19");
    assert!(last > 0, "the longest piece holds allocations");
    std::fs::write(&path, &whole).expect("write a file");
    let report = Report::read(&path);
    assert!(report.capture.complete && report.totals.allocated_blocks >= last);
}

#[test]
fn a_capture_damaged_in_the_middle() {
    let whole = std::fs::read(capture()).expect("read the capture");
    let path = scratch("damaged").join("capture.jsonl.zst");
    for part in 1..8 {
        let mut bytes = whole.clone();
        let at = whole.len() * part / 8;
        for byte in &mut bytes[at..at + 40] {
            *byte ^= 0x5a;
        }
        std::fs::write(&path, bytes).expect("write a file");
        // What cannot be trusted is refused; it is never read as if nothing were wrong.
        assert_refused(&Report::try_read(&path, &[]), &[ERROR], &[as_text(&path)]);
    }
}

/// A capture of many intervals, and of many sites.
fn capture() -> &'static Path {
    static CAPTURE: OnceLock<PathBuf> = OnceLock::new();
    CAPTURE.get_or_init(|| {
        let _alone = alone();
        let path = scratch("intact").join("capture.jsonl.zst");
        let mut target = Program::start(&mut Command::new(build("incidents/cache.rs")));
        target.next_line();
        let tracer = Tracer::attach(target.pid(), &path, &["-i", "50ms"]);
        let has_history = || {
            let ended = Report::try_read(&path, &[]);
            let report: Report =
                (ended.code == Some(0)).then(|| serde_json::from_str(&ended.output).ok())??;
            (report.timeline.len() >= 20).then_some(())
        };
        within(PATIENCE, has_history).expect("twenty intervals are written");
        tracer.interrupt();
        path
    })
}

/// A small file system of its own, which goes with it.
struct Mount {
    path: PathBuf,
}

impl Mount {
    fn new(name: &str, options: &str) -> Self {
        let mount =
            Self { path: std::env::temp_dir().join(format!("alloctrace-{name}-{}", std::process::id())) };
        std::fs::create_dir_all(&mount.path).expect("make a directory");
        let mut command = Command::new(needed("mount", "mount"));
        let ended = run(command.args(["-t", "tmpfs", "-o", options, "alloctrace-test"]).arg(&mount.path));
        assert_eq!(ended.code, Some(0), "mount: {}", ended.errors);
        mount
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // As well as it goes: a test that fails must not fail twice.
        let _ = Command::new("umount").arg(&self.path).status();
        let _ = std::fs::remove_dir(&self.path);
    }
}

fn as_text(path: &Path) -> &str {
    path.to_str().expect("its path is text")
}

fn assert_is_empty(directory: &Path) {
    let left: Vec<_> =
        std::fs::read_dir(directory).expect("it is there").flatten().map(|it| it.path()).collect();
    assert!(left.is_empty(), "nothing is left behind: {left:?}");
}
