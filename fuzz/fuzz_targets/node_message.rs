//! What nodes ask each other, and what joiners send: any bytes are a message or none.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| constellation_node::read_any(bytes));
