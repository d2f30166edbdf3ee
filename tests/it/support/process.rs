//! A child process with a folder of its own, neither of which can outlive the test process.
//!
//! A destructor is not enough: statics are never dropped, and a test process that is killed runs
//! no destructor at all. So each folder has a small shell as watchdog. It reads from a pipe that
//! only this process holds open; when the pipe closes, for whatever reason, it kills the child
//! that was last named on it and removes the folder.

use std::fs::File;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

pub use rustix::process::Signal;

/// Lines on standard input: a pid arms the watchdog, an empty line disarms it. An ended child of a
/// dead test process stays visible until process 1 has collected it, so the wait has a bound.
const WATCHDOG: &str = r#"
pid=
while read -r line; do pid=$line; done
if [ -n "$pid" ]; then
  kill -s KILL "$pid" 2>/dev/null
  tries=0
  while kill -s 0 "$pid" 2>/dev/null && [ "$tries" -lt 50 ]; do
    tries=$((tries + 1))
    sleep 0.1
  done
fi
rm -rf "$1"
"#;

/// At most one running child at a time, and the folder that holds its data and its output.
pub struct Supervised {
    folder: PathBuf,
    child: Option<Child>,
    watchdog: Child,
    /// Closed first when this is dropped, which is the watchdog's sign.
    pipe: Option<ChildStdin>,
}

impl Supervised {
    /// Makes the folder, in the temporary folder that `./test` looks after, and its watchdog.
    pub fn new(prefix: &str) -> Self {
        let folder = tempfile::Builder::new()
            .prefix(prefix)
            .tempdir()
            .expect("a temporary folder")
            .keep();
        // In a process group of its own, so that Ctrl-C in the terminal does not reach it: it has
        // its work to do just then.
        let mut watchdog = Command::new("sh")
            .args(["-c", WATCHDOG, "watchdog"])
            .arg(&folder)
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("sh runs");
        let pipe = watchdog.stdin.take();
        Self {
            folder,
            child: None,
            watchdog,
            pipe,
        }
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Starts the child with its output going to files in the folder, added to what is there.
    pub fn spawn(&mut self, command: &mut Command) {
        assert!(self.exited().is_some(), "the process before still runs");
        let child = command
            .stdin(Stdio::null())
            .stdout(self.append("stdout"))
            .stderr(self.append("stderr"))
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        self.tell_watchdog(&child.id().to_string());
        self.child = Some(child);
    }

    fn append(&self, name: &str) -> File {
        File::options()
            .create(true)
            .append(true)
            .open(self.folder.join(name))
            .expect("a file in the temporary folder")
    }

    /// All that the child, and those before it in the same folder, wrote to standard output.
    pub fn stdout(&self) -> String {
        self.output("stdout")
    }

    /// The same of standard error.
    pub fn stderr(&self) -> String {
        self.output("stderr")
    }

    fn output(&self, name: &str) -> String {
        let bytes = std::fs::read(self.folder.join(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The pid, while the child runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// The exit status if the child has ended, success if there never was one.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        let Some(child) = &mut self.child else {
            return Some(ExitStatus::default());
        };
        let status = child.try_wait().expect("the child is ours to wait for")?;
        self.child = None;
        self.tell_watchdog("");
        Some(status)
    }

    /// Sends a signal if the child runs. It has not been waited for, so the pid is still its own.
    pub fn signal(&self, signal: Signal) {
        if let Some(child) = &self.child {
            let pid = rustix::process::Pid::from_child(child);
            // An ended child that nobody has waited for takes signals too, so this cannot fail
            // for that reason.
            rustix::process::kill_process(pid, signal).expect("the child is ours to signal");
        }
    }

    /// Waits for the child to end; `None` when it still runs after `bound`.
    pub fn wait(&mut self, bound: Duration) -> Option<ExitStatus> {
        let end = Instant::now() + bound;
        loop {
            if let Some(status) = self.exited() {
                return Some(status);
            }
            if Instant::now() >= end {
                return None;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends the child by SIGKILL, paused or not.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.wait(Duration::from_secs(60))
            .expect("a killed process ends");
    }

    fn tell_watchdog(&mut self, line: &str) {
        if let Some(pipe) = &mut self.pipe {
            writeln!(pipe, "{line}").expect("the watchdog reads");
        }
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        // Not `kill`: a panic here, while a failed test unwinds, would abort all the others.
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if let Some(mut pipe) = self.pipe.take() {
            let _ = writeln!(pipe);
        }
        let _ = self.watchdog.wait();
    }
}
