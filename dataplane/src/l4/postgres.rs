//! How PostgreSQL asks for encryption before it begins to speak.
//!
//! A client that may encrypt sends an SSLRequest of eight bytes and waits for one byte, `S` or `N`; after `S` it sends a
//! ClientHello (PostgreSQL, "Message Flow", "SSL Session Encryption"). One with Kerberos credentials sends a
//! GSSENCRequest first. [`Preamble`] says what to do in the server's place, [`starts_tls`] what the back end's byte means
//! when we have asked in the client's. A client that does neither (`sslmode=disable`, or `sslnegotiation=direct`, which
//! begins with the ClientHello) has no preamble.
//!
//! As in Traefik, `S` is said before it is known whether a router takes the name. GSSAPI can't be routed, as it names
//! nobody; `N` makes the client go on with an SSLRequest, or without encryption when it may. (Traefik takes the request
//! for a connection without TLS.)

/// Asks for TLS: a length of 8 and 80877103, which is no version of the protocol.
pub const SSL_REQUEST: [u8; REQUEST_LEN] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
/// Asks for encryption by GSSAPI: a length of 8 and 80877104.
pub const GSS_ENC_REQUEST: [u8; REQUEST_LEN] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30];
/// Bytes of either.
pub const REQUEST_LEN: usize = 8;
/// The answer "TLS begins".
pub const YES: u8 = b'S';
/// The answer "go on without, or ask for something else".
pub const NO: u8 = b'N';

/// What to do with the first bytes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing yet: look again when more has arrived.
    More,
    /// Take [`REQUEST_LEN`] bytes and answer [`YES`]: what follows is a ClientHello.
    StartTls,
    /// Take [`REQUEST_LEN`] bytes, answer [`NO`], and ask again with what follows.
    RefuseGss,
    /// It asks again for what it was refused: close the connection.
    Close,
    /// No preamble, or none any more: the bytes are for whoever serves the connection.
    Pass,
}

/// Follows the preamble of one connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct Preamble {
    refused: bool,
}

impl Preamble {
    /// Looks at the bytes from the first that was not taken. The bytes are told apart at the first one that differs, so
    /// that a client which sends less than a request and waits is not waited for.
    pub fn step(&mut self, bytes: &[u8]) -> Step {
        if bytes.starts_with(&SSL_REQUEST) {
            return Step::StartTls;
        }
        if bytes.starts_with(&GSS_ENC_REQUEST) {
            return match std::mem::replace(&mut self.refused, true) {
                true => Step::Close,
                false => Step::RefuseGss,
            };
        }
        if SSL_REQUEST.starts_with(bytes) || GSS_ENC_REQUEST.starts_with(bytes) {
            return Step::More;
        }
        Step::Pass
    }
}

/// Whether a back end that was sent [`SSL_REQUEST`] agrees. Exactly one byte is to be read for this: the next one is TLS,
/// and belongs to the client. Anything but `S` means that the client, who was told `S`, can't be served there.
pub fn starts_tls(answer: u8) -> Result<(), NoTls> {
    match answer {
        YES => Ok(()),
        NO => Err(NoTls::Refused),
        // Servers from before TLS, and those that are out of connections, send an error message.
        b'E' => Err(NoTls::Error),
        other => Err(NoTls::Strange(other)),
    }
}

/// Why a back end's connection is not encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoTls {
    /// It answered `N`.
    #[error("PostgreSQL has TLS turned off (`ssl = off`)")]
    Refused,
    /// It answered with an error message.
    #[error("PostgreSQL answered the request for TLS with an error")]
    Error,
    /// It answered with something that is not of the protocol.
    #[error("the answer to PostgreSQL's request for TLS is 0x{0:02x}, neither S nor N")]
    Strange(u8),
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A StartupMessage of version 3.0, and a CancelRequest.
    const STARTUP: &[u8] = b"\0\0\0\x12\0\x03\0\0user\0alice\0\0";
    const CANCEL: &[u8] = b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\x01\0\0\0\x02";

    #[test]
    fn what_begins_otherwise_is_told_at_the_first_byte_that_differs() {
        let others: [(&[u8], usize); 6] = [
            (STARTUP, 4),
            (CANCEL, 4),
            (b"\x16\x03\x01", 1),
            (b"GET / HTTP/1.1", 1),
            (b"\0\0\0\x08\x04\xd2\x16\x31", 8),
            (b"\0\0\0\x09", 4),
        ];
        for (bytes, clear) in others {
            for end in 0..=bytes.len() {
                let expected = match end < clear {
                    true => Step::More,
                    false => Step::Pass,
                };
                assert_eq!(
                    Preamble::default().step(&bytes[..end]),
                    expected,
                    "{bytes:?} {end}"
                );
            }
        }
    }

    #[test]
    fn requests_are_taken_one_by_one_wherever_they_are_cut() {
        let hello = b"\x16\x03\x01\x02\0".as_slice();
        let conversations: [(&[&[u8]], &[Step]); 6] = [
            (&[&SSL_REQUEST, hello], &[Step::StartTls]),
            (
                &[&GSS_ENC_REQUEST, &SSL_REQUEST, hello],
                &[Step::RefuseGss, Step::StartTls],
            ),
            (&[&GSS_ENC_REQUEST, STARTUP], &[Step::RefuseGss, Step::Pass]),
            (&[&GSS_ENC_REQUEST, hello], &[Step::RefuseGss, Step::Pass]),
            (
                &[&GSS_ENC_REQUEST, &GSS_ENC_REQUEST],
                &[Step::RefuseGss, Step::Close],
            ),
            (&[CANCEL], &[Step::Pass]),
        ];
        for (pieces, expected) in conversations {
            let whole = pieces.concat();
            for cut in 1..=whole.len() {
                let mut preamble = Preamble::default();
                let (mut from, mut to) = (0, cut);
                let mut steps = Vec::new();
                loop {
                    match preamble.step(&whole[from..to]) {
                        Step::More => to += 1,
                        step => {
                            steps.push(step);
                            match step {
                                Step::RefuseGss => from += REQUEST_LEN,
                                _ => break,
                            }
                        }
                    }
                    to = to.max(from);
                }
                assert_eq!(steps, expected, "{pieces:?} {cut}");
            }
        }
    }

    #[test]
    fn a_back_end_agrees_by_one_byte() {
        assert_eq!(SSL_REQUEST[4..], 80_877_103u32.to_be_bytes());
        assert_eq!(GSS_ENC_REQUEST[4..], 80_877_104u32.to_be_bytes());
        let answers = [
            (b'S', Ok(())),
            (b'N', Err(NoTls::Refused)),
            (b'E', Err(NoTls::Error)),
            (b's', Err(NoTls::Strange(b's'))),
        ];
        for (answer, expected) in answers {
            assert_eq!(starts_tls(answer), expected);
        }
    }
}
