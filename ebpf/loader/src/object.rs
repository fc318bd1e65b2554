//! The built programs, embedded. `cargo xtask ebpf` builds them, and CI checks that they are what the sources say.

/// The object of `edge_steer` with its maps.
pub(crate) static EDGE_STEER: &[u8] = aya::include_bytes_aligned!("../../object/edge_steer.o");

/// The object of `edge_guard` with its maps.
pub(crate) static EDGE_GUARD: &[u8] = aya::include_bytes_aligned!("../../object/edge_guard.o");

/// The object of `edge_chase` with its maps.
pub(crate) static EDGE_CHASE: &[u8] = aya::include_bytes_aligned!("../../object/edge_chase.o");
