//! What is packaged for fleets: read by the programs that it is for, and a Prometheus that is told of a process which takes too much,
//! and of its end.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    program::{Ended, PATIENCE, Program, Signal, needed, run, scratch, within},
    tracer::{alloctrace, alone},
    workload::build,
};

fn packaging() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging")
}

fn promtool(arguments: &[&str]) -> Ended {
    run(Command::new(needed("promtool", "prometheus")).args(arguments))
}

fn accepts(arguments: &[&str], path: &Path) {
    let ended = promtool(&[arguments, &[path.to_str().expect("text")]].concat());
    assert_eq!(ended.code, Some(0), "{arguments:?} {}: {}{}", path.display(), ended.output, ended.errors);
}

#[test]
fn prometheus_takes_the_configuration_and_the_rules() {
    let directory = packaging().join("prometheus");
    accepts(&["check", "config"], &directory.join("scrape.yaml"));
    accepts(&["check", "rules"], &directory.join("alloctrace.rules.yaml"));
    accepts(&["test", "rules"], &directory.join("alloctrace.rules.test.yaml"));
}

#[test]
fn systemd_takes_the_unit() {
    let unit = fs::read_to_string(packaging().join("alloctrace.service")).expect("the unit");
    // The program must be there.
    let program = env!("CARGO_BIN_EXE_alloctrace");
    let path = scratch("systemd").join("alloctrace.service");
    fs::write(&path, unit.replace("/usr/bin/alloctrace", program)).expect("write the unit");
    let ended = run(Command::new(needed("systemd-analyze", "systemd")).arg("verify").arg(&path));
    assert_eq!((ended.code, &*ended.errors), (Some(0), ""), "{}", ended.output);
}

/// Each document, and what the DaemonSet must say of itself.
const READ_YAML: &str = r#"
import json, sys, yaml
directory = sys.argv[1]
list(yaml.safe_load_all(open(directory + "/prometheus/scrape-kubernetes.yaml")))
dashboard = json.load(open(directory + "/grafana/alloctrace.json"))
numbers = [it["id"] for it in dashboard["panels"]]
assert len(numbers) == len(set(numbers)) and all(it["targets"] for it in dashboard["panels"])
documents = {it["kind"]: it for it in yaml.safe_load_all(open(directory + "/kubernetes/daemonset.yaml"))}
pod = documents["DaemonSet"]["spec"]["template"]["spec"]
[container] = pod["containers"]
assert pod["hostPID"] is True
context = container["securityContext"]
assert context["privileged"] is False and context["readOnlyRootFilesystem"] is True
assert context["capabilities"]["drop"] == ["ALL"]
volumes = {it["name"] for it in pod["volumes"]}
assert volumes == {it["name"] for it in container["volumeMounts"]}, volumes
ports = {it["name"] for it in container["ports"]}
for probe in "startupProbe", "livenessProbe", "readinessProbe":
    assert container[probe]["httpGet"]["port"] in ports
labels = documents["DaemonSet"]["spec"]["template"]["metadata"]["labels"]
assert documents["DaemonSet"]["spec"]["selector"]["matchLabels"].items() <= labels.items()
assert documents["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
assert {it["metadata"].get("namespace", "alloctrace") for it in documents.values()} == {"alloctrace"}
print(documents["ConfigMap"]["data"]["watch.toml"])
"#;

#[test]
fn yaml_and_json_are_what_they_should_be() {
    let python = ["/usr/bin/python3", "-c", READ_YAML];
    let ended = run(Command::new(python[0]).args(&python[1..]).arg(packaging()));
    assert_eq!((ended.code, &*ended.errors), (Some(0), ""), "is there Debian's python3-yaml?");
    alloctrace::watch::Config::parse(&ended.output).expect("the configuration of the pods");
}

/// A Prometheus that looks each second.
struct Prometheus {
    program: Program,
    address: String,
}

impl Prometheus {
    fn start(target: &str) -> Self {
        let directory = scratch("prometheus");
        let rules = packaging().join("prometheus/alloctrace.rules.yaml");
        let config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: ['{}']\nscrape_configs:\n\
             - job_name: alloctrace\n  static_configs: [{{targets: ['{target}']}}]\n",
            rules.display()
        );
        let path = directory.join("prometheus.yaml");
        fs::write(&path, config).expect("write a configuration");
        // It does not say which port it was given, so it is given one that is free now.
        let port = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a port").port();
        let address = format!("127.0.0.1:{port}");
        let mut command = Command::new(needed("prometheus", "prometheus"));
        command.arg(format!("--config.file={}", path.display()));
        command.arg(format!("--storage.tsdb.path={}", directory.join("data").display()));
        command.arg(format!("--web.listen-address={address}"));
        Self { program: Program::start(&mut command), address }
    }

    /// What an expression gives, as text; `None` if it cannot be asked, or has nothing.
    fn ask(&self, expression: &str) -> Option<String> {
        let ended = promtool(&["query", "instant", &format!("http://{}", self.address), expression]);
        (ended.code == Some(0) && !ended.output.trim().is_empty()).then_some(ended.output)
    }

    fn wait_for(&self, expression: &str) -> String {
        within(PATIENCE, || self.ask(expression)).unwrap_or_else(|| panic!("it never had {expression}"))
    }

    fn is_firing(alert: &str) -> String {
        format!("ALERTS{{alertname=\"{alert}\", alertstate=\"firing\"}}")
    }
}

#[test]
fn prometheus_is_told_of_a_leak_and_of_its_end() {
    const BLOCKS: u32 = 1_000_000;
    let mut hoard = Program::start(&mut Command::new(build("hoard.c")));
    hoard.wait_for("waiting");
    let comm = fs::read_to_string(format!("/proc/{}/comm", hoard.pid())).expect("its name");
    let comm = comm.trim();
    let directory = scratch("fleet");
    let config = directory.join("watch.toml");
    let text = format!(
        "state-dir = '{}'\n[http]\nlisten = '127.0.0.1:0'\n[alerts]\nresolve-after = 0\n\
         [[budget]]\nlabel = 'hoard'\nname = '{comm}'\nmax-rss = '16MiB'\n",
        directory.display()
    );
    fs::write(&config, text).expect("write a configuration");

    let _alone = alone();
    let mut command = alloctrace(["watch", "-i", "200ms", "-n", comm, "--config"]);
    let mut watch = Program::start(command.arg(&config));
    let place = watch.wait_for_error("alloctrace: answers at ");
    watch.wait_for_error("alloctrace: ready");
    let (_, target) = place.rsplit_once("http://").expect("an address");
    let prometheus = Prometheus::start(target);
    prometheus.wait_for("up == 1");
    // Nothing is wrong yet.
    assert_eq!(prometheus.ask("ALERTS"), None);

    hoard.say(&BLOCKS.to_string());
    hoard.wait_for("done");
    let budget = Prometheus::is_firing("AlloctraceBudget");
    let said = prometheus.wait_for(&budget);
    assert!(said.contains("budget=\"hoard\"") && said.contains("severity="), "{said}");
    let pid = hoard.pid();
    let resident =
        prometheus.wait_for(&format!("alloctrace_process_resident_bytes{{pid=\"{pid}\"}} > 32000000"));
    assert!(resident.contains(comm), "{resident}");

    hoard.signal(Signal::KILL);
    hoard.wait();
    let said = prometheus.wait_for(&Prometheus::is_firing("AlloctraceIncident"));
    assert!(said.contains("kind=\"killed\""), "{said}");
    // What is asked is what was scraped last.
    prometheus.wait_for(&format!("absent({budget})"));

    watch.signal(Signal::INT);
    let ended = watch.wait();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    prometheus.wait_for("up == 0");
    prometheus.program.signal(Signal::TERM);
    assert_eq!(prometheus.program.wait().code, Some(0));
}
