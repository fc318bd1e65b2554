//! The message itself (RFC 8446 section 4.1.2), and the extensions that choose the way.

use std::net::IpAddr;

use smallvec::SmallVec;

use super::{ClientHello, Fault, MAX_PROTOCOLS, MESSAGE_HEADER};

/// Version and random.
const FIXED: usize = 2 + 32;
/// Extension types (IANA, "TLS ExtensionType Values").
const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;
/// The only type of names there is (RFC 6066 section 3).
const HOST_NAME: u8 = 0;
/// Longest name without its trailing dot, and longest label (RFC 1035 section 2.3.4).
const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;

/// Reads a whole message with its header.
pub(super) fn read(message: &[u8]) -> Result<ClientHello, Fault> {
    let mut fields = Fields(message);
    fields.take(MESSAGE_HEADER + FIXED)?;
    let session_id = fields.behind_u8()?;
    let cipher_suites = fields.behind_u16()?;
    let compressions = fields.behind_u8()?;
    let sound = session_id.len() <= 32
        && !cipher_suites.is_empty()
        && cipher_suites.len().is_multiple_of(2)
        && !compressions.is_empty();
    if !sound {
        return Err(Fault::Malformed);
    }
    let mut hello = ClientHello::default();
    if fields.is_empty() {
        return Ok(hello);
    }
    let mut extensions = Fields(fields.behind_u16()?);
    fields.end()?;
    let (mut name, mut alpn) = (None, None);
    while !extensions.is_empty() {
        let kind = extensions.u16()?;
        let data = extensions.behind_u16()?;
        let read = match kind {
            SERVER_NAME => &mut name,
            ALPN => &mut alpn,
            _ => continue,
        };
        if read.replace(data).is_some() {
            return Err(Fault::Duplicate);
        }
    }
    if let Some(data) = name {
        hello.server_name = server_name(data)?;
    }
    if let Some(data) = alpn {
        hello.alpn = protocols(data)?;
    }
    Ok(hello)
}

/// The one host name of a list of names.
fn server_name(data: &[u8]) -> Result<Option<Box<str>>, Fault> {
    let mut fields = Fields(data);
    let mut list = Fields(fields.behind_u16()?);
    fields.end()?;
    if list.is_empty() {
        return Err(Fault::ServerName);
    }
    let mut host = None;
    while !list.is_empty() {
        // Of a type that doesn't exist yet only the length is guessed, as other readers do.
        let kind = list.u8()?;
        let name = list.behind_u16()?;
        if kind == HOST_NAME && host.replace(name).is_some() {
            return Err(Fault::ServerName);
        }
    }
    host.map_or(Ok(None), host_name)
}

/// A name in the form in which rules know it: lower case, without a trailing dot. `None`: an IP address, which is no
/// name.
pub fn host_name(raw: &[u8]) -> Result<Option<Box<str>>, Fault> {
    let text = std::str::from_utf8(raw).map_err(|_| Fault::ServerName)?;
    let name = text.strip_suffix('.').unwrap_or(text);
    if name.parse::<IpAddr>().is_ok() {
        return Ok(None);
    }
    let sound = name.len() <= MAX_NAME
        && name.split('.').all(|label| {
            let mut letters = label.bytes();
            (1..=MAX_LABEL).contains(&label.len())
                && letters.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        });
    if !sound {
        return Err(Fault::ServerName);
    }
    Ok(Some(name.to_ascii_lowercase().into()))
}

/// The list of protocols, checked and otherwise as it is.
fn protocols(data: &[u8]) -> Result<SmallVec<[u8; 24]>, Fault> {
    let mut fields = Fields(data);
    let list = fields.behind_u16()?;
    fields.end()?;
    let mut entries = Fields(list);
    let mut count = 0;
    while !entries.is_empty() {
        count += 1;
        if entries.behind_u8()?.is_empty() || count > MAX_PROTOCOLS {
            return Err(Fault::Alpn);
        }
    }
    match count {
        0 => Err(Fault::Alpn),
        _ => Ok(SmallVec::from_slice(list)),
    }
}

/// Fields one after another, integers in network order.
struct Fields<'b>(&'b [u8]);

impl<'b> Fields<'b> {
    fn take(&mut self, count: usize) -> Result<&'b [u8], Fault> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Fault::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn u8(&mut self) -> Result<u8, Fault> {
        let (first, rest) = self.0.split_first().ok_or(Fault::Malformed)?;
        self.0 = rest;
        Ok(*first)
    }

    fn u16(&mut self) -> Result<u16, Fault> {
        Ok(u16::from_be_bytes([self.u8()?, self.u8()?]))
    }

    /// A field behind its length of one byte.
    fn behind_u8(&mut self) -> Result<&'b [u8], Fault> {
        let length = self.u8()?;
        self.take(usize::from(length))
    }

    /// A field behind its length of two bytes.
    fn behind_u16(&mut self) -> Result<&'b [u8], Fault> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn end(&self) -> Result<(), Fault> {
        if self.is_empty() {
            Ok(())
        } else {
            Err(Fault::Malformed)
        }
    }
}
