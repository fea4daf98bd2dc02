//! quorate: sim.
