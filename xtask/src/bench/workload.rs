//! The programs that are measured from their start to their end.

use std::{fs, process::Command};

use anyhow::Context as _;

use super::lab::{self, Lab};

/// A program of one process, since some tools trace only one.
pub(super) struct Launched {
    pub(super) command: Vec<String>,
    pub(super) environment: Vec<(&'static str, &'static str)>,
}

/// So many rows into a table and its index, in memory; if more than once, then after all of them were deleted.
pub(super) fn sqlite(lab: &Lab, rows: u32, turns: usize) -> anyhow::Result<Launched> {
    lab::need("sqlite3", &["sqlite3"]).map_err(anyhow::Error::msg)?;
    let turn = format!(
        "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {rows} - 1)
INSERT INTO item SELECT i, 'name of item ' || (i * 7919 % 1000003), i + 0.25 FROM n;
SELECT count(*), sum(amount) FROM item;
"
    );
    let sql = "CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT, amount REAL);
CREATE INDEX item_name ON item (name);
"
    .to_owned()
        + &vec![turn; turns].join("DELETE FROM item;\n");
    let command =
        vec!["sqlite3".to_owned(), "-init".to_owned(), write(lab, "bulk.sql", &sql)?, ":memory:".to_owned()];
    Ok(Launched { command, environment: Vec::new() })
}

/// The distribution's, not one from a version manager, which would be a script.
const PYTHON: &str = "/usr/bin/python3";

/// Dictionaries, lists and strings, of which a few thousand live at a time.
const PYTHON_ROWS: &str = "import sys
table = {}
for number in range(int(sys.argv[1])):
    name = 'name %d' % (number * 7919 % 5003)
    table[name] = {'id': number, 'text': name * 3, 'parts': [number, str(number), (number, name)]}
print(len(','.join(sorted(table)).split(',')))
";

pub(super) fn python(
    lab: &Lab,
    rows: u32,
    environment: &[(&'static str, &'static str)],
) -> anyhow::Result<Launched> {
    lab::need(PYTHON, &["python3"]).map_err(anyhow::Error::msg)?;
    let command = vec![PYTHON.to_owned(), write(lab, "rows.py", PYTHON_ROWS)?, rows.to_string()];
    Ok(Launched { command, environment: environment.to_vec() })
}

/// The compiler proper on one large C++ file: many headers, and templates that are instantiated many times.
pub(super) fn compiler(lab: &Lab, headers: usize, instances: u32) -> anyhow::Result<Launched> {
    lab::need("g++", &["g++"]).map_err(anyhow::Error::msg)?;
    let source = write(lab, "large.cpp", &large_cpp(headers, instances))?;
    let args = ["-std=c++17", "-O0", "-c", "-o", "/dev/null", &source];
    // The command line of the compiler proper, from the driver: it goes to standard error, each word in quotes if need be.
    let told = Command::new("g++").arg("-###").args(args).output().context("ask g++ for its commands")?;
    let told = String::from_utf8_lossy(&told.stderr).into_owned();
    let line = told.lines().find(|it| it.contains("cc1plus")).context("g++ names no cc1plus")?;
    let command = line.split_whitespace().map(|it| it.trim_matches('"').to_owned()).collect();
    Ok(Launched { command, environment: Vec::new() })
}

pub(super) const ALL_HEADERS: usize = 23;

fn large_cpp(headers: usize, instances: u32) -> String {
    // Those that the functions below need come first.
    let names: [&str; ALL_HEADERS] = [
        "algorithm",
        "array",
        "functional",
        "map",
        "set",
        "string",
        "unordered_map",
        "variant",
        "vector",
        "chrono",
        "deque",
        "filesystem",
        "future",
        "iostream",
        "list",
        "memory",
        "numeric",
        "optional",
        "random",
        "regex",
        "sstream",
        "thread",
        "tuple",
    ];
    let mut text: String = names.iter().take(headers).map(|it| format!("#include <{it}>\n")).collect();
    if instances == 0 {
        return text;
    }
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
