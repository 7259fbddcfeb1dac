//! stead-host.
