//! Ports of the machine that its processes listen on, as the kernel lists them.

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};

use stead_net::proxy::{Claim, Protocol};

/// The state of a socket that waits for whoever comes.
const LISTENS: &str = "0A";
const UNCONNECTED: &str = "07";

/// Those that IPv4 reaches.
pub fn listeners() -> BTreeSet<Claim> {
    let tables = [
        ("tcp", Protocol::Tcp, LISTENS),
        ("tcp6", Protocol::Tcp, LISTENS),
        ("udp", Protocol::Udp, UNCONNECTED),
        ("udp6", Protocol::Udp, UNCONNECTED),
    ];
    let mut found = BTreeSet::new();
    for (table, protocol, state) in tables {
        let text = fs::read_to_string(format!("/proc/self/net/{table}")).unwrap_or_default();
        found.extend(text.lines().skip(1).filter_map(|line| listener(line, protocol, state)));
    }
    found
}

/// A line: number, own address, other's address, state, and more.
fn listener(line: &str, protocol: Protocol, state: &str) -> Option<Claim> {
    let mut words = line.split_whitespace();
    let (address, port) = words.nth(1)?.split_once(':')?;
    if words.nth(1) != Some(state) {
        return None;
    }
    let address = ipv4(address)?;
    let address = Some(address).filter(|address| !address.is_unspecified());
    Some(Claim { port: u16::from_str_radix(port, 16).ok()?, protocol, address })
}

/// Addresses are words of 32 bits as this machine has them in memory. None for one that IPv4 does not reach.
fn ipv4(hex: &str) -> Option<Ipv4Addr> {
    let word = |from: usize| u32::from_str_radix(hex.get(from..from + 8)?, 16).ok().map(u32::to_ne_bytes);
    if hex.len() == 8 {
        return word(0).map(Ipv4Addr::from);
    }
    let mut bytes = [0; 16];
    for (nth, four) in bytes.chunks_exact_mut(4).enumerate() {
        four.copy_from_slice(&word(nth * 8)?);
    }
    match Ipv6Addr::from(bytes) {
        Ipv6Addr::UNSPECIFIED => Some(Ipv4Addr::UNSPECIFIED),
        address => address.to_ipv4_mapped(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    #[test]
    fn who_listens_is_found() {
        let one = TcpListener::bind("127.0.0.1:0").unwrap();
        let all = UdpSocket::bind("0.0.0.0:0").unwrap();
        let (of_one, of_all) = (one.local_addr().unwrap().port(), all.local_addr().unwrap().port());
        let claim = |port, protocol, address| Claim { port, protocol, address };
        let found = listeners();
        assert!(found.contains(&claim(of_one, Protocol::Tcp, Some(Ipv4Addr::LOCALHOST))), "{found:?}");
        assert!(found.contains(&claim(of_all, Protocol::Udp, None)), "{found:?}");
        drop(one);
        assert!(!listeners().contains(&claim(of_one, Protocol::Tcp, Some(Ipv4Addr::LOCALHOST))));
    }

    #[test]
    fn lines_of_the_kernel_are_read() {
        let of = |line: &str| listener(line, Protocol::Tcp, LISTENS).map(|claim| claim.to_string());
        let all = "  0: 00000000000000000000000000000000:7531 00000000000000000000000000000000:0000 0A 0";
        assert_eq!(of(all).as_deref(), Some("*:30001/TCP"));
        assert_eq!(of("  1: 0100007F:1F90 0100007F:C350 01 0"), None, "it is connected");
        assert_eq!(of("  2: B80D0120000000000000000001000000:7531 00000000000000000000000000000000:0000 0A 0"), None);
        assert_eq!(of("nonsense"), None);
    }
}
