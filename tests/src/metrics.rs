//! Reads the OpenMetrics text that a node exposes.

use std::collections::BTreeMap;

/// One scrape.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    samples: Vec<Sample>,
}

/// One line.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Name with its suffix (`_total`, `_bucket`, ...).
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Value.
    pub value: f64,
}

impl Metrics {
    /// Parses a scrape.
    ///
    /// # Panics
    /// On a line that is not OpenMetrics text, and when the closing `# EOF` is missing.
    pub fn parse(text: &str) -> Self {
        assert!(
            text.trim_end().ends_with("# EOF"),
            "a scrape ends with # EOF:\n{text}"
        );
        let samples = text
            .lines()
            .filter(|line| !line.starts_with('#') && !line.is_empty())
            .map(|line| sample(line).unwrap_or_else(|| panic!("not a sample: {line}")))
            .collect();
        Self { samples }
    }

    /// All samples.
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// The sum of all samples of this name that carry these labels. 0 when there is none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.matching(name, labels).map(|sample| sample.value).sum()
    }

    /// Samples of this name that are not 0, by the value of a label.
    pub fn by_label(&self, name: &str, label: &str) -> Vec<(String, u64)> {
        let samples = self.matching(name, &[]).filter(|sample| sample.value > 0.0);
        samples
            .map(|sample| {
                let value = sample.labels.get(label).cloned().unwrap_or_default();
                (value, format!("{:.0}", sample.value).parse().unwrap_or_default())
            })
            .collect()
    }

    /// Whether a sample of this name with these labels is there.
    pub fn has(&self, name: &str, labels: &[(&str, &str)]) -> bool {
        self.matching(name, labels).next().is_some()
    }

    fn matching<'m>(&'m self, name: &'m str, labels: &'m [(&str, &str)]) -> impl Iterator<Item = &'m Sample> {
        self.samples.iter().filter(move |sample| {
            sample.name == name
                && labels
                    .iter()
                    .all(|(key, value)| sample.labels.get(*key).is_some_and(|have| have == value))
        })
    }
}

fn sample(line: &str) -> Option<Sample> {
    let (name, mut rest) = match line.find(['{', ' ']) {
        Some(end) => line.split_at(end),
        None => return None,
    };
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (key, after) = rest.trim_start_matches(',').split_once("=\"")?;
            let (value, after) = quoted(after)?;
            labels.insert(key.to_owned(), value);
            rest = after;
        }
        rest = rest.get(1..)?;
    }
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some(Sample {
        name: name.to_owned(),
        labels,
        value,
    })
}

/// The text up to the closing quote, unescaped, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_values_and_exemplars_are_read() {
        let metrics = Metrics::parse(
            "# TYPE a counter\na_total{x=\"1\",y=\"q\\\"\\\\{}\"} 3\na_total{x=\"2\"} 4 # {t=\"1\"} 9\nb 1.5\n# EOF\n",
        );
        assert_eq!(metrics.sum("a_total", &[]), 7.0);
        assert_eq!(metrics.sum("a_total", &[("y", "q\"\\{}")]), 3.0);
        assert_eq!(metrics.sum("b", &[]), 1.5);
        assert!(!metrics.has("c", &[]));
    }
}
