//! Middlewares that decide who may pass.

use std::sync::Arc;

use constellation_config::dynamic;
use constellation_middleware::{
    BasicAuth, CertificateInfo, ClientAddress, DigestAuth, Encodable, EncodedCharacters, Identity,
    IpAllowList, Kind, NameParts, PassClientCertificate, Source,
};

use super::forward_auth;

/// Builds one of them; `None` when it is another kind.
pub(super) fn build(
    name: &Arc<str>,
    definition: &dynamic::Middleware,
    warnings: &mut Vec<String>,
) -> Option<Result<Kind, String>> {
    if let Some(options) = &definition.basic_auth {
        return Some(basic_auth(options, warnings));
    }
    if let Some(options) = &definition.digest_auth {
        return Some(digest_auth(options, warnings));
    }
    if let Some(options) = &definition.encoded_characters {
        return Some(Ok(encoded_characters(options)));
    }
    if let Some(options) = &definition.forward_auth {
        return Some(forward_auth::build(name, options));
    }
    if let Some(options) = &definition.ip_allow_list {
        return Some(ip_allow_list(options));
    }
    if let Some(options) = &definition.ip_white_list {
        return Some(ip_white_list(options, warnings));
    }
    if let Some(options) = &definition.pass_tls_client_cert {
        return Some(Ok(pass_client_certificate(options)));
    }
    None
}

fn ip_allow_list(options: &dynamic::IpAllowList) -> Result<Kind, String> {
    let client = client_address(options.ip_strategy.as_ref())?;
    IpAllowList::new(&options.source_range, client, options.reject_status_code).map(Kind::IpAllowList)
}

fn ip_white_list(options: &dynamic::IpWhiteList, warnings: &mut Vec<String>) -> Result<Kind, String> {
    warnings.push("ipWhiteList is the old name: write ipAllowList".to_owned());
    let client = client_address(options.ip_strategy.as_ref())?;
    IpAllowList::new(&options.source_range, client, None).map(Kind::IpAllowList)
}

fn basic_auth(options: &dynamic::BasicAuth, warnings: &mut Vec<String>) -> Result<Kind, String> {
    users_were_read(&options.users_file)?;
    let identity = Identity::new(options.remove_header, &options.header_field)?;
    let users = options.users.iter().map(dynamic::Confidential::as_str);
    let (kind, found) = BasicAuth::new(users, &options.realm, identity)?;
    add_some(warnings, found);
    Ok(Kind::BasicAuth(kind))
}

fn digest_auth(options: &dynamic::DigestAuth, warnings: &mut Vec<String>) -> Result<Kind, String> {
    users_were_read(&options.users_file)?;
    let identity = Identity::new(options.remove_header, &options.header_field)?;
    let users = options.users.iter().map(dynamic::Confidential::as_str);
    let (kind, found) = DigestAuth::new(users, &options.realm, identity)?;
    add_some(warnings, found);
    Ok(Kind::DigestAuth(Box::new(kind)))
}

/// A file may have thousands of users that are of no use.
fn add_some(warnings: &mut Vec<String>, found: Vec<String>) {
    const SHOWN: usize = 20;
    let more = found.len().saturating_sub(SHOWN);
    warnings.extend(found.into_iter().take(SHOWN));
    if more > 0 {
        warnings.push(format!("the same goes for {more} more users"));
    }
}

fn pass_client_certificate(options: &dynamic::PassTlsClientCert) -> Kind {
    let info = options.info.as_ref().map(|info| CertificateInfo {
        subject: info.subject.as_ref().map(|parts| NameParts {
            domain_component: parts.domain_component,
            country: parts.country,
            province: parts.province,
            locality: parts.locality,
            organization: parts.organization,
            organizational_unit: parts.organizational_unit,
            serial_number: parts.serial_number,
            common_name: parts.common_name,
        }),
        issuer: info.issuer.as_ref().map(|parts| NameParts {
            domain_component: parts.domain_component,
            country: parts.country,
            province: parts.province,
            locality: parts.locality,
            organization: parts.organization,
            organizational_unit: false,
            serial_number: parts.serial_number,
            common_name: parts.common_name,
        }),
        serial_number: info.serial_number,
        not_before: info.not_before,
        not_after: info.not_after,
        sans: info.sans,
    });
    Kind::PassTlsClientCert(PassClientCertificate {
        pem: options.pem,
        info,
    })
}

fn encoded_characters(options: &dynamic::EncodedCharacters) -> Kind {
    Kind::EncodedCharacters(EncodedCharacters::new(Encodable {
        back_slash: options.allow_encoded_back_slash,
        hash: options.allow_encoded_hash,
        null: options.allow_encoded_null_character,
        percent: options.allow_encoded_percent,
        question_mark: options.allow_encoded_question_mark,
        semicolon: options.allow_encoded_semicolon,
        slash: options.allow_encoded_slash,
    }))
}

/// What could be read of files stands in their place before middlewares are compiled.
fn users_were_read(users_file: &str) -> Result<(), String> {
    match users_file {
        "" => Ok(()),
        path => Err(format!(
            "its usersFile {path:?} could not be read: correct the path or the file's permissions"
        )),
    }
}

fn client_address(strategy: Option<&dynamic::IpStrategy>) -> Result<ClientAddress, String> {
    match strategy {
        Some(strategy) => ClientAddress::new(strategy.depth, &strategy.excluded_ips, strategy.ipv6_subnet),
        None => Ok(ClientAddress::default()),
    }
}

/// Which requests are counted together; `default` where the options don't say it.
pub(super) fn source(
    criterion: Option<&dynamic::SourceCriterion>,
    default: impl FnOnce() -> Source,
) -> Result<Source, String> {
    let Some(criterion) = criterion else {
        return Ok(default());
    };
    let address = match &criterion.ip_strategy {
        Some(strategy) => Some(client_address(Some(strategy))?),
        None => None,
    };
    Source::new(
        address,
        &criterion.request_header_name,
        criterion.request_host,
        default,
    )
}
