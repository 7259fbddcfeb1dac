//! stead-node.

pub mod action;
