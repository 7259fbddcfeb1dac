//! Connections into a pod's own network, for port-forward: what listens on the pod's loopback is reached too.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use crate::{Host, sys};

/// How long a program in the pod may take to accept.
const CONNECT: Duration = Duration::from_secs(10);

impl Host {
    /// Connects to a port of the pod's loopback. Blocks.
    pub fn dial(&self, pod: &str, port: u16) -> io::Result<TcpStream> {
        let sandbox = self.sandbox_record(pod)?.ok_or_else(|| io::Error::other("the pod has no sandbox"))?;
        let Some(netns) = sandbox.netns else { return connect(port) };
        // A socket belongs to the namespace it was made in, wherever it is used later; only its maker has to be inside.
        let thread = std::thread::Builder::new().name("dial".into()).spawn(move || {
            sys::setns(File::open(netns)?.as_fd(), libc::CLONE_NEWNET)?;
            connect(port)
        })?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the dialling thread panicked")))
    }
}

fn connect(port: u16) -> io::Result<TcpStream> {
    let v4 = TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), CONNECT);
    v4.or_else(|error| {
        TcpStream::connect_timeout(&SocketAddr::from((Ipv6Addr::LOCALHOST, port)), CONNECT).map_err(|_| error)
    })
}
