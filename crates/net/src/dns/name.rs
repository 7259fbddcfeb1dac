//! Domain names as they lie on the wire, in lower case.
//!
//! Contract: a [`Name`] is a sequence of labels (a length byte and 1 to 63 bytes) ended by a zero byte, at most 255 bytes in
//! all. Letters are lower case, so equal names are equal bytes (D-02).

use std::fmt;
use std::net::IpAddr;

/// The longest name, its final zero included.
pub const NAME_BYTES_MAX: usize = 255;
const LABEL_BYTES_MAX: usize = 63;

/// A whole domain name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name(Box<[u8]>);

impl Name {
    /// `None` when a label is empty or too long, or the whole is too long. A final dot makes no difference.
    pub fn parse(text: &str) -> Option<Name> {
        let text = text.strip_suffix('.').unwrap_or(text);
        match text {
            "" => Some(Name([0].into())),
            _ => Name::of_labels(text.split('.')),
        }
    }

    pub fn of_labels<'a>(labels: impl IntoIterator<Item = &'a str>) -> Option<Name> {
        let mut wire = Vec::new();
        for label in labels {
            if label.is_empty() || label.len() > LABEL_BYTES_MAX {
                return None;
            }
            wire.push(label.len() as u8);
            wire.extend(label.bytes().map(|b| b.to_ascii_lowercase()));
        }
        wire.push(0);
        (wire.len() <= NAME_BYTES_MAX).then(|| Name(wire.into()))
    }

    /// These labels before this name.
    pub fn child<'a>(&self, labels: impl IntoIterator<Item = &'a str>) -> Option<Name> {
        let head = Name::of_labels(labels)?;
        let mut wire = head.0[..head.0.len() - 1].to_vec();
        wire.extend_from_slice(&self.0);
        (wire.len() <= NAME_BYTES_MAX).then(|| Name(wire.into()))
    }

    /// The name under which addresses are looked up: `5.0.244.10.in-addr.arpa`.
    pub fn reverse(ip: IpAddr) -> Name {
        let labels: Vec<String> = match ip {
            IpAddr::V4(ip) => ip.octets().iter().rev().map(u8::to_string).chain(["in-addr".into()]).collect(),
            IpAddr::V6(ip) => {
                let nibbles = ip.octets().into_iter().rev().flat_map(|b| [b & 15, b >> 4]);
                nibbles.map(|n| format!("{n:x}")).chain(["ip6".into()]).collect()
            }
        };
        Name::of_labels(labels.iter().map(String::as_str).chain(["arpa"])).expect("reverse names are short")
    }

    pub fn wire(&self) -> &[u8] {
        &self.0
    }

    /// The name without its first label; `None` for the root.
    pub fn parent(&self) -> Option<Name> {
        match self.0[0] {
            0 => None,
            len => Some(Name(self.0[usize::from(len) + 1..].into())),
        }
    }
}

/// Maps look names up by their bytes.
impl std::borrow::Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for label in labels(&self.0) {
            write!(f, "{}.", String::from_utf8_lossy(label))?;
        }
        if self.0.len() == 1 {
            write!(f, ".")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The labels of a well-formed name, first to last.
pub fn labels(wire: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = wire;
    std::iter::from_fn(move || {
        let (len, tail) = rest.split_first().filter(|(len, _)| **len > 0)?;
        let (label, after) = tail.split_at_checked(usize::from(*len))?;
        rest = after;
        Some(label)
    })
}

/// Whether `name` is `zone` or below it.
pub fn is_within(name: &[u8], zone: &[u8]) -> bool {
    let Some(start) = name.len().checked_sub(zone.len()) else { return false };
    if name[start..] != *zone {
        return false;
    }
    // The tail must begin where a label begins.
    let mut at = 0;
    while at < start {
        at += usize::from(name[at]) + 1;
    }
    at == start
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bytes_on_the_wire() {
        let name = Name::parse("Web-0.Web.default.svc.cluster.local.").unwrap();
        assert_eq!(name.to_string(), "web-0.web.default.svc.cluster.local.");
        assert_eq!(&name.wire()[..7], b"\x05web-0\x03");
        assert_eq!(name.parent().unwrap(), Name::parse("web.default.svc.cluster.local").unwrap());
        assert_eq!(Name::parse(".").unwrap().parent(), None);
        assert_eq!(Name::parse("local").unwrap().child(["a", "b"]).unwrap().to_string(), "a.b.local.");
    }

    #[test]
    fn names_that_do_not_fit_are_none() {
        let long = "a".repeat(64);
        for text in ["a..b", ".a", &long] {
            assert_eq!(Name::parse(text), None, "{text}");
        }
        let longest = ["a".repeat(63).as_str(); 4].join(".");
        assert_eq!(Name::parse(&longest), None);
        assert!(Name::parse(&longest[2..]).is_some());
    }

    #[test]
    fn reverse_names() {
        assert_eq!(Name::reverse([10, 244, 0, 5].into()).to_string(), "5.0.244.10.in-addr.arpa.");
        let six = Name::reverse("fd00::5".parse().unwrap()).to_string();
        assert!(six.starts_with("5.0.0.0.") && six.ends_with("0.0.d.f.ip6.arpa."), "{six}");
    }

    #[test]
    fn a_name_is_within_a_zone_only_at_a_label() {
        let within =
            |name: &str, zone: &str| is_within(Name::parse(name).unwrap().wire(), Name::parse(zone).unwrap().wire());
        assert!(within("a.cluster.local", "cluster.local"));
        assert!(within("cluster.local", "cluster.local"));
        assert!(!within("local", "cluster.local"));
        assert!(!within("xcluster.local", "cluster.local"));
        // A label that ends in the bytes of the zone.
        assert!(!is_within(b"\x0ax\x07cluster\x00\x05local\x00", b"\x07cluster\x05local\x00"));
        assert!(!is_within(b"\x0fx\x07cluster\x05local\x00", b"\x07cluster\x05local\x00"));
    }
}
