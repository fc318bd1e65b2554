//! The target of a request: its path is what many middlewares change.

use pingora_http::RequestHeader;

use crate::Unfit;

/// The path as it goes to the back end, escapes and all, without the query.
pub(crate) fn path(request: &RequestHeader) -> &str {
    request.uri.path()
}

/// Gives the request another path; the query and the authority of an HTTP/2 request stay.
pub(crate) fn set_path(request: &mut RequestHeader, path: &str) -> Result<(), Unfit> {
    let mut target = String::with_capacity(path.len() + 64);
    if !path.starts_with('/') {
        target.push('/');
    }
    target.push_str(path);
    if let Some(query) = request.uri.query() {
        target.push('?');
        target.push_str(query);
    }
    if request.uri.authority().is_none() {
        return Ok(request.set_raw_path(target.as_bytes())?);
    }
    let mut parts = request.uri.clone().into_parts();
    let unfit = |_| Unfit::new(format!("{target:?} is no target of a request"));
    parts.path_and_query = Some(target.parse().map_err(unfit)?);
    let uri = http::Uri::from_parts(parts)
        .map_err(|error| Unfit::new(format!("{target:?} is no target of a request: {error}")))?;
    request.set_uri(uri);
    Ok(())
}

/// Path and query, as they go to the back end.
pub(crate) fn of(request: &RequestHeader) -> &str {
    request.uri.path_and_query().map_or("/", |target| target.as_str())
}

/// The authority that the client names, as it wrote it: `Host`, or `:authority` of HTTP/2. Empty when there is none.
pub(crate) fn authority(request: &RequestHeader) -> &str {
    let host = request.headers.get(http::header::HOST);
    host.and_then(|host| host.to_str().ok())
        .or_else(|| request.uri.authority().map(http::uri::Authority::as_str))
        .unwrap_or_default()
}

/// Gives the request another authority.
pub(crate) fn set_authority(request: &mut RequestHeader, host: &http::HeaderValue) -> Result<(), Unfit> {
    if request.uri.authority().is_some() {
        let unfit = || Unfit::new(format!("{host:?} is no host"));
        let mut parts = request.uri.clone().into_parts();
        let authority = http::uri::Authority::try_from(host.as_bytes()).map_err(|_| unfit())?;
        parts.authority = Some(authority);
        request.set_uri(http::Uri::from_parts(parts).map_err(|_| unfit())?);
        if !request.headers.contains_key(http::header::HOST) {
            return Ok(());
        }
    }
    Ok(request.insert_header(http::header::HOST, host.clone())?)
}
