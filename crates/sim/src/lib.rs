//! stead-sim.
