//! The shell: threads, sockets and files around the deciding crates.

pub mod disk;
pub mod pki;
pub mod token;
