//! The middlewares of Traefik 3.7 and the types of their options.

use super::schema::Kind::{Duration, Flag, Integer, Named, Object as Group, Raw, Text, Words};
use super::schema::{Object, field, group, switch};

/// One kind per middleware; that exactly one is given is checked where middlewares are compiled.
pub(super) static MIDDLEWARE: Object = group(&[
    field("addPrefix", Group(&group(&[field("prefix", Text)]))),
    field("basicAuth", Group(&CREDENTIALS)),
    field("buffering", Group(&BUFFERING)),
    field("chain", Group(&group(&[field("middlewares", Words)]))),
    field("circuitBreaker", Group(&CIRCUIT_BREAKER)),
    field("compress", Group(&COMPRESS)),
    field("contentType", Group(&switch(&[field("autoDetect", Flag)]))),
    field("digestAuth", Group(&CREDENTIALS)),
    field("encodedCharacters", Group(&ENCODED_CHARACTERS)),
    field("errors", Group(&ERRORS)),
    field("forwardAuth", Group(&FORWARD_AUTH)),
    field("grpcWeb", Group(&group(&[field("allowOrigins", Words)]))),
    field("headers", Group(&HEADERS)),
    field(
        "inFlightReq",
        Group(&group(&[
            field("amount", Integer),
            field("sourceCriterion", Group(&SOURCE)),
        ])),
    ),
    field(
        "ipAllowList",
        Group(&group(&[
            field("sourceRange", Words),
            field("ipStrategy", Group(&IP_STRATEGY)),
            field("rejectStatusCode", Integer),
        ])),
    ),
    field(
        "ipWhiteList",
        Group(&group(&[
            field("sourceRange", Words),
            field("ipStrategy", Group(&IP_STRATEGY)),
        ])),
    ),
    field("passTLSClientCert", Group(&CLIENT_CERTIFICATE)),
    field("plugin", Raw),
    field("rateLimit", Group(&RATE_LIMIT)),
    field(
        "redirectRegex",
        Group(&group(&[
            field("regex", Text),
            field("replacement", Text),
            field("permanent", Flag),
        ])),
    ),
    field(
        "redirectScheme",
        Group(&group(&[
            field("scheme", Text),
            field("port", Text),
            field("permanent", Flag),
            field("forcePermanentRedirect", Flag),
        ])),
    ),
    field("replacePath", Group(&group(&[field("path", Text)]))),
    field(
        "replacePathRegex",
        Group(&group(&[field("regex", Text), field("replacement", Text)])),
    ),
    field("retry", Group(&RETRY)),
    field(
        "stripPrefix",
        Group(&group(&[field("prefixes", Words), field("forceSlash", Flag)])),
    ),
    field("stripPrefixRegex", Group(&group(&[field("regex", Words)]))),
]);

static CREDENTIALS: Object = group(&[
    field("users", Words),
    field("usersFile", Text),
    field("realm", Text),
    field("removeHeader", Flag),
    field("headerField", Text),
]);

static BUFFERING: Object = group(&[
    field("maxRequestBodyBytes", Integer),
    field("memRequestBodyBytes", Integer),
    field("maxResponseBodyBytes", Integer),
    field("memResponseBodyBytes", Integer),
    field("retryExpression", Text),
]);

static CIRCUIT_BREAKER: Object = group(&[
    field("expression", Text),
    field("checkPeriod", Duration),
    field("fallbackDuration", Duration),
    field("recoveryDuration", Duration),
    field("responseCode", Integer),
]);

static COMPRESS: Object = switch(&[
    field("excludedContentTypes", Words),
    field("includedContentTypes", Words),
    field("minResponseBodyBytes", Integer),
    field("encodings", Words),
    field("defaultEncoding", Text),
]);

static ENCODED_CHARACTERS: Object = switch(&[
    field("allowEncodedSlash", Flag),
    field("allowEncodedBackSlash", Flag),
    field("allowEncodedNullCharacter", Flag),
    field("allowEncodedSemicolon", Flag),
    field("allowEncodedPercent", Flag),
    field("allowEncodedQuestionMark", Flag),
    field("allowEncodedHash", Flag),
]);

static ERRORS: Object = group(&[
    field("status", Words),
    field("statusRewrites", Named(&Integer)),
    field("service", Text),
    field("query", Text),
    field("errorRequestHeaders", Words),
]);

static CLIENT_TLS: Object = group(&[
    field("ca", Text),
    field("caOptional", Flag),
    field("cert", Text),
    field("key", Text),
    field("insecureSkipVerify", Flag),
]);

static FORWARD_AUTH: Object = group(&[
    field("address", Text),
    field("tls", Group(&CLIENT_TLS)),
    field("trustForwardHeader", Flag),
    field("authResponseHeaders", Words),
    field("authResponseHeadersRegex", Text),
    field("authRequestHeaders", Words),
    field("addAuthCookiesToResponse", Words),
    field("headerField", Text),
    field("forwardBody", Flag),
    field("maxBodySize", Integer),
    field("maxResponseBodySize", Integer),
    field("preserveLocationHeader", Flag),
    field("preserveRequestMethod", Flag),
]);

static HEADERS: Object = group(&[
    field("customRequestHeaders", Named(&Text)),
    field("customResponseHeaders", Named(&Text)),
    field("accessControlAllowCredentials", Flag),
    field("accessControlAllowHeaders", Words),
    field("accessControlAllowMethods", Words),
    field("accessControlAllowOriginList", Words),
    field("accessControlAllowOriginListRegex", Words),
    field("accessControlExposeHeaders", Words),
    field("accessControlMaxAge", Integer),
    field("addVaryHeader", Flag),
    field("allowedHosts", Words),
    field("hostsProxyHeaders", Words),
    field("sslProxyHeaders", Named(&Text)),
    field("stsSeconds", Integer),
    field("stsIncludeSubdomains", Flag),
    field("stsPreload", Flag),
    field("forceSTSHeader", Flag),
    field("frameDeny", Flag),
    field("customFrameOptionsValue", Text),
    field("contentTypeNosniff", Flag),
    field("browserXssFilter", Flag),
    field("customBrowserXSSValue", Text),
    field("contentSecurityPolicy", Text),
    field("contentSecurityPolicyReportOnly", Text),
    field("publicKey", Text),
    field("referrerPolicy", Text),
    field("permissionsPolicy", Text),
    field("isDevelopment", Flag),
    field("featurePolicy", Text),
    field("sslRedirect", Flag),
    field("sslTemporaryRedirect", Flag),
    field("sslHost", Text),
    field("sslForceHost", Flag),
]);

static IP_STRATEGY: Object = switch(&[
    field("depth", Integer),
    field("excludedIPs", Words),
    field("ipv6Subnet", Integer),
]);

static SOURCE: Object = group(&[
    field("ipStrategy", Group(&IP_STRATEGY)),
    field("requestHeaderName", Text),
    field("requestHost", Flag),
]);

static RATE_LIMIT: Object = group(&[
    field("average", Integer),
    field("period", Duration),
    field("burst", Integer),
    field("sourceCriterion", Group(&SOURCE)),
    field(
        "redis",
        Group(&group(&[
            field("endpoints", Words),
            field("tls", Group(&CLIENT_TLS)),
            field("username", Text),
            field("password", Text),
            field("db", Integer),
            field("poolSize", Integer),
            field("minIdleConns", Integer),
            field("maxActiveConns", Integer),
            field("readTimeout", Duration),
            field("writeTimeout", Duration),
            field("dialTimeout", Duration),
        ])),
    ),
]);

static RETRY: Object = group(&[
    field("attempts", Integer),
    field("initialInterval", Duration),
    field("timeout", Duration),
    field("maxRequestBodyBytes", Integer),
    field("status", Words),
    field("disableRetryOnNetworkError", Flag),
    field("retryNonIdempotentMethod", Flag),
]);

static NAME_PARTS: Object = group(&[
    field("country", Flag),
    field("province", Flag),
    field("locality", Flag),
    field("organization", Flag),
    field("organizationalUnit", Flag),
    field("commonName", Flag),
    field("serialNumber", Flag),
    field("domainComponent", Flag),
]);

static ISSUER_PARTS: Object = group(&[
    field("country", Flag),
    field("province", Flag),
    field("locality", Flag),
    field("organization", Flag),
    field("commonName", Flag),
    field("serialNumber", Flag),
    field("domainComponent", Flag),
]);

static CLIENT_CERTIFICATE: Object = group(&[
    field("pem", Flag),
    field(
        "info",
        Group(&group(&[
            field("notAfter", Flag),
            field("notBefore", Flag),
            field("sans", Flag),
            field("subject", Group(&NAME_PARTS)),
            field("issuer", Group(&ISSUER_PARTS)),
            field("serialNumber", Flag),
        ])),
    ),
]);
