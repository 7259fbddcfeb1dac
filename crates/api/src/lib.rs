//! stead-api.
