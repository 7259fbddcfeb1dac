//! The command line: `stead up|down|delete|status|try|install-service`.
//!
//! Start at `run`. A verb prints what it did in a line or two, and on failure one line that says what to do; it talks to the
//! server through a socket that only the data directory's owner may open (`client.rs`).

pub mod args;
pub mod client;
pub mod example;
pub mod kubeconfig;
pub mod lifecycle;
pub mod service;
pub mod status;

use std::process::ExitCode;

pub use args::{Args, Command, HELP};

/// Performs a verb of the client and says how the process should end.
pub fn run(command: Command) -> ExitCode {
    let outcome = match command {
        Command::Up(up) => lifecycle::up(&up).map(drop),
        Command::Try(up) => example::run(&up),
        Command::Down { data_dir, containers } => lifecycle::down(&data_dir, containers),
        Command::Delete { data_dir, kubeconfig } => lifecycle::delete(&data_dir, kubeconfig.as_deref()),
        Command::InstallService(service) => service::install(&service),
        Command::Status { data_dir } => status::run(&data_dir),
        Command::Help => {
            print!("{HELP}");
            Ok(())
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("stead: {error:#}");
            ExitCode::FAILURE
        }
    }
}
