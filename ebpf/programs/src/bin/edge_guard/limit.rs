//! The buckets of sources, and the UDP flows that need none.

use constellation_ebpf_abi::bucket::Limit;
use constellation_ebpf_abi::guard::{Bucket, BucketKey, Config, FlowKey, Verdict};

use crate::maps::{GUARD_BUCKETS, GUARD_FLOWS};
use crate::tell::tell;
use crate::verdict::{Subject, is_allowed};

/// Takes a token of the subject's source; tells when there is none, unless the source is let in all the same.
#[inline(always)]
pub fn admits(config: &Config, limit: &Limit, now: u64, subject: &Subject, refusal: Verdict) -> bool {
    if limit.interval == 0 {
        return true;
    }
    let key = bucket_key(subject);
    let Some(bucket) = GUARD_BUCKETS.get_ptr_mut(&key) else {
        let bucket = Bucket {
            full_at: now + limit.interval,
            told_at: 0,
        };
        // Without room for it there is nothing to hold the source to.
        let _: Result<(), i32> = GUARD_BUCKETS.insert(&key, &bucket, 0);
        return true;
    };
    // SAFETY: the value is in the map, which outlives the program's run. Processors that race for it admit a packet too
    // many at worst.
    unsafe {
        match limit.take((*bucket).full_at, now) {
            Some(full_at) => {
                (*bucket).full_at = full_at;
                true
            }
            None => {
                if is_allowed(&subject.source) {
                    return false;
                }
                tell(config, now, subject, refusal, 0, &raw mut (*bucket).told_at);
                false
            }
        }
    }
}

#[inline(always)]
fn bucket_key(subject: &Subject) -> BucketKey {
    let mut source = subject.source.address;
    if subject.source.is_v6 {
        let [a, b, c, d, e, f, g, h, ..] = source;
        source = [a, b, c, d, e, f, g, h, 0, 0, 0, 0, 0, 0, 0, 0];
    }
    BucketKey {
        source,
        protocol: u32::from(subject.protocol),
    }
}

/// Whether packets of this flow were seen a moment ago; now they were.
#[inline(always)]
pub fn is_known(config: &Config, now: u64, subject: &Subject, source_port: [u8; 2]) -> bool {
    let Some(seen_at) = GUARD_FLOWS.get_ptr_mut(&flow_key(subject, source_port)) else {
        return false;
    };
    // SAFETY: the value is in the map; whoever writes last is right.
    unsafe {
        let is_known = now.wrapping_sub(*seen_at) < config.flow_idle;
        if is_known {
            *seen_at = now;
        }
        is_known
    }
}

/// From now on this flow is known.
#[inline(always)]
pub fn remember(now: u64, subject: &Subject, source_port: [u8; 2]) {
    // Without room for it, its next packet takes a token again.
    let _: Result<(), i32> = GUARD_FLOWS.insert(&flow_key(subject, source_port), &now, 0);
}

#[inline(always)]
fn flow_key(subject: &Subject, source_port: [u8; 2]) -> FlowKey {
    FlowKey {
        source: subject.source.address,
        source_port,
        port: subject.port,
    }
}
