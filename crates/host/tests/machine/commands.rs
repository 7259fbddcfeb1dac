//! Exec, attach, terminals, probes and hooks.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use stead_host::{Exec, ExecRequest};
use stead_node::action::*;

use crate::Test;
use crate::fixture::{World, container, key};

pub const TESTS: &[Test] = &[
    ("exec_has_streams_and_an_exit_code", exec_has_streams_and_an_exit_code),
    ("exec_has_the_containers_filter_and_capabilities", exec_has_the_containers_filter_and_capabilities),
    ("exec_with_a_terminal", exec_with_a_terminal),
    ("exec_goes_on_after_a_restart_of_the_agent", exec_goes_on_after_a_restart_of_the_agent),
    ("attach_joins_the_first_process", attach_joins_the_first_process),
    ("attach_to_a_terminal", attach_to_a_terminal),
    ("a_slow_client_never_blocks_the_container", a_slow_client_never_blocks_the_container),
    ("probes_tell_success_failure_and_lateness", probes_tell_success_failure_and_lateness),
    ("hooks_run_and_fail", hooks_run_and_fail),
];

const IDLE: &str = "trap 'exit 0' TERM; while :; do sleep 0.02; done";

fn exec(world: &World, script: &str, stdin: bool) -> Exec {
    let command = vec!["sh".into(), "-c".into(), script.into()];
    world.host().exec(&key("uid-1", "main", 0), &ExecRequest { command, stdin, ..ExecRequest::default() }).unwrap()
}

fn read_all(fd: Option<OwnedFd>) -> String {
    let mut text = String::new();
    File::from(fd.unwrap()).read_to_string(&mut text).unwrap();
    text
}

/// Reads until the text has come; a terminal says nothing of ends.
fn read_until(file: &mut File, text: &str) -> String {
    let mut seen = Vec::new();
    let mut buffer = [0; 1024];
    while !String::from_utf8_lossy(&seen).contains(text) {
        let n = file.read(&mut buffer).unwrap_or(0);
        assert!(n > 0, "{text:?} never came, but {:?}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&buffer[..n]);
    }
    String::from_utf8_lossy(&seen).into_owned()
}

fn exec_has_streams_and_an_exit_code() {
    let world = World::new("exec");
    world.sandbox("uid-1");
    let mut spec = container("uid-1", "main", IDLE);
    spec.env = vec![("MINE".into(), "yes".into())];
    spec.security.run_as_user = Some(33);
    world.start_spec(spec);
    let mut run = exec(&world, "cat; echo err >&2; id -u; echo $MINE; pwd; exit 42", true);
    let streams = run.take_streams();
    File::from(streams.stdin.unwrap()).write_all(b"in\n").unwrap();
    assert_eq!(read_all(streams.stdout), "in\n33\nyes\n/srv\n");
    assert_eq!(read_all(streams.stderr), "err\n");
    assert_eq!(run.wait().unwrap(), 42);
    assert_eq!(exec(&world, "kill -9 $$", false).wait().unwrap(), 137);
    // What is not there: as a shell says it, and the reason on stderr.
    let request = ExecRequest { command: vec!["nonsense".into()], ..ExecRequest::default() };
    let mut run = world.host().exec(&key("uid-1", "main", 0), &request).unwrap();
    let streams = run.take_streams();
    let why = read_all(streams.stderr);
    assert_eq!(why, "exec: \"nonsense\": executable file not found in $PATH\n");
    assert_eq!(run.wait().unwrap(), 127);
    let missing = world.host().exec(&key("uid-1", "other", 0), &request).unwrap_err();
    assert_eq!(missing.kind(), std::io::ErrorKind::NotFound);
}

fn exec_has_the_containers_filter_and_capabilities() {
    let world = World::new("execsec");
    world.sandbox("uid-1");
    let root = Security { seccomp: Seccomp::RuntimeDefault, ..Security::default() };
    let no_more = Security { no_new_privileges: true, ..root.clone() };
    let user = Security { run_as_user: Some(1000), ..root.clone() };
    let open = Security { seccomp: Seccomp::Unconfined, ..root.clone() };
    let each = [("root", root, "2"), ("no-more", no_more, "2"), ("user", user, "2"), ("open", open, "0")];
    for (name, security, mode) in each {
        let mut spec = container("uid-1", name, IDLE);
        spec.security = security;
        world.perform(Action::EnsureContainer(Box::new(spec)));
        let script = "grep -hE '^(Seccomp|NoNewPrivs|Cap...):' /proc/$0/status";
        let of = |process: &str| {
            let command = vec!["sh".into(), "-c".into(), script.into(), process.into()];
            let request = ExecRequest { command, ..ExecRequest::default() };
            let mut run = world.host().exec(&key("uid-1", name, 0), &request).unwrap();
            read_all(run.take_streams().stdout)
        };
        let (own, first) = (of("self"), of("1"));
        assert_eq!(own, first, "{name}");
        assert!(own.contains(&format!("Seccomp:\t{mode}\n")), "{name}: {own}");
    }
}

fn exec_with_a_terminal() {
    let world = World::new("tty");
    world.sandbox("uid-1");
    world.start("uid-1", "main", IDLE);
    let request = ExecRequest { command: vec!["sh".into()], tty: true, stdin: true, timeout: None };
    let mut run = world.host().exec(&key("uid-1", "main", 0), &request).unwrap();
    run.resize(101, 33).unwrap();
    let streams = run.take_streams();
    assert!(streams.stderr.is_none());
    let (mut input, mut output) = (File::from(streams.stdin.unwrap()), File::from(streams.stdout.unwrap()));
    input.write_all(b"stty size; echo $((40+2)); exit 6\n").unwrap();
    let text = read_until(&mut output, "42\r\n");
    assert!(text.contains("33 101\r\n"), "{text:?}");
    assert_eq!(run.wait().unwrap(), 6);
}

fn exec_goes_on_after_a_restart_of_the_agent() {
    let mut world = World::new("execre");
    world.sandbox("uid-1");
    world.start("uid-1", "main", IDLE);
    world.reopen();
    let mut run = exec(&world, "echo here", false);
    assert_eq!(read_all(run.take_streams().stdout), "here\n");
    assert_eq!(run.wait().unwrap(), 0);
}

fn attach_joins_the_first_process() {
    let world = World::new("attach");
    world.sandbox("uid-1");
    let mut spec = container("uid-1", "main", "while read line; do echo got $line; echo err >&2; done; echo end");
    (spec.stdin, spec.stdin_once) = (true, true);
    world.start_spec(spec);
    let mut attached = world.host().attach(&key("uid-1", "main", 0), true, true, true).unwrap();
    let mut input = File::from(attached.streams.stdin.take().unwrap());
    let mut output = File::from(attached.streams.stdout.take().unwrap());
    input.write_all(b"one\n").unwrap();
    assert_eq!(read_until(&mut output, "got one\n"), "got one\n");
    // stdinOnce: the first client's end of input is the container's.
    drop(input);
    assert_eq!(read_until(&mut output, "end\n"), "end\n");
    assert_eq!(read_all(attached.streams.stderr.take()), "err\n");
    attached.wait().unwrap();
    assert_eq!(world.exited().1.code, 0);
    let mut log: Vec<String> = world.log(&key("uid-1", "main", 0)).lines().map(str::to_string).collect();
    log.sort();
    assert_eq!(log, ["end", "err", "got one"]);
}

fn attach_to_a_terminal() {
    let world = World::new("atty");
    world.sandbox("uid-1");
    let mut spec = container("uid-1", "main", "exec sh");
    (spec.stdin, spec.tty) = (true, true);
    world.start_spec(spec);
    let mut attached = world.host().attach(&key("uid-1", "main", 0), true, true, true).unwrap();
    attached.resize(77, 22).unwrap();
    let mut input = File::from(attached.streams.stdin.take().unwrap());
    let mut output = File::from(attached.streams.stdout.take().unwrap());
    input.write_all(b"stty size; exit 3\n").unwrap();
    read_until(&mut output, "22 77\r\n");
    assert_eq!(world.exited().1.code, 3);
}

fn a_slow_client_never_blocks_the_container() {
    let world = World::new("slow");
    world.sandbox("uid-1");
    world.start(
        "uid-1",
        "main",
        "while [ ! -e /dev/shm/go ]; do sleep 0.02; done; yes $(seq 30) | head -c 4000000; echo done",
    );
    let attached = world.host().attach(&key("uid-1", "main", 0), false, true, false).unwrap();
    exec(&world, "touch /dev/shm/go", false).wait().unwrap();
    // Nobody reads from `attached`.
    assert_eq!(world.exited().1.code, 0);
    assert!(world.log(&key("uid-1", "main", 0)).ends_with("done\n"));
    drop(attached);
}

fn probe(world: &World, check: Check, timeout: Duration) -> ProbeResult {
    let container = key("uid-1", "main", 0);
    match world.perform(Action::Probe { container, kind: ProbeKind::Readiness, check, timeout }) {
        Observation::Probed { result, .. } => result,
        other => panic!("{other:?}"),
    }
}

fn shell(script: &str) -> Check {
    Check::Exec { command: vec!["sh".into(), "-c".into(), script.into()] }
}

fn probes_tell_success_failure_and_lateness() {
    let world = World::new("probe");
    world.sandbox("uid-1");
    world.start("uid-1", "main", IDLE);
    let second = Duration::from_secs(10);
    assert_eq!(probe(&world, shell("true"), second), ProbeResult::Success);
    assert_eq!(probe(&world, shell("echo no; exit 1"), second), ProbeResult::Failure("no\n".into()));
    let start = Instant::now();
    let late = probe(&world, shell("sleep 60"), Duration::from_millis(500));
    assert!(matches!(&late, ProbeResult::Failure(why) if why.contains("timed out")), "{late:?}");
    assert!(start.elapsed() < Duration::from_secs(30));
    // The late command was killed.
    let mut run = exec(&world, "ps | grep -c '[s]leep 60'", false);
    assert_eq!(read_all(run.take_streams().stdout), "0\n");
    run.wait().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    assert_eq!(probe(&world, Check::Tcp { address }, second), ProbeResult::Success);
    drop(listener);
    let refused = format!("dial tcp {address}: connect: connection refused");
    assert_eq!(probe(&world, Check::Tcp { address }, second), ProbeResult::Failure(refused));
    world.perform(Action::StopContainer { container: key("uid-1", "main", 0), signal: None, grace: second });
    assert!(matches!(probe(&world, shell("true"), second), ProbeResult::Unknown(_)));
}

fn hooks_run_and_fail() {
    let world = World::new("hook");
    world.sandbox("uid-1");
    world.start("uid-1", "main", IDLE);
    let run = |check| {
        let container = key("uid-1", "main", 0);
        match world.perform(Action::RunHook { container, hook: Hook::PreStop, check, timeout: Duration::from_secs(20) })
        {
            Observation::HookDone { result, .. } => result,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(run(HookAction::Run(shell("exit 0"))), Ok(()));
    assert_eq!(run(HookAction::Run(shell("echo bad; exit 3"))), Err("bad\n".into()));
    let start = Instant::now();
    assert_eq!(run(HookAction::Sleep(Duration::from_millis(200))), Ok(()));
    assert!(start.elapsed() >= Duration::from_millis(200));
}
