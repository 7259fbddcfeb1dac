//! The examples' READMEs, run as they are written: each command, and what it prints.

use std::fs;

use crate::cluster::{Cluster, repository};
use crate::text::{difference, steps};

/// Runs the README of an example; where no output is shown, the command just has to work.
fn follow(cluster: &Cluster, example: &str) {
    let readme = repository().join("examples").join(example).join("README.md");
    let text = fs::read_to_string(&readme).unwrap_or_else(|error| panic!("{}: {error}", readme.display()));
    let steps = steps(&text);
    assert!(steps.len() > 2, "{example} shows no commands");
    // Each block stands for itself, as for a reader who comes back later.
    for step in steps {
        let outcome = cluster.sh(&format!("cd {}\n{}", repository().display(), step.command));
        match &step.output {
            Some(expected) => {
                if let Some(difference) = difference(expected, &outcome.out) {
                    panic!("{example}: {}{difference}\n{}", step.command, outcome.err);
                }
            }
            None => {
                outcome.ok();
            }
        }
    }
}

#[test]
fn the_examples_do_what_their_readmes_say() {
    let cluster = Cluster::up("examples");
    // Each in the state that a reader starts with.
    cluster.tells(&[
        ("counter", |cluster| follow(cluster, "counter")),
        ("logger", |cluster| follow(cluster, "logger")),
        ("random-generator", |cluster| follow(cluster, "random-generator")),
        ("cache", |cluster| follow(cluster, "cache")),
        ("ordered", |cluster| follow(cluster, "ordered")),
        ("deployment", |cluster| follow(cluster, "deployment")),
    ]);
}

/// No example without a README that is tested, and none that the project's README does not name.
#[test]
fn every_example_is_named_and_tested() {
    let front = fs::read_to_string(repository().join("README.md")).unwrap();
    let own = fs::read_to_string(repository().join("crates/stead/tests/system/examples.rs")).unwrap();
    for entry in fs::read_dir(repository().join("examples")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(front.contains(&format!("(examples/{name})")), "README.md does not name {name}");
        assert!(own.contains(&format!("follow(cluster, \"{name}\")")), "{name} is not tested");
    }
}
