//! Who a container runs as: names from the image's own /etc/passwd and /etc/group, never the node's.
//!
//! Upstream: the image specification's `User` (`user`, `uid`, `user:group`, …); a uid without entry is fine, a name is not.

use std::io::{self, Read};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    /// Groups that list the user, beside `gid`.
    pub groups: Vec<u32>,
    pub home: String,
}

/// `image_user` is what the image says; the pod's `uid` and `gid` win over it.
pub fn resolve(root: &Path, image_user: &str, uid: Option<u32>, gid: Option<u32>) -> Result<User, String> {
    let passwd = read_in(root, "etc/passwd").unwrap_or_default();
    let group = read_in(root, "etc/group").unwrap_or_default();
    choose(&passwd, &group, image_user, uid, gid)
}

fn choose(passwd: &str, group: &str, image_user: &str, uid: Option<u32>, gid: Option<u32>) -> Result<User, String> {
    let (user_part, group_part) = match image_user.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|g| !g.is_empty())),
        None => (image_user, None),
    };
    let wanted = match uid {
        Some(uid) => uid.to_string(),
        None if user_part.is_empty() => "0".to_string(),
        None => user_part.to_string(),
    };
    let entry = passwd.lines().map(|l| l.split(':').collect::<Vec<_>>()).filter(|f| f.len() >= 6).find(|f| {
        // A number is an id first; only without such an id could it be a name, and nobody names users so.
        if wanted.parse::<u32>().is_ok() { f[2] == wanted } else { f[0] == wanted }
    });
    let number = match (&entry, wanted.parse::<u32>()) {
        (Some(f), _) => f[2].parse().map_err(|_| format!("bad entry of user {wanted} in the image's /etc/passwd"))?,
        (None, Ok(number)) => number,
        (None, Err(_)) => return Err(format!("unable to find user {wanted}: no matching entries in passwd file")),
    };
    let primary = entry.as_ref().and_then(|f| f[3].parse().ok()).unwrap_or(0);
    let gid = match (gid, group_part.filter(|_| uid.is_none())) {
        (Some(gid), _) => gid,
        (None, Some(name)) => group_id(group, name)?,
        (None, None) => primary,
    };
    let name = entry.as_ref().map(|f| f[0]);
    Ok(User {
        uid: number,
        gid,
        groups: name.map(|n| groups_of(group, n, gid)).unwrap_or_default(),
        home: entry.as_ref().map(|f| f[5]).filter(|h| !h.is_empty()).unwrap_or("/").to_string(),
    })
}

fn group_id(group: &str, name: &str) -> Result<u32, String> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let entry = group.lines().map(|l| l.split(':').collect::<Vec<_>>()).find(|f| f.len() >= 3 && f[0] == name);
    entry
        .and_then(|f| f[2].parse().ok())
        .ok_or_else(|| format!("unable to find group {name}: no matching entries in group file"))
}

fn groups_of(group: &str, user: &str, but: u32) -> Vec<u32> {
    let fields = group.lines().map(|l| l.split(':').collect::<Vec<_>>()).filter(|f| f.len() >= 4);
    let member_of = fields.filter(|f| f[3].split(',').any(|m| m == user));
    member_of.filter_map(|f| f[2].parse().ok()).filter(|g| *g != but).collect()
}

/// Reads a file of the image; its symlinks cannot lead out of the root.
fn read_in(root: &Path, path: &str) -> io::Result<String> {
    let dir = openat(CWD, root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = openat2(&dir, path, flags, Mode::empty(), ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)?;
    let mut text = String::new();
    std::fs::File::from(file).take(1 << 20).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/srv:/bin/false\n";
    const GROUP: &str = "root:x:0:\nwww:x:34:\nlog:x:4:web,other\n";

    fn check(user: &str, uid: Option<u32>, gid: Option<u32>) -> String {
        match choose(PASSWD, GROUP, user, uid, gid) {
            Ok(u) => format!("{}:{} {:?} {}", u.uid, u.gid, u.groups, u.home),
            Err(e) => e,
        }
    }

    #[test]
    fn users_come_from_the_image_and_the_pod_wins() {
        assert_eq!(check("", None, None), "0:0 [] /root");
        assert_eq!(check("web", None, None), "33:34 [4] /srv");
        assert_eq!(check("web:log", None, None), "33:4 [] /srv");
        assert_eq!(check("33:7", None, None), "33:7 [4] /srv");
        assert_eq!(check("1000", None, None), "1000:0 [] /");
        assert_eq!(check("web:log", Some(1000), None), "1000:0 [] /");
        assert_eq!(check("web", None, Some(9)), "33:9 [4] /srv");
        assert_eq!(check("nobody", None, None), "unable to find user nobody: no matching entries in passwd file");
        assert_eq!(check("web:none", None, None), "unable to find group none: no matching entries in group file");
    }
}
