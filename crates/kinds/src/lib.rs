//! stead-kinds.
