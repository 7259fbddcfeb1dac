//! URLs, addresses and ranges of addresses.

use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;

use super::row::{Cost, Row, no_overload, text};
use stead_api::request::decode_plus;

use crate::address::{Cidr, Url, parse_ip};
use crate::error::{Error, Result};
use crate::value::Value;

pub(super) const TABLE: &[Row] = &[
    ("url", &["(string) url"], |args| Ok(Value::Url(Rc::new(Url::parse(text(&args[0])?)?))), Cost::Scan),
    ("isURL", &["(string) bool"], |args| Ok(Url::parse(text(&args[0])?).is_ok().into()), Cost::Scan),
    ("getScheme", &["url.() string"], |args| Ok(url(&args[0])?.scheme.clone().into()), Cost::One),
    ("getHost", &["url.() string"], |args| Ok(url(&args[0])?.host.clone().into()), Cost::One),
    ("getHostname", &["url.() string"], |args| Ok(url(&args[0])?.host_and_port().0.into()), Cost::One),
    ("getPort", &["url.() string"], |args| Ok(url(&args[0])?.host_and_port().1.into()), Cost::One),
    ("getEscapedPath", &["url.() string"], |args| Ok(url(&args[0])?.path.clone().into()), Cost::One),
    ("getQuery", &["url.() map<string,list<string>>"], query, Cost::One),
    ("ip", &["(string) ip", "cidr.() ip"], ip, Cost::Scan),
    ("isIP", &["(string) bool"], |args| Ok(parse_ip(text(&args[0])?).is_ok().into()), Cost::Scan),
    (
        "ip.isCanonical",
        &["(string) bool"],
        |args| {
            let text = text(&args[0])?;
            Ok((parse_ip(text)?.to_string() == text).into())
        },
        Cost::Scan,
    ),
    ("family", &["ip.() int"], |args| Ok(Value::Int(if address(&args[0])?.is_ipv4() { 4 } else { 6 })), Cost::One),
    ("isUnspecified", &["ip.() bool"], |args| Ok(address(&args[0])?.is_unspecified().into()), Cost::One),
    ("isLoopback", &["ip.() bool"], |args| Ok(address(&args[0])?.is_loopback().into()), Cost::One),
    ("isLinkLocalMulticast", &["ip.() bool"], |args| Ok(is_link_local_multicast(address(&args[0])?).into()), Cost::One),
    ("isLinkLocalUnicast", &["ip.() bool"], |args| Ok(is_link_local(address(&args[0])?).into()), Cost::One),
    (
        "isGlobalUnicast",
        &["ip.() bool"],
        |args| {
            let ip = address(&args[0])?;
            let is_broadcast = ip == IpAddr::V4(Ipv4Addr::BROADCAST);
            let is_special = ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || is_link_local(ip);
            Ok((!is_broadcast && !is_special).into())
        },
        Cost::One,
    ),
    ("cidr", &["(string) cidr"], |args| Ok(Value::Cidr(Cidr::parse(text(&args[0])?)?)), Cost::Scan),
    ("isCIDR", &["(string) bool"], |args| Ok(Cidr::parse(text(&args[0])?).is_ok().into()), Cost::Scan),
    (
        "containsIP",
        &["cidr.(ip) bool", "cidr.(string) bool"],
        |args| {
            let ip = match &args[1] {
                Value::String(text) => parse_ip(text)?,
                other => address(other)?,
            };
            Ok(range(&args[0])?.contains(ip).into())
        },
        Cost::One,
    ),
    (
        "containsCIDR",
        &["cidr.(cidr) bool", "cidr.(string) bool"],
        |args| {
            let other = match &args[1] {
                Value::String(text) => Cidr::parse(text)?,
                other => range(other)?,
            };
            let own = range(&args[0])?;
            Ok((own.contains(other.ip) && own.bits <= other.bits).into())
        },
        Cost::One,
    ),
    ("masked", &["cidr.() cidr"], |args| Ok(Value::Cidr(range(&args[0])?.masked())), Cost::One),
    ("prefixLength", &["cidr.() int"], |args| Ok(Value::Int(i64::from(range(&args[0])?.bits))), Cost::One),
];

fn url<'b>(value: &'b Value<'_>) -> Result<&'b Url> {
    match value {
        Value::Url(url) => Ok(url),
        _ => Err(Error::no_overload()),
    }
}

fn query<'a>(args: &[Value<'a>]) -> Result<Value<'a>> {
    use crate::value::{Key, Text};
    let mut found: std::collections::BTreeMap<String, Vec<Value<'a>>> = Default::default();
    for pair in url(&args[0])?.query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        found.entry(decode_plus(name)).or_default().push(decode_plus(value).into());
    }
    let entries = found.into_iter().map(|(name, values)| (Key::String(Text::Made(name.into())), values.into()));
    Ok(Value::Map(Rc::new(entries.collect())))
}

fn address(value: &Value<'_>) -> Result<IpAddr> {
    match value {
        Value::Ip(ip) => Ok(*ip),
        _ => Err(Error::no_overload()),
    }
}

fn range(value: &Value<'_>) -> Result<Cidr> {
    match value {
        Value::Cidr(cidr) => Ok(*cidr),
        _ => Err(Error::no_overload()),
    }
}

fn ip<'a>(args: &[Value<'a>]) -> Result<Value<'a>> {
    match &args[0] {
        Value::String(text) => Ok(Value::Ip(parse_ip(text)?)),
        Value::Cidr(cidr) => Ok(Value::Ip(cidr.ip)),
        _ => no_overload(),
    }
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

fn is_link_local_multicast(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.octets()[..3] == [224, 0, 0],
        IpAddr::V6(ip) => ip.segments()[0] & 0xff0f == 0xff02,
    }
}
