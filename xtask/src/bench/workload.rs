//! The programs that are measured as a whole.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};

use super::lab::{self, Lab};

/// A program that is started under the tracer, and ends.
pub(super) struct Launched {
    pub(super) name: &'static str,
    pub(super) command: Vec<String>,
    /// The process among those of the command that does the work, for tools that trace only one.
    pub(super) alone: Vec<String>,
}

/// 150,000 rows into a table and its index, in memory.
pub(super) fn sqlite(lab: &Lab) -> anyhow::Result<Launched> {
    lab::need("sqlite3", &["sqlite3"]).map_err(anyhow::Error::msg)?;
    let sql = "CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT, amount REAL);
CREATE INDEX item_name ON item (name);
WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 149999)
INSERT INTO item SELECT i, 'name of item ' || (i * 7919 % 1000003), i + 0.25 FROM n;
SELECT count(*), sum(amount) FROM item;
";
    let command =
        vec!["sqlite3".to_owned(), "-init".to_owned(), write(lab, "bulk.sql", sql)?, ":memory:".to_owned()];
    Ok(Launched { name: "sqlite3 bulk insert", alone: command.clone(), command })
}

/// One large C++ file: many headers, and templates that are instantiated many times.
pub(super) fn compiler(lab: &Lab) -> anyhow::Result<Launched> {
    lab::need("g++", &["g++"]).map_err(anyhow::Error::msg)?;
    let source = write(lab, "large.cpp", &large_cpp(6))?;
    let args = ["-std=c++17", "-O0", "-c", "-o", "/dev/null", &source];
    let command: Vec<String> = ["g++"].iter().chain(&args).map(|&it| it.to_owned()).collect();
    // The command line of the compiler proper, from the driver: it goes to standard error, each word in quotes if need be.
    let told = Command::new("g++").arg("-###").args(args).output().context("ask g++ for its commands")?;
    let told = String::from_utf8_lossy(&told.stderr).into_owned();
    let line = told.lines().find(|it| it.contains("cc1plus")).context("g++ names no cc1plus")?;
    let alone = line.split_whitespace().map(|it| it.trim_matches('"').to_owned()).collect();
    Ok(Launched { name: "g++, one large file", command, alone })
}

fn large_cpp(instances: u32) -> String {
    let headers = [
        "algorithm",
        "array",
        "chrono",
        "deque",
        "filesystem",
        "functional",
        "future",
        "iostream",
        "list",
        "map",
        "memory",
        "numeric",
        "optional",
        "random",
        "regex",
        "set",
        "sstream",
        "string",
        "thread",
        "tuple",
        "unordered_map",
        "variant",
        "vector",
    ];
    let mut text: String = headers.iter().map(|it| format!("#include <{it}>\n")).collect();
    text += "template <int N> struct Item { std::string name; std::array<double, N + 1> values; };\n";
    for n in 0..instances {
        text += &format!(
            "int use{n}(const std::vector<Item<{n}>> &items) {{
    std::map<std::string, std::vector<Item<{n}>>> by_name;
    std::unordered_map<int, std::variant<Item<{n}>, std::string, std::tuple<int, Item<{n}>>>> by_number;
    for (auto &item : items) by_name[item.name].push_back(item), by_number[int(item.name.size())] = item;
    std::set<std::pair<std::string, std::array<int, {n} + 1>>> names;
    for (auto &entry : by_name) names.emplace(entry.first, std::array<int, {n} + 1>{{}});
    std::vector<Item<{n}>> sorted(items);
    std::sort(sorted.begin(), sorted.end(), [](auto &a, auto &b) {{ return a.name < b.name; }});
    std::function<int(int)> f = [&](int i) {{ return int(sorted.size() + names.size() + by_number.size()) + i; }};
    return f({n});
}}\n"
        );
    }
    text + "int main() { return 0; }\n"
}

fn write(lab: &Lab, name: &str, text: &str) -> anyhow::Result<String> {
    let path = lab.work.join(name);
    fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    Ok(path.display().to_string())
}

/// A server of our own that ends with this value.
pub(super) struct Server {
    child: Child,
    socket: PathBuf,
}

impl Server {
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn start(lab: &Lab) -> anyhow::Result<Self> {
        let socket = lab.fresh("redis.socket")?;
        let child = Command::new("redis-server")
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

    pub(super) fn benchmark(&self, requests: u32) -> anyhow::Result<()> {
        let mut command = Command::new("redis-benchmark");
        command.arg("-s").arg(&self.socket).args(["-t", "set,get", "-q", "-n", &requests.to_string()]);
        lab::output(&mut command).map(drop)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
