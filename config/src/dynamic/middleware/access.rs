//! Middlewares that decide who may pass, and on whose behalf.

use super::{Confidential, options};

options! {
/// `ipAllowList`.
pub struct IpAllowList {
    /// Addresses and networks.
    pub source_range: Vec<String>,
    /// Which address is the client's.
    pub ip_strategy: Option<IpStrategy>,
    /// What others get; default 403.
    pub reject_status_code: Option<i64>,
}

/// `ipWhiteList`.
pub struct IpWhiteList {
    /// Addresses and networks.
    pub source_range: Vec<String>,
    /// Which address is the client's.
    pub ip_strategy: Option<IpStrategy>,
}

/// `ipStrategy`: which address is the client's. Without options, that of the connection.
pub struct IpStrategy {
    /// The n-th address of `X-Forwarded-For` from the right; 0: none.
    pub depth: i64,
    /// The rightmost address of `X-Forwarded-For` that is none of these.
    #[serde(rename = "excludedIPs")]
    pub excluded_ips: Vec<String>,
    /// Bits of an IPv6 address that count.
    pub ipv6_subnet: Option<i64>,
}

/// `sourceCriterion`: which requests are counted together; default: those of one address.
pub struct SourceCriterion {
    /// Those of one address.
    pub ip_strategy: Option<IpStrategy>,
    /// Those with one value of this header.
    pub request_header_name: String,
    /// Those for one host.
    pub request_host: bool,
}

/// `basicAuth`.
pub struct BasicAuth {
    /// `NAME:HASH` each.
    pub users: Vec<Confidential>,
    /// A file of further users, one a line.
    pub users_file: String,
    /// Default `traefik`.
    pub realm: String,
    /// Whether the service does not get `Authorization`.
    pub remove_header: bool,
    /// The header in which the service gets the name.
    pub header_field: String,
}

/// `digestAuth`.
pub struct DigestAuth {
    /// `NAME:REALM:HASH` each.
    pub users: Vec<Confidential>,
    /// A file of further users, one a line.
    pub users_file: String,
    /// Default `traefik`.
    pub realm: String,
    /// Whether the service does not get `Authorization`.
    pub remove_header: bool,
    /// The header in which the service gets the name.
    pub header_field: String,
}

/// `forwardAuth`.
pub struct ForwardAuth {
    /// URL of the service that is asked.
    pub address: Confidential,
    /// TLS with it.
    pub tls: Option<ClientTls>,
    /// Whether forwarding headers of the request go along as they are, or none; absent: those that mean something are set anew.
    pub trust_forward_header: Option<bool>,
    /// Headers of its answer that the request gets.
    pub auth_response_headers: Vec<String>,
    /// The same, by a regular expression of names.
    pub auth_response_headers_regex: String,
    /// Headers of the request that it gets; default: all.
    pub auth_request_headers: Vec<String>,
    /// Cookies of its answer that the response gets.
    pub add_auth_cookies_to_response: Vec<String>,
    /// The header of its answer that names the client in the access log.
    pub header_field: String,
    /// Whether it gets the body.
    pub forward_body: bool,
    /// Largest body that it gets, bytes; default -1: any.
    pub max_body_size: Option<i64>,
    /// Largest body of its answers, bytes; default -1: any.
    pub max_response_body_size: Option<i64>,
    /// Whether `Location` of its answers stays as it is.
    pub preserve_location_header: bool,
    /// Whether it is asked with the request's method instead of GET.
    pub preserve_request_method: bool,
}

/// `tls` with a server that a middleware asks: files or inline PEM.
pub struct ClientTls {
    /// Trust anchors.
    pub ca: String,
    /// Without effect in Traefik.
    pub ca_optional: Option<bool>,
    /// Client certificate.
    pub cert: String,
    /// Its key.
    pub key: Confidential,
    /// Accept any certificate.
    pub insecure_skip_verify: bool,
}

/// `encodedCharacters`: what is not allowed is refused.
pub struct EncodedCharacters {
    /// `%2F`.
    pub allow_encoded_slash: bool,
    /// `%5C`.
    pub allow_encoded_back_slash: bool,
    /// `%00`.
    pub allow_encoded_null_character: bool,
    /// `%3B`.
    pub allow_encoded_semicolon: bool,
    /// `%25`.
    pub allow_encoded_percent: bool,
    /// `%3F`.
    pub allow_encoded_question_mark: bool,
    /// `%23`.
    pub allow_encoded_hash: bool,
}

/// `passTLSClientCert`.
pub struct PassTlsClientCert {
    /// The certificate itself, in `X-Forwarded-Tls-Client-Cert`.
    pub pem: bool,
    /// What it says, in `X-Forwarded-Tls-Client-Cert-Info`.
    pub info: Option<ClientCertInfo>,
}

/// `passTLSClientCert.info`.
pub struct ClientCertInfo {
    /// When it ends.
    pub not_after: bool,
    /// When it begins.
    pub not_before: bool,
    /// Its further names.
    pub sans: bool,
    /// Parts of its name.
    pub subject: Option<NameParts>,
    /// Parts of its issuer's name.
    pub issuer: Option<IssuerParts>,
    /// Its number.
    pub serial_number: bool,
}

/// Parts of a distinguished name.
pub struct NameParts {
    /// `C`.
    pub country: bool,
    /// `ST`.
    pub province: bool,
    /// `L`.
    pub locality: bool,
    /// `O`.
    pub organization: bool,
    /// `OU`.
    pub organizational_unit: bool,
    /// `CN`.
    pub common_name: bool,
    /// `SN`.
    pub serial_number: bool,
    /// `DC`.
    pub domain_component: bool,
}

/// Parts of the distinguished name of an issuer.
pub struct IssuerParts {
    /// `C`.
    pub country: bool,
    /// `ST`.
    pub province: bool,
    /// `L`.
    pub locality: bool,
    /// `O`.
    pub organization: bool,
    /// `CN`.
    pub common_name: bool,
    /// `SN`.
    pub serial_number: bool,
    /// `DC`.
    pub domain_component: bool,
}
}
