//! Statuses of responses, as options list them.

/// Single statuses and ranges of them, such as `404` and `500-599`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statuses(Box<[(u16, u16)]>);

impl Statuses {
    /// Reads a list; the error names the entry and `option`.
    pub fn new(option: &str, list: &[String]) -> Result<Self, String> {
        let ranges = list
            .iter()
            .map(|text| range(option, text))
            .collect::<Result<_, _>>()?;
        Ok(Self(ranges))
    }

    /// Whether a status is among them.
    pub fn contains(&self, status: u16) -> bool {
        self.0.iter().any(|(low, high)| (*low..=*high).contains(&status))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Reads `LOW-HIGH` or one number.
pub(crate) fn range(option: &str, text: &str) -> Result<(u16, u16), String> {
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    let read = |text: &str| text.trim().parse::<u16>().ok();
    match (read(low), read(high)) {
        (Some(low), Some(high)) if low <= high => Ok((low, high)),
        _ => Err(format!(
            "{option} has {text:?}: write a status such as 404, or a range such as 500-599"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_statuses() {
        let list = ["404", "500-503"].map(str::to_owned);
        let statuses = Statuses::new("status", &list).unwrap();
        for (status, expected) in [
            (404, true),
            (405, false),
            (499, false),
            (500, true),
            (503, true),
            (504, false),
        ] {
            assert_eq!(statuses.contains(status), expected, "{status}");
        }
        for bad in ["abc", "500-400", "", "500-", "-1", "99999"] {
            let error = Statuses::new("status", &[bad.to_owned()]).unwrap_err();
            assert!(error.contains("status has"), "{error}");
        }
    }
}
