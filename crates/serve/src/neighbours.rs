//! The clusters of this machine, those that are down included: a new one must step over the ranges of all.
//!
//! One link for each cluster that has nodes, to the description in its data directory. A link whose description is gone means nothing
//! and is taken away by whoever meets it, so a data directory may be removed by any means.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use stead_net::Cidr;

use crate::config::{Config, DESCRIPTION};

/// Where the links are.
const DIRECTORY: &str = "/var/lib/stead-clusters";

/// Where clusters tell each other of themselves.
pub fn directory() -> &'static Path {
    Path::new(DIRECTORY)
}

/// While this lives, nobody else chooses ranges.
pub struct Neighbours {
    directory: PathBuf,
    _lock: File,
}

impl Neighbours {
    /// Waits for those who are choosing.
    ///
    /// # Errors
    /// When the directory cannot be made or locked.
    pub fn of_machine() -> Result<Neighbours> {
        Neighbours::in_directory(directory()).with_context(|| format!("open {DIRECTORY}"))
    }

    fn in_directory(directory: &Path) -> io::Result<Neighbours> {
        crate::files::make_dirs(directory, 0o700)?;
        let lock = File::create(directory.join("lock"))?;
        lock.lock()?;
        Ok(Neighbours { directory: directory.to_owned(), _lock: lock })
    }

    /// The ranges of all clusters.
    pub fn ranges(&self) -> Vec<Cidr> {
        let links = fs::read_dir(&self.directory).into_iter().flatten().flatten().map(|entry| entry.path());
        let links = links.filter(|path| path.is_symlink());
        links.filter_map(|link| described(&link)).flat_map(|config| [config.service_cidr, config.pod_cidr]).collect()
    }

    /// Adds a cluster whose description is written.
    ///
    /// # Errors
    /// When the link cannot be made.
    pub fn add(&self, config: &Config, data_dir: &Path) -> Result<()> {
        let link = self.directory.join(&config.id);
        let description = fs::canonicalize(data_dir.join(DESCRIPTION))?;
        if fs::read_link(&link).ok().as_ref() == Some(&description) {
            return Ok(());
        }
        let _ = fs::remove_file(&link);
        symlink(&description, &link).with_context(|| format!("link {}", link.display()))
    }
}

/// The cluster behind a link, if it is still that cluster.
fn described(link: &Path) -> Option<Config> {
    let found = fs::read_link(link).ok().and_then(|path| Config::load(path.parent()?).ok().flatten());
    let found = found.filter(|config| link.file_name().is_some_and(|name| name == config.id.as_str()));
    if found.is_none() {
        let _ = fs::remove_file(link);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Options;

    #[test]
    fn a_cluster_that_is_down_keeps_its_ranges_until_it_is_deleted() {
        let root = std::env::temp_dir().join(format!("stead-neighbours-{}", std::process::id()));
        let make = |name: &str| {
            let options = Options { data_dir: root.join(name), ..Options::default() };
            fs::create_dir_all(&options.data_dir).unwrap();
            let neighbours = Neighbours::in_directory(&root.join("clusters")).unwrap();
            let config = Config::settle(&options, &neighbours.ranges(), name).unwrap();
            config.save(&options.data_dir).unwrap();
            neighbours.add(&config, &options.data_dir).unwrap();
            config.pod_cidr.to_string()
        };
        assert_eq!(make("one"), "10.244.0.0/16");
        assert_eq!(make("two"), "10.245.0.0/16", "the first is only down");
        assert_eq!(make("one"), "10.244.0.0/16", "and comes back as it was");
        fs::remove_dir_all(root.join("one")).unwrap();
        assert_eq!(make("three"), "10.244.0.0/16", "the first is deleted");
        assert!(!root.join("clusters/one").is_symlink());
        fs::remove_dir_all(&root).unwrap();
    }
}
