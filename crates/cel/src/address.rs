//! URLs, addresses and ranges of addresses, as expressions hold them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::error::{Error, Result};

/// An absolute URL or an absolute path, taken apart.
#[derive(Debug)]
pub struct Url {
    pub text: String,
    pub scheme: String,
    /// With the port.
    pub host: String,
    pub path: String,
    pub query: String,
}

impl Url {
    pub fn parse(text: &str) -> Result<Url> {
        let wrong = || {
            Error::failed(format!(
                "URL parse error during conversion from string: parse {text:?}: invalid URI for request"
            ))
        };
        if text.is_empty() || text.chars().any(|c| c.is_control() || c == ' ') {
            return Err(wrong());
        }
        let is_scheme = |scheme: &str| {
            scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
        };
        let (scheme, rest) = match text.split_once(':') {
            Some((scheme, rest)) if is_scheme(scheme) => (scheme, rest),
            _ if text.starts_with('/') => ("", text),
            _ => return Err(wrong()),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let (before, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (host, path) = match before.strip_prefix("//").filter(|_| !scheme.is_empty()) {
            Some(after) => after.split_at(after.find('/').unwrap_or(after.len())),
            None if before.starts_with('/') => ("", before),
            None => return Err(wrong()),
        };
        let host = host.rsplit('@').next().unwrap_or_default();
        let (name, port) = split_port(host);
        let is_port = port.bytes().all(|byte| byte.is_ascii_digit());
        let is_bracketed = !name.contains(':') || host.starts_with('[');
        if !is_port || !is_bracketed || !is_escaped(path) {
            return Err(wrong());
        }
        let own = str::to_owned;
        Ok(Url {
            text: own(text),
            scheme: scheme.to_ascii_lowercase(),
            host: own(host),
            path: own(path),
            query: own(query),
        })
    }

    pub fn host_and_port(&self) -> (String, String) {
        let (name, port) = split_port(&self.host);
        (name.trim_matches(['[', ']']).to_owned(), port.to_owned())
    }
}

fn split_port(host: &str) -> (&str, &str) {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, port),
        _ => (host, ""),
    }
}

/// Whether every percent sign begins an escape.
fn is_escaped(text: &str) -> bool {
    text.split('%').skip(1).all(|part| part.get(..2).is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit())))
}

/// A range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    pub ip: IpAddr,
    pub bits: u8,
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.bits)
    }
}

impl Cidr {
    pub fn parse(text: &str) -> Result<Cidr> {
        let wrong = || {
            Error::failed(format!(
                "CIDR parse error during conversion from string: netip.ParsePrefix({text:?}): invalid"
            ))
        };
        let (ip, bits) = text.split_once('/').ok_or_else(wrong)?;
        let ip = parse_ip(ip).map_err(|_| wrong())?;
        let is_number =
            !bits.is_empty() && bits.bytes().all(|b| b.is_ascii_digit()) && (bits == "0" || !bits.starts_with('0'));
        let bits: u8 = bits.parse().ok().filter(|_| is_number).ok_or_else(wrong)?;
        if bits > if ip.is_ipv4() { 32 } else { 128 } {
            return Err(wrong());
        }
        Ok(Cidr { ip, bits })
    }

    pub fn masked(self) -> Cidr {
        let ip = match self.ip {
            IpAddr::V4(ip) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from(u32::from(ip) & mask))
            }
            IpAddr::V6(ip) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from(u128::from(ip) & mask))
            }
        };
        Cidr { ip, bits: self.bits }
    }

    pub fn contains(self, ip: IpAddr) -> bool {
        ip.is_ipv4() == self.ip.is_ipv4() && Cidr { ip, bits: self.bits }.masked() == self.masked()
    }
}

pub fn parse_ip(text: &str) -> Result<IpAddr> {
    let wrong =
        |why: &str| Error::failed(format!("IP Address {text:?} parse error during conversion from string: {why}"));
    let ip: IpAddr = text.parse().map_err(|_| wrong(&format!("ParseAddr({text:?}): unable to parse IP")))?;
    match ip {
        IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some() => {
            Err(Error::failed("IPv4-mapped IPv6 address is not allowed"))
        }
        ip => Ok(ip),
    }
}
