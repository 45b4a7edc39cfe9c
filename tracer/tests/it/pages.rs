//! Manual pages and completions, as the programs that read them see them.

use std::process::Command;

use crate::{
    program::{needed, run, scratch},
    tracer::alloctrace_says,
};

#[test]
fn formatters_find_no_fault_in_the_pages() {
    let directory = scratch("pages").join("man1");
    let path = directory.to_str().expect("its path is text");
    let ended = alloctrace_says(["man", "-o", path]);
    assert_eq!((ended.code, ended.output.as_str()), (Some(0), ""), "{ended:?}");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&directory).expect("it was made") {
        let page = entry.expect("an entry").path();
        let lint =
            run(Command::new(needed("mandoc", "mandoc")).args(["-T", "lint", "-W", "warning"]).arg(&page));
        assert_eq!((lint.code, lint.output.as_str()), (Some(0), ""), "{lint:?}");
        let groff = needed("groff", "groff-base");
        let formatted = run(Command::new(groff).args(["-ww", "-man", "-Tutf8", "-P-cbou"]).arg(&page));
        assert_eq!((formatted.code, formatted.errors.as_str()), (Some(0), ""), "{formatted:?}");
        assert!(formatted.output.contains("EXAMPLES") && formatted.output.lines().count() > 50);
        names.push(page.file_name().expect("a name").to_string_lossy().into_owned());
    }
    names.sort();
    for name in ["alloctrace-memleak.1", "alloctrace-record.1", "alloctrace-report.1", "alloctrace.1"] {
        assert!(names.iter().any(|it| it == name), "{name} in {names:?}");
    }
}

#[test]
fn a_page_on_standard_output() {
    let directory = scratch("page");
    alloctrace_says(["man", "-o", directory.to_str().expect("its path is text")]);
    for (arguments, file) in [(&["man"][..], "alloctrace.1"), (&["man", "record"], "alloctrace-record.1")] {
        let page = std::fs::read_to_string(directory.join(file)).expect("it was written");
        assert_eq!(alloctrace_says(arguments).output, page);
    }
    let ended = alloctrace_says(["man", "papyrus"]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.errors.contains("papyrus"), "{ended:?}");
}

#[test]
fn bash_completes() {
    let script = scratch("completions").join("alloctrace");
    std::fs::write(&script, alloctrace_says(["completions", "bash"]).output).expect("write a file");
    let complete = |words: &str, at: usize| -> Vec<String> {
        // As the shell calls it: the function that is registered for the command, with command, word, and previous.
        let text = format!(
            "source {script}; COMP_WORDS=({words}); COMP_CWORD={at}; \
             function=$(complete -p alloctrace | sed 's/.*-F \\([^ ]*\\).*/\\1/'); \
             $function alloctrace \"${{COMP_WORDS[{at}]}}\" \"${{COMP_WORDS[{before}]}}\"; \
             printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            script = script.display(),
            before = at - 1,
        );
        let ended = run(Command::new(needed("bash", "bash")).args(["--norc", "-c", &text]));
        assert_eq!((ended.code, ended.errors.as_str()), (Some(0), ""), "{ended:?}");
        ended.output.split_whitespace().map(str::to_owned).collect()
    };
    assert_eq!(complete("alloctrace reco", 1), ["record"]);
    assert_eq!(complete("alloctrace report --fol", 2), Vec::<String>::new());
    assert!(complete("alloctrace report --format ''", 3).iter().any(|it| it == "folded"));
    assert!(
        complete("alloctrace ''", 1).iter().all(|it| !it.starts_with("__")),
        "hidden commands stay hidden"
    );
    for shell in ["zsh", "fish", "elvish", "powershell"] {
        let ended = alloctrace_says(["completions", shell]);
        assert!(ended.code == Some(0) && ended.output.contains("memleak"), "{shell}: {ended:?}");
    }
}
