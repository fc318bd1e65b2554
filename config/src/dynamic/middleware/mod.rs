//! The HTTP middlewares of a document, with every option that Traefik 3.7 has.
//!
//! Only names and types are checked here; ranges, addresses and expressions are checked where middlewares are compiled, so
//! that a wrong one costs the middleware and the routers that name it, not the document. `serde` carries secrets whole, as
//! nodes need them from each other; what people read is made with `Debug`, which does not show them.

mod access;
mod confidential;
mod content;
mod limit;
mod path;

pub use access::*;
pub use confidential::{Confidential, Plugin};
pub use content::*;
pub use limit::*;
pub use path::*;

/// Defines groups of options. What is left at its default is not written, as most of it is.
macro_rules! options {
    ($(
        $(#[$about:meta])*
        pub struct $name:ident {
            $($(#[$option:meta])* pub $field:ident: $type:ty,)*
        }
    )*) => {$(
        $(#[$about])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
        #[serde(default, rename_all = "camelCase", deny_unknown_fields)]
        pub struct $name {
            $(
                $(#[$option])*
                #[serde(skip_serializing_if = "crate::dynamic::middleware::is_default")]
                pub $field: $type,
            )*
        }
    )*};
}
use options;

/// Defines [`Middleware`], so that its kinds are listed once.
macro_rules! kinds {
    ($($(#[$about:meta])* $field:ident: $kind:ty,)*) => {
        options! {
        /// A middleware: exactly one kind, which is checked where it is compiled.
        pub struct Middleware {
            $($(#[$about])* pub $field: Option<$kind>,)*
        }
        }

        impl Middleware {
            /// The kinds that are given, as the options of a document spell them.
            pub fn kinds(&self) -> Vec<String> {
                let given = [$((stringify!($field), self.$field.is_some()),)*];
                let given = given.into_iter().filter(|(_, given)| *given);
                given.map(|(field, _)| spelled(field)).collect()
            }
        }
    };
}

kinds! {
    /// Puts a prefix before the path.
    add_prefix: AddPrefix,
    /// Lets those in who know a password.
    basic_auth: BasicAuth,
    /// Takes whole bodies before they go on.
    buffering: Buffering,
    /// Other middlewares, in order.
    chain: Chain,
    /// Answers itself while the service fails.
    circuit_breaker: CircuitBreaker,
    /// Compresses responses.
    compress: Compress,
    /// Guesses the type of responses that name none.
    content_type: ContentType,
    /// Lets those in who prove that they know a password.
    digest_auth: DigestAuth,
    /// Refuses paths with certain characters in encoded form.
    encoded_characters: EncodedCharacters,
    /// Pages of another service for responses that are errors.
    errors: ErrorPages,
    /// Asks another service who may pass.
    forward_auth: ForwardAuth,
    /// Speaks gRPC-Web with clients.
    grpc_web: GrpcWeb,
    /// Sets headers, answers CORS requests.
    headers: Headers,
    /// So many requests at once.
    in_flight_req: InFlightReq,
    /// Lets only these clients in.
    ip_allow_list: IpAllowList,
    /// The deprecated name of `ipAllowList`.
    ip_white_list: IpWhiteList,
    /// Tells the service of the client's certificate.
    #[serde(rename = "passTLSClientCert")]
    pass_tls_client_cert: PassTlsClientCert,
    /// Not supported: Traefik's plugins, by name.
    plugin: Plugin,
    /// So many requests in a time.
    rate_limit: RateLimit,
    /// Sends clients to another address.
    redirect_regex: RedirectRegex,
    /// Sends clients to another scheme or port.
    redirect_scheme: RedirectScheme,
    /// Another path.
    replace_path: ReplacePath,
    /// Another path, made of the one that was asked for.
    replace_path_regex: ReplacePathRegex,
    /// Tries again.
    retry: Retry,
    /// Takes a prefix off the path.
    strip_prefix: StripPrefix,
    /// Takes a prefix that a regular expression describes off the path.
    strip_prefix_regex: StripPrefixRegex,
}

options! {
/// `chain`.
pub struct Chain {
    /// `NAME` or `NAME@PROVIDER`, in running order.
    pub middlewares: Vec<String>,
}
}

impl Middleware {
    /// The paths of files that it points at.
    pub fn files(&self) -> Vec<&str> {
        let users = [
            self.basic_auth.as_ref().map(|basic| &basic.users_file),
            self.digest_auth.as_ref().map(|digest| &digest.users_file),
        ];
        let users = users.into_iter().flatten().map(String::as_str);
        let tls = self.forward_auth.as_ref().and_then(|auth| auth.tls.as_ref());
        let tls = tls
            .into_iter()
            .flat_map(|tls| [tls.ca.as_str(), tls.cert.as_str(), tls.key.as_str()]);
        let is_path = |text: &&str| !text.is_empty() && !text.contains("-----BEGIN");
        users.chain(tls).filter(is_path).collect()
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The key of a document for a field.
fn spelled(field: &str) -> String {
    if field == "pass_tls_client_cert" {
        return "passTLSClientCert".to_owned();
    }
    let mut key = String::with_capacity(field.len());
    let mut upper = false;
    for letter in field.chars() {
        match letter {
            '_' => upper = true,
            letter => {
                key.push(if upper {
                    letter.to_ascii_uppercase()
                } else {
                    letter
                });
                upper = false;
            }
        }
    }
    key
}

#[cfg(test)]
mod tests;
