//! A remote command served by a local process, with pipes or with a terminal.

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use stead_stream::{Descriptor, Outcome, RemoteCommand};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::process::{Child, Command};

pub async fn serve(session: RemoteCommand, argv: &[String], tty: bool) {
    let started = if tty { with_terminal(session, argv).await } else { with_pipes(session, argv).await };
    let (session, outcome) = started;
    // The client may be gone before it hears the outcome.
    let _ = session.finish(&outcome).await;
}

async fn with_pipes(mut session: RemoteCommand, argv: &[String]) -> (RemoteCommand, Outcome) {
    let mut command = Command::new(&argv[0]);
    command.args(&argv[1..]).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.stdin(if session.stdin.is_some() { Stdio::piped() } else { Stdio::null() });
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            return (session, Outcome::Failed { message: error.to_string() });
        }
    };
    if let (Some(input), Some(pipe)) = (session.stdin.take(), child.stdin.take()) {
        tokio::spawn(copy(input, pipe));
    }
    let mut outputs = Vec::new();
    if let (Some(pipe), Some(output)) = (child.stdout.take(), session.stdout.take()) {
        outputs.push(tokio::spawn(copy(pipe, output)));
    }
    if let (Some(pipe), Some(output)) = (child.stderr.take(), session.stderr.take()) {
        outputs.push(tokio::spawn(copy(pipe, output)));
    }
    for output in outputs {
        output.await.unwrap();
    }
    let outcome = outcome(&mut child, argv).await;
    (session, outcome)
}

async fn with_terminal(mut session: RemoteCommand, argv: &[String]) -> (RemoteCommand, Outcome) {
    let control = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&control).unwrap();
    unlockpt(&control).unwrap();
    let name = ptsname(&control, Vec::new()).unwrap().into_string().unwrap();
    let terminal = || Stdio::from(File::options().read(true).write(true).open(&name).unwrap());
    let control = File::from(control);
    let mut resizes = session.resizes.take().unwrap();
    let sized = control.try_clone().unwrap();
    let first = resizes.next().await.unwrap();
    let set = move |size: stead_stream::TerminalSize| {
        let size = Winsize { ws_col: size.width, ws_row: size.height, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&sized, size).unwrap();
    };
    set(first);
    let mut child = Command::new("setsid")
        .args(["--ctty", "--wait"])
        .args(argv)
        .stdin(terminal())
        .stdout(terminal())
        .stderr(terminal())
        .spawn()
        .unwrap();
    tokio::spawn(async move {
        while let Some(size) = resizes.next().await {
            set(size);
        }
    });
    let reader = Descriptor::new(control.try_clone().unwrap().into()).unwrap();
    let writer = Descriptor::new(control.into()).unwrap();
    if let Some(input) = session.stdin.take() {
        tokio::spawn(copy(input, writer));
    }
    if let Some(output) = session.stdout.take() {
        copy(reader, output).await;
    }
    let outcome = outcome(&mut child, argv).await;
    (session, outcome)
}

/// Copies to the end or the first error.
async fn copy(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
    let mut buffer = vec![0; 32 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if to.write_all(&buffer[..count]).await.is_err() || to.flush().await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}

async fn outcome(child: &mut Child, argv: &[String]) -> Outcome {
    let status = child.wait().await.unwrap();
    match status.code().or(status.signal().map(|s| 128 + s)).unwrap() {
        0 => Outcome::Success,
        code => Outcome::Exited { code, command: argv.to_vec() },
    }
}
