//! Images pulled from Debian's docker-registry on loopback, by pods and by hand, with and without a password.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use serde_json::json;

use crate::cluster::Cluster;
use crate::images;

/// A registry that ends with the test.
struct Registry {
    process: Child,
    port: u16,
    /// What curl needs to be let in.
    login: &'static str,
}

impl Registry {
    /// `guarded`: only for the user `anna` with the password `secret`.
    fn start(cluster: &Cluster, guarded: bool) -> Registry {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let name = if guarded { "guarded" } else { "open" };
        let mut config = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: 127.0.0.1:{port}}}\n",
            cluster.dir.join(name).display()
        );
        if guarded {
            cluster.sh("htpasswd -Bbc passwords anna secret").ok();
            config +=
                &format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", cluster.dir.join("passwords").display());
        }
        let file = cluster.dir.join(format!("{name}.yml"));
        fs::write(&file, config).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(file).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = command.spawn().expect("the package docker-registry is installed");
        let mut log = BufReader::new(process.stderr.take().unwrap()).lines();
        let is_up = log.by_ref().map_while(Result::ok).any(|line| line.contains("listening on"));
        assert!(is_up, "docker-registry did not start");
        // It must not block on a full pipe.
        std::thread::spawn(move || log.for_each(drop));
        Registry { process, port, login: if guarded { "-u anna:secret" } else { "" } }
    }

    /// Pushes a BusyBox image; answers its full name.
    fn push(&self, cluster: &Cluster) -> String {
        let image = images::busybox("unused:1");
        let config = images::config(&image).into_bytes();
        let describe =
            |kind: &str, bytes: &[u8]| json!({"mediaType": kind, "digest": images::sha256(bytes), "size": bytes.len()});
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({"schemaVersion": 2, "mediaType": kind,
            "config": describe("application/vnd.oci.image.config.v1+json", &config),
            "layers": [describe("application/vnd.oci.image.layer.v1.tar", &image.layer)]});
        for blob in [&image.layer, &config] {
            fs::write(cluster.dir.join("blob"), blob).unwrap();
            let start = format!(
                "curl -s -D - -o /dev/null -X POST {} http://127.0.0.1:{}/v2/box/blobs/uploads/",
                self.login, self.port
            );
            let heads = cluster.sh(&start).ok();
            let place = heads
                .lines()
                .find_map(|line| line.strip_prefix("Location: "))
                .unwrap_or_else(|| panic!("{heads}"))
                .trim();
            let put = format!("curl -s --fail -X PUT {} -T blob '{place}&digest={}'", self.login, images::sha256(blob));
            cluster.sh(&put).ok();
        }
        let put = format!(
            "curl -s --fail -X PUT {} -H 'Content-Type: {kind}' --data-binary @- http://127.0.0.1:{}/v2/box/manifests/1",
            self.login, self.port
        );
        cluster.feed(&put, &manifest.to_string()).ok();
        format!("127.0.0.1:{}/box:1", self.port)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn pod(name: &str, image: &str, more: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{restartPolicy: Never, {more} containers: [{{name: c, image: '{image}', command: [echo, pulled]}}]}}\n"
    )
}

#[test]
fn pods_pull_from_a_registry_with_and_without_a_password() {
    let cluster = Cluster::up("registry");
    let (open, guarded) = (Registry::start(&cluster, false), Registry::start(&cluster, true));
    let (free, locked) = (open.push(&cluster), guarded.push(&cluster));

    cluster.apply(&pod("free", &free, ""));
    cluster.wait("pod/free", "jsonpath={.status.phase}=Succeeded");
    assert_eq!(cluster.kubectl("logs free").ok(), "pulled\n");
    cluster.kubectl("events --for pod/free").says("Successfully pulled image");
    cluster.stead("image ls").says(&free);
    cluster.stead(&format!("image rm {free}")).says("removed");
    cluster.stead(&format!("image pull {free}")).says("pulled");

    cluster.apply(&pod("locked-out", &locked, ""));
    cluster.wait("pod/locked-out", "jsonpath={.status.containerStatuses[0].state.waiting.reason}=ImagePullBackOff");
    cluster.kubectl("events --for pod/locked-out").says("ErrImagePull");
    let server = format!("127.0.0.1:{}", guarded.port);
    cluster.kubectl(&format!("create secret docker-registry login --docker-server={server} --docker-username=anna --docker-password=secret")).ok();
    cluster.apply(&pod("let-in", &locked, "imagePullSecrets: [{name: login}],"));
    cluster.wait("pod/let-in", "jsonpath={.status.phase}=Succeeded");
    assert_eq!(cluster.kubectl("logs let-in").ok(), "pulled\n");
    cluster.stead(&format!("image rm {locked}")).says("removed");
    cluster.stead(&format!("image pull {locked}")).fails();
    cluster.stead(&format!("image pull {locked} --username anna --password secret")).says("pulled");
    cluster.stead("image pull 127.0.0.1:1/absent:1").fails();
}
