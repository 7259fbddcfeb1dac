//! Patroni with Kubernetes as its store: three PostgreSQL pods elect a leader, fail over, switch over, and lose nothing.
//!
//! Patroni is Debian's, with a client of the API of its own: leases by resourceVersion on an Endpoints object, labels patched on pods.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::cluster::Cluster;
use crate::{debian, install};

/// A leader's lease runs out after 20 s; the rest is for a busy machine.
const FAILOVER_SECONDS_MAX: u64 = 90;

#[test]
fn patroni_keeps_a_leader_and_what_was_written() {
    let cluster = Cluster::up("patroni");
    let settings = json!({"Env": ["PATH=/usr/sbin:/usr/bin:/usr/lib/postgresql/15/bin", "LANG=C.UTF-8", "HOME=/tmp"]});
    debian::load(&cluster, "test/patroni:1", &["patroni", "postgresql-15"], settings);
    cluster.apply(
        &std::fs::read_to_string(install::sources("patroni").join("patroni.yaml")).expect("it is in the repository"),
    );
    let first = replicates(&cluster, 1);
    query(&cluster, &first, "create table numbers (number int primary key)").ok();
    writes_on(&cluster);
    a_leader_without_place_is_replaced(&cluster);
    a_dead_server_is_replaced(&cluster);
    a_switchover_is_obeyed(&cluster);
    the_control_plane_may_die(&cluster);
    nothing_is_lost(&cluster);
}

/// How many members follow, how many of them have all that was accepted, and the term. A copy being taken would count as a follower, too.
const FOLLOWERS: &str = "select count(*), count(*) filter (where sync_state = 'sync'), (select timeline_id from pg_control_checkpoint()) \
    from pg_stat_replication where state = 'streaming' and application_name in ('pg-0', 'pg-1', 'pg-2')";

/// Waits for something; if it does not come, the members' logs say why.
#[track_caller]
fn eventually<T>(cluster: &Cluster, what: &str, mut seen: impl FnMut() -> Result<T, String>) -> T {
    let end = Instant::now() + Duration::from_secs(FAILOVER_SECONDS_MAX);
    loop {
        match seen() {
            Ok(value) => return value,
            Err(_) if Instant::now() < end => std::thread::sleep(Duration::from_millis(200)),
            Err(last) => {
                let logs =
                    cluster.sh("for pod in pg-0 pg-1 pg-2; do echo \"--- $pod\"; kubectl logs $pod --tail=40; done");
                panic!("not in time: {what}; last: {last}\n{logs}");
            }
        }
    }
}

/// Who leads, by the annotation that Patroni keeps; nobody before there is one.
fn leader(cluster: &Cluster) -> String {
    cluster.kubectl("get endpoints pg --ignore-not-found -o jsonpath='{.metadata.annotations.leader}'").ok()
}

fn query(cluster: &Cluster, pod: &str, sql: &str) -> crate::cluster::Outcome {
    cluster.kubectl(&format!("exec {pod} -- psql -qAt -h /tmp -U postgres -c \"{sql}\""))
}

/// Waits until one pod leads and the others follow it in its term, and answers the leader.
#[track_caller]
fn replicates(cluster: &Cluster, term: u32) -> String {
    eventually(cluster, "one leads and two follow", || {
        let leader = leader(cluster);
        let leaders = cluster.kubectl("get pods -l 'cluster-name=pg,role in (master,primary)' -o name").ok();
        if leader.is_empty() || leaders != format!("pod/{leader}\n") {
            return Err(format!("leader {leader:?}, labelled {leaders:?}"));
        }
        let routed = cluster.value("endpoints pg", "{.subsets[*].addresses[*].ip}");
        if routed != cluster.value(&format!("pod {leader}"), "{.status.podIP}") {
            return Err(format!("the Service leads to {routed:?}"));
        }
        let said = query(cluster, &leader, FOLLOWERS);
        let mut figures = said.out.trim().split('|').map(str::parse::<u32>);
        match (figures.next(), figures.next(), figures.next()) {
            (Some(Ok(2)), Some(Ok(1)), Some(Ok(now))) if now >= term => Ok(leader),
            _ => Err(said.to_string()),
        }
    })
}

fn accepted(cluster: &Cluster) -> Vec<u32> {
    let said = cluster.kubectl("logs writer").ok();
    said.lines().filter_map(|line| line.parse().ok()).collect()
}

/// The writer, which goes through the Service, gets on.
#[track_caller]
fn writes_on(cluster: &Cluster) {
    let before = accepted(cluster).len();
    eventually(cluster, "numbers are accepted", || {
        let now = accepted(cluster).len();
        if now > before + 5 { Ok(()) } else { Err(format!("{now} after {before}")) }
    });
}

/// The leader's pod is taken by force, and its node takes no other: another pod leads when the lease has run out.
fn a_leader_without_place_is_replaced(cluster: &Cluster) {
    let old = leader(cluster);
    cluster.kubectl("cordon node-0").ok();
    cluster.kubectl(&format!("delete pod {old} --force --grace-period=0")).ok();
    eventually(cluster, "another leads", || {
        let now = leader(cluster);
        if now.is_empty() || now == old { Err(now) } else { Ok(()) }
    });
    writes_on(cluster);
    cluster.kubectl("uncordon node-0").ok();
    assert_ne!(replicates(cluster, 2), old, "the old leader comes back as a follower");
}

/// The leader's server is killed: Patroni gives the lease away at once, and a new term begins. Under whom is Patroni's choice: the old
/// leader may be back before a follower has found out.
fn a_dead_server_is_replaced(cluster: &Cluster) {
    let old = replicates(cluster, 2);
    cluster.kubectl(&format!("exec {old} -- sh -c 'kill -9 $(head -1 /data/pg/postmaster.pid)'")).ok();
    replicates(cluster, 3);
    writes_on(cluster);
}

fn a_switchover_is_obeyed(cluster: &Cluster) {
    let old = replicates(cluster, 3);
    let synchronous = eventually(cluster, "a synchronous follower is named", || {
        let named = cluster.value("endpoints pg-sync", "{.metadata.annotations.sync_standby}");
        if named.is_empty() { Err(named) } else { Ok(named) }
    });
    let control = "patronictl -c /etc/patroni/own/patroni.yaml";
    let command = format!("exec {old} -- {control} switchover pg --master {old} --candidate {synchronous} --force");
    cluster.kubectl(&command).says("Successfully switched over to");
    assert_eq!(replicates(cluster, 4), synchronous);
    cluster.kubectl(&format!("exec {old} -- {control} list")).says("| Leader");
    writes_on(cluster);
}

/// Stead is killed and comes back: the leader stays, in the same term, and goes on serving.
fn the_control_plane_may_die(cluster: &Cluster) {
    let leader = replicates(cluster, 4);
    let state = |cluster: &Cluster| {
        let sql = "select timeline_id from pg_control_checkpoint()";
        (cluster.value("endpoints pg", "{.metadata.annotations.transitions}"), query(cluster, &leader, sql).ok())
    };
    let before = state(cluster);
    for _ in 0..3 {
        cluster.sh(&format!("kill -9 {}", cluster.pid())).ok();
        cluster.start("").says("stead is up: ");
        writes_on(cluster);
    }
    assert_eq!(replicates(cluster, 4), leader, "no failover without need");
    assert_eq!(state(cluster), before);
}

/// Every number that was accepted is there, on the leader and on the followers.
fn nothing_is_lost(cluster: &Cluster) {
    let accepted = accepted(cluster);
    cluster.kubectl("delete pod writer").ok();
    let leader = replicates(cluster, 4);
    let there = |pod: &str| -> Vec<u32> {
        let said = query(cluster, pod, "select number from numbers order by number").ok();
        said.lines().filter_map(|line| line.parse().ok()).collect()
    };
    for pod in ["pg-0", "pg-1", "pg-2"] {
        eventually(cluster, &format!("{pod} of leader {leader} has every number"), || {
            let there = there(pod);
            let lost: Vec<&u32> = accepted.iter().filter(|number| there.binary_search(number).is_err()).collect();
            if lost.is_empty() && !there.is_empty() { Ok(()) } else { Err(format!("{lost:?} are lost")) }
        });
    }
}
