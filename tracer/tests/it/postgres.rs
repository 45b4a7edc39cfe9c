//! PostgreSQL, followed from its postmaster: what its backends hold, against what it says itself.
//!
//! Its memory contexts take whole blocks from `malloc` and count them, so the two can be compared to the byte. What differs has
//! names: contexts that were deleted are kept for the next one of their size (aset.c, `context_freelists`), and not all of a
//! backend's memory is in contexts (settings, snapshots, the libraries that it is linked with).

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::{
    program::{PATIENCE, Program, Signal, needed, run, within},
    report::{Report, Site},
    tracer::{Tracer, alloctrace_says, alone},
};

/// Deleted contexts that wait for the next: 100 of the default size and 100 small ones, each with its first block
/// (aset.c: `MAX_FREE_CONTEXTS`; memutils.h: `ALLOCSET_DEFAULT_INITSIZE`, `ALLOCSET_SMALL_INITSIZE`).
const MAX_FREE_CONTEXTS_BYTES: i64 = 100 * ((8 << 10) + (1 << 10));

/// A server of its own, gone with the test.
struct Server {
    directory: PathBuf,
    programs: PathBuf,
}

impl Server {
    /// An empty database, where the server's user can write.
    fn prepare() -> Self {
        let directory = std::env::temp_dir().join(format!("alloctrace-postgres-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a directory");
        let owned = run(Command::new("chown").arg("postgres").arg(&directory));
        assert_eq!(owned.code, Some(0), "install the package postgresql: {owned:?}");
        let versions = std::fs::read_dir("/usr/lib/postgresql").expect("the package postgresql");
        let programs =
            versions.flatten().map(|it| it.path().join("bin")).find(|it| it.join("pgbench").is_file());
        let programs = programs.expect("a version of PostgreSQL with its server");
        let server = Self { directory, programs };
        server.says("initdb", &["-D", &server.data(), "-A", "trust", "--no-sync"]);
        server
    }

    fn data(&self) -> String {
        self.directory.join("data").to_string_lossy().into_owned()
    }

    /// One of its programs as its user, which is not root.
    fn command(&self, program: &str) -> Vec<String> {
        let setpriv = needed("setpriv", "util-linux").to_string_lossy().into_owned();
        let program = self.programs.join(program).to_string_lossy().into_owned();
        let user = ["--reuid=postgres", "--regid=postgres", "--clear-groups"].map(str::to_owned);
        [setpriv].into_iter().chain(user).chain([program]).collect()
    }

    fn client(&self, program: &str) -> Command {
        let words = self.command(program);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).arg("-h").arg(&self.directory).current_dir(&self.directory);
        command
    }

    fn says(&self, program: &str, arguments: &[&str]) -> String {
        let words = self.command(program);
        let ended =
            run(Command::new(&words[0]).args(&words[1..]).args(arguments).current_dir(&self.directory));
        assert_eq!(ended.code, Some(0), "{program}: {ended:?}");
        ended.output
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let words = self.command("pg_ctl");
        run(Command::new(&words[0]).args(&words[1..]).args(["-D", &self.data(), "stop", "-m", "immediate"]));
        // It is in the way of nothing.
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

#[test]
fn a_backend_holds_what_its_memory_contexts_hold() {
    let _alone = alone();
    let server = Server::prepare();
    let capture = server.directory.join("capture.jsonl.zst");
    let directory = server.directory.to_string_lossy().into_owned();
    let mut command = server.command("postgres");
    command.extend(["-D", &server.data(), "-k", &directory].map(str::to_owned));
    for setting in
        ["listen_addresses=", "shared_buffers=16MB", "fsync=off", "log_line_prefix=", "autovacuum=off"]
    {
        command.extend(["-c".to_owned(), setting.to_owned()]);
    }
    let mut tracer = Tracer::launch(&command, &capture, &["-i", "1s"]);
    let is_ready = || (run(server.client("pg_isready").arg("-q")).code == Some(0)).then_some(());
    within(PATIENCE, is_ready).expect("a server that answers");

    let filled = run(server.client("pgbench").args(["-i", "-q", "-s", "1", "postgres"]));
    assert_eq!(filled.code, Some(0), "{filled:?}");
    // A session that has something in its caches and goes on.
    let mut session = Program::start(server.client("psql").args(["-At", "postgres"]));
    session.say("select pg_backend_pid();");
    let pid = session.next_line();
    session.say("select count(*) from pgbench_accounts a join pgbench_tellers t on t.bid = a.bid;");
    assert_eq!(session.next_line(), "1000000");
    let busy = run(server.client("pgbench").args(["-c", "4", "-t", "50", "postgres"]));
    assert_eq!(busy.code, Some(0), "{busy:?}");

    let ask = format!("select pg_log_backend_memory_contexts({pid})");
    let asked = run(server.client("psql").args(["-At", "-c", &ask, "postgres"]));
    assert_eq!(asked.output, "t\n", "{asked:?}");
    let total = tracer.program().wait_for_error("LOG:  Grand total: ");
    let contexts_bytes: i64 = total.split(' ').nth(4).and_then(|it| it.parse().ok()).expect("bytes");
    // Idle from here on: the next interval says what it holds.
    tracer.program().signal(Signal::USR1);
    std::thread::sleep(Duration::from_millis(200));
    let whole = tracer.interrupt();
    drop(session);

    let of_stacks = ["skipped_tables", "incomplete_stacks", "unreadable_stacks"];
    let mut losses = whole.losses();
    losses.retain(|it| !of_stacks.iter().any(|name| it.starts_with(name)));
    assert_eq!(losses, Vec::<String>::new(), "whatever is compared, nothing was lost");
    check_backend(&capture, &pid, contexts_bytes);
    check_groups(&capture, &whole);
}

fn check_backend(capture: &Path, pid: &str, contexts_bytes: i64) {
    let report = Report::of(capture, &["--pid", pid, "--kind", "heap"]);
    let [backend] = &report.processes[..] else { panic!("{:?}", report.processes) };
    assert!(backend.parent_pid.is_some() && backend.ended.is_none(), "{backend:?}");
    let bytes = |is_wanted: fn(&Site) -> bool| -> i64 {
        report.sites.iter().filter(|it| is_wanted(it)).map(|it| it.live_bytes).sum()
    };
    let (all_bytes, in_contexts_bytes) = (bytes(|_| true), bytes(is_of_context));
    println!("contexts say {contexts_bytes}; blocks of contexts {in_contexts_bytes}; heap {all_bytes}");
    // The postmaster's, which it was born with, included.
    assert!(contexts_bytes <= in_contexts_bytes, "{contexts_bytes} <= {in_contexts_bytes}");
    let kept_bytes = in_contexts_bytes - contexts_bytes;
    assert!(kept_bytes <= MAX_FREE_CONTEXTS_BYTES, "{kept_bytes} bytes in deleted contexts");
    assert_eq!(kept_bytes % 1024, 0, "whole contexts of 1 KiB and of 8 KiB");
}

/// Whether a block is one of those that contexts are made of: the functions of palloc's interface are exported, those
/// behind it are not.
fn is_of_context(site: &Site) -> bool {
    const INTERFACE: [&str; 9] = [
        "palloc",
        "repalloc",
        "pstrdup",
        "pnstrdup",
        "MemoryContext",
        "AllocSet",
        "Generation",
        "Slab",
        "MemoryContextAlloc",
    ];
    let functions = site.functions();
    functions.iter().take(3).any(|it| INTERFACE.iter().any(|interface| it.starts_with(interface)))
}

/// However one looks at the processes, the same was allocated.
fn check_groups(capture: &Path, whole: &Report) {
    for by in ["command", "cgroup", "all"] {
        let merged = Report::of(capture, &["--by", by]);
        assert_eq!(merged.totals.allocated_bytes, whole.totals.allocated_bytes, "by {by}");
        let held_bytes = whole.totals.live_bytes - whole.totals.ended_bytes;
        assert_eq!(merged.totals.live_bytes, held_bytes, "by {by}");
        assert!(merged.sites.len() < whole.sites.len(), "by {by}");
    }
    let path = capture.to_str().expect("a path of ours");
    let text = alloctrace_says(["report", path, "--by", "command"]).output;
    assert!(text.contains("by malloc in postgres, "), "{text}");
    assert!(text.contains("postgres ×"), "{text}");
}
