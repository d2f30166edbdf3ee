//! The `tidegate` program: it hands its arguments over to the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    tidegate::cli::run(std::env::args_os())
}
