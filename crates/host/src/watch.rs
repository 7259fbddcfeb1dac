//! Waits for the end of containers: one thread, one epoll set of the shims' sockets.
//!
//! Guarantees: no polling; every watched shim's end is reported once, however it came (exit, crash, kill -9).

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::event::epoll;
use stead_node::action::ContainerRef;

/// Adds sockets to the set; dropped, the thread ends.
pub struct Watcher {
    shared: Arc<Shared>,
    /// Closed on drop, which the thread sees as an event of token 0.
    _stop: OwnedFd,
}

struct Shared {
    epoll: OwnedFd,
    sockets: Mutex<Sockets>,
}

#[derive(Default)]
struct Sockets {
    next: u64,
    open: BTreeMap<u64, (ContainerRef, UnixStream)>,
}

impl Watcher {
    /// `ended` is called in the watcher's thread.
    pub fn start(ended: impl Fn(ContainerRef) + Send + 'static) -> io::Result<Watcher> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        epoll::add(&epoll, &read, epoll::EventData::new_u64(0), epoll::EventFlags::HUP)?;
        let shared = Arc::new(Shared { epoll, sockets: Mutex::new(Sockets { next: 1, open: BTreeMap::new() }) });
        let of_thread = shared.clone();
        std::thread::Builder::new().name("containers".into()).stack_size(256 << 10).spawn(move || {
            let _stop = read;
            of_thread.run(&ended);
        })?;
        Ok(Watcher { shared, _stop: write })
    }

    pub fn watch(&self, container: ContainerRef, socket: UnixStream) -> io::Result<()> {
        let mut sockets = self.shared.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        let token = sockets.next;
        sockets.next += 1;
        let flags = epoll::EventFlags::HUP | epoll::EventFlags::RDHUP;
        epoll::add(&self.shared.epoll, &socket, epoll::EventData::new_u64(token), flags)?;
        sockets.open.insert(token, (container, socket));
        Ok(())
    }
}

impl Shared {
    fn run(&self, ended: &dyn Fn(ContainerRef)) {
        let mut events = Vec::with_capacity(64);
        loop {
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                // The set itself cannot fail while it is open: this is a bug, and without it no exit would be seen.
                Err(e) => panic!("wait for containers: {e}"),
            }
            for event in events.drain(..) {
                let token = event.data.u64();
                if token == 0 {
                    return;
                }
                let mut sockets = self.sockets.lock().unwrap_or_else(PoisonError::into_inner);
                let gone = sockets.open.remove(&token);
                drop(sockets);
                if let Some((container, socket)) = gone {
                    // Closing takes it out of the set.
                    drop(socket);
                    ended(container);
                }
            }
        }
    }
}
