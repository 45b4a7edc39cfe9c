//! A terminal of our own, with somebody at it: tmux, as a server that only we know.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::program::{PATIENCE, needed, run, within};

/// One window with a shell that runs one command. It goes when it is dropped.
pub(crate) struct Terminal {
    tmux: PathBuf,
    socket: PathBuf,
}

/// What the shell prints before the command, behind it, and at the very end.
pub(crate) const BEFORE: &str = "the line before";
pub(crate) const EXIT: &str = "EXIT=";
const SETTINGS: &str = "SETTINGS";

impl Terminal {
    /// Runs `command`, which the shell reads, in `directory`.
    pub(crate) fn run(directory: &Path, command: &str, (width, height): (u32, u32)) -> Self {
        // A path to a socket has a limit of 108 bytes, and the scratch directory may be longer.
        let socket = std::env::temp_dir().join(format!(
            "alloctrace-tmux-{}-{}",
            std::process::id(),
            directory.file_name().unwrap_or_default().to_string_lossy()
        ));
        let terminal = Self { tmux: needed("tmux", "tmux"), socket };
        let script =
            format!("echo '{BEFORE}'; {command}; echo {EXIT}$?; stty -a; echo {SETTINGS}; exec sleep 1000");
        let (width, height) = (width.to_string(), height.to_string());
        let directory = directory.to_str().expect("its path is text");
        terminal.tmux(&[
            "-f",
            "/dev/null",
            "-u",
            "new-session",
            "-d",
            "-x",
            &width,
            "-y",
            &height,
            "-c",
            directory,
            &script,
        ]);
        terminal
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(&self.tmux);
        command.arg("-S").arg(&self.socket).args(arguments).env("LC_ALL", "C.UTF-8").env_remove("TMUX");
        let ended = run(&mut command);
        assert_eq!(ended.code, Some(0), "tmux {arguments:?}: {}", ended.errors);
        ended.output
    }

    /// Presses keys, by the names that tmux has for them.
    pub(crate) fn press(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    pub(crate) fn resize(&self, width: u32, height: u32) {
        self.tmux(&["resize-window", "-x", &width.to_string(), "-y", &height.to_string()]);
    }

    /// What is to be seen.
    pub(crate) fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// Whether any character has a colour.
    pub(crate) fn has_colours(&self) -> bool {
        let screen = self.tmux(&["capture-pane", "-p", "-e"]);
        let styles = screen.split("\x1b[").skip(1).filter_map(|it| it.split_once('m'));
        styles.flat_map(|(numbers, _)| numbers.split(';')).any(|it| {
            // The numbers of foregrounds (ECMA-48, SGR).
            matches!(it.parse(), Ok(30..=38 | 90..=97))
        })
    }

    /// Waits until the screen is as it should be, and returns it.
    pub(crate) fn wait_until(&self, what: &str, mut is_so: impl FnMut(&str) -> bool) -> String {
        let mut last = String::new();
        let found = within(PATIENCE, || {
            last = self.screen();
            is_so(&last).then_some(())
        });
        assert!(found.is_some(), "{what}: did not come within {PATIENCE:?}; the screen is\n{last}");
        last
    }

    pub(crate) fn wait_for(&self, text: &str) -> String {
        self.wait_until(text, |it| it.contains(text))
    }

    /// The process that the shell waits for.
    pub(crate) fn pid_of_command(&self) -> u32 {
        let shell = self.tmux(&["list-panes", "-F", "#{pane_pid}"]);
        let shell = shell.trim();
        let children = std::fs::read_to_string(format!("/proc/{shell}/task/{shell}/children"));
        let children = children.expect("the shell lives");
        children.split_whitespace().next().and_then(|it| it.parse().ok()).expect("it has a child")
    }

    /// Waits until the command has ended well, and the terminal is as it was before.
    pub(crate) fn assert_given_back(&self) -> String {
        let screen = self.wait_for(SETTINGS);
        assert!(screen.contains(BEFORE), "what was there before is there again:\n{screen}");
        assert!(screen.contains(&format!("{EXIT}0")), "it ended well:\n{screen}");
        for setting in ["icanon", "echo", "isig", "icrnl", "opost"] {
            let is_set = screen.split_whitespace().any(|it| it == setting);
            assert!(is_set, "the terminal has {setting}:\n{screen}");
        }
        assert_eq!(self.tmux(&["display-message", "-p", "#{alternate_on} #{cursor_flag}"]).trim(), "0 1");
        screen
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // As well as it goes: a test that fails must not fail twice.
        let _ = Command::new(&self.tmux).arg("-S").arg(&self.socket).arg("kill-server").status();
        let _ = std::fs::remove_file(&self.socket);
    }
}
