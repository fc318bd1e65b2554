//! Layer 4: what connections and datagrams are before, or instead of, HTTP.
//!
//! Parsers here ([`hello`], [`postgres`], [`proxy_protocol`]) are plain functions over bytes; who reads the bytes and
//! what becomes of them is said elsewhere: [`tcp`] has the life of a connection, [`relay`] moves its bytes, by way of
//! [`splice`] when there are many; [`secure`] is TLS towards back ends; [`udp`] carries datagrams.

pub mod hello;
pub mod postgres;
pub mod proxy_protocol;
pub mod relay;
pub(crate) mod secure;
pub(crate) mod socket;
mod splice;
pub(crate) mod tcp;
pub(crate) mod udp;
