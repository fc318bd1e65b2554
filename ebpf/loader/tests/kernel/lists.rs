//! The guard's lists: what is in them, what ends, and which prefixes fit a source.

use std::net::IpAddr;
use std::time::Duration;

use constellation_ebpf_loader::BootTime;
use constellation_ebpf_loader::abi::guard::Verdict;
use constellation_ebpf_loader::guard::{Ban, Program};
use constellation_tests::require;
use ipnet::IpNet;

use crate::judge::{forever, guard, judge_ip, net};
use crate::packets::{ACK, TCP, source4, source6, tcp, v4, v6};
use crate::sandbox;

#[test]
fn a_ban_ends_and_is_swept() {
    require!(sandbox::run(|| {
        let mut guard = guard();
        let packet = v4([0, 1], TCP, &tcp(22, ACK));
        let deadline = BootTime::now() + Duration::from_millis(100);
        guard
            .deny(
                net("8.0.0.0/16"),
                Ban {
                    reason: 1,
                    until: Some(deadline),
                },
            )
            .unwrap();
        loop {
            let before = BootTime::now();
            let (verdict, _) = judge_ip(&mut guard, Program::L2, &packet);
            if before >= deadline {
                assert_eq!(verdict, Verdict::Passed, "the ban is over");
                break;
            }
            if BootTime::now() < deadline {
                assert_eq!(verdict, Verdict::Denied);
            }
        }
        guard.deny(net("8.0.0.1/32"), forever(2)).unwrap();
        assert_eq!(guard.denied().unwrap().len(), 2);
        assert_eq!(guard.sweep(BootTime::now()).unwrap(), 1);
        assert_eq!(guard.denied().unwrap(), [(net("8.0.0.1/32"), forever(2))]);
        assert_eq!(judge_ip(&mut guard, Program::L2, &packet).0, Verdict::Denied);
        assert!(guard.remove_deny(net("8.0.0.1/32")).unwrap());
        assert!(
            !guard.remove_deny(net("8.0.0.1/32")).unwrap(),
            "it is gone already"
        );
        assert_eq!(judge_ip(&mut guard, Program::L2, &packet).0, Verdict::Passed);
    }));
}

#[test]
fn prefixes_of_every_length_are_denied() {
    require!(sandbox::run(|| {
        let mut guard = guard();
        let inside = [
            v4([0x55, 0xaa], TCP, &tcp(22, ACK)),
            v6(0x55aa, 0xaa55, TCP, &tcp(22, ACK)),
        ];
        let addresses: [IpAddr; 2] = [source4([0x55, 0xaa]).into(), source6(0x55aa, 0xaa55).into()];
        for (packet, address) in inside.iter().zip(addresses) {
            let bits = if address.is_ipv4() { 32 } else { 128 };
            for length in 0..=bits {
                let fits = IpNet::new(address, length).unwrap();
                guard.deny(fits, forever(u32::from(length))).unwrap();
                let denied = judge_ip(&mut guard, Program::L2, packet).0;
                assert_eq!(denied, Verdict::Denied, "{fits}");
                assert_eq!(
                    guard.denied().unwrap(),
                    [(fits.trunc(), forever(u32::from(length)))]
                );
                assert!(guard.remove_deny(fits).unwrap());
                assert_eq!(guard.denied().unwrap(), []);
                // Its neighbour differs in the last bit that counts.
                if length > 0 {
                    let beside = beside(fits);
                    guard.deny(beside, forever(1)).unwrap();
                    let passed = judge_ip(&mut guard, Program::L2, packet).0;
                    assert_eq!(passed, Verdict::Passed, "{fits} is not {beside}");
                    assert!(guard.remove_deny(beside).unwrap());
                }
            }
        }
    }));
}

/// The other half of the prefix that is a bit shorter.
fn beside(net: IpNet) -> IpNet {
    match net.trunc() {
        IpNet::V4(net) => {
            let other = net.addr().to_bits() ^ 1 << (32 - net.prefix_len());
            ipnet::Ipv4Net::new_assert(other.into(), net.prefix_len()).into()
        }
        IpNet::V6(net) => {
            let other = net.addr().to_bits() ^ 1 << (128 - net.prefix_len());
            ipnet::Ipv6Net::new_assert(other.into(), net.prefix_len()).into()
        }
    }
}

#[test]
fn of_several_bans_any_that_is_in_force_counts() {
    require!(sandbox::run(|| {
        let mut guard = guard();
        let packet = v4([0, 1], TCP, &tcp(22, ACK));
        let over = Ban {
            reason: 1,
            until: Some(BootTime::from_nanos(1)),
        };
        let lengths = [8, 16, 20, 24, 31, 32];
        for length in lengths {
            guard.deny(net(&format!("8.0.0.1/{length}")), over).unwrap();
        }
        assert_eq!(judge_ip(&mut guard, Program::L2, &packet).0, Verdict::Passed);
        // One after another is in force. In the trie the longest one hides the others until it is swept.
        for length in [16, 24, 31, 32] {
            let net = net(&format!("8.0.0.1/{length}"));
            guard.deny(net, forever(2)).unwrap();
            assert_eq!(
                judge_ip(&mut guard, Program::L2, &packet).0,
                Verdict::Denied,
                "{net}"
            );
            guard.deny(net, over).unwrap();
            assert_eq!(
                judge_ip(&mut guard, Program::L2, &packet).0,
                Verdict::Passed,
                "{net}"
            );
        }
        guard.deny(net("8.0.0.0/8"), forever(2)).unwrap();
        assert_eq!(
            judge_ip(&mut guard, Program::L2, &packet).0,
            Verdict::Passed,
            "hidden by /31"
        );
        assert_eq!(guard.sweep(BootTime::now()).unwrap(), lengths.len() - 1);
        assert_eq!(judge_ip(&mut guard, Program::L2, &packet).0, Verdict::Denied);
        // Another process finds the same.
        drop(guard);
        let mut guard = crate::judge::guard();
        assert_eq!(judge_ip(&mut guard, Program::L2, &packet).0, Verdict::Denied);
        assert!(guard.remove_deny(net("8.0.0.0/8")).unwrap());
        assert_eq!(judge_ip(&mut guard, Program::L2, &packet).0, Verdict::Passed);
    }));
}

#[test]
fn lists_hold_what_was_put_into_them() {
    require!(sandbox::run(|| {
        let mut guard = guard();
        let ban = Ban {
            reason: 3,
            until: Some(BootTime::from_nanos(u64::MAX)),
        };
        for text in ["10.1.2.3/8", "0.0.0.0/0", "2001:db8::/32", "::/0", "192.0.2.1/32"] {
            guard.deny(net(text), ban).unwrap();
            guard.allow(net(text)).unwrap();
        }
        let expected = [
            net("0.0.0.0/0"),
            net("10.0.0.0/8"),
            net("192.0.2.1/32"),
            net("::/0"),
            net("2001:db8::/32"),
        ];
        assert_eq!(guard.denied().unwrap(), expected.map(|net| (net, ban)));
        assert_eq!(guard.allowed().unwrap(), expected);
        for net in expected {
            assert!(guard.remove_allow(net).unwrap());
        }
        assert_eq!(guard.allowed().unwrap(), []);
    }));
}
