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
