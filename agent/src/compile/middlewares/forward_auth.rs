//! `forwardAuth`: the service that is asked becomes a service with one endpoint, which no router knows.

use std::sync::Arc;
use std::time::Duration;

use constellation_config::dynamic::{self, ClientTls};
use constellation_middleware::{AuthAddress, ForwardAuth, ForwardAuthOptions, Kind};
use constellation_table::{
    Condition, Endpoint, EndpointSpec, Scheme, Service, ServiceSpec, Timeouts, Transport,
};

/// How long connecting may take. The client waits.
const DIAL: Duration = Duration::from_secs(10);

pub(super) fn build(name: &Arc<str>, options: &dynamic::ForwardAuth) -> Result<Kind, String> {
    let address = AuthAddress::parse(options.address.as_str())?;
    let service = service(name, &address, options.tls.as_ref())?;
    let options = ForwardAuthOptions {
        trust_forward_header: options.trust_forward_header,
        auth_response_headers: &options.auth_response_headers,
        auth_response_headers_regex: &options.auth_response_headers_regex,
        auth_request_headers: &options.auth_request_headers,
        add_auth_cookies_to_response: &options.add_auth_cookies_to_response,
        header_field: &options.header_field,
        forward_body: options.forward_body,
        max_body_size: options.max_body_size,
        max_response_body_size: options.max_response_body_size,
        preserve_location_header: options.preserve_location_header,
        preserve_request_method: options.preserve_request_method,
    };
    ForwardAuth::new(address, service, &options).map(Kind::ForwardAuth)
}

fn service(name: &Arc<str>, address: &AuthAddress, tls: Option<&ClientTls>) -> Result<Arc<Service>, String> {
    let mut transport = Transport {
        name: format!("forwardAuth of {name}").into(),
        timeouts: Timeouts {
            dial: Some(DIAL),
            ..Timeouts::default()
        },
        ..Transport::default()
    };
    if let Some(tls) = tls {
        transport.insecure_skip_verify = tls.insecure_skip_verify;
        transport.root_cas = pem("tls.ca", &tls.ca)?.into_iter().collect();
        transport.client_certificate = match (pem("tls.cert", &tls.cert)?, pem("tls.key", tls.key.as_str())?)
        {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => return Err("tls has one of cert and key: give both, or none of them".to_owned()),
        };
    }
    let endpoint = EndpointSpec {
        name: format!("{address:?}").into(),
        scheme: if address.tls() {
            Scheme::Https
        } else {
            Scheme::Http
        },
        host: address.host().into(),
        port: address.port(),
        base_path: "".into(),
        weight: 1,
        condition: Condition::Ready,
        url_as_written: "".into(),
        locality: Default::default(),
        peer: None,
    };
    let spec = ServiceSpec {
        name: format!("forwardAuth of {name}").into(),
        endpoints: vec![Arc::new(Endpoint::new(endpoint))],
        pass_host_header: false,
        transport: Arc::new(transport),
        retry_after: 1,
        policy: Arc::default(),
    };
    Ok(Arc::new(Service::new(spec, None)))
}

/// What could be read of files stands in their place before middlewares are compiled.
fn pem(option: &str, text: &str) -> Result<Option<Arc<[u8]>>, String> {
    match text {
        "" => Ok(None),
        pem if pem.contains("-----BEGIN") => Ok(Some(pem.as_bytes().into())),
        path => Err(format!(
            "its {option} {path:?} could not be read: correct the path or the file's permissions"
        )),
    }
}
