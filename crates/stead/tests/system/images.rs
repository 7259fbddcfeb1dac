//! Images for tests, made from Debian packages: a few files of this machine in a docker archive.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

use crate::cluster::Cluster;

/// An image that is not yet a file.
pub struct Image {
    pub names: Vec<String>,
    pub layer: Vec<u8>,
    pub config: Value,
}

/// BusyBox with all its programs.
pub fn busybox(name: &str) -> Image {
    let mut layer = Layer::default();
    layer.busybox();
    layer.accounts();
    let config = json!({"Cmd": ["sh"], "Env": ["PATH=/bin"]});
    Image { names: vec![name.to_owned()], layer: layer.done(), config }
}

/// nginx that serves /usr/share/nginx/html on port 80, with a shell beside it, as the nginx-slim images do.
pub fn nginx(names: &[&str]) -> Image {
    let mut layer = Layer::default();
    layer.busybox();
    layer.program("/usr/sbin/nginx");
    for directory in ["tmp", "run", "var/log/nginx", "var/lib/nginx", "usr/share/nginx/html"] {
        layer.directory(directory);
    }
    let settings = "worker_processes 1;\nerror_log stderr;\npid /run/nginx.pid;\nevents {}\nhttp {\n  access_log off;\n\
        server { listen 80; root /usr/share/nginx/html; }\n}\n";
    layer.file("etc/nginx/nginx.conf", settings.as_bytes(), 0o644);
    layer.accounts();
    let config = json!({"Env": ["PATH=/bin:/usr/sbin"], "Cmd": ["/usr/sbin/nginx", "-c", "/etc/nginx/nginx.conf", "-g", "daemon off; user root;"], "ExposedPorts": {"80/tcp": {}}, "StopSignal": "SIGQUIT"});
    Image { names: names.iter().map(|&name| name.to_owned()).collect(), layer: layer.done(), config }
}

/// The random generator: our own demo program under the name of the book's image.
pub fn random_generator(name: &str) -> Image {
    let mut layer = Layer::default();
    layer.file("stead", &fs::read(crate::cluster::binary()).expect("the binary is there"), 0o755);
    layer.accounts();
    let config = json!({"Entrypoint": ["/stead", "demo", "random-generator"], "ExposedPorts": {"8080/tcp": {}}});
    Image { names: vec![name.to_owned()], layer: layer.done(), config }
}

/// The image's configuration as registries and archives hold it.
pub fn config(image: &Image) -> String {
    json!({"architecture": "amd64", "os": "linux", "config": image.config,
        "rootfs": {"type": "layers", "diff_ids": [sha256(&image.layer)]}})
    .to_string()
}

/// Writes the image as `docker save` does; answers the file.
pub fn archive(directory: &Path, image: &Image) -> PathBuf {
    let config = config(image);
    let manifest = json!([{"Config": "config.json", "RepoTags": image.names, "Layers": ["layer.tar"]}]).to_string();
    let mut layer = Layer::default();
    layer.file("config.json", config.as_bytes(), 0o644);
    layer.file("layer.tar", &image.layer, 0o644);
    layer.file("manifest.json", manifest.as_bytes(), 0o644);
    let file = directory.join(format!("{}.tar", image.names[0].replace(['/', ':'], "-")));
    fs::write(&file, layer.done()).expect("the scratch directory is writable");
    file
}

/// `stead image load` of an image.
pub fn load(cluster: &Cluster, image: &Image) {
    let file = archive(&cluster.dir, image);
    let loaded = cluster.stead(&format!("image load {}", file.display())).ok();
    assert!(loaded.starts_with("loaded "), "{loaded}");
    cluster.stead("image ls").says(
        image.names[0].rsplit('/').next().expect("a split has a last part").split(':').next().expect("and a first"),
    );
}

pub fn sha256(bytes: &[u8]) -> String {
    let hex: String = digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// A layer that grows file by file.
#[derive(Default)]
struct Layer {
    tar: Option<tar::Builder<Vec<u8>>>,
    seen: BTreeSet<String>,
}

impl Layer {
    fn add(&mut self, path: &str, kind: tar::EntryType, mode: u32, bytes: &[u8], link: Option<&str>) {
        if !self.seen.insert(path.to_owned()) {
            return;
        }
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(bytes.len() as u64);
        if let Some(link) = link {
            header.set_link_name(link).expect("links are short");
        }
        let tar = self.tar.get_or_insert_with(|| tar::Builder::new(Vec::new()));
        tar.append_data(&mut header, path, bytes).expect("memory takes it");
    }

    fn file(&mut self, path: &str, bytes: &[u8], mode: u32) {
        self.add(path.trim_start_matches('/'), tar::EntryType::Regular, mode, bytes, None);
    }

    fn link(&mut self, path: &str, target: &str) {
        self.add(path, tar::EntryType::Symlink, 0o777, &[], Some(target));
    }

    fn directory(&mut self, path: &str) {
        self.add(path, tar::EntryType::Directory, 0o755, &[], None);
    }

    fn busybox(&mut self) {
        let file = fs::read("/bin/busybox").or_else(|_| fs::read("/usr/bin/busybox"));
        self.file("bin/busybox", &file.expect("busybox-static is installed"), 0o755);
        let listed = Command::new("busybox").arg("--list").output().expect("busybox-static is installed");
        for program in String::from_utf8_lossy(&listed.stdout).lines().filter(|program| *program != "busybox") {
            self.link(&format!("bin/{program}"), "busybox");
        }
    }

    /// A program with the libraries it is linked with, each under the path it is looked for.
    fn program(&mut self, path: &str) {
        self.file(path, &fs::read(path).unwrap_or_else(|error| panic!("{path}: {error}")), 0o755);
        let output = Command::new("ldd").arg(path).output().expect("ldd is part of the C library");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        for library in text.split_whitespace().filter(|word| word.starts_with('/')) {
            self.file(library, &fs::read(library).unwrap_or_else(|error| panic!("{library}: {error}")), 0o755);
        }
    }

    fn accounts(&mut self) {
        self.file("etc/passwd", b"root:x:0:0:root:/:/bin/sh\nwww-data:x:33:33:www-data:/:/bin/sh\n", 0o644);
        self.file("etc/group", b"root:x:0:\nwww-data:x:33:\n", 0o644);
        self.directory("tmp");
    }

    fn done(self) -> Vec<u8> {
        self.tar.expect("something was added").into_inner().expect("memory takes it")
    }
}
