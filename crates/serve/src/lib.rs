//! stead-serve.
