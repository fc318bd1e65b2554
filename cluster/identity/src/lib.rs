//! Who belongs to a cluster, and how that is proved between nodes.
//!
//! A cluster is a random [`ClusterId`] and an [`Authority`] that certifies nodes. A node is a [`NodeName`] with a
//! certificate whose only meaning is the URI `spiffe://CLUSTER/node/NAME`; no DNS name and no address is in it, so
//! that it stays valid when a node moves. Connections between nodes are TLS 1.3 with certificates on both sides
//! ([`tls`]); which authorities are believed is a [`Trust`], which holds two of them while one replaces the other.
//!
//! A node joins with a [`JoinToken`]: one-time, expiring, with a pin of the authority, so that the joiner knows whom it
//! talks to before it sends the secret. What becomes of a [`JoinRequest`] is decided purely ([`decide`], with time
//! passed in) by the node that got it; what makes the token one-time is [`Tokens::redeem`], which the replicated state
//! machine applies in the order of its log. Neither does I/O and neither sees a private key.
//!
//! This crate does not listen, does not store tokens and does not know who is alive.

mod authority;
mod certificate;
mod credentials;
mod csr;
pub mod files;
mod join;
mod name;
mod time;
pub mod tls;
mod token;
mod trust;
mod verify;

pub use authority::{Authority, AuthorityError, NODE_VALIDITY};
pub use certificate::{CertificateError, NodeCertificate, NodeIdentity, PublicKeyDigest, identity};
pub use csr::{CSR_LIMIT, CsrError, NodeKey, SigningRequest};
pub use join::{
    Admission, CLOCK_TOLERANCE, JoinError, JoinGrant, JoinRequest, Joining, Members, PROTOCOL, Refusal,
    RenewRequest, decide, decide_renewal,
};
pub use name::{ClusterId, NameError, NodeName};
pub use time::UnixSeconds;
pub use token::{JoinToken, TOKEN_PREFIX, TokenError, TokenId, TokenRecord, TokenSecret, Tokens, Use};
pub use trust::{AUTHORITIES_LIMIT, AuthorityPin, Trust, TrustError};
