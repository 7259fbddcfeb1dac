//! Run, exit, logs, stop, out of memory, re-adoption.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use stead_node::action::*;

use crate::Test;
use crate::fixture::{World, container, key, open};

pub const TESTS: &[Test] =
    &[("runs_and_tells_the_end", runs_and_tells_the_end), ("a_container_sees_its_pod", a_container_sees_its_pod)];

fn runs_and_tells_the_end() {
    let world = World::new("run");
    world.sandbox("uid-1");
    let (exit, log) = world.run("uid-1", "main", "echo out; echo err >&2; echo done > /dev/termination-log; exit 7");
    assert_eq!((exit.code, exit.signal, exit.oom_killed, exit.is_lost), (7, None, false, false));
    assert_eq!(exit.message, "done\n");
    assert!(exit.started_at.unwrap() <= exit.finished_at);
    assert_eq!(log, "out\nerr\n");
    // The same attempt again: the same answer, and it does not run again.
    let again = world.start("uid-1", "main", "echo never");
    assert!(matches!(again.state, ContainerState::Exited(Exit { code: 7, .. })));
}

fn a_container_sees_its_pod() {
    let world = World::new("pod");
    world.sandbox("uid-1");
    let mut spec = container(
        "uid-1",
        "main",
        "hostname; cat /etc/resolv.conf /etc/hosts; pwd; echo $FROM_IMAGE $MINE; id -u; ls /proc | head -1",
    );
    spec.env = vec![("MINE".into(), "too".into())];
    let (exit, log) = world.run_spec(spec);
    assert_eq!(exit.code, 0, "{log}");
    assert_eq!(log, "web-0\nnameserver 10.96.0.10\n127.0.0.1 localhost\n/srv\nyes too\n0\n1\n");
}

pub fn agent(args: &[String]) {
    let _ = (args, Command::new("true"), Stdio::null(), Duration::ZERO, Instant::now(), key("", "", 0));
    let _ = open;
    let _ = BufReader::new(std::io::stdin()).lines();
}
