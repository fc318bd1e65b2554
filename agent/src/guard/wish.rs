//! What an operator asks for, and what speaks against it: pure, so that the same is said on every way in.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::book::Book;

/// Most prefixes in one call.
const MAX_PREFIXES: usize = 131_072;
/// Longest reason, characters.
const MAX_REASON: usize = 200;
/// Longest ban with an end; anything longer can as well have none.
const MAX_LENGTH: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// Prefixes that are shorter hold more of the Internet than one means by a ban.
const SHORTEST: (u8, u8) = (8, 19);

/// The body of a call that changes a list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Wish {
    /// Networks and addresses.
    pub prefixes: Vec<String>,
    /// For how long, such as `90s` or `1h`; nothing: until it is taken back.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    pub duration: Option<String>,
    /// Why, for whoever reads the list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whatever speaks against it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
    /// Where the operator sits, where that is not the address that the call comes from (`SSH_CONNECTION`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seat: Option<IpAddr>,
}

/// Why a wish is refused; to be shown to whoever has it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

fn refused<T>(text: impl Into<String>) -> Result<T, Refused> {
    Err(Refused(text.into()))
}

/// A network or an address.
fn prefix(text: &str) -> Result<IpNet, Refused> {
    let text = text.trim();
    let example = "expected an address or a network, such as 192.0.2.1, 192.0.2.0/24 or 2001:db8::/32";
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address.to_canonical().into());
    }
    let net: IpNet = text
        .parse()
        .or_else(|_| refused(format!("{text:?} is no prefix: {example}")))?;
    if net != net.trunc() {
        return refused(format!(
            "{net} has bits beyond its prefix: write {} for the network, or {} for the one address",
            net.trunc(),
            net.addr()
        ));
    }
    if let IpNet::V6(v6) = net
        && v6.addr().to_ipv4_mapped().is_some()
    {
        return refused(format!("{net} holds IPv4 addresses in IPv6: write them as IPv4"));
    }
    Ok(net)
}

impl Wish {
    /// The prefixes, each once.
    pub(super) fn prefixes(&self) -> Result<Vec<IpNet>, Refused> {
        if self.prefixes.is_empty() {
            return refused("no prefix is named");
        }
        if self.prefixes.len() > MAX_PREFIXES {
            return refused(format!(
                "{} prefixes are named, and one call takes {MAX_PREFIXES}",
                self.prefixes.len()
            ));
        }
        let nets = self.prefixes.iter().map(|text| prefix(text));
        let mut nets = nets.collect::<Result<Vec<_>, _>>()?;
        nets.sort_unstable();
        nets.dedup();
        Ok(nets)
    }

    /// The length of the ban.
    pub(super) fn length(&self) -> Result<Option<Duration>, Refused> {
        let Some(text) = &self.duration else {
            return Ok(None);
        };
        match constellation_config::duration::parse(text) {
            Some(length) if !length.is_zero() && length <= MAX_LENGTH => Ok(Some(length)),
            _ => refused(format!(
                "{text:?} is no length of a ban: expected a duration such as 90s, 1h or 720h, at most ten years"
            )),
        }
    }

    /// The reason, in one line.
    pub(super) fn reason(&self) -> Result<&str, Refused> {
        let reason = self.reason.as_deref().unwrap_or_default().trim();
        if reason.chars().count() > MAX_REASON {
            return refused(format!("the reason is longer than {MAX_REASON} characters"));
        }
        if reason.chars().any(char::is_control) {
            return refused("the reason holds control characters: write one line of text");
        }
        Ok(reason)
    }

    /// What speaks against denying these, as far as it can be told: then it takes `force`. Otherwise what there is to say
    /// about it. `caller` is where the call comes from, `own` the addresses of this host.
    pub(super) fn check_denial(
        &self,
        nets: &[IpNet],
        book: &Book,
        caller: Option<IpAddr>,
        own: &[IpAddr],
    ) -> Result<Vec<String>, Refused> {
        let mut notes = Vec::new();
        for net in nets {
            if book.allows_all_of(net) {
                notes.push(format!(
                    "{net} is on the allow list as a whole, which wins: this ban does nothing"
                ));
                continue;
            }
            let seats = [caller, self.seat];
            let seats = seats.iter().flatten().map(IpAddr::to_canonical);
            let mut seats = seats.filter(|seat| !seat.is_loopback() && !book.allows(*seat));
            let against = if net.prefix_len() == 0 {
                Some(format!("{net} is everybody"))
            } else if let Some(seat) = seats.find(|seat| net.contains(seat)) {
                Some(format!("{net} holds {seat}, where you come from"))
            } else if is_short(net) {
                Some(format!(
                    "{net} is more than 1/256 of IPv4, or as large a part of IPv6"
                ))
            } else {
                None
            };
            match against {
                Some(against) if !self.force => {
                    return refused(format!(
                        "{against}. Allow your own address first (`constellation guard allow ADDRESS`; the allow list \
                         always wins), or say --force (\"force\": true)"
                    ));
                }
                Some(against) => notes.push(format!("{against}; it was forced")),
                None => {}
            }
            let held = own.iter().filter(|own| net.contains(*own) && !own.is_loopback());
            for own in held {
                notes.push(format!(
                    "{net} holds {own}, an address of this host: neighbours in that network are denied, too"
                ));
            }
        }
        Ok(notes)
    }
}

fn is_short(net: &IpNet) -> bool {
    match net {
        IpNet::V4(v4) => v4.prefix_len() < SHORTEST.0,
        IpNet::V6(v6) => v6.prefix_len() < SHORTEST.1,
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::super::book::Allowance;
    use super::*;

    fn wish(prefixes: &[&str]) -> Wish {
        Wish {
            prefixes: prefixes.iter().map(|&text| text.to_owned()).collect(),
            ..Wish::default()
        }
    }

    fn checked(wish: &Wish, book: &Book, caller: &str) -> Result<Vec<String>, Refused> {
        let own = ["192.0.2.1".parse().unwrap()];
        wish.check_denial(&wish.prefixes()?, book, caller.parse().ok(), &own)
    }

    #[test]
    fn prefixes_are_read_and_what_is_none_is_named() {
        let nets = wish(&["192.0.2.1", "::ffff:192.0.2.1", "2001:db8::/32"])
            .prefixes()
            .unwrap();
        let texts: Vec<_> = nets.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["192.0.2.1/32", "2001:db8::/32"]);
        let table = [
            ("", "is no prefix"),
            ("192.0.2.0/33", "is no prefix"),
            ("host.test", "is no prefix"),
            ("192.0.2.1/24", "write 192.0.2.0/24 for the network, or 192.0.2.1"),
            ("::ffff:0:0/96", "write them as IPv4"),
        ];
        for (text, words) in table {
            let error = wish(&[text]).prefixes().unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
        assert!(wish(&[]).prefixes().is_err());
    }

    #[test]
    fn lengths_and_reasons_have_limits() {
        let with = |duration: &str| Wish {
            duration: Some(duration.to_owned()),
            ..Wish::default()
        };
        assert_eq!(with("1h").length(), Ok(Some(Duration::from_secs(3600))));
        assert_eq!(Wish::default().length(), Ok(None));
        for wrong in ["0", "-1s", "soon", "100000h"] {
            assert!(with(wrong).length().is_err(), "{wrong}");
        }
        let because = |reason: String| Wish {
            reason: Some(reason),
            ..Wish::default()
        };
        assert_eq!(because(" scans ".to_owned()).reason(), Ok("scans"));
        assert!(because("a\nb".to_owned()).reason().is_err());
        assert!(because("x".repeat(201)).reason().is_err());
    }

    #[test]
    fn nobody_locks_themselves_out_unasked() {
        let book = Book::default();
        let table = [
            ("0.0.0.0/0", "203.0.113.9", "is everybody"),
            ("::/0", "203.0.113.9", "is everybody"),
            (
                "203.0.113.0/24",
                "203.0.113.9",
                "holds 203.0.113.9, where you come from",
            ),
            ("203.0.113.9", "::ffff:203.0.113.9", "where you come from"),
            ("0.0.0.0/1", "203.0.113.9", "1/256"),
            ("2000::/3", "203.0.113.9", "1/256"),
        ];
        for (prefix, caller, words) in table {
            let error = checked(&wish(&[prefix]), &book, caller).unwrap_err().to_string();
            assert!(
                error.contains(words) && error.contains("--force"),
                "{prefix}: {error}"
            );
            let forced = Wish {
                force: true,
                ..wish(&[prefix])
            };
            let notes = checked(&forced, &book, caller).unwrap();
            assert!(notes[0].contains("it was forced"), "{notes:?}");
        }
        // Through a shell on the machine itself, it is where that comes from that counts.
        let seated = Wish {
            seat: Some("198.51.100.7".parse().unwrap()),
            ..wish(&["198.51.100.0/24"])
        };
        assert!(checked(&seated, &book, "127.0.0.1").is_err());
        assert_eq!(
            checked(&wish(&["198.51.100.0/24"]), &book, "127.0.0.1"),
            Ok(Vec::new())
        );
        let notes = checked(&wish(&["192.0.2.0/24"]), &book, "127.0.0.1").unwrap();
        assert!(
            notes[0].contains("192.0.2.1, an address of this host"),
            "{notes:?}"
        );
    }

    #[test]
    fn who_is_allowed_may_deny_around_themselves() {
        let mut book = Book::default();
        let allowance = Allowance {
            reason: "".into(),
            made: SystemTime::UNIX_EPOCH,
        };
        book.allow(&[("203.0.113.9/32".parse().unwrap(), allowance)])
            .unwrap();
        assert_eq!(
            checked(&wish(&["203.0.113.0/24"]), &book, "203.0.113.9"),
            Ok(Vec::new())
        );
        let notes = checked(&wish(&["203.0.113.9"]), &book, "203.0.113.9").unwrap();
        assert!(notes[0].contains("this ban does nothing"), "{notes:?}");
    }
}
