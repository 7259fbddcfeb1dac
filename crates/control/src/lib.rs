//! stead-control.
