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
    /// With what it needs to be let in.
    curl: String,
    url: String,
}

impl Registry {
    /// `guarded`: only for the user `anna` with the password `secret`. `tls`: with a certificate of the authority in `ca.crt`.
    fn start(cluster: &Cluster, guarded: bool, tls: bool) -> Registry {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let name = format!("registry-{port}");
        let certificate = match tls {
            true => {
                certify(cluster);
                let file = |name: &str| cluster.dir.join(name).display().to_string();
                format!(", tls: {{certificate: {}, key: {}}}", file("server.crt"), file("server.key"))
            }
            false => String::new(),
        };
        let mut config = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: 127.0.0.1:{port}{certificate}}}\n",
            cluster.dir.join(&name).display()
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
        let curl = format!(
            "curl -s --http1.1 {} {}",
            if guarded { "-u anna:secret" } else { "" },
            if tls { "--cacert ca.crt" } else { "" }
        );
        let url = format!("{}://127.0.0.1:{port}", if tls { "https" } else { "http" });
        Registry { process, port, curl, url }
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
            let start = format!("{} -D - -o /dev/null -X POST {}/v2/box/blobs/uploads/", self.curl, self.url);
            let heads = cluster.sh(&start).ok();
            let place = heads
                .lines()
                .find_map(|line| line.strip_prefix("Location: "))
                .unwrap_or_else(|| panic!("{heads}"))
                .trim();
            let put = format!("{} --fail -X PUT -T blob '{place}&digest={}'", self.curl, images::sha256(blob));
            cluster.sh(&put).ok();
        }
        let put = format!(
            "{} --fail -X PUT -H 'Content-Type: {kind}' --data-binary @- {}/v2/box/manifests/1",
            self.curl, self.url
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

/// A certificate for 127.0.0.1 of an authority that nobody knows.
fn certify(cluster: &Cluster) {
    let make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -keyout ca.key -out ca.crt -subj /CN=test-ca && \
        openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout server.key -out server.csr -subj /CN=registry && \
        printf 'subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth\n' > extensions && \
        openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile extensions -out server.crt";
    cluster.sh(make).ok();
}

fn pod(name: &str, image: &str, more: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{restartPolicy: Never, {more} containers: [{{name: c, image: '{image}', command: [echo, pulled]}}]}}\n"
    )
}

#[test]
fn pods_pull_from_a_registry_with_and_without_a_password() {
    let cluster = Cluster::up("registry");
    let (open, guarded) = (Registry::start(&cluster, false, false), Registry::start(&cluster, true, false));
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

#[test]
fn registries_with_authorities_of_their_own_are_trusted_when_told_so() {
    let cluster = Cluster::up("registry-tls");
    let registry = Registry::start(&cluster, true, true);
    let image = registry.push(&cluster);
    let pull = format!("image pull {image} --username anna --password secret");
    let unknown = cluster.stead(&pull).fails();
    assert!(unknown.contains("x509: certificate signed by unknown authority"), "{unknown}");
    assert_eq!(unknown.lines().count(), 1, "{unknown}");
    // For one command, by the environment.
    cluster.sh(&format!("SSL_CERT_FILE=ca.crt stead {pull} --data-dir data")).says("pulled");
    cluster.stead(&format!("image rm {image}")).says("removed");
    // For good, as Docker has it: a directory named after the registry.
    let certs = cluster.data().join(format!("certs.d/127.0.0.1:{}", registry.port));
    fs::create_dir_all(&certs).unwrap();
    fs::copy(cluster.dir.join("ca.crt"), certs.join("ca.crt")).unwrap();
    cluster
        .feed(&format!("stead image pull {image} --username anna --password-stdin --data-dir data"), "secret\n")
        .says("pulled");
    cluster.stead(&format!("image rm {image}")).says("removed");

    // Pods: with the wrong password, then with the right one.
    let secret = |name: &str, password: &str| {
        let server = format!("127.0.0.1:{}", registry.port);
        let create = format!(
            "create secret docker-registry {name} --docker-server={server} --docker-username=anna --docker-password={password}"
        );
        cluster.kubectl(&create).ok();
    };
    secret("wrong", "guess");
    cluster.apply(&pod("refused", &image, "imagePullSecrets: [{name: wrong}],"));
    let waiting = "{.status.containerStatuses[0].state.waiting";
    cluster.wait("pod/refused", &format!("jsonpath={waiting}.reason}}=ErrImagePull"));
    cluster.wait("pod/refused", &format!("jsonpath={waiting}.reason}}=ImagePullBackOff"));
    let message = cluster.value("pod refused", &format!("{waiting}.message}}"));
    assert!(message.starts_with(&format!("Back-off pulling image \"{image}\": ErrImagePull: ")), "{message}");
    assert!(message.contains("authorization failed"), "{message}");
    let events = cluster.kubectl("events --for pod/refused").ok();
    for text in ["Failed to pull image", "Error: ErrImagePull", "Back-off pulling image", "Error: ImagePullBackOff"] {
        assert!(events.contains(text), "{text} in\n{events}");
    }
    secret("right", "secret");
    // By the pod's own list, and by its ServiceAccount's.
    cluster.apply(&pod("by-itself", &image, "imagePullSecrets: [{name: right}],"));
    cluster.wait("pod/by-itself", "jsonpath={.status.phase}=Succeeded");
    cluster.kubectl("patch serviceaccount default -p '{\"imagePullSecrets\":[{\"name\":\"right\"}]}'").ok();
    cluster.apply(&pod("by-account", &image, "").replace("image: ", "imagePullPolicy: Always, image: "));
    cluster.wait("pod/by-account", "jsonpath={.status.phase}=Succeeded");
    assert_eq!(cluster.value("pod by-account", "{.spec.imagePullSecrets[0].name}"), "right");
}
