//! What a ClientHello asks for, read from bytes that are left where they are.
//!
//! [`HelloReader`] is shown everything that has arrived so far, again and again, until it knows. It goes over the
//! [`records`] and keeps its place, so that a hello that comes byte by byte costs no more than one that comes
//! at once; [`message`] reads the message when the last byte of it is there. A hello may lie in several records, and a
//! record in several segments. Whether the hello is good enough for TLS is for whoever ends it to say: refused here is
//! what two readers could understand differently, because then the name that chose the way would not be the name that is
//! served.
//!
//! With ECH (RFC 9849) the name seen here is the public one of the outer hello.

mod message;
mod records;
#[cfg(test)]
mod tests;

pub use message::host_name;
use smallvec::SmallVec;

/// Most bytes of the message, header included. A browser's hello has about 2 KiB with a post-quantum key share
/// (ML-KEM-768: 1,184 bytes). Room is left for several larger shares, for padding, for session tickets that carry
/// certificates, and for all of it twice with ECH. nginx and HAProxy stop at their buffers of 16 KiB.
pub const MAX_MESSAGE: usize = 32 * 1024;
/// Most bytes on the wire, record headers included: twice the message, which lets records be as short as five bytes.
pub const MAX_BYTES: usize = 2 * MAX_MESSAGE;
/// Most protocols of an ALPN offer; clients make two or three.
pub const MAX_PROTOCOLS: usize = 64;

/// Content type of handshake records, the first byte of every TLS connection (RFC 8446 section 5.1).
pub(crate) const HANDSHAKE: u8 = 0x16;
/// First byte of what all versions of SSL 3 and TLS write as theirs in a record.
const MAJOR: u8 = 3;
/// Handshake type of a ClientHello.
const CLIENT_HELLO: u8 = 1;
/// Before the message: type, length.
const MESSAGE_HEADER: usize = 4;

/// What the bytes so far are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// No TLS.
    NotTls,
    /// It may become a hello, for which at least so many more bytes are needed (never 0). That it becomes none can show
    /// with fewer: look again when anything has arrived.
    More(usize),
    /// TLS, or meant as such, and to be refused.
    Malformed(Fault),
    /// A hello.
    Hello(ClientHello),
}

/// What a ClientHello asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The name in lower case and without a trailing dot; `None` when there is none, or an IP address, which is no name
    /// (RFC 6066 section 3).
    pub server_name: Option<Box<str>>,
    /// The protocols offered, each behind its length, as they were on the wire.
    alpn: SmallVec<[u8; 24]>,
}

impl ClientHello {
    /// Reads all the bytes that have arrived at once. To be asked repeatedly, use [`HelloReader`].
    pub fn parse(bytes: &[u8]) -> Progress {
        HelloReader::default().read(bytes)
    }

    /// The protocols offered by ALPN, in the client's order of preference.
    pub fn alpn(&self) -> SmallVec<[&[u8]; 8]> {
        let mut protocols = SmallVec::new();
        let mut rest = &*self.alpn;
        while let Some((length, after)) = rest.split_first() {
            let Some((protocol, after)) = after.split_at_checked(usize::from(*length)) else {
                break;
            };
            protocols.push(protocol);
            rest = after;
        }
        protocols
    }
}

/// Why a hello is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The hello of SSL 2, which has no names.
    #[error("an SSL 2 hello")]
    Ssl2,
    /// A record without content or with too much, or one of another type or version between those of the hello.
    #[error("a TLS record that can't be part of a ClientHello")]
    Record,
    /// The handshake does not begin with a ClientHello.
    #[error("a TLS handshake that does not begin with a ClientHello")]
    NotClientHello,
    /// More than [`MAX_MESSAGE`], or [`MAX_BYTES`] with record headers.
    #[error("the ClientHello is too long")]
    TooLong,
    /// A length inside that leads beyond its frame, or leaves something over.
    #[error("the ClientHello is malformed")]
    Malformed,
    /// An extension that was read appears twice.
    #[error("the ClientHello has an extension twice")]
    Duplicate,
    /// The list of names is empty or has more than one host name, or the name is no host name.
    #[error("the server name of the ClientHello is no host name")]
    ServerName,
    /// The list of protocols is empty, has an empty entry, or more than [`MAX_PROTOCOLS`].
    #[error("the ALPN offer of the ClientHello is malformed")]
    Alpn,
}

/// Reads a ClientHello from bytes that grow. One reader sees one connection; once it has said anything but
/// [`Progress::More`] it is done.
#[derive(Clone, Copy, Debug, Default)]
pub struct HelloReader {
    /// Where the first record begins that was not there in full.
    at: usize,
    /// Bytes of the message in the records before it.
    before: usize,
    /// Bytes of the whole message, once its header was seen.
    total: Option<usize>,
}

impl HelloReader {
    /// Looks at all bytes from the first on that have arrived; each call is shown those of the call before, and more.
    /// The work of all calls together is linear in the bytes, and in their number.
    pub fn read(&mut self, bytes: &[u8]) -> Progress {
        self.advance(bytes).unwrap_or_else(Progress::Malformed)
    }

    fn advance(&mut self, bytes: &[u8]) -> Result<Progress, Fault> {
        if let Some(progress) = first_bytes(bytes)? {
            return Ok(progress);
        }
        loop {
            let record = match records::at(bytes, self.at)? {
                Ok(record) => record,
                Err(missing) => return Ok(Progress::More(missing)),
            };
            let have = self.before + record.content(bytes).len();
            if self.total.is_none() {
                self.total = message_length(bytes, have)?;
            }
            let missing = match self.total {
                Some(total) if have >= total => {
                    return Ok(Progress::Hello(message::read(&records::join(bytes, total))?));
                }
                Some(total) => record.missing(bytes).min(total - have),
                None => record.missing(bytes).min(MESSAGE_HEADER - have),
            };
            if missing > 0 {
                return Ok(Progress::More(missing));
            }
            self.before = have;
            self.at = record.end;
        }
    }
}

/// What the first bytes say by themselves; `None`: a record of TLS may have begun.
fn first_bytes(bytes: &[u8]) -> Result<Option<Progress>, Fault> {
    match *bytes {
        [] => Ok(Some(Progress::More(1))),
        [HANDSHAKE] | [HANDSHAKE, MAJOR, ..] => Ok(None),
        // What is left of SSL 2: a length with the highest bit set, the type of the message, a version of 0.2 or 3.x.
        [0x80, _, CLIENT_HELLO, 0, 2, ..] | [0x80, _, CLIENT_HELLO, MAJOR, ..] => Err(Fault::Ssl2),
        [0x80] | [0x80, _] | [0x80, _, CLIENT_HELLO] => Ok(Some(Progress::More(4 - bytes.len()))),
        [0x80, _, CLIENT_HELLO, 0] => Ok(Some(Progress::More(1))),
        _ => Ok(Some(Progress::NotTls)),
    }
}

/// Bytes of the message with its header, of which `have` bytes have arrived; `None`: too few to tell.
fn message_length(bytes: &[u8], have: usize) -> Result<Option<usize>, Fault> {
    let header = records::join(bytes, have.min(MESSAGE_HEADER));
    match *header {
        [kind, ..] if kind != CLIENT_HELLO => Err(Fault::NotClientHello),
        [_, high, middle, low] => {
            let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
            match MESSAGE_HEADER + length {
                total if total > MAX_MESSAGE => Err(Fault::TooLong),
                total => Ok(Some(total)),
            }
        }
        _ => Ok(None),
    }
}
