//! What a member sends to the replicated log: calls, answers to them, and snapshots. Read or refused.
#![no_main]

use constellation_cluster::raft::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some(again) = fuzzing::call(bytes) {
        assert_eq!(fuzzing::call(&again), Some(again.clone()));
    }
    fuzzing::answers(bytes);
    if let Some(again) = fuzzing::snapshot(bytes) {
        assert_eq!(fuzzing::snapshot(&again), Some(again.clone()));
    }
});
