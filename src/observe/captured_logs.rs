//! For tests: the log lines that are written on a test's own thread, each as the JSON object that the log has.

use std::cell::RefCell;
use std::io::{self, Write};
use std::sync::Once;

use serde_json::Value;

thread_local! {
    static CAPTURED: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// What this thread logs, from the start on until it is dropped.
pub(crate) struct CapturedLogs(());

impl CapturedLogs {
    pub(crate) fn start() -> Self {
        static INSTALLED: Once = Once::new();
        // For the whole process and not for the thread: `tracing` remembers of each place that logs whether
        // anybody listens, and another thread, which nobody listens to, may get there first.
        INSTALLED.call_once(|| {
            let subscriber = tracing_subscriber::fmt()
                .json()
                .flatten_event(true)
                .with_writer(|| OfThread)
                .finish();
            tracing::subscriber::set_global_default(subscriber)
                .expect("no other test installs a subscriber");
            tracing::callsite::rebuild_interest_cache();
        });
        CAPTURED.set(Some(Vec::new()));
        Self(())
    }

    /// The lines so far.
    pub(crate) fn lines(&self) -> Vec<Value> {
        CAPTURED.with_borrow(|bytes| {
            let lines = bytes.iter().flat_map(|bytes| bytes.split(|b| *b == b'\n'));
            lines
                .filter(|line| !line.is_empty())
                .map(|line| serde_json::from_slice(line).expect("a line is a JSON object"))
                .collect()
        })
    }
}

impl Drop for CapturedLogs {
    fn drop(&mut self) {
        CAPTURED.set(None);
    }
}

/// Keeps what the thread writes, where a test wants it.
struct OfThread;

impl Write for OfThread {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        CAPTURED.with_borrow_mut(|captured| {
            if let Some(captured) = captured {
                captured.extend_from_slice(bytes);
            }
        });
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
