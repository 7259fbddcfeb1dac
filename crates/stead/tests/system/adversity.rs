//! A machine that cannot do what is needed, or a disk that fills up: what Stead says, keeps and recovers from.

use std::process::Command;

use crate::cluster::Cluster;
use crate::lifecycle::one_line;
use crate::stopping::traces;

/// A file system of its own for the cluster's data, gone with the value.
struct Disk {
    place: std::path::PathBuf,
}

impl Disk {
    fn mount(cluster: &Cluster, kind: &str, options: &str) -> Disk {
        let place = cluster.data();
        std::fs::create_dir_all(&place).unwrap();
        cluster.sh(&format!("mount -t {kind} -o {options} {kind} {}", place.display())).ok();
        Disk { place }
    }

    fn fill(&self, cluster: &Cluster) {
        let fill = format!("cat /dev/zero > {}/fill; true", self.place.display());
        cluster.sh(&fill).ok();
    }

    fn free(&self) {
        std::fs::remove_file(self.place.join("fill")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // The cluster goes first: its own end comes later than ours.
        let stop = format!(
            "{} down --grace-period 1 --data-dir {d}; umount -l {d}",
            crate::cluster::binary().display(),
            d = self.place.display()
        );
        let _ = Command::new("sh").args(["-c", &stop]).output();
    }
}

const COUNTER: &str = "---
{apiVersion: v1, kind: Pod, metadata: {name: c}, spec: {terminationGracePeriodSeconds: 5, containers: [
  {name: c, image: 'stead.local/demo:1', args: [counter, --dir, /tmp]}]}}
";

/// Creates ConfigMaps of 64 KB until one is refused; answers the acknowledged ones and the refusal.
fn write_until_refused(cluster: &Cluster, prefix: &str) -> (Vec<String>, String) {
    cluster.sh("head -c 65000 /dev/zero | tr '\\0' x > big").ok();
    let mut acknowledged = Vec::new();
    for number in 0..200 {
        let name = format!("{prefix}-{number}");
        let made = cluster.kubectl(&format!("create configmap {name} --from-file=big --request-timeout=30s"));
        if made.code != 0 {
            return (acknowledged, made.err);
        }
        acknowledged.push(name);
    }
    panic!("the disk never filled up");
}

fn all_there(cluster: &Cluster, names: &[String]) {
    let there = cluster.kubectl("get configmaps -o name").ok();
    for name in names {
        assert!(there.lines().any(|line| line == format!("configmap/{name}")), "{name} was acknowledged and is lost");
    }
}

/// Waits until writes are taken again.
fn writes_again(cluster: &Cluster, name: &str) {
    let again = format!(
        "for i in $(seq 100); do kubectl create configmap {name} --request-timeout=5s 2>/dev/null && exit 0; sleep 0.2; done; exit 1"
    );
    cluster.sh(&again).ok();
}

#[test]
fn a_disk_that_fills_up_holds_writes_and_loses_none() {
    let cluster = Cluster::new("full");
    // The built-in image is the binary: it has to fit, beside what Stead wants free.
    let binary = std::fs::metadata(crate::cluster::binary()).unwrap().len() >> 20;
    let disk = Disk::mount(&cluster, "tmpfs", &format!("size={}M", 2 * binary + 100));
    cluster.start("").says("stead is up: ");
    cluster.apply(COUNTER);
    cluster.wait("pod/c", "condition=Ready");
    let mut acknowledged = Vec::new();
    for round in ["first", "second"] {
        disk.fill(&cluster);
        let (some, refusal) = write_until_refused(&cluster, round);
        acknowledged.extend(some);
        assert!(refusal.contains("refuses writes") && refusal.contains("free space there"), "{refusal}");
        // Later ones are refused at once, with the reason; reads and containers go on.
        let refusal = cluster.kubectl("create configmap late --request-timeout=30s").fails();
        assert!(refusal.contains("this write was not made"), "{refusal}");
        all_there(&cluster, &acknowledged);
        cluster.stead("status").says("trouble   the disk of ");
        cluster.kubectl("exec c -- /stead demo get http://localhost:8080/healthz").ok();
        disk.free();
        writes_again(&cluster, &format!("after-{round}"));
        all_there(&cluster, &acknowledged);
        assert!(!cluster.stead("status").ok().contains("trouble"), "it is over");
    }
    // Killed while the disk is full: it does not start, says why, and starts when there is room.
    disk.fill(&cluster);
    let (some, _) = write_until_refused(&cluster, "third");
    acknowledged.extend(some);
    cluster.sh(&format!("kill -9 {}", cluster.pid())).ok();
    one_line(cluster.start(""), "is full (");
    disk.free();
    cluster.start("").says("stead is up: ");
    all_there(&cluster, &acknowledged);
    cluster.wait("pod/c", "condition=Ready");
    assert_eq!(cluster.value("pod c", "{.status.containerStatuses[0].restartCount}"), "0");
    // It can be stopped while the disk is full.
    disk.fill(&cluster);
    write_until_refused(&cluster, "fourth");
    cluster.stead("down --grace-period 5").says("stead is down");
    assert_eq!(traces(&cluster).lines().filter(|line| !line.contains(" tmpfs ")).count(), 0, "{}", traces(&cluster));
    disk.free();
    cluster.start("").says("stead is up: ");
    all_there(&cluster, &acknowledged);
    cluster.wait("pod/c", "condition=Ready");
    drop(disk);
}

#[test]
fn a_machine_that_cannot_stack_images_is_told_so_in_one_line() {
    let cluster = Cluster::new("stack");
    // An overlay cannot be the writable layer of another: the file system is the wrong one.
    cluster.sh("mkdir lower upper work && mount -t tmpfs tmpfs upper && mkdir upper/u upper/w").ok();
    {
        let _disk = Disk::mount(&cluster, "overlay", "lowerdir=lower,upperdir=upper/u,workdir=upper/w");
        one_line(cluster.start(""), "put the data directory on ext4, xfs or btrfs (--data-dir)");
        // The control plane alone does not need it.
        cluster.start("--no-node").says("stead is up: ");
        cluster.stead("down").ok();
    }
    cluster.sh("umount upper").ok();
    // Root without its powers, as in a container.
    let weak = "setpriv --bounding-set -sys_admin --inh-caps -sys_admin";
    one_line(cluster.sh(&format!("{weak} stead up {}", cluster.flags())), "CAP_SYS_ADMIN is missing");
}

#[test]
fn two_starts_at_once_make_one_server() {
    let cluster = Cluster::new("twice");
    let up = format!("stead up --no-node {}", cluster.flags());
    let both = cluster.sh(&format!("{up} > one 2>&1 & {up} > two 2>&1; wait; cat one two")).ok();
    assert_eq!(both.lines().filter(|line| line.starts_with("stead is up: ")).count(), 1, "{both}");
    let other = both.lines().find(|line| !line.starts_with("stead is up: ")).expect("the other one said something");
    let is_clear =
        other.contains("runs in") && other.contains("already: `stead status`") || other.contains("is up already");
    assert!(is_clear, "{both}");
    cluster.stead("status").says("pid ");
    one_line(cluster.sh(&format!("stead server --data-dir {}", cluster.data().display())), "a cluster runs in");
}
