//! Middlewares that change where a request goes.

use constellation_config::dynamic;
use constellation_middleware::{
    AddPrefix, Kind, RedirectRegex, RedirectScheme, ReplacePath, ReplacePathRegex, StripPrefix,
    StripPrefixRegex,
};

/// Builds one of these; `None` when it is another kind.
pub(super) fn build(definition: &dynamic::Middleware) -> Option<Result<Kind, String>> {
    if let Some(options) = &definition.add_prefix {
        return Some(AddPrefix::new(&options.prefix).map(Kind::AddPrefix));
    }
    if let Some(options) = &definition.redirect_regex {
        let kind = RedirectRegex::new(&options.regex, &options.replacement, options.permanent);
        return Some(kind.map(Kind::RedirectRegex));
    }
    if let Some(options) = &definition.redirect_scheme {
        let kind = RedirectScheme::new(&options.scheme, &options.port, options.permanent);
        return Some(kind.map(Kind::RedirectScheme));
    }
    if let Some(options) = &definition.replace_path {
        return Some(ReplacePath::new(&options.path).map(Kind::ReplacePath));
    }
    if let Some(options) = &definition.replace_path_regex {
        let kind = ReplacePathRegex::new(&options.regex, &options.replacement);
        return Some(kind.map(Kind::ReplacePathRegex));
    }
    if let Some(options) = &definition.strip_prefix {
        let force_slash = options.force_slash.unwrap_or(false);
        return Some(Ok(Kind::StripPrefix(StripPrefix::new(
            &options.prefixes,
            force_slash,
        ))));
    }
    if let Some(options) = &definition.strip_prefix_regex {
        return Some(StripPrefixRegex::new(&options.regex).map(Kind::StripPrefixRegex));
    }
    None
}
