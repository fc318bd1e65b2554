//! `passTLSClientCert`: the service gets to know the certificates that the client has shown in the TLS handshake.

use std::net::IpAddr;

use bytes::Bytes;
use data_encoding::BASE64;
use http::HeaderValue;
use pingora_http::RequestHeader;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::oid_registry::Oid;
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Name;

use crate::identity::set_trusted;
use crate::{Flow, Seen, Unfit};

/// Most bytes of one of the headers. Servers refuse longer ones.
const MAX_HEADER: usize = 64 << 10;

const CERTIFICATES: Bytes = Bytes::from_static(b"X-Forwarded-Tls-Client-Cert");
const INFO: Bytes = Bytes::from_static(b"X-Forwarded-Tls-Client-Cert-Info");

/// Tells the service of the client's certificates.
#[derive(Clone, Debug, Default)]
pub struct PassClientCertificate {
    /// The certificates themselves.
    pub pem: bool,
    /// What they say.
    pub info: Option<CertificateInfo>,
}

/// What of a certificate is told.
#[derive(Clone, Debug, Default)]
pub struct CertificateInfo {
    /// Parts of its name.
    pub subject: Option<NameParts>,
    /// Parts of its issuer's name.
    pub issuer: Option<NameParts>,
    /// Its number.
    pub serial_number: bool,
    /// When it begins.
    pub not_before: bool,
    /// When it ends.
    pub not_after: bool,
    /// Its further names.
    pub sans: bool,
}

/// Parts of a name.
#[derive(Clone, Copy, Debug, Default)]
pub struct NameParts {
    /// `DC`.
    pub domain_component: bool,
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
    /// `SN`.
    pub serial_number: bool,
    /// `CN`.
    pub common_name: bool,
}

impl PassClientCertificate {
    pub(crate) fn enter(&self, request: &mut RequestHeader, seen: &Seen<'_>) -> Result<Flow<'static>, Unfit> {
        let certificates = seen.certificates;
        let shown = |wanted: bool| wanted && !certificates.is_empty();
        let pem = shown(self.pem).then(|| {
            let encoded: Vec<String> = certificates.iter().map(|der| BASE64.encode(der)).collect();
            encoded.join(",")
        });
        let info = match &self.info {
            Some(info) if shown(true) => {
                let all: Result<Vec<String>, Unfit> = certificates.iter().map(|der| info.of(der)).collect();
                Some(escaped(&all?.join(",")))
            }
            _ => None,
        };
        for (header, text) in [(CERTIFICATES, pem), (INFO, info)] {
            let value = match text {
                Some(text) if text.len() > MAX_HEADER => {
                    return Err(Unfit::new("the client's certificates are too long for a header"));
                }
                Some(text) => {
                    Some(HeaderValue::from_str(&text).map_err(|error| Unfit::new(error.to_string()))?)
                }
                None => None,
            };
            // What a client says of its certificates by itself counts for nothing.
            set_trusted(request, &header, value.iter())?;
        }
        Ok(Flow::Next)
    }
}

impl CertificateInfo {
    fn of(&self, der: &[u8]) -> Result<String, Unfit> {
        let (_, certificate) = X509Certificate::from_der(der)
            .map_err(|error| Unfit::new(format!("a client's certificate that can't be read: {error}")))?;
        let mut fields = Vec::new();
        let mut add = |name: &str, value: Option<String>| {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                fields.push(format!("{name}=\"{value}\""));
            }
        };
        add(
            "Subject",
            self.subject.map(|parts| parts.of(certificate.subject())),
        );
        add("Issuer", self.issuer.map(|parts| parts.of(certificate.issuer())));
        add(
            "SerialNumber",
            self.serial_number
                .then(|| certificate.tbs_certificate.serial.to_string()),
        );
        let validity = certificate.validity();
        add(
            "NB",
            self.not_before
                .then(|| validity.not_before.timestamp().to_string()),
        );
        add(
            "NA",
            self.not_after.then(|| validity.not_after.timestamp().to_string()),
        );
        add("SAN", self.sans.then(|| further_names(&certificate)));
        Ok(fields.join(";"))
    }
}

impl NameParts {
    fn of(self, name: &X509Name<'_>) -> String {
        // Numbers of ITU-T X.520, but for the first, which is of RFC 4519.
        let wanted: [(&str, bool, &[u64]); 8] = [
            ("DC", self.domain_component, &[0, 9, 2342, 19_200_300, 100, 1, 25]),
            ("C", self.country, &[2, 5, 4, 6]),
            ("ST", self.province, &[2, 5, 4, 8]),
            ("L", self.locality, &[2, 5, 4, 7]),
            ("O", self.organization, &[2, 5, 4, 10]),
            ("OU", self.organizational_unit, &[2, 5, 4, 11]),
            ("SN", self.serial_number, &[2, 5, 4, 5]),
            ("CN", self.common_name, &[2, 5, 4, 3]),
        ];
        let wanted = wanted.into_iter().filter(|(_, wanted, _)| *wanted);
        let parts = wanted.flat_map(|(key, _, number)| {
            let number = Oid::from(number).ok();
            let attributes = name.iter_attributes();
            let matching = attributes.filter(move |attribute| Some(attribute.attr_type()) == number.as_ref());
            matching.filter_map(move |attribute| Some(format!("{key}={}", attribute.as_str().ok()?)))
        });
        parts.collect::<Vec<_>>().join(",")
    }
}

/// Names of hosts, then of people, addresses and URLs.
fn further_names(certificate: &X509Certificate<'_>) -> String {
    let Ok(Some(found)) = certificate.subject_alternative_name() else {
        return String::new();
    };
    let mut kinds: [Vec<String>; 4] = Default::default();
    for name in &found.value.general_names {
        let [hosts, people, addresses, urls] = &mut kinds;
        match name {
            GeneralName::DNSName(name) => hosts.push((*name).to_owned()),
            GeneralName::RFC822Name(name) => people.push((*name).to_owned()),
            GeneralName::IPAddress(bytes) => addresses.extend(address(bytes).map(|ip| ip.to_string())),
            GeneralName::URI(name) => urls.push((*name).to_owned()),
            _ => {}
        }
    }
    kinds.concat().join(",")
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        _ => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
    }
}

/// Escaped as in the query of a URL.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            byte => {
                out.push('%');
                for digit in [byte >> 4, byte & 15] {
                    out.push(char::from(b"0123456789ABCDEF"[usize::from(digit)]));
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seen::seen_from;

    /// A client's certificate with many names, and that of its authority.
    fn certificates() -> Vec<Box<[u8]>> {
        [LEAF, AUTHORITY]
            .iter()
            .map(|text| BASE64.decode(text.as_bytes()).unwrap().into())
            .collect()
    }

    const LEAF: &str = "MIICpDCCAkqgAwIBAgIKEjRWeJCrze8SNDAKBggqhkjOPQQDAjBWMQswCQYDVQQGEwJERTEPMA0GA1UECgwGQ0EgT3JnMRAwDgYDVQQLDAdDQSBVbml0MQ4wDAYDVQQDDAVNeSBDQTEUMBIGCgmSJomT8ixkARkWBHJvb3QwHhcNMjYxMTI3MDI0NzUzWhcNMjYxMjE3MDI0NzUzWjCBvzELMAkGA1UEBhMCRlIxFDASBgNVBAgMC1NvbWUsIFN0YXRlMREwDwYDVQQHDAhUb3Vsb3VzZTESMBAGA1UECgwJQWNtZT1Db3JwMQ8wDQYDVQQLDAZVbml0IDExDzANBgNVBAsMBlVuaXQ7MjEVMBMGA1UEAwwMY2zDr2VudCAmIGNvMQ0wCwYDVQQFEwRTTjQyMRMwEQYKCZImiZPyLGQBGRYDb3JnMRYwFAYKCZImiZPyLGQBGRYGY2hlZXNlMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE4eYysRyG9TcuOw495M0fwtnOXTAIShwPuBuuRCtDWycL59q7Nq2mqiR0dL+kmlNeyN5XhJxi6coy8F78dkmuD6OBlTCBkjBQBgNVHREESTBHggZhLnRlc3SCCCouYi50ZXN0gQltZUBhLnRlc3SHBAoAAAGHEAAAAAAAAAAAAAAAAAAAAAGGEGh0dHBzOi8vdS50ZXN0L3gwHQYDVR0OBBYEFPq3VljuOC+gQc84wq2aLtT7F9pyMB8GA1UdIwQYMBaAFEnk7hcJaFg3l0TtwbEgfY/Nm1UMMAoGCCqGSM49BAMCA0gAMEUCIQD7MTvbNOOmQbA2361IBdGcq7tttmEdt3JNvkS03TkqaQIgYJeix6U9+GV/xQRtRZTaBvYqutBCJvQI5xe0KbJEhSg=";
    const AUTHORITY: &str = "MIICAjCCAaegAwIBAgIUQzAxtk7AYQlRuWaVJHtRRYk5xeEwCgYIKoZIzj0EAwIwVjELMAkGA1UEBhMCREUxDzANBgNVBAoMBkNBIE9yZzEQMA4GA1UECwwHQ0EgVW5pdDEOMAwGA1UEAwwFTXkgQ0ExFDASBgoJkiaJk/IsZAEZFgRyb290MB4XDTI2MTEyNzAyNDc1MloXDTI2MTIyNzAyNDc1MlowVjELMAkGA1UEBhMCREUxDzANBgNVBAoMBkNBIE9yZzEQMA4GA1UECwwHQ0EgVW5pdDEOMAwGA1UEAwwFTXkgQ0ExFDASBgoJkiaJk/IsZAEZFgRyb290MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAERdns0EB8Y/jBNOVTBMvhgAwdl8GUJha11OMyZ4Yvqgxc6AoBaHysdekHiUae7BRAPXH2eGZ/dQOVhxYYSK3Gf6NTMFEwHQYDVR0OBBYEFEnk7hcJaFg3l0TtwbEgfY/Nm1UMMB8GA1UdIwQYMBaAFEnk7hcJaFg3l0TtwbEgfY/Nm1UMMA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZIzj0EAwIDSQAwRgIhAKZaJwiz1JEMAGMVF05StmY+IThb7vQAc5G4ZLirTDYgAiEAwTlQqs9t/gI9i/vy8yfYPo5qpVTNY+wtoyGvCROoyS4=";

    fn told(kind: &PassClientCertificate, certificates: &[Box<[u8]>]) -> [Option<String>; 2] {
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        for forged in [
            "X-Forwarded-Tls-Client-Cert",
            "X-Forwarded-Tls-Client-Cert-Info",
            "X_Forwarded_Tls_Client_Cert",
        ] {
            request.append_header(forged, "evil").unwrap();
        }
        let seen = Seen {
            certificates,
            ..seen_from("1.1.1.1:1")
        };
        assert!(matches!(kind.enter(&mut request, &seen), Ok(Flow::Next)));
        assert!(request.headers.values().all(|value| value != "evil"));
        ["x-forwarded-tls-client-cert", "x-forwarded-tls-client-cert-info"]
            .map(|name| Some(request.headers.get(name)?.to_str().unwrap().to_owned()))
    }

    #[test]
    fn what_the_service_gets_to_know() {
        let all = NameParts {
            domain_component: true,
            country: true,
            province: true,
            locality: true,
            organization: true,
            organizational_unit: false,
            serial_number: true,
            common_name: true,
        };
        let with_units = NameParts {
            organizational_unit: true,
            ..all
        };
        let info = |info| PassClientCertificate {
            pem: false,
            info: Some(info),
        };
        let none = CertificateInfo::default();
        // As the reference implementation writes them.
        let cases = [
            (
                CertificateInfo {
                    subject: Some(with_units),
                    ..none.clone()
                },
                "Subject%3D%22DC%3Dorg%2CDC%3Dcheese%2CC%3DFR%2CST%3DSome%2C+State%2CL%3DToulouse%2CO%3DAcme%3DCorp%2COU%3DUnit+1%2COU%3DUnit%3B2%2CSN%3DSN42%2CCN%3Dcl%C3%AFent+%26+co%22%2CSubject%3D%22DC%3Droot%2CC%3DDE%2CO%3DCA+Org%2COU%3DCA+Unit%2CCN%3DMy+CA%22",
            ),
            (
                CertificateInfo {
                    issuer: Some(NameParts {
                        common_name: true,
                        ..NameParts::default()
                    }),
                    ..none.clone()
                },
                "Issuer%3D%22CN%3DMy+CA%22%2CIssuer%3D%22CN%3DMy+CA%22",
            ),
            (
                CertificateInfo {
                    not_after: true,
                    not_before: true,
                    ..none.clone()
                },
                "NB%3D%221795747673%22%3BNA%3D%221797475673%22%2CNB%3D%221795747672%22%3BNA%3D%221798339672%22",
            ),
            (
                CertificateInfo {
                    sans: true,
                    ..none.clone()
                },
                "SAN%3D%22a.test%2C%2A.b.test%2Cme%40a.test%2C10.0.0.1%2C%3A%3A1%2Chttps%3A%2F%2Fu.test%2Fx%22%2C",
            ),
            (
                CertificateInfo {
                    serial_number: true,
                    ..none.clone()
                },
                "SerialNumber%3D%2285968058272638546416180%22%2CSerialNumber%3D%22383577147952806826697439952531123522624630146529%22",
            ),
            (
                CertificateInfo {
                    subject: Some(NameParts::default()),
                    ..none.clone()
                },
                "%2C",
            ),
        ];
        for (options, expected) in cases {
            assert_eq!(
                told(&info(options), &certificates()),
                [None, Some(expected.to_owned())]
            );
        }
        let pem = PassClientCertificate {
            pem: true,
            info: None,
        };
        assert_eq!(
            told(&pem, &certificates()),
            [Some(format!("{LEAF},{AUTHORITY}")), None]
        );
        assert_eq!(told(&pem, &[]), [None, None]);
        assert_eq!(told(&info(none), &[]), [None, None]);
        assert_eq!(
            told(&PassClientCertificate::default(), &certificates()),
            [None, None]
        );
    }

    #[test]
    fn what_is_no_certificate_or_too_long_is_refused() {
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        let junk: [Box<[u8]>; 1] = [vec![0; 60_000].into()];
        let seen = Seen {
            certificates: &junk,
            ..seen_from("1.1.1.1:1")
        };
        let pem = PassClientCertificate {
            pem: true,
            info: None,
        };
        assert!(pem.enter(&mut request, &seen).unwrap_err().0.contains("too long"));
        let info = PassClientCertificate {
            pem: false,
            info: Some(CertificateInfo::default()),
        };
        assert!(
            info.enter(&mut request, &seen)
                .unwrap_err()
                .0
                .contains("can't be read")
        );
    }
}
