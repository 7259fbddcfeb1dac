//! Requests in, replies out.

mod reads;
mod writes;
