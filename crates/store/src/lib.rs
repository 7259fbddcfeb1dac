//! stead-store.
