//! A PostgreSQL cluster of our own, and pgbench with one session. The tools attach to the backend of that session, which waits for a
//! lock meanwhile, so that none of its transactions goes by unseen.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};

use super::{
    afterwards::{Afterwards, bound},
    group::Group,
    lab::{self, Lab},
    launched::signal,
    programs::Sample,
    tool::{self, Tool},
};

const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);
/// The server refuses to run as root. The package makes this user.
const USER: [&str; 3] = ["--reuid=postgres", "--regid=postgres", "--clear-groups"];

/// Ends with this value, or with this process.
pub(super) struct Cluster {
    server: Child,
    directory: PathBuf,
    programs: PathBuf,
    _end: Afterwards,
}

impl Cluster {
    pub(super) fn start() -> anyhow::Result<Self> {
        let programs = match programs() {
            Some(programs) => programs,
            None => {
                crate::packages::ensure(&xshell::Shell::new()?, &["postgresql"])?;
                programs().context("no PostgreSQL with a server in /usr/lib/postgresql")?
            }
        };
        // Where that user can go.
        let directory =
            std::env::temp_dir().join(format!("alloctrace-bench-postgres-{}", std::process::id()));
        fs::create_dir_all(&directory).with_context(|| format!("create {}", directory.display()))?;
        // The server gets a signal of its own when we are killed, and needs a moment.
        let end = Afterwards::run("[ -e \"$1/data/postmaster.pid\" ] && sleep 1; rm -rf \"$1\"", &directory)?;
        lab::run(Command::new("chown").arg("postgres").arg(&directory))?;
        let data = directory.join("data").display().to_string();
        lab::output(command(&programs, "initdb", &directory).args([
            "-D",
            &data,
            "-A",
            "trust",
            "--no-sync",
        ]))?;
        let mut server = command(&programs, "postgres", &directory);
        server.args(["-D", &data, "-k"]).arg(&directory);
        for setting in [
            "listen_addresses=",
            "shared_buffers=64MB",
            "fsync=off",
            "synchronous_commit=off",
            "autovacuum=off",
        ] {
            server.args(["-c", setting]);
        }
        let log = fs::File::create(directory.join("log"))?;
        let server = server.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
        let cluster = Self { server, directory, programs, _end: end };
        let start = Instant::now();
        while !cluster.client("pg_isready").arg("-q").status()?.success() {
            ensure!(start.elapsed() < PATIENCE, "PostgreSQL does not answer");
            thread::sleep(POLL);
        }
        lab::output(
            cluster.client("pgbench").args(["-i", "-q", "-s", "1", "postgres"]).stderr(Stdio::null()),
        )?;
        Ok(cluster)
    }

    fn client(&self, program: &str) -> Command {
        let mut command = command(&self.programs, program, &self.directory);
        command.arg("-h").arg(&self.directory);
        command
    }

    fn ask(&self, sql: &str) -> anyhow::Result<String> {
        Ok(lab::output(self.client("psql").args(["-XAt", "-c", sql, "postgres"]))?.trim().to_owned())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        signal("QUIT", self.server.id());
        let _ = self.server.wait();
    }
}

fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?.flatten().map(|it| it.path().join("bin"));
    versions.filter(|it| it.join("pgbench").is_file() && it.join("initdb").is_file()).max()
}

/// As the server's user; ends when we do.
fn command(programs: &Path, program: &str, directory: &Path) -> Command {
    let mut command = bound("setpriv", "KILL");
    // Changing the user takes the signal away again.
    command.args(USER).args(["--pdeathsig", "QUIT"]).arg(programs.join(program)).current_dir(directory);
    command
}

/// A session that holds the table which every transaction needs.
struct Lock(Child);

impl Lock {
    fn take(cluster: &Cluster) -> anyhow::Result<Self> {
        let mut session = cluster.client("psql");
        session.args(["-XAtq", "postgres"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut lock = Self(session.spawn().context("start psql")?);
        lock.say("BEGIN; LOCK TABLE pgbench_accounts; SELECT 'locked';")?;
        let mut line = String::new();
        BufReader::new(lock.0.stdout.take().context("the pipe from psql")?).read_line(&mut line)?;
        ensure!(line == "locked\n", "psql said {line:?}");
        Ok(lock)
    }

    fn say(&mut self, sql: &str) -> anyhow::Result<()> {
        writeln!(self.0.stdin.as_mut().context("the pipe to psql")?, "{sql}").context("tell psql")
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(super) fn run(lab: &Lab, cluster: &Cluster, group: Option<&Group>, tool: Tool) -> anyhow::Result<Sample> {
    let transactions = if lab.quick { 3000 } else { 20_000 };
    let capture = lab.work.join("postgres.jsonl.zst");
    let start = Instant::now();
    let mut lock = Lock::take(cluster)?;
    let mut bench = cluster.client("pgbench");
    bench.args(["-n", "-c", "1", "-t", &transactions.to_string(), "postgres"]);
    let mut bench = bench.stdout(Stdio::null()).stderr(Stdio::null()).spawn().context("start pgbench")?;
    let backend = backend(cluster)?;
    let running = tool::attach(tool, lab, backend, &capture)?;
    if let Some(group) = group {
        group.add(backend).context("put the backend into our control group")?;
    }
    let (begin, before) = (Instant::now(), group.and_then(Group::cpu_s));
    lock.say("COMMIT;")?;
    let status = bench.wait()?;
    ensure!(status.success(), "pgbench: {status}");
    let wall_s = begin.elapsed().as_secs_f64();
    while Path::new(&format!("/proc/{backend}")).exists() {
        ensure!(begin.elapsed() < 20 * PATIENCE, "the backend does not end");
        thread::sleep(POLL);
    }
    let cpu_s = group.and_then(Group::cpu_s).zip(before).map(|(after, before)| after - before);
    let tracer = running.map(|it| tool::detach(tool, it)).transpose()?;
    let whole_s = start.elapsed().as_secs_f64();
    let report = if tool == Tool::Alloctrace { Some(lab.report(&capture)?) } else { None };
    let work_per_s = Some(f64::from(transactions) / wall_s);
    Ok(Sample { wall_s, whole_s, cpu_s, work_per_s, tracer, report })
}

/// Of the one session of pgbench, when it waits.
fn backend(cluster: &Cluster) -> anyhow::Result<u32> {
    let start = Instant::now();
    loop {
        let pid = cluster.ask(
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'pgbench' AND wait_event_type = 'Lock'",
        )?;
        if let Ok(pid) = pid.parse() {
            return Ok(pid);
        }
        ensure!(start.elapsed() < PATIENCE, "pgbench has no session");
        thread::sleep(POLL);
    }
}
