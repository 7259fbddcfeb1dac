//! Reviews: questions asked by POST whose answers are not stored.
