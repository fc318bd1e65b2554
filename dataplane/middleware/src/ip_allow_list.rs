//! `ipAllowList`: only clients of these addresses pass.

use pingora_http::RequestHeader;

use crate::address::{ClientAddress, Networks};
use crate::{Answer, Flow, Seen, answer};

/// Lets only these addresses pass.
#[derive(Debug)]
pub struct IpAllowList {
    ranges: Networks,
    client: ClientAddress,
    refusal: Answer,
}

impl IpAllowList {
    /// `ranges` are addresses and networks; `status` is what others get, 403 when it is absent or 0.
    pub fn new(ranges: &[String], client: ClientAddress, status: Option<i64>) -> Result<Self, String> {
        if ranges.is_empty() {
            return Err("sourceRange is empty: name the addresses and networks that may pass".to_owned());
        }
        let status = status.filter(|status| *status != 0).unwrap_or(403);
        let known = u16::try_from(status)
            .ok()
            .filter(|status| (200..=599).contains(status));
        let Some((status, text)) = known.and_then(|status| Some((status, answer::reason(status)?))) else {
            return Err(format!(
                "rejectStatusCode is {status}: write a known status from 200 to 599, such as 403"
            ));
        };
        Ok(Self {
            ranges: Networks::parse(ranges, "sourceRange")?,
            client,
            refusal: match status {
                204 | 304 => Answer::empty(status),
                _ => Answer::plain(status, text),
            },
        })
    }

    pub(crate) fn enter(&self, request: &RequestHeader, seen: &Seen<'_>) -> Flow<'static> {
        match self.client.read(request, seen) {
            Some(address) if self.ranges.contains(address) => Flow::Next,
            _ => Flow::Answer(Box::new(self.refusal.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seen::seen_from;

    fn passes(list: &IpAllowList, client: &str, forwarded: &[&str]) -> bool {
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        for line in forwarded {
            request.append_header("X-Forwarded-For", *line).unwrap();
        }
        matches!(list.enter(&request, &seen_from(client)), Flow::Next)
    }

    fn list(ranges: &[&str], client: ClientAddress) -> IpAllowList {
        let ranges: Vec<String> = ranges.iter().map(|&range| range.to_owned()).collect();
        IpAllowList::new(&ranges, client, None).unwrap()
    }

    #[test]
    fn the_connection_counts_where_nothing_else_is_asked_for() {
        let four = list(
            &["127.0.0.0/8", " 10.0.0.1 ", "::ffff:192.168.0.0/112"],
            ClientAddress::default(),
        );
        for (client, passes_) in [
            ("127.0.0.1:1", true),
            ("10.0.0.1:1", true),
            ("10.0.0.2:1", false),
            ("[::ffff:10.0.0.1]:1", true),
            ("192.168.3.4:1", true),
            ("[::1]:1", false),
        ] {
            assert_eq!(passes(&four, client, &["127.0.0.1"]), passes_, "{client}");
        }
        let six = list(&["2001:db8::/64"], ClientAddress::new(0, &[], Some(64)).unwrap());
        assert!(passes(&six, "[2001:db8::1]:1", &[]) && !passes(&six, "[2001:db8:0:1::1]:1", &[]));
        let one = list(&["2001:db8::/128"], ClientAddress::new(0, &[], Some(64)).unwrap());
        assert!(passes(&one, "[2001:db8::1]:1", &[]), "what counts is its network");
    }

    /// As the reference implementation answers.
    #[test]
    fn what_proxies_say_of_the_client() {
        let depth = |depth| list(&["10.0.0.0/8"], ClientAddress::new(depth, &[], None).unwrap());
        let excluded = ["192.168.0.0/16".to_owned(), "1.1.1.1".to_owned()];
        let excluding = list(&["10.0.0.0/8"], ClientAddress::new(-1, &excluded, None).unwrap());
        let (one, two) = (depth(1), depth(2));
        // X-Forwarded-For; who passes at depth 1, at depth 2, without the excluded
        let cases: [(&[&str], [bool; 3]); 16] = [
            (&[], [false, false, false]),
            (&[""], [false, false, false]),
            (&["10.0.0.1"], [true, false, true]),
            (&["10.0.0.1, 8.8.8.8"], [false, true, false]),
            (&["8.8.8.8, 10.0.0.1"], [true, false, true]),
            (&["8.8.8.8,10.0.0.1:80"], [true, false, true]),
            (&["10.0.0.1,192.168.1.1"], [false, true, true]),
            (&["10.0.0.1,192.168.1.1, 1.1.1.1"], [false, false, true]),
            (&["192.168.1.1"], [false, false, false]),
            (&["10.0.0.1,junk"], [false, true, false]),
            (&["junk,10.0.0.1"], [true, false, true]),
            (&["10.0.0.1, "], [false, true, true]),
            (&["::ffff:10.0.0.1"], [true, false, true]),
            (&["10.0.0.1%eth0"], [false, false, false]),
            (&["010.0.0.1"], [false, false, false]),
            (&["10.0.0.1", "8.8.8.8"], [false, true, false]),
        ];
        for (forwarded, expected) in cases {
            let found = [&one, &two, &excluding].map(|list| passes(list, "10.9.9.9:1", forwarded));
            assert_eq!(found, expected, "{forwarded:?}");
        }
        let six = list(&["2001:db8::/48"], ClientAddress::new(1, &[], Some(64)).unwrap());
        for (forwarded, expected) in [
            ("2001:db8::1", true),
            ("[2001:db8::1]", false),
            ("[2001:db8::1]:80", true),
            ("2001:db8:0:1::1", true),
            ("10.0.0.1", false),
        ] {
            assert_eq!(passes(&six, "[::1]:1", &[forwarded]), expected, "{forwarded}");
        }
    }

    #[test]
    fn the_refusal_is_the_status() {
        let refused = |status| {
            let list = IpAllowList::new(&["10.0.0.1".to_owned()], ClientAddress::default(), status).unwrap();
            let request = RequestHeader::build("GET", b"/", None).unwrap();
            match list.enter(&request, &seen_from("127.0.0.1:1")) {
                Flow::Answer(answer) => (answer.status, String::from_utf8(answer.body.to_vec()).unwrap()),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(refused(None), (403, "Forbidden".to_owned()));
        assert_eq!(refused(Some(0)), (403, "Forbidden".to_owned()));
        assert_eq!(refused(Some(404)), (404, "Not Found".to_owned()));
        assert_eq!(refused(Some(204)), (204, String::new()));
        assert_eq!(refused(Some(413)), (413, "Request Entity Too Large".to_owned()));
    }

    #[test]
    fn what_cannot_be_built_says_why() {
        let build = |ranges: &[&str], status| {
            let ranges: Vec<String> = ranges.iter().map(|&range| range.to_owned()).collect();
            IpAllowList::new(&ranges, ClientAddress::default(), status).unwrap_err()
        };
        assert!(build(&[], None).contains("sourceRange is empty"));
        for bad in ["x", "10.0.0.0/33", "fe80::1%eth0", ""] {
            assert!(
                build(&["10.0.0.1", bad], None).contains(&format!("{bad:?}")),
                "{bad}"
            );
        }
        for status in [99, 101, 103, 499, 600, 999, -1, 70_000] {
            assert!(build(&["10.0.0.1"], Some(status)).contains(&status.to_string()));
        }
        for subnet in [0, 129, -1] {
            assert!(
                ClientAddress::new(0, &[], Some(subnet))
                    .unwrap_err()
                    .contains("ipv6Subnet")
            );
        }
        assert!(
            ClientAddress::new(0, &["x".to_owned()], None)
                .unwrap_err()
                .contains("excludedIPs")
        );
    }
}
