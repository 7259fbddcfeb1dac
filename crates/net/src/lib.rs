//! stead-net.
