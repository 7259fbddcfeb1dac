//! Requests in, replies out.

mod admitted;
mod custom;
mod reads;
mod rights;
mod writes;
