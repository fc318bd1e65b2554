//! Middlewares that change what requests and responses hold.

use constellation_config::dynamic;
use constellation_middleware::{
    Compress, CompressOptions, CorsOptions, Errors, ErrorsOptions, GrpcWeb, Headers, HeadersOptions, Kind,
    SecurityOptions,
};
use constellation_table::Target;

/// Builds one of these; `None` when it is another kind. `service`: the one that it names.
pub(super) fn build(
    definition: &dynamic::Middleware,
    service: Option<&Target>,
    warnings: &mut Vec<String>,
) -> Option<Result<Kind, String>> {
    if let Some(options) = &definition.compress {
        return Some(compress(options));
    }
    if let Some(options) = &definition.content_type {
        if options.auto_detect == Some(false) {
            warnings.push(
                "autoDetect: false has no effect: remove the middleware to have no types guessed".to_owned(),
            );
        }
        return Some(Ok(Kind::ContentType));
    }
    if let (Some(options), Some(service)) = (&definition.errors, service) {
        return Some(errors(options, service));
    }
    if let Some(options) = &definition.grpc_web {
        return Some(Ok(Kind::GrpcWeb(GrpcWeb::new(&options.allow_origins))));
    }
    if let Some(options) = &definition.headers {
        return Some(headers(options, warnings));
    }
    None
}

fn compress(options: &dynamic::Compress) -> Result<Kind, String> {
    let options = CompressOptions {
        encodings: &options.encodings,
        default_encoding: &options.default_encoding,
        excluded: &options.excluded_content_types,
        included: &options.included_content_types,
        min_body: options.min_response_body_bytes.unwrap_or(0),
    };
    Compress::new(&options).map(Kind::Compress)
}

fn errors(options: &dynamic::ErrorPages, service: &Target) -> Result<Kind, String> {
    let rewrites = options.status_rewrites.iter();
    let options = ErrorsOptions {
        statuses: &options.status,
        rewrites: rewrites.map(|(text, status)| (text.as_str(), *status)).collect(),
        query: &options.query,
        headers: options.error_request_headers.as_deref().unwrap_or_default(),
        service: service.clone(),
    };
    Errors::new(options).map(Kind::Errors)
}

fn headers(options: &dynamic::Headers, warnings: &mut Vec<String>) -> Result<Kind, String> {
    if says_nothing(options) {
        return Err("it changes nothing: set one of its options, or take it off the routers".to_owned());
    }
    let deprecated = [
        (
            "featurePolicy",
            options.feature_policy.is_some(),
            "write permissionsPolicy",
        ),
        ("sslRedirect", options.ssl_redirect.is_some(), REDIRECTION),
        (
            "sslTemporaryRedirect",
            options.ssl_temporary_redirect.is_some(),
            REDIRECTION,
        ),
        ("sslHost", options.ssl_host.is_some(), REDIRECTION),
        ("sslForceHost", options.ssl_force_host.is_some(), REDIRECTION),
    ];
    for (option, _, instead) in deprecated.iter().filter(|(_, given, _)| *given) {
        warnings.push(format!("{option} has no effect, in Traefik 3 neither: {instead}"));
    }
    let ssl_proxy_headers = options.ssl_proxy_headers.iter();
    let request = options.custom_request_headers.iter();
    let response = options.custom_response_headers.iter();
    let options = HeadersOptions {
        request: request
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect(),
        response: response
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect(),
        cors: CorsOptions {
            allow_credentials: options.access_control_allow_credentials,
            allow_headers: &options.access_control_allow_headers,
            allow_methods: &options.access_control_allow_methods,
            allow_origins: &options.access_control_allow_origin_list,
            allow_origins_regex: &options.access_control_allow_origin_list_regex,
            expose_headers: &options.access_control_expose_headers,
            max_age: options.access_control_max_age,
            add_vary: options.add_vary_header,
        },
        security: SecurityOptions {
            allowed_hosts: &options.allowed_hosts,
            hosts_proxy_headers: &options.hosts_proxy_headers,
            ssl_proxy_headers: ssl_proxy_headers
                .map(|(name, value)| (name.as_str(), value.as_str()))
                .collect(),
            sts_seconds: options.sts_seconds.unwrap_or_default(),
            sts_include_subdomains: options.sts_include_subdomains,
            sts_preload: options.sts_preload,
            force_sts_header: options.force_sts_header,
            frame_deny: options.frame_deny,
            custom_frame_options_value: &options.custom_frame_options_value,
            content_type_nosniff: options.content_type_nosniff,
            browser_xss_filter: options.browser_xss_filter,
            custom_browser_xss_value: &options.custom_browser_xss_value,
            content_security_policy: &options.content_security_policy,
            content_security_policy_report_only: &options.content_security_policy_report_only,
            public_key: &options.public_key,
            referrer_policy: &options.referrer_policy,
            permissions_policy: &options.permissions_policy,
            is_development: options.is_development,
        },
    };
    Headers::new(&options, warnings).map(Kind::Headers)
}

/// Whether no option has a value that means something.
fn says_nothing(options: &dynamic::Headers) -> bool {
    let text = |option: &Option<String>| option.clone().filter(|text| !text.is_empty());
    let meant = dynamic::Headers {
        feature_policy: text(&options.feature_policy),
        ssl_redirect: options.ssl_redirect.filter(|on| *on),
        ssl_temporary_redirect: options.ssl_temporary_redirect.filter(|on| *on),
        ssl_host: text(&options.ssl_host),
        ssl_force_host: options.ssl_force_host.filter(|on| *on),
        ..options.clone()
    };
    meant == dynamic::Headers::default()
}

const REDIRECTION: &str = "use entryPoints.NAME.http.redirections, or a redirectScheme";
