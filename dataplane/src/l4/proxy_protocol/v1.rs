//! Version 1: one line of text.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Addresses, Fault, MAX_V1, ProxyHeader, Tlvs};

/// How a line begins.
pub(super) const BEGIN: &[u8] = b"PROXY ";
/// The family of connections that have no addresses.
const UNKNOWN: &[u8] = b"UNKNOWN";

/// `None`: its end has not arrived.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<(ProxyHeader, usize)>, Fault> {
    let within = bytes.get(..MAX_V1).unwrap_or(bytes);
    let Some(end) = within.iter().position(|byte| *byte == b'\n') else {
        return match within.len() == MAX_V1 {
            true => Err(Fault::TooLong),
            false => Ok(None),
        };
    };
    let line = within.get(BEGIN.len()..end);
    let line = line
        .and_then(|line| line.strip_suffix(b"\r"))
        .ok_or(Fault::Line)?;
    // What follows the word is to be ignored.
    let unknown = line
        .strip_prefix(UNKNOWN)
        .is_some_and(|rest| matches!(rest, [] | [b' ', ..]));
    let header = ProxyHeader {
        addresses: if unknown { None } else { Some(addresses(line)?) },
        tlvs: Tlvs::default(),
    };
    Ok(Some((header, end + 1)))
}

/// What stands between `PROXY ` and the end of the line.
fn addresses(line: &[u8]) -> Result<Addresses, Fault> {
    let mut words = std::str::from_utf8(line).map_err(|_| Fault::Line)?.split(' ');
    let family = words.next();
    let mut word = || words.next().ok_or(Fault::Line);
    let (source, destination, from, to) = (word()?, word()?, word()?, word()?);
    if words.next().is_some() {
        return Err(Fault::Line);
    }
    let ip = |text: &str| -> Result<IpAddr, Fault> {
        match family {
            Some("TCP4") => text.parse::<Ipv4Addr>().map(Into::into),
            Some("TCP6") => text.parse::<Ipv6Addr>().map(Into::into),
            _ => return Err(Fault::Line),
        }
        .map_err(|_| Fault::Line)
    };
    let source = SocketAddr::new(ip(source)?, port(from)?);
    let destination = SocketAddr::new(ip(destination)?, port(to)?);
    Ok(Addresses::new(source, destination))
}

/// A decimal without sign or leading zeros.
fn port(text: &str) -> Result<u16, Fault> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain).ok_or(Fault::Line)
}

pub(super) fn encode(addresses: Option<Addresses>) -> Vec<u8> {
    let Some(addresses) = addresses else {
        return b"PROXY UNKNOWN\r\n".to_vec();
    };
    let (source, destination) = addresses.in_one_family();
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    format!(
        "PROXY {family} {} {} {} {}\r\n",
        source.ip(),
        destination.ip(),
        source.port(),
        destination.port()
    )
    .into_bytes()
}
