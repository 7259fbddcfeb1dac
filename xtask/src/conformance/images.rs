//! The images that the tests ask for by name, made of Debian's packages and of what was built.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::json;

use super::{Place, source};
use crate::run;

/// What containers of the tests call beside what is built.
const TOOLS: &str = "bind9-dnsutils,curl,netcat-openbsd,iproute2,iperf,perl,iputils-ping,ca-certificates";
const AGNHOST: &str = "test/images/agnhost";

#[derive(Clone, Copy, PartialEq)]
enum Base {
    Nothing,
    Busybox,
    Debian,
}

/// What an image has beside its base: a path in it, and where its content comes from.
enum Part {
    Built(&'static str, &'static str),
    Source(&'static str, &'static str),
    Machine(&'static str, &'static str),
    Text(&'static str, &'static str),
    Link(&'static str, &'static str),
    Folder(&'static str),
}

struct Image {
    names: &'static [&'static str],
    base: Base,
    parts: Vec<Part>,
    entrypoint: &'static [&'static str],
    command: &'static [&'static str],
    user: &'static str,
}

fn image(names: &'static [&'static str], base: Base, parts: Vec<Part>) -> Image {
    Image { names, base, parts, entrypoint: &[], command: &["sh"], user: "" }
}

fn agnhost() -> Vec<Part> {
    vec![
        Part::Built("agnhost", "agnhost"),
        Part::Link("agnhost-2", "agnhost"),
        Part::Source("localhost.crt", "test/images/agnhost/porter/localhost.crt"),
        Part::Source("localhost.key", "test/images/agnhost/porter/localhost.key"),
        Part::Folder("uploads"),
        Part::Link("usr/local/bin/iperf", "/usr/bin/iperf"),
    ]
}

fn web_server(names: &'static [&'static str], entrypoint: &'static [&'static str], page: &'static str) -> Image {
    let parts = vec![Part::Text(page, "<html><body><h1>It works!</h1></body></html>\n"), Part::Text("name", names[0])];
    Image { entrypoint, command: &[], ..image(names, Base::Busybox, parts) }
}

fn picture(names: &'static [&'static str], data: &'static str) -> Image {
    let parts = agnhost().into_iter().chain([Part::Source("data.json", data)]).collect();
    Image { entrypoint: &["/agnhost"], command: &["test-webserver"], ..image(names, Base::Debian, parts) }
}

fn all() -> Vec<Image> {
    const HTTPD: &[&str] = &["/bin/busybox", "httpd", "-f", "-p", "80", "-h", "/usr/local/apache2/htdocs"];
    const HTTPD_PAGE: &str = "usr/local/apache2/htdocs/index.html";
    const NGINX: &[&str] = &["/bin/busybox", "httpd", "-f", "-p", "80", "-h", "/usr/share/nginx/html"];
    const NGINX_PAGE: &str = "usr/share/nginx/html/index.html";
    let pause = vec![Part::Built("agnhost", "agnhost")];
    let agnhosts = &["k8s.gcr.io/e2e-test-images/agnhost:2.21", "gcr.io/k8s-authenticated-test/agnhost:2.6"];
    vec![
        image(&["docker.io/library/busybox:1.29"], Base::Busybox, vec![]),
        web_server(&["docker.io/library/httpd:2.4.38-alpine"], HTTPD, HTTPD_PAGE),
        web_server(&["docker.io/library/httpd:2.4.39-alpine"], HTTPD, HTTPD_PAGE),
        web_server(&["docker.io/library/nginx:1.14-alpine"], NGINX, NGINX_PAGE),
        web_server(&["docker.io/library/nginx:1.15-alpine"], NGINX, NGINX_PAGE),
        Image {
            entrypoint: &["/agnhost"],
            command: &["pause"],
            ..image(&["k8s.gcr.io/pause:3.2"], Base::Nothing, pause)
        },
        Image { user: "1234", ..image(&["gcr.io/kubernetes-e2e-test-images/nonroot:1.0"], Base::Busybox, vec![]) },
        Image {
            command: &["nnp"],
            ..image(
                &["gcr.io/kubernetes-e2e-test-images/nonewprivs:1.0"],
                Base::Busybox,
                vec![Part::Built("usr/local/bin/nnp", "nnp")],
            )
        },
        Image {
            entrypoint: &["/sample-apiserver"],
            command: &[],
            ..image(
                &["gcr.io/kubernetes-e2e-test-images/sample-apiserver:1.17"],
                Base::Nothing,
                vec![Part::Built("sample-apiserver", "sample-apiserver"), Part::Folder("tmp")],
            )
        },
        Image { entrypoint: &["/agnhost"], command: &["pause"], ..image(agnhosts, Base::Debian, agnhost()) },
        picture(&["gcr.io/kubernetes-e2e-test-images/nautilus:1.0"], "test/images/nautilus/html/data.json"),
        picture(&["gcr.io/kubernetes-e2e-test-images/kitten:1.0"], "test/images/kitten/html/data.json"),
        image(&["gcr.io/kubernetes-e2e-test-images/jessie-dnsutils:1.0"], Base::Debian, vec![]),
        image(&["k8s.gcr.io/etcd:3.4.13-0"], Base::Debian, vec![Part::Machine("usr/local/bin/etcd", "/usr/bin/etcd")]),
    ]
}

/// Makes all images.
pub fn make(place: &Place) -> Result<()> {
    place.once("debian", "making a small Debian for the tests' containers", |root| {
        let tools = format!("--include={TOOLS}");
        let quietly = std::process::Stdio::null();
        run(Command::new("debootstrap").args(["--variant=minbase", &tools, "bookworm"]).arg(root).stdout(quietly))
    })?;
    place.once("images", "making images", |folder| {
        fs::create_dir_all(folder)?;
        debug_assert!(source::file(place, AGNHOST).is_dir());
        let layers = place.at("layers");
        fs::create_dir_all(&layers)?;
        let debian = layers.join("debian.tar");
        let left_out = ["./dev/*", "./var/cache/*", "./var/lib/apt/*", "./usr/share/doc/*", "./usr/share/locale/*"];
        let left_out = left_out.map(|pattern| format!("--exclude={pattern}"));
        run(Command::new("tar").args(left_out).arg("-C").arg(place.at("debian")).arg("-cf").arg(&debian).arg("."))?;
        let busybox = layers.join("busybox.tar");
        pack(&layers.join("busybox"), &busybox, fill_busybox)?;
        for (index, image) in all().iter().enumerate() {
            let own = layers.join(format!("{index}.tar"));
            pack(&layers.join(index.to_string()), &own, |root| fill(place, image, root))?;
            let below = match image.base {
                Base::Nothing => None,
                Base::Busybox => Some(&busybox),
                Base::Debian => Some(&debian),
            };
            let layers: Vec<&Path> = below.into_iter().chain([&own]).map(PathBuf::as_path).collect();
            archive(&folder.join(format!("{index}.tar")), image, &layers)?;
        }
        Ok(())
    })
}

/// The archives that were made.
pub fn archives(place: &Place) -> Result<Vec<PathBuf>> {
    let mut all: Vec<PathBuf> =
        fs::read_dir(place.at("images"))?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    all.retain(|path| path.extension().is_some_and(|extension| extension == "tar"));
    all.sort();
    Ok(all)
}

fn pack(root: &Path, layer: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    fs::create_dir_all(root)?;
    fill(root)?;
    run(Command::new("tar").args(["--owner=0", "--group=0", "-C"]).arg(root).arg("-cf").arg(layer).arg("."))
}

fn fill_busybox(root: &Path) -> Result<()> {
    for folder in ["bin", "etc", "root", "var", "proc", "sys", "dev", "home", "tmp"] {
        fs::create_dir_all(root.join(folder))?;
    }
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777))?;
    fs::copy("/bin/busybox", root.join("bin/busybox"))?;
    let applets = Command::new("/bin/busybox").arg("--list").output()?;
    for applet in String::from_utf8_lossy(&applets.stdout).lines().filter(|applet| *applet != "busybox") {
        symlink("busybox", root.join("bin").join(applet))?;
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")?;
    Ok(fs::write(root.join("etc/group"), "root:x:0:\nnogroup:x:65534:\n")?)
}

fn fill(place: &Place, image: &Image, root: &Path) -> Result<()> {
    for part in &image.parts {
        let (Part::Built(to, _)
        | Part::Source(to, _)
        | Part::Machine(to, _)
        | Part::Text(to, _)
        | Part::Link(to, _)
        | Part::Folder(to)) = part;
        let there = root.join(to);
        fs::create_dir_all(there.parent().context("a path in the image")?)?;
        match part {
            Part::Built(_, name) => fs::copy(place.at("bin").join(name), &there).map(drop)?,
            Part::Source(_, path) => fs::copy(source::file(place, path), &there).map(drop)?,
            Part::Machine(_, path) => fs::copy(path, &there).map(drop)?,
            Part::Text(_, text) => fs::write(&there, text)?,
            Part::Link(_, to) => symlink(to, &there)?,
            Part::Folder(_) => {
                fs::create_dir_all(&there)?;
                fs::set_permissions(&there, fs::Permissions::from_mode(0o1777))?;
            }
        }
        if there.ends_with("nnp") {
            fs::set_permissions(&there, fs::Permissions::from_mode(0o4755))?;
        }
    }
    Ok(())
}

/// An archive as `docker save` writes it.
fn archive(path: &Path, image: &Image, layers: &[&Path]) -> Result<()> {
    let root = path.with_extension("parts");
    fs::create_dir_all(&root)?;
    let mut digests = Vec::new();
    let mut names = Vec::new();
    for (index, layer) in layers.iter().enumerate() {
        let sum = Command::new("sha256sum").arg(layer).output()?;
        let sum = String::from_utf8_lossy(&sum.stdout).split(' ').next().unwrap_or_default().to_owned();
        digests.push(format!("sha256:{sum}"));
        let name = format!("{index}.tar");
        fs::hard_link(layer, root.join(&name))?;
        names.push(name);
    }
    let config = json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": digests},
        "config": {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "Entrypoint": image.entrypoint, "Cmd": image.command, "User": image.user}});
    fs::write(root.join("config.json"), config.to_string())?;
    let manifest = json!([{"Config": "config.json", "RepoTags": image.names, "Layers": names}]);
    fs::write(root.join("manifest.json"), manifest.to_string())?;
    run(Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(path).arg("."))?;
    Ok(fs::remove_dir_all(&root)?)
}
