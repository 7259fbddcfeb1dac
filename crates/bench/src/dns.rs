//! The cluster's DNS: Services and endpoints are made, and Debian's `dnsperf` asks for their names.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tokio::process::Command;

use crate::client::{Connection, Target};
use crate::crud::{make_namespace, remove_namespace};
use crate::plan::Plan;
use crate::stats::report;

const NAMESPACE: &str = "stead-bench-dns";
const SERVICES: usize = 100;
/// Distinct questions: 400 A of Services, 200 A of endpoints, 150 SRV, 150 PTR, 100 for names that do not exist.
const QUESTIONS: usize = 1_000;
/// For latencies, a rate that the server is far from being full with.
const STEADY_PER_SECOND: &str = "10000";

pub async fn run(target: &Target, plan: &Plan) -> Result<()> {
    make_namespace(target, NAMESPACE).await?;
    let mut connection = target.connect().await?;
    let dns = connection.get("/api/v1/namespaces/kube-system/services/kube-dns").await?;
    let server = dns["spec"]["clusterIP"].as_str().context("kube-dns has no address")?.to_owned();
    let mut addresses = Vec::new();
    for number in 0..SERVICES {
        addresses.push(service(&mut connection, number).await?);
    }
    let file = std::env::temp_dir().join(format!("stead-bench-{}.queries", std::process::id()));
    std::fs::write(&file, questions(&addresses))?;
    let asked = ask(plan, &server, &file.display().to_string()).await;
    let _ = std::fs::remove_file(&file);
    remove_namespace(target, NAMESPACE).await?;
    asked
}

/// Every other Service is headless, with two named endpoints; the address of the others is answered.
async fn service(connection: &mut Connection, number: usize) -> Result<Option<String>> {
    let name = format!("svc-{number}");
    let is_headless = number % 2 == 1;
    let mut spec = json!({"ports": [{"name": "http", "port": 80, "protocol": "TCP"}]});
    if is_headless {
        spec["clusterIP"] = json!("None");
    }
    let object = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec});
    let made = connection.post(&format!("/api/v1/namespaces/{NAMESPACE}/services"), &object).await?;
    if !is_headless {
        return Ok(made["spec"]["clusterIP"].as_str().map(str::to_owned));
    }
    let endpoint = |n: usize| json!({"addresses": [format!("192.0.2.{}", number + n)], "hostname": format!("pod-{n}"), "conditions": {"ready": true}});
    let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4", "metadata":
        {"name": name, "labels": {"kubernetes.io/service-name": name}}, "ports": [{"name": "http", "port": 80, "protocol":
        "TCP"}], "endpoints": [endpoint(0), endpoint(1)]});
    connection.post(&format!("/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices"), &slice).await?;
    Ok(None)
}

/// One question a line, as dnsperf reads them.
fn questions(addresses: &[Option<String>]) -> String {
    let zone = format!("{NAMESPACE}.svc.cluster.local");
    let known: Vec<&str> = addresses.iter().flatten().map(String::as_str).collect();
    let one = |n: usize| {
        let (round, service) = (n / 20, n / 20 * 2 + n % 2);
        let headless = service | 1;
        match n % 20 {
            0..8 => format!("svc-{service}.{zone} A"),
            8..12 => format!("pod-{}.svc-{}.{zone} A", n % 2, headless % SERVICES),
            12..15 => format!("_http._tcp.svc-{}.{zone} SRV", headless % SERVICES),
            15..18 => {
                let mut parts: Vec<&str> = known[round % known.len()].split('.').collect();
                parts.reverse();
                format!("{}.in-addr.arpa PTR", parts.join("."))
            }
            _ => format!("none-{n}.{zone} A"),
        }
    };
    (0..QUESTIONS).map(|n| one(n) + "\n").collect()
}

async fn ask(plan: &Plan, server: &str, file: &str) -> Result<()> {
    let seconds = plan.seconds.to_string();
    let common = ["-s", server, "-d", file, "-c", "20", "-T", "1", "-q", "200", "-l", &seconds];
    let text = dnsperf(plan, &common).await?;
    let value = |name: &str| -> Result<f64> {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(name)).with_context(|| text.clone())?;
        Ok(line.split_whitespace().next().unwrap_or_default().parse()?)
    };
    // Nine of ten names exist.
    let is_right = value("Queries lost:")? == 0.0 && text.contains("(90.") && text.contains("(10.");
    ensure!(is_right, "not all was answered, or not rightly:\n{text}");
    report(
        "DNS queries (200 in flight)",
        value("Queries completed:")? as usize,
        elapsed(value("Run time (s):")?),
        &mut [],
    );

    let text = dnsperf(plan, &[&common[..], &["-v", "-Q", STEADY_PER_SECOND]].concat()).await?;
    let answered = text.lines().filter(|line| line.starts_with("> "));
    let mut took: Vec<Duration> =
        answered.filter_map(|line| line.split_whitespace().last()?.parse().ok()).map(elapsed).collect();
    let span = elapsed(plan.seconds as f64);
    report(&format!("DNS at {STEADY_PER_SECOND} per second"), took.len(), span, &mut took);
    Ok(())
}

fn elapsed(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

async fn dnsperf(plan: &Plan, args: &[&str]) -> Result<String> {
    let mut words = plan.via.iter().flat_map(|via| via.split_whitespace()).chain(["dnsperf"]);
    let program = words.next().unwrap_or_default();
    let output = Command::new(program)
        .args(words)
        .args(args)
        .output()
        .await
        .with_context(|| format!("run {program}: Debian's package dnsperf has it (apt-get install dnsperf)"))?;
    ensure!(output.status.success(), "dnsperf: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_questions_are_a_thousand_of_five_sorts() {
        let addresses: Vec<_> = (0..SERVICES).map(|n| (n % 2 == 0).then(|| format!("10.96.1.{n}"))).collect();
        let text = questions(&addresses);
        let count = |word: &str| text.lines().filter(|line| line.contains(word)).count();
        assert_eq!(text.lines().count(), QUESTIONS);
        assert_eq!((count(" PTR"), count(" SRV"), count("none-"), count("pod-")), (150, 150, 100, 200));
        assert!(text.contains("98.1.96.10.in-addr.arpa PTR"), "{text}");
    }
}
