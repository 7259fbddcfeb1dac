//! Requests in, replies out.

mod admitted;
mod ages;
mod conversion;
mod custom;
mod forms;
mod kinds;
mod limits;
mod nodes;
mod notes;
mod old;
mod pods;
mod policies;
mod reads;
mod rights;
mod rubbish;
mod rules;
mod speed;
mod strict;
mod unstored;
mod webhooks;
mod writes;
