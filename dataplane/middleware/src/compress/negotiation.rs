//! Which encoding a response gets: what the client prefers, and of what it likes alike, what the options prefer.

use http::HeaderMap;

use super::{Encoding, accepted};

/// Most entries of `Accept-Encoding` that are read.
const MAX_ENTRIES: usize = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// As it is, whoever asks.
    Identity,
    Encoding(Encoding),
}

/// What an entry asks for. In this order where the client likes several alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Wish {
    /// `*`.
    Any,
    /// One of ours, by its place in the options; the last one, where it stands there twice.
    Ours(usize),
    Identity,
}

pub(super) fn choose(headers: &HeaderMap, encodings: &[Encoding], default: Option<Encoding>) -> Choice {
    let Some(list) = accepted(headers) else {
        return default.map_or(Choice::Identity, Choice::Encoding);
    };
    let mut best: Option<(Wish, f64)> = None;
    for (name, weight) in entries(&list) {
        let wish = match name {
            "*" => Some(Wish::Any),
            "identity" => Some(Wish::Identity),
            name => encodings
                .iter()
                .rposition(|encoding| encoding.name() == name)
                .map(Wish::Ours),
        };
        let Some(wish) = wish.filter(|_| weight > 0.0) else {
            continue;
        };
        let better =
            best.is_none_or(|(before, heaviest)| weight > heaviest || (weight >= heaviest && wish < before));
        if better {
            best = Some((wish, weight));
        }
    }
    let chosen = match best {
        None | Some((Wish::Identity, _)) => None,
        Some((Wish::Any, _)) => default.or(encodings.first().copied()),
        Some((Wish::Ours(position), _)) => encodings.get(position).copied(),
    };
    chosen.map_or(Choice::Identity, Choice::Encoding)
}

/// Whether the client accepts gzip by its name.
pub(super) fn names_gzip(headers: &HeaderMap) -> bool {
    let list = accepted(headers).unwrap_or_default();
    entries(&list).any(|(name, weight)| name == "gzip" && weight > 0.0)
}

/// Names and weights; those with a weight that is none are left out.
fn entries(list: &str) -> impl Iterator<Item = (&str, f64)> {
    list.split(',').take(MAX_ENTRIES).filter_map(|entry| {
        let (name, parameters) = entry.split_once(';').unwrap_or((entry, ""));
        let weight = match parameters.trim().strip_prefix("q=") {
            Some(weight) => weight
                .trim()
                .parse()
                .ok()
                .filter(|weight: &f64| weight.is_finite())?,
            None => 1.0,
        };
        Some((name.trim(), weight))
    })
}

#[cfg(test)]
mod tests {
    use http::header::ACCEPT_ENCODING;

    use super::Encoding::{Brotli, Gzip, Zstd};
    use super::*;

    #[test]
    fn the_client_prefers_and_the_options_decide_between_equals() {
        let all = [Gzip, Brotli, Zstd];
        let (zg, bg, gz) = ([Zstd, Gzip], [Brotli, Gzip], [Gzip, Zstd]);
        let zbz = [Zstd, Brotli, Zstd];
        // Accept-Encoding, encodings, default, choice
        type Case<'a> = (
            Option<&'a str>,
            &'a [Encoding],
            Option<Encoding>,
            Option<Encoding>,
        );
        let cases: &[Case<'_>] = &[
            (None, &all, None, None),
            (None, &bg, Some(Brotli), Some(Brotli)),
            (Some(""), &bg, Some(Brotli), None),
            (Some("br, gzip"), &all, None, Some(Gzip)),
            (Some("gzip, br, zstd"), &zg, None, Some(Zstd)),
            (Some("gzip;q=0.5, br;q=0.4"), &all, None, Some(Gzip)),
            (Some("gzip;q=0.4, br;q=0.5"), &all, None, Some(Brotli)),
            (Some("gzip;q=0"), &all, None, None),
            (Some("identity, gzip;q=0.5"), &all, None, None),
            (Some("identity, gzip"), &bg, None, Some(Gzip)),
            (Some("identity;q=0"), &all, None, None),
            (Some("deflate"), &all, None, None),
            (Some("GZIP"), &all, None, None),
            (Some("gzip;q=abc"), &all, None, None),
            (Some("gzip;q=abc, br"), &all, None, Some(Brotli)),
            (Some("gzip;q=1.5"), &all, None, Some(Gzip)),
            (Some("gzip;x=1"), &gz, None, Some(Gzip)),
            (Some("gzip; q=0.5;x=1"), &gz, None, None),
            (Some(" gzip ; q=0.2 , zstd;q=0.20"), &zg, None, Some(Zstd)),
            (Some("gzip, *"), &bg, None, Some(Brotli)),
            (Some("*, gzip"), &gz, Some(Zstd), Some(Zstd)),
            (Some("br;q=1, *;q=0.5"), &all, None, Some(Brotli)),
            (Some("*;q=0"), &all, None, None),
            (Some("zstd, br"), &zbz, None, Some(Brotli)),
            (Some("zstd"), &zbz, None, Some(Zstd)),
            (Some("*"), &zbz, None, Some(Zstd)),
        ];
        for (accept, encodings, default, expected) in cases {
            let mut headers = HeaderMap::new();
            if let Some(accept) = accept {
                headers.insert(ACCEPT_ENCODING, accept.parse().unwrap());
            }
            let expected = expected.map_or(Choice::Identity, Choice::Encoding);
            assert_eq!(
                choose(&headers, encodings, *default),
                expected,
                "{accept:?} {encodings:?}"
            );
        }
    }
}
