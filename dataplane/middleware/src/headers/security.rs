//! What makes browsers careful, and which hosts are served.

use http::header::{HeaderName, HeaderValue};
use pingora_http::{RequestHeader, ResponseHeader};

use crate::{Seen, Unfit, target};

/// The options about security, as written. Empty texts are no options.
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "each is the option of that name")]
pub struct SecurityOptions<'o> {
    pub allowed_hosts: &'o [String],
    pub hosts_proxy_headers: &'o [String],
    pub ssl_proxy_headers: Vec<(&'o str, &'o str)>,
    pub sts_seconds: i64,
    pub sts_include_subdomains: bool,
    pub sts_preload: bool,
    pub force_sts_header: bool,
    pub frame_deny: bool,
    pub custom_frame_options_value: &'o str,
    pub content_type_nosniff: bool,
    pub browser_xss_filter: bool,
    pub custom_browser_xss_value: &'o str,
    pub content_security_policy: &'o str,
    pub content_security_policy_report_only: &'o str,
    pub public_key: &'o str,
    pub referrer_policy: &'o str,
    pub permissions_policy: &'o str,
    pub is_development: bool,
}

#[derive(Debug)]
pub(super) struct Security {
    /// Empty: any.
    hosts: Box<[Box<str>]>,
    host_headers: Box<[HeaderName]>,
    secure_headers: Box<[(HeaderName, HeaderValue)]>,
    /// For every response.
    always: Box<[(&'static str, HeaderValue)]>,
    /// For clients that came over TLS.
    secure: Box<[(&'static str, HeaderValue)]>,
}

impl Security {
    pub(super) fn new(options: &SecurityOptions<'_>) -> Result<Self, String> {
        let mut always = Vec::new();
        let mut secure = Vec::new();
        let frame = match options.custom_frame_options_value {
            "" if options.frame_deny => "DENY",
            value => value,
        };
        let xss = match options.custom_browser_xss_value {
            "" if options.browser_xss_filter => "1; mode=block",
            value => value,
        };
        let nosniff = if options.content_type_nosniff {
            "nosniff"
        } else {
            ""
        };
        let texts = [
            ("X-Frame-Options", "customFrameOptionsValue", frame),
            ("X-Content-Type-Options", "contentTypeNosniff", nosniff),
            ("X-Xss-Protection", "customBrowserXSSValue", xss),
            (
                "Content-Security-Policy",
                "contentSecurityPolicy",
                options.content_security_policy,
            ),
            (
                "Content-Security-Policy-Report-Only",
                "contentSecurityPolicyReportOnly",
                options.content_security_policy_report_only,
            ),
            ("Referrer-Policy", "referrerPolicy", options.referrer_policy),
            (
                "Permissions-Policy",
                "permissionsPolicy",
                options.permissions_policy,
            ),
        ];
        for (name, option, text) in texts {
            if !text.is_empty() {
                always.push((name, value(option, text)?));
            }
        }
        if !options.is_development {
            if options.sts_seconds != 0 {
                let mut text = format!("max-age={}", options.sts_seconds);
                if options.sts_include_subdomains {
                    text.push_str("; includeSubDomains");
                }
                if options.sts_preload {
                    text.push_str("; preload");
                }
                let list = if options.force_sts_header {
                    &mut always
                } else {
                    &mut secure
                };
                list.push(("Strict-Transport-Security", value("stsSeconds", &text)?));
            }
            if !options.public_key.is_empty() {
                secure.push(("Public-Key-Pins", value("publicKey", options.public_key)?));
            }
        }
        let name = |option: &str, text: &str| {
            HeaderName::from_bytes(text.as_bytes())
                .map_err(|_| format!("{option} has {text:?}, which is no name of a header"))
        };
        Ok(Self {
            hosts: match options.is_development {
                true => Box::default(),
                false => options
                    .allowed_hosts
                    .iter()
                    .map(|host| host.as_str().into())
                    .collect(),
            },
            host_headers: options
                .hosts_proxy_headers
                .iter()
                .map(|text| name("hostsProxyHeaders", text))
                .collect::<Result<_, _>>()?,
            secure_headers: options
                .ssl_proxy_headers
                .iter()
                .map(|(text, expected)| {
                    Ok((
                        name("sslProxyHeaders", text)?,
                        value(&format!("sslProxyHeaders.{text}"), expected)?,
                    ))
                })
                .collect::<Result<_, String>>()?,
            always: always.into(),
            secure: secure.into(),
        })
    }

    /// Whether the host that the client asks for is served.
    pub(super) fn knows_host(&self, request: &RequestHeader) -> bool {
        if self.hosts.is_empty() {
            return true;
        }
        let told = self.host_headers.iter().find_map(|name| {
            let value = request.headers.get(name)?.to_str().ok()?;
            (!value.is_empty()).then_some(value)
        });
        let host = told.unwrap_or_else(|| target::authority(request));
        self.hosts.iter().any(|known| known.eq_ignore_ascii_case(host))
    }

    /// Whether the client came over TLS, here or at a proxy in front.
    pub(super) fn is_secure(&self, request: &RequestHeader, seen: &Seen<'_>) -> bool {
        let told = |(name, value): &(HeaderName, HeaderValue)| request.headers.get(name) == Some(value);
        seen.tls || self.secure_headers.iter().any(told)
    }

    pub(super) fn apply(&self, secure: bool, response: &mut ResponseHeader) -> Result<(), Unfit> {
        let of_secure = self.secure.iter().filter(|_| secure);
        for (name, value) in self.always.iter().chain(of_secure) {
            response.insert_header(*name, value.clone())?;
        }
        Ok(())
    }
}

fn value(option: &str, text: &str) -> Result<HeaderValue, String> {
    HeaderValue::from_str(text).map_err(|_| format!("{option} can't be a header: {text:?}"))
}
