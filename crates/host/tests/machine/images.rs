//! Loading from archives and pulling from Debian's docker-registry on loopback, open, with a password, with tokens.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde_json::json;
use stead_host::{BUILT_IN, ImageError, ImageStore};
use stead_node::action::*;

use crate::Test;
use crate::fixture::{IMAGE, World, append, busybox_layer, container, docker_archive, sha256};

pub const TESTS: &[Test] = &[
    ("archives_of_every_kind_load_under_their_names", archives_of_every_kind_load_under_their_names),
    ("a_damaged_archive_leaves_nothing", a_damaged_archive_leaves_nothing),
    ("images_go_when_nothing_uses_them", images_go_when_nothing_uses_them),
    ("another_process_may_change_the_store", another_process_may_change_the_store),
    ("the_built_in_image_is_this_binary", the_built_in_image_is_this_binary),
    ("pulls_without_credentials", pulls_without_credentials),
    ("pulls_with_a_password", pulls_with_a_password),
    ("pulls_with_a_token", pulls_with_a_token),
    ("pull_errors_say_what_is_wrong", pull_errors_say_what_is_wrong),
];

fn find(world: &World, image: &str) -> Option<Image> {
    match world.perform(Action::FindImage { image: image.into() }) {
        Observation::Image { found, .. } => found,
        other => panic!("{other:?}"),
    }
}

fn config(diff_ids: &[String]) -> Vec<u8> {
    let config = json!({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["sh"], "User": "web",
        "ExposedPorts": {"80/tcp": {}}, "StopSignal": "SIGQUIT"}, "rootfs": {"type": "layers", "diff_ids": diff_ids}});
    config.to_string().into_bytes()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A second layer that hides a file of the first.
fn upper_layer() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    append(&mut tar, "etc/.wh.group", 0o644, b"");
    append(&mut tar, "srv/upper", 0o644, b"upper\n");
    tar.into_inner().unwrap()
}

/// Blobs by digest, and the manifest's digest.
fn blobs(compress: bool) -> (Vec<Vec<u8>>, Vec<u8>) {
    let layers = [busybox_layer(), upper_layer()];
    let diff_ids: Vec<String> = layers.iter().map(|l| sha256(l)).collect();
    let config = config(&diff_ids);
    let packed: Vec<Vec<u8>> = layers.iter().map(|l| if compress { gzip(l) } else { l.clone() }).collect();
    let kind = if compress { "tar+gzip" } else { "tar" };
    let descriptor =
        |media: String, bytes: &[u8]| json!({"mediaType": media, "digest": sha256(bytes), "size": bytes.len()});
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json".into(), &config),
        "layers": packed.iter().map(|l| descriptor(format!("application/vnd.oci.image.layer.v1.{kind}"), l)).collect::<Vec<_>>(),
    });
    let mut all = packed;
    all.push(config);
    (all, manifest.to_string().into_bytes())
}

fn oci_layout(dir: &Path, name: &str, compress: bool) {
    let (mut all, manifest) = blobs(compress);
    let index = json!({"schemaVersion": 2, "manifests": [{
        "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": sha256(&manifest), "size": manifest.len(),
        "annotations": {"org.opencontainers.image.ref.name": name}}]});
    all.push(manifest);
    std::fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
    for blob in all {
        std::fs::write(dir.join("blobs/sha256").join(&sha256(&blob)[7..]), blob).unwrap();
    }
    std::fs::write(dir.join("index.json"), index.to_string()).unwrap();
    std::fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
}

fn archives_of_every_kind_load_under_their_names() {
    let world = World::new("load");
    let load = |path: &Path| {
        let last = AtomicU64::new(0);
        let images =
            world.host().load_images(path, &|done, total| last.store(done * 100 / total.max(1), Ordering::Relaxed));
        let images = images.unwrap();
        assert_eq!(last.into_inner(), 100, "progress of {}", path.display());
        images
    };
    // Names as users write them and as Docker would say them are the same image.
    let archive = world.dir.join("a.tar");
    std::fs::write(&archive, docker_archive("k8spatterns/random-generator:1.0")).unwrap();
    let id = load(&archive)[0].id.clone();
    for name in ["k8spatterns/random-generator:1.0", "docker.io/k8spatterns/random-generator:1.0", &id] {
        assert_eq!(find(&world, name).unwrap().id, id, "{name}");
    }
    let mut both = find(&world, IMAGE).unwrap().names;
    both.sort();
    assert_eq!(both, ["docker.io/k8spatterns/random-generator:1.0", IMAGE]);
    // An OCI layout as directory, as tar, as compressed tar; layers compressed and not.
    let layout = world.dir.join("layout");
    oci_layout(&layout, "registry.k8s.io/nginx-slim:0.7", true);
    load(&layout);
    let image = find(&world, "registry.k8s.io/nginx-slim:0.7").unwrap();
    assert_eq!(
        (image.config.user.as_str(), image.config.exposed_ports.as_slice()),
        ("web", &["80/tcp".to_string()][..])
    );
    let plain = world.dir.join("plain");
    oci_layout(&plain, "plain:1", false);
    let mut tar = tar::Builder::new(Vec::new());
    tar.append_dir_all(".", &plain).unwrap();
    let tar = gzip(&tar.into_inner().unwrap());
    std::fs::write(world.dir.join("plain.tar.gz"), tar).unwrap();
    load(&world.dir.join("plain.tar.gz"));
    assert_eq!(find(&world, "plain:1").unwrap().id, image.id);
    // And it runs, with the hidden file hidden, as the image's user, stopped by the image's signal.
    world.sandbox("uid-1");
    let mut spec =
        container("uid-1", "main", "cat /srv/upper; ls /etc; trap 'exit 8' QUIT; id -u; while :; do sleep 0.02; done");
    spec.image_id = image.id;
    world.start_spec(spec.clone());
    let options = stead_host::log::Options { follow: true, ..Default::default() };
    let mut reader = world.host().logs(&spec.container, options).unwrap();
    let mut seen = String::new();
    while !seen.ends_with("33\n") {
        seen += &String::from_utf8(reader.next(&|| false).unwrap().unwrap()).unwrap();
    }
    assert!(seen.starts_with("upper\n") && !seen.contains("group"), "{seen}");
    let grace = std::time::Duration::from_secs(30);
    world.perform(Action::StopContainer { container: spec.container.clone(), signal: None, grace });
    assert_eq!(world.exited().1.code, 8);
}

fn a_damaged_archive_leaves_nothing() {
    let world = World::new("damaged");
    let before = world.host().images();
    let layers = || std::fs::read_dir(world.dir.join("images/layers")).unwrap().count();
    let count = layers();
    let layout = world.dir.join("layout");
    oci_layout(&layout, "bad:1", true);
    let upper = gzip(&upper_layer());
    let blob = layout.join("blobs/sha256").join(&sha256(&upper)[7..]);
    let mut other = tar::Builder::new(Vec::new());
    append(&mut other, "srv/upper", 0o644, b"other\n");
    std::fs::write(&blob, gzip(&other.into_inner().unwrap())).unwrap();
    let error = world.host().load_images(&layout, &|_, _| {}).unwrap_err();
    assert!(matches!(&error, ImageError::Damaged(why) if why.contains("its digest is")), "{error}");
    std::fs::write(&blob, &upper[..upper.len() / 2]).unwrap();
    world.host().load_images(&layout, &|_, _| {}).unwrap_err();
    std::fs::write(world.dir.join("noise"), vec![7; 100_000]).unwrap();
    world.host().load_images(&world.dir.join("noise"), &|_, _| {}).unwrap_err();
    let mut tar = tar::Builder::new(Vec::new());
    append(&mut tar, "hello", 0o644, b"");
    std::fs::write(world.dir.join("other.tar"), tar.into_inner().unwrap()).unwrap();
    let error = world.host().load_images(&world.dir.join("other.tar"), &|_, _| {}).unwrap_err().to_string();
    assert!(error.ends_with("is neither a docker-archive (manifest.json) nor an OCI layout (index.json)"), "{error}");
    assert_eq!(world.host().images(), before);
    assert_eq!((layers(), std::fs::read_dir(world.dir.join("images/tmp")).unwrap().count()), (count, 0));
}

fn images_go_when_nothing_uses_them() {
    let mut world = World::new("rmi");
    world.sandbox("uid-1");
    world.run("uid-1", "main", "true");
    let remove = || Action::RemoveImage { image: IMAGE.into() };
    let failure = world.failure(remove());
    assert_eq!(failure.message, format!("image {IMAGE} is in use by a container"));
    let listed = || {
        let Observation::Disk(room) = world.perform(Action::LookAtDisk) else { panic!("no look at the disk") };
        assert!(room.total_bytes > room.free_bytes && room.free_bytes > 0, "{room:?}");
        room.images.iter().flat_map(|image| image.names.clone()).collect::<Vec<_>>()
    };
    assert_eq!(listed(), [IMAGE]);
    world.perform(Action::RemovePod { pod: "uid-1".into() });
    assert_eq!(world.perform(remove()), Observation::ImageRemoved { image: IMAGE.into() });
    assert_eq!(find(&world, IMAGE), None);
    assert_eq!(std::fs::read_dir(world.dir.join("images/layers")).unwrap().count(), 0);
    world.reopen();
    assert_eq!(world.host().images(), []);
    assert_eq!(world.perform(remove()), Observation::ImageRemoved { image: IMAGE.into() });
    assert_eq!(world.failure(Action::FindImage { image: "UPPER".into() }).reason, Reason::InvalidImageName);
}

fn another_process_may_change_the_store() {
    let world = World::new("twostores");
    // `stead image` beside the server.
    let other = ImageStore::open(&world.dir.join("images")).unwrap();
    let archive = world.dir.join("a.tar");
    std::fs::write(&archive, docker_archive("later:1")).unwrap();
    stead_host::load_images(&other, &archive, &|_, _| {}).unwrap();
    assert!(find(&world, "later:1").is_some());
    let mut spec = container("uid-1", "main", "while :; do sleep 0.1; done");
    world.sandbox("uid-1");
    spec.image_id = "later:1".into();
    world.start_spec(spec);
    // It knows nothing of the container but sees the mount.
    assert!(other.remove("later:1", &Default::default()).unwrap(), "only a name: the other one keeps the image");
    let error = other.remove(IMAGE, &Default::default()).unwrap_err();
    assert!(matches!(error, ImageError::InUse(_)), "{error}");
    world.perform(Action::RemovePod { pod: "uid-1".into() });
    assert!(other.remove(IMAGE, &Default::default()).unwrap());
    assert_eq!((find(&world, IMAGE), world.host().images()), (None, vec![]));
}

fn the_built_in_image_is_this_binary() {
    let world = World::new("builtin");
    let image = find(&world, BUILT_IN).unwrap();
    let Observation::Disk(room) = world.perform(Action::LookAtDisk) else { panic!("no look at the disk") };
    assert!(!room.images.contains(&image), "it is never in the way");
    assert_eq!(image.config.entrypoint, ["/stead", "demo"]);
    assert_eq!(find(&world, BUILT_IN).unwrap(), image);
    assert!(matches!(world.perform(pull(BUILT_IN, None)), Observation::Image { found: Some(_), .. }));
    let layer = std::fs::read_dir(world.dir.join("images/layers")).unwrap();
    let copies = layer.flatten().map(|l| l.path().join("stead")).filter(|p| p.exists());
    let own = std::fs::metadata("/proc/self/exe").unwrap().len();
    assert_eq!(copies.map(|p| p.metadata().unwrap().len()).collect::<Vec<_>>(), [own]);
}

/// A registry of Debian's package docker-registry.
struct Registry {
    process: Child,
    port: u16,
    authorization: Option<String>,
}

impl Registry {
    fn start(world: &World, auth: &str) -> Registry {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let root = world.dir.join("registry");
        let config = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: 127.0.0.1:{port}}}\n{auth}",
            root.display()
        );
        std::fs::write(world.dir.join("registry.yml"), config).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(world.dir.join("registry.yml")).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = command.spawn().expect("the package docker-registry is installed");
        let mut log = BufReader::new(process.stderr.take().unwrap()).lines();
        let is_up = log.by_ref().map_while(Result::ok).any(|line| line.contains("listening on"));
        assert!(is_up, "docker-registry did not start");
        // It must not block on a full pipe.
        std::thread::spawn(move || log.for_each(drop));
        Registry { process, port, authorization: None }
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/v2/{path}", self.port)
    }

    fn send(&self, method: &str, url: &str, kind: &str, body: &[u8]) -> ureq::http::Response<ureq::Body> {
        let mut request = ureq::http::Request::builder().method(method).uri(url).header("content-type", kind);
        if let Some(value) = &self.authorization {
            request = request.header("authorization", value);
        }
        ureq::Agent::new_with_defaults().run(request.body(body).unwrap()).unwrap()
    }

    /// Pushes the two-layer image; returns the manifest's digest.
    fn push(&self, repository: &str, tag: &str) -> String {
        let (all, manifest) = blobs(true);
        for blob in &all {
            let start = self.send("POST", &self.url(&format!("{repository}/blobs/uploads/")), "", b"");
            let location = start.headers()["location"].to_str().unwrap().to_string();
            let join = if location.contains('?') { '&' } else { '?' };
            let target = format!("{location}{join}digest={}", sha256(blob));
            self.send("PUT", &target, "application/octet-stream", blob);
        }
        let kind = "application/vnd.oci.image.manifest.v1+json";
        self.send("PUT", &self.url(&format!("{repository}/manifests/{tag}")), kind, &manifest);
        sha256(&manifest)
    }

    /// An index with an entry for another machine before ours.
    fn push_index(&self, repository: &str, tag: &str, digest: &str, size: usize) {
        let entry = |arch: &str| {
            json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": size,
                   "platform": {"os": "linux", "architecture": arch}})
        };
        let kind = "application/vnd.oci.image.index.v1+json";
        let index = json!({"schemaVersion": 2, "mediaType": kind, "manifests": [entry("arm64"), entry("amd64")]});
        let url = self.url(&format!("{repository}/manifests/{tag}"));
        self.send("PUT", &url, kind, index.to_string().as_bytes());
    }

    fn name(&self, rest: &str) -> String {
        format!("127.0.0.1:{}/{rest}", self.port)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn pull(image: &str, credentials: Option<(&str, &str)>) -> Action {
    let credentials =
        credentials.map(|(username, password)| Credentials { username: username.into(), password: password.into() });
    Action::PullImage { image: image.into(), credentials }
}

fn pulled(world: &World, image: &str, credentials: Option<(&str, &str)>) -> Image {
    match world.perform(pull(image, credentials)) {
        Observation::Image { found: Some(image), .. } => image,
        other => panic!("{other:?}"),
    }
}

fn pulls_without_credentials() {
    let world = World::new("pull");
    let registry = Registry::start(&world, "");
    let digest = registry.push("team/app", "1");
    let name = registry.name("team/app:1");
    let image = pulled(&world, &name, None);
    assert_eq!(image.names, std::slice::from_ref(&name));
    assert_eq!(image.digests, [registry.name(&format!("team/app@{digest}"))]);
    assert_eq!(image.config.stop_signal.as_deref(), Some("SIGQUIT"));
    let told: Vec<Observation> = world.seen.try_iter().collect();
    let done = told.iter().any(|o| matches!(o, Observation::PullProgress { done_bytes, total_bytes, .. } if done_bytes == total_bytes && *total_bytes > 0));
    assert!(done, "{told:?}");
    // By digest and through an index it is the same image.
    assert_eq!(pulled(&world, &registry.name(&format!("team/app@{digest}")), None).id, image.id);
    registry.push_index("team/app", "multi", &digest, blobs(true).1.len());
    assert_eq!(pulled(&world, &registry.name("team/app:multi"), None).id, image.id);
    world.sandbox("uid-1");
    let mut spec = container("uid-1", "main", "cat /srv/upper; id -u");
    spec.image_id = image.id;
    assert_eq!(world.run_spec(spec).1, "upper\n33\n");
}

fn pulls_with_a_password() {
    let world = World::new("basic");
    // Of "secret".
    let hash = "$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a";
    std::fs::write(world.dir.join("htpasswd"), format!("me:{hash}\n")).unwrap();
    let auth = format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", world.dir.join("htpasswd").display());
    let mut registry = Registry::start(&world, &auth);
    registry.authorization = Some(format!("Basic {}", STANDARD.encode("me:secret")));
    registry.push("app", "1");
    let name = registry.name("app:1");
    let failure = world.failure(pull(&name, None));
    assert_eq!(failure.reason, Reason::ErrImagePull);
    assert!(failure.message.contains("no basic auth credentials"), "{failure:?}");
    let failure = world.failure(pull(&name, Some(("me", "wrong"))));
    assert!(failure.message.contains("pull access denied"), "{failure:?}");
    assert!(find(&world, &name).is_none());
    assert_eq!(pulled(&world, &name, Some(("me", "secret"))).names, [name]);
}

/// Signs what the registry believes: it has the issuer's certificate.
struct Issuer {
    pair: EcdsaKeyPair,
    certificate: Vec<u8>,
}

impl Issuer {
    fn new(root: &Path) -> Issuer {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["issuer".into()]).unwrap().self_signed(&key).unwrap();
        std::fs::write(root, certificate.pem()).unwrap();
        let random = ring::rand::SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &key.serialize_der(), &random).unwrap();
        Issuer { pair, certificate: certificate.der().to_vec() }
    }

    fn token(&self, actions: &[&str]) -> String {
        let now = jiff::Timestamp::now().as_second();
        let header = json!({"typ": "JWT", "alg": "ES256", "x5c": [STANDARD.encode(&self.certificate)]});
        let claims = json!({"iss": "issuer", "sub": "me", "aud": "registry", "exp": now + 300, "nbf": now - 10,
            "iat": now - 10, "jti": "1", "access": [{"type": "repository", "name": "app", "actions": actions}]});
        let text =
            format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims.to_string()));
        let signature = self.pair.sign(&ring::rand::SystemRandom::new(), text.as_bytes()).unwrap();
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }
}

/// Gives tokens for pulling to whoever knows the password, until the test ends.
fn token_server(issuer: Issuer) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let realm = format!("http://{}/token", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for conn in listener.incoming() {
            let mut conn = conn.unwrap();
            let head: Vec<String> =
                BufReader::new(&conn).lines().map_while(Result::ok).take_while(|l| !l.is_empty()).collect();
            let basic = format!("authorization: Basic {}", STANDARD.encode("me:secret"));
            let asks_right =
                head[0].contains("service=registry") && head[0].contains("app") && head[0].contains("pull");
            let knows = head.iter().any(|l| l.eq_ignore_ascii_case(&basic));
            let (status, body) = match asks_right && knows {
                true => ("200 OK", json!({"token": issuer.token(&["pull"])}).to_string()),
                false => ("401 Unauthorized", String::new()),
            };
            let length = body.len();
            write!(conn, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}").unwrap();
        }
    });
    realm
}

fn pulls_with_a_token() {
    let world = World::new("token");
    let root = world.dir.join("root.pem");
    let issuer = Issuer::new(&root);
    let push = format!("Bearer {}", issuer.token(&["push", "pull"]));
    let realm = token_server(issuer);
    let auth = format!(
        "auth: {{token: {{realm: \"{realm}\", service: registry, issuer: issuer, rootcertbundle: {}}}}}\n",
        root.display()
    );
    let mut registry = Registry::start(&world, &auth);
    registry.authorization = Some(push);
    registry.push("app", "1");
    let name = registry.name("app:1");
    let failure = world.failure(pull(&name, Some(("me", "wrong"))));
    assert!(failure.message.contains("failed to fetch oauth token"), "{failure:?}");
    assert_eq!(pulled(&world, &name, Some(("me", "secret"))).names, [name]);
}

fn pull_errors_say_what_is_wrong() {
    let world = World::new("pullerr");
    let registry = Registry::start(&world, "");
    let digest = registry.push("app", "1");
    let name = registry.name("app:none");
    let failure = world.failure(pull(&name, None));
    assert_eq!(failure.reason, Reason::ErrImagePull);
    let expected = format!(
        "failed to pull and unpack image \"{name}\": failed to resolve reference \"{name}\": {name}: not found"
    );
    assert_eq!(failure.message, expected);
    let failure = world.failure(pull("Bad_Name", None));
    assert_eq!(failure.reason, Reason::InvalidImageName);
    // One byte of a layer changes on the registry's disk: nothing of it is kept.
    let layer = gzip(&upper_layer());
    let hash = &sha256(&layer)[7..];
    let file = format!("registry/docker/registry/v2/blobs/sha256/{}/{hash}/data", &hash[..2]);
    let mut other = tar::Builder::new(Vec::new());
    append(&mut other, "srv/upper", 0o644, b"UPPER\n");
    File::create(world.dir.join(file)).unwrap().write_all(&gzip(&other.into_inner().unwrap())).unwrap();
    let failure = world.failure(pull(&registry.name("app:1"), None));
    assert!(failure.message.contains("digest") || failure.message.contains("layer"), "{failure:?}");
    assert_eq!(find(&world, &registry.name(&format!("app@{digest}"))), None);
    let gone = registry.name("app:1");
    drop(registry);
    let failure = world.failure(pull(&gone, None));
    assert!(failure.message.contains("failed to do request: Get"), "{failure:?}");
}
