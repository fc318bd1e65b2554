//! HTTP: framing checks on the wire, the pingora application, forwarding headers, own answers.
