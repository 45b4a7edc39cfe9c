//! A program that is told of an alert: all of it as JSON on its standard input, and the gist in its environment.

use std::{
    io::Write as _,
    os::unix::process::CommandExt as _,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::{
    kernel::like_anybody,
    watch::{Alert, Subject},
};

/// How often it is looked whether it has ended.
const LOOK: Duration = Duration::from_millis(20);

pub(super) fn run(alert: &Alert, command: &[String], time_limit: Duration) -> Result<(), String> {
    let [program, arguments @ ..] = command else { return Ok(()) };
    let failed = |why: String| format!("{program}: {why}");
    let mut child = Command::new(program)
        .args(arguments)
        .envs(environment(alert))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        // So that whatever it starts ends with it.
        .process_group(0)
        .spawn()
        .map_err(|it| failed(it.to_string()))?;
    // It may have ended already.
    let _ = like_anybody(child.id());
    if let Some(mut input) = child.stdin.take() {
        let text = format!("{}\n", alert.json());
        // A pipe holds 64 KiB. It need not read them, and then this thread ends when it does.
        let feed = move || drop(input.write_all(text.as_bytes()));
        thread::Builder::new().spawn(feed).map_err(|it| failed(it.to_string()))?;
    }
    match wait(&mut child, time_limit) {
        Ok(Some(status)) if status.success() => Ok(()),
        Ok(Some(status)) => Err(failed(status.to_string())),
        Ok(None) => {
            // It and its children; they are ours.
            let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
            let _ = child.wait();
            Err(failed(format!("ended by us, for it took longer than {time_limit:?}")))
        }
        Err(error) => Err(failed(error.to_string())),
    }
}

/// `None` if it takes longer.
fn wait(child: &mut Child, time_limit: Duration) -> std::io::Result<Option<ExitStatus>> {
    let end = Instant::now() + time_limit;
    loop {
        match child.try_wait()? {
            Some(status) => return Ok(Some(status)),
            None if Instant::now() >= end => return Ok(None),
            None => thread::sleep(LOOK),
        }
    }
}

fn environment(alert: &Alert) -> Vec<(&'static str, String)> {
    let mut environment = vec![
        ("ALLOCTRACE_ALERT_ID", alert.id.clone()),
        ("ALLOCTRACE_ALERT_STATE", alert.state().to_owned()),
        ("ALLOCTRACE_ALERT_SEVERITY", alert.severity.name().to_owned()),
        ("ALLOCTRACE_ALERT_BUDGET", alert.budget.clone()),
        ("ALLOCTRACE_ALERT_LIMIT", alert.limit.name().to_owned()),
        ("ALLOCTRACE_ALERT_MEASURED", format!("{:.0}", alert.measured)),
        ("ALLOCTRACE_ALERT_ALLOWED", format!("{:.0}", alert.allowed)),
        ("ALLOCTRACE_ALERT_MESSAGE", alert.line()),
    ];
    match &alert.subject {
        Subject::Process { pid, name, cgroup, .. } => {
            environment.push(("ALLOCTRACE_ALERT_PID", pid.to_string()));
            environment.push(("ALLOCTRACE_ALERT_NAME", name.clone()));
            environment.extend(cgroup.clone().map(|it| ("ALLOCTRACE_ALERT_CGROUP", it)));
        }
        Subject::Group { path } => environment.push(("ALLOCTRACE_ALERT_CGROUP", path.clone())),
    }
    environment
}
