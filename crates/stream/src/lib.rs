//! stead-stream.
