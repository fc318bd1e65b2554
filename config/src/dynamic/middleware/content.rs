//! Middlewares that change what requests and responses hold.

use std::collections::BTreeMap;

use super::{Confidential, options};

options! {
/// `headers`.
pub struct Headers {
    /// Headers of requests; an empty value takes the header out.
    pub custom_request_headers: BTreeMap<String, Confidential>,
    /// Headers of responses; an empty value takes the header out.
    pub custom_response_headers: BTreeMap<String, String>,
    /// `Access-Control-Allow-Credentials: true`.
    pub access_control_allow_credentials: bool,
    /// `Access-Control-Allow-Headers` of a preflight.
    pub access_control_allow_headers: Vec<String>,
    /// `Access-Control-Allow-Methods` of a preflight.
    pub access_control_allow_methods: Vec<String>,
    /// Origins that get `Access-Control-Allow-Origin`.
    pub access_control_allow_origin_list: Vec<String>,
    /// The same, by regular expressions.
    pub access_control_allow_origin_list_regex: Vec<String>,
    /// `Access-Control-Expose-Headers`.
    pub access_control_expose_headers: Vec<String>,
    /// Seconds in `Access-Control-Max-Age` of a preflight; absent: without it.
    pub access_control_max_age: Option<i64>,
    /// Whether `Vary: Origin` is added.
    pub add_vary_header: bool,
    /// Hosts that are served; empty: any.
    pub allowed_hosts: Vec<String>,
    /// Headers that may hold the host.
    pub hosts_proxy_headers: Vec<String>,
    /// Headers that tell that the client used TLS.
    pub ssl_proxy_headers: BTreeMap<String, String>,
    /// `max-age` of `Strict-Transport-Security`; absent or 0: without it.
    pub sts_seconds: Option<i64>,
    /// `includeSubDomains` of it.
    pub sts_include_subdomains: bool,
    /// `preload` of it.
    pub sts_preload: bool,
    /// It also without TLS.
    #[serde(rename = "forceSTSHeader")]
    pub force_sts_header: bool,
    /// `X-Frame-Options: DENY`.
    pub frame_deny: bool,
    /// `X-Frame-Options`.
    pub custom_frame_options_value: String,
    /// `X-Content-Type-Options: nosniff`.
    pub content_type_nosniff: bool,
    /// `X-XSS-Protection: 1; mode=block`.
    pub browser_xss_filter: bool,
    /// `X-XSS-Protection`.
    #[serde(rename = "customBrowserXSSValue")]
    pub custom_browser_xss_value: String,
    /// `Content-Security-Policy`.
    pub content_security_policy: String,
    /// `Content-Security-Policy-Report-Only`.
    pub content_security_policy_report_only: String,
    /// `Public-Key-Pins`.
    pub public_key: String,
    /// `Referrer-Policy`.
    pub referrer_policy: String,
    /// `Permissions-Policy`.
    pub permissions_policy: String,
    /// Switches off what would be in the way of trying things out.
    pub is_development: bool,
    /// Deprecated in Traefik in favour of `permissionsPolicy`.
    pub feature_policy: Option<String>,
    /// Deprecated in Traefik in favour of redirections.
    pub ssl_redirect: Option<bool>,
    /// Deprecated in Traefik in favour of redirections.
    pub ssl_temporary_redirect: Option<bool>,
    /// Deprecated in Traefik in favour of redirections.
    pub ssl_host: Option<String>,
    /// Deprecated in Traefik in favour of redirections.
    pub ssl_force_host: Option<bool>,
}

/// `contentType`.
pub struct ContentType {
    /// Deprecated in Traefik.
    pub auto_detect: Option<bool>,
}

/// `compress`.
pub struct Compress {
    /// Types that stay as they are.
    pub excluded_content_types: Vec<String>,
    /// The only types that are compressed.
    pub included_content_types: Vec<String>,
    /// Smaller bodies stay as they are; default 1024.
    pub min_response_body_bytes: Option<i64>,
    /// In the order of preference; default gzip, br, zstd.
    pub encodings: Vec<String>,
    /// For clients that name none.
    pub default_encoding: String,
}

/// `errors`.
pub struct ErrorPages {
    /// Statuses, and ranges of them, that are replaced.
    pub status: Vec<String>,
    /// Other statuses in their place, by status or range.
    pub status_rewrites: BTreeMap<String, i64>,
    /// The service that has the pages.
    pub service: String,
    /// The path that is asked for; `{status}`, `{originalStatus}` and `{url}` are put in.
    pub query: String,
    /// Headers of the request that the service gets; absent: all.
    pub error_request_headers: Option<Vec<String>>,
}

/// `grpcWeb`.
pub struct GrpcWeb {
    /// Origins that may; `*`: any.
    pub allow_origins: Vec<String>,
}
}
