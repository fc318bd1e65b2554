//! Middlewares that change where a request goes.

use constellation_config::dynamic;
use constellation_middleware::{
    AddPrefix, Kind, RedirectRegex, RedirectScheme, ReplacePath, ReplacePathRegex, StripPrefix,
    StripPrefixRegex,
};

/// Builds one of these; `None` when it is another kind.
pub(super) fn build(
    definition: &dynamic::Middleware,
    warnings: &mut Vec<String>,
) -> Option<Result<Kind, String>> {
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
        if options.force_slash == Some(false) {
            warnings.push("forceSlash has no effect: a path begins with / in any case".to_owned());
        }
        return Some(Ok(Kind::StripPrefix(StripPrefix::new(&options.prefixes))));
    }
    if let Some(options) = &definition.strip_prefix_regex {
        return Some(StripPrefixRegex::new(&options.regex).map(Kind::StripPrefixRegex));
    }
    None
}
