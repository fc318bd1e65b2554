//! `errors`: pages of another service in the place of responses with certain statuses.

use std::sync::Arc;

use constellation_table::Target;
use http::header::{HeaderMap, HeaderName};
use pingora_http::RequestHeader;

use crate::escape::{Place, encode};
use crate::statuses::{Statuses, range};
use crate::{Flow, Later, Seen, target};

/// The options of [`Errors`], as written.
#[derive(Debug)]
pub struct ErrorsOptions<'o> {
    /// Statuses and ranges of them.
    pub statuses: &'o [String],
    /// Other statuses in their place, by status or range.
    pub rewrites: Vec<(&'o str, i64)>,
    /// What is asked for; `{status}`, `{originalStatus}` and `{url}` are put in.
    pub query: &'o str,
    /// The headers of the request that the service gets; empty: all.
    pub headers: &'o [String],
    /// The service that has the pages.
    pub service: Target,
}

/// Replaces responses by pages.
#[derive(Debug)]
pub struct Errors(Arc<Pages>);

#[derive(Debug)]
struct Pages {
    statuses: Statuses,
    rewrites: Box<[((u16, u16), u16)]>,
    query: Box<str>,
    headers: Box<[HeaderName]>,
    service: Target,
}

impl Errors {
    /// Compiles the options.
    pub fn new(options: ErrorsOptions<'_>) -> Result<Self, String> {
        let rewrite = |(text, status): &(&str, i64)| {
            let status = u16::try_from(*status)
                .ok()
                .filter(|status| (200..=599).contains(status));
            match status {
                Some(status) => Ok((range("statusRewrites", text)?, status)),
                None => Err(format!("statusRewrites.{text} is no status: write 200 to 599")),
            }
        };
        let name = |text: &String| {
            HeaderName::from_bytes(text.as_bytes())
                .map_err(|_| format!("errorRequestHeaders has {text:?}, which is no name of a header"))
        };
        Ok(Self(Arc::new(Pages {
            statuses: Statuses::new("status", options.statuses)?,
            rewrites: options.rewrites.iter().map(rewrite).collect::<Result<_, _>>()?,
            query: options.query.into(),
            headers: options.headers.iter().map(name).collect::<Result<_, _>>()?,
            service: options.service,
        })))
    }

    pub(crate) fn enter(&self, request: &RequestHeader, seen: &Seen<'_>) -> Flow<'static> {
        let pages = &self.0;
        if pages.statuses.is_empty() {
            return Flow::Next;
        }
        let url = || {
            let scheme = if seen.tls { "https" } else { "http" };
            let asked = target::of(request);
            // A query of nothing is none.
            let asked = asked.strip_suffix('?').unwrap_or(asked);
            format!("{scheme}://{}{asked}", target::authority(request))
        };
        Flow::Later(Later::Errors(ErrorPage {
            url: if pages.query.contains("{url}") {
                url()
            } else {
                String::new()
            },
            pages: pages.clone(),
        }))
    }
}

/// Replaces one response.
#[derive(Debug)]
pub struct ErrorPage {
    pages: Arc<Pages>,
    /// What the client has asked for.
    url: String,
}

/// A page that is to be fetched and to go to the client instead of a response. It keeps the status, whatever that of the
/// page is.
#[derive(Debug)]
pub struct Page {
    /// The status that the client gets.
    pub status: u16,
    /// Path and query.
    pub target: String,
    /// The service to ask, by GET.
    pub service: Target,
    /// The headers of the client's request that go with it; empty: all.
    pub headers: Vec<HeaderName>,
}

impl Page {
    /// The headers of a request that the service is not to see.
    pub fn hidden(&self, headers: &HeaderMap) -> Vec<HeaderName> {
        if self.headers.is_empty() {
            return Vec::new();
        }
        let hidden = |name: &&HeaderName| **name != http::header::HOST && !self.headers.contains(name);
        headers.keys().filter(hidden).cloned().collect()
    }
}

impl ErrorPage {
    pub(crate) fn leave(&self, status: u16) -> Option<Page> {
        let pages = &self.pages;
        if !pages.statuses.contains(status) {
            return None;
        }
        let rewritten = pages
            .rewrites
            .iter()
            .find(|((low, high), _)| (*low..=*high).contains(&status))
            .map_or(status, |(_, status)| *status);
        let mut target = pages
            .query
            .replace("{status}", &rewritten.to_string())
            .replace("{originalStatus}", &status.to_string())
            .replace("{url}", &encode(self.url.as_bytes(), Place::Query));
        if !target.starts_with('/') {
            target.insert(0, '/');
        }
        Some(Page {
            status: rewritten,
            target,
            service: pages.service.clone(),
            headers: pages.headers.to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use constellation_table::{Service, ServiceSpec, Transport};

    use super::*;
    use crate::seen::tests::seen;

    fn service() -> Target {
        let spec = ServiceSpec {
            name: "pages@file".into(),
            endpoints: Vec::new(),
            pass_host_header: true,
            transport: Arc::new(Transport::default()),
            retry_after: 1,
            policy: Arc::default(),
        };
        Arc::new(Service::new(spec, None)).into()
    }

    fn errors(statuses: &[&str], rewrites: &[(&str, i64)], query: &str) -> Result<Errors, String> {
        let statuses: Vec<_> = statuses.iter().map(|text| (*text).to_owned()).collect();
        Errors::new(ErrorsOptions {
            statuses: &statuses,
            rewrites: rewrites.to_vec(),
            query,
            headers: &[],
            service: service(),
        })
    }

    #[test]
    fn which_page_for_which_status() {
        let rewrites = [("418", 404), ("404", 200), ("500-503", 500)];
        let query = "/{status}.html?u={url}&o={originalStatus}";
        let middleware = errors(&["500-599", "404", "418"], &rewrites, query).unwrap();
        let mut request = RequestHeader::build("GET", b"/a/b%20c?x=1&y=2", None).unwrap();
        request.insert_header("Host", "e1.test").unwrap();
        let Flow::Later(Later::Errors(page)) = middleware.enter(&request, &seen(true)) else {
            panic!("it waits for the response");
        };
        let url = "https%3A%2F%2Fe1.test%2Fa%2Fb%2520c%3Fx%3D1%26y%3D2";
        // status, status of the page and status in its target
        for (status, expected) in [
            (200, None),
            (499, None),
            (404, Some(200)),
            (418, Some(404)),
            (502, Some(500)),
            (504, Some(504)),
        ] {
            let page = page.leave(status);
            let got = page.as_ref().map(|page| page.status);
            assert_eq!(got, expected, "{status}");
            if let Some(page) = page {
                assert_eq!(page.target, format!("/{}.html?u={url}&o={status}", page.status));
            }
        }
    }

    #[test]
    fn a_target_begins_with_a_slash() {
        for (query, target) in [
            ("", "/"),
            ("x", "/x"),
            ("//{status}", "//500"),
            // A query of nothing is none.
            ("/?u={url}", "/?u=http%3A%2F%2F%2F"),
        ] {
            let middleware = errors(&["500"], &[], query).unwrap();
            let request = RequestHeader::build("GET", b"/?", None).unwrap();
            let Flow::Later(Later::Errors(page)) = middleware.enter(&request, &seen(false)) else {
                panic!("it waits for the response");
            };
            assert_eq!(page.leave(500).unwrap().target, target);
        }
    }

    #[test]
    fn the_service_sees_the_headers_that_are_listed() {
        let mut headers = HeaderMap::new();
        for name in ["host", "x-a", "cookie"] {
            headers.insert(HeaderName::from_static(name), "1".parse().unwrap());
        }
        let mut page = Page {
            status: 500,
            target: "/".to_owned(),
            service: service(),
            headers: vec![HeaderName::from_static("x-a")],
        };
        assert_eq!(page.hidden(&headers), [http::header::COOKIE]);
        page.headers.clear();
        assert!(page.hidden(&headers).is_empty());
    }

    #[test]
    fn what_is_no_status_is_refused() {
        assert!(errors(&["abc"], &[], "").is_err());
        assert!(
            errors(&["500"], &[("500", 99)], "")
                .unwrap_err()
                .contains("200 to 599")
        );
        assert!(errors(&["500"], &[("x", 500)], "").is_err());
    }
}
