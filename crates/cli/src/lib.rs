//! stead-cli.
