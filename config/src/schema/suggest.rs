//! Did you mean …?

/// The candidate that differs least from `seen` in any case, if it differs by little: one edit in up to five letters,
/// two in up to eight, three in longer words. An edit is a letter more, less, other, or swapped with its neighbour.
pub(crate) fn nearest<'c>(seen: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let seen: Vec<char> = seen.chars().map(|c| c.to_ascii_lowercase()).collect();
    // A key of this length is no typing error, and comparing it would cost its square.
    if seen.len() > 64 {
        return None;
    }
    let allowed = match seen.len() {
        0..=2 => return None,
        3..=5 => 1,
        6..=8 => 2,
        _ => 3,
    };
    candidates
        .into_iter()
        .map(|candidate| (edits(&seen, candidate), candidate))
        .filter(|(edits, _)| *edits <= allowed)
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

/// Optimal string alignment distance.
fn edits(seen: &[char], candidate: &str) -> usize {
    let other: Vec<char> = candidate.chars().map(|c| c.to_ascii_lowercase()).collect();
    let width = other.len() + 1;
    let mut rows = vec![vec![0; width]; seen.len() + 1];
    rows[0] = (0..width).collect();
    for (i, a) in seen.iter().enumerate() {
        rows[i + 1][0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let change = rows[i][j] + usize::from(a != b);
            let mut best = change.min(rows[i][j + 1] + 1).min(rows[i + 1][j] + 1);
            let swapped = i > 0 && j > 0 && *a == other[j - 1] && seen[i - 1] == *b;
            if swapped {
                best = best.min(rows[i - 1][j - 1] + 1);
            }
            rows[i + 1][j + 1] = best;
        }
    }
    rows[seen.len()][other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_key_that_was_meant() {
        let keys = ["address", "asDefault", "http", "http2", "transport", "tls"];
        let table = [
            ("adress", Some("address")),
            ("ADDRESS", Some("address")),
            ("addrses", Some("address")),
            ("htpt", Some("http")),
            ("tsl", Some("tls")),
            ("transports", Some("transport")),
            ("middlewares", None),
            ("x", None),
            ("", None),
        ];
        for (seen, meant) in table {
            assert_eq!(nearest(seen, keys), meant, "{seen}");
        }
    }
}
