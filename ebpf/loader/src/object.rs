//! The built programs, embedded. `cargo xtask ebpf` builds them, and CI checks that they are what the sources say.

/// Says what the objects were built from: hash of the sources, tools, hashes of the objects.
pub const MANIFEST: &str = include_str!("../../object/manifest.toml");

/// The object of `edge_steer` with its maps.
pub static EDGE_STEER: &[u8] = aya::include_bytes_aligned!("../../object/edge_steer.o");

/// The object of `edge_guard` with its maps.
pub static EDGE_GUARD: &[u8] = aya::include_bytes_aligned!("../../object/edge_guard.o");
