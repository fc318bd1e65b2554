//! Listening sockets: one per address and worker, with `SO_REUSEPORT`.
