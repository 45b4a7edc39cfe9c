//! A redis-server of our own, and redis-benchmark.

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};

use super::{
    afterwards::bound,
    lab::{self, Lab},
    launched::{cpu_s_of, signal},
    programs::Sample,
    tool::{self, Tool},
    tracer::Usage,
};

/// Ends with this value.
pub(super) struct Server {
    child: Child,
    socket: PathBuf,
}

pub(super) fn missing() -> Option<String> {
    lab::need("redis-server", &["redis-server"])
        .and_then(|()| lab::need("redis-benchmark", &["redis-tools"]))
        .err()
}

impl Server {
    /// With more in its environment, as `NAME=VALUE`.
    pub(super) fn start(lab: &Lab, environment: &[String]) -> anyhow::Result<Self> {
        let socket = lab.fresh("redis.socket")?;
        // What is for it alone must not come to the one that starts it.
        let child = bound("env", "KILL")
            .args(environment)
            .arg("redis-server")
            .args(["--port", "0", "--save", "", "--appendonly", "no", "--daemonize", "no", "--unixsocket"])
            .arg(&socket)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("start redis-server")?;
        let server = Self { child, socket };
        let start = Instant::now();
        while !server.socket.exists() {
            ensure!(start.elapsed() < Duration::from_secs(20), "redis-server does not listen");
            thread::sleep(Duration::from_millis(10));
        }
        Ok(server)
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// So many requests of two kinds each.
    pub(super) fn benchmark(&self, requests: u32, options: &[&str]) -> anyhow::Result<()> {
        let mut command = Command::new("redis-benchmark");
        command.arg("-s").arg(&self.socket).args(["-t", "set,get", "-q", "-n", &requests.to_string()]);
        lab::output(command.args(options)).map(drop)
    }

    /// As its operator would, so that a library in it can write its end.
    fn shut_down(mut self) -> anyhow::Result<()> {
        signal("TERM", self.child.id());
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// redis-benchmark's two kinds of requests, over fifty connections. heaptrack is there from the start, the others attach.
pub(super) fn run(lab: &Lab, tool: Tool) -> anyhow::Result<Sample> {
    const WARM_REQUESTS: u32 = 2000;
    let requests = if lab.quick { 10_000 } else { 100_000 };
    let capture = lab.work.join("redis.jsonl.zst");
    let (reader, environment) = match tool {
        Tool::Heaptrack => {
            tool::heaptrack(lab).map(|(reader, environment)| (Some(reader), environment.to_vec()))?
        }
        _ => (None, Vec::new()),
    };
    let server = Server::start(lab, &environment)?;
    server.benchmark(WARM_REQUESTS, &[])?;
    let start = Instant::now();
    let running = if reader.is_some() { None } else { tool::attach(tool, lab, server.pid(), &capture)? };
    let (begin, before) = (Instant::now(), cpu_s_of(server.pid()));
    server.benchmark(requests, &[])?;
    let wall_s = begin.elapsed().as_secs_f64();
    let cpu_s = cpu_s_of(server.pid()).zip(before).map(|(after, before)| after - before);
    let mut tracer = running.map(|it| tool::detach(tool, it)).transpose()?;
    let whole_s = start.elapsed().as_secs_f64();
    if let Some(reader) = reader {
        server.shut_down()?;
        tracer = Some(Usage { max_rss_kib: 0, ..reader.wait()? });
    }
    let report = if tool == Tool::Alloctrace { Some(lab.report(&capture)?) } else { None };
    let work_per_s = Some(f64::from(2 * requests) / wall_s);
    Ok(Sample { wall_s, whole_s, cpu_s, work_per_s, tracer, report })
}
