//! Relative links in the Markdown files: the file must exist, and so must the heading.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

/// Fails with every broken link below `root`.
pub(crate) fn check(root: &Path) -> Result<()> {
    let mut pages = Vec::new();
    find_pages(root, &mut pages)?;
    pages.sort();
    let mut broken = Vec::new();
    for page in &pages {
        let text = read(page)?;
        for (line, link) in links(&text) {
            if let Some(reason) = fault(root, page, &text, &link)? {
                let shown = page.strip_prefix(root).unwrap_or(page).display();
                broken.push(format!("{shown}:{line}: {link}: {reason}"));
            }
        }
    }
    if broken.is_empty() {
        return Ok(());
    }
    bail!("{} broken links:\n{}", broken.len(), broken.join("\n"))
}

fn read(page: &Path) -> Result<String> {
    fs::read_to_string(page).with_context(|| format!("cannot read {}", page.display()))
}

fn find_pages(directory: &Path, pages: &mut Vec<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
    for entry in entries {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        let hidden = name.to_string_lossy().starts_with('.');
        if entry.file_type()?.is_dir() {
            let built = name == "target" || path.join("CACHEDIR.TAG").exists();
            if !hidden && !built {
                find_pages(&path, pages)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "md") {
            pages.push(path);
        }
    }
    Ok(())
}

/// What is wrong with a link, if it is one that can be checked here.
fn fault(root: &Path, page: &Path, text: &str, link: &str) -> Result<Option<String>> {
    let elsewhere = link.contains("://") || link.starts_with("mailto:");
    if elsewhere {
        return Ok(None);
    }
    let (path, anchor) = link
        .split_once('#')
        .map_or((link, None), |(path, anchor)| (path, Some(anchor)));
    let target = match path.strip_prefix('/') {
        _ if path.is_empty() => page.to_path_buf(),
        Some(from_root) => root.join(from_root),
        None => page.parent().unwrap_or(root).join(path),
    };
    if !target.exists() {
        return Ok(Some("no such file".to_owned()));
    }
    let is_page = target.extension().is_some_and(|extension| extension == "md");
    let Some(anchor) = anchor.filter(|_| is_page) else {
        return Ok(None);
    };
    let anchors = if path.is_empty() {
        anchors(text)
    } else {
        anchors(&read(&target)?)
    };
    Ok((!anchors.iter().any(|known| known == anchor)).then(|| "no such heading".to_owned()))
}

/// Lines outside fenced code, with their numbers from 1.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        (!fenced && !fence).then_some((index + 1, line))
    })
}

/// Targets of `[text](target)` and `[name]: target`, with their lines.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut links = Vec::new();
    for (number, line) in prose(text) {
        let line = without_code(line);
        for (position, _) in line.match_indices("](") {
            let rest = &line[position + 2..];
            if let Some(end) = rest.find(')') {
                // A title may follow the target.
                let target = rest[..end].split_whitespace().next().unwrap_or_default();
                links.push((number, target.trim_matches(['<', '>']).to_owned()));
            }
        }
        if line.starts_with('[')
            && let Some((_, target)) = line.split_once("]: ")
        {
            links.push((number, target.trim().to_owned()));
        }
    }
    links
}

/// A line with its code spans blanked.
fn without_code(line: &str) -> String {
    let parts: Vec<&str> = line.split('`').collect();
    let closed = parts.len() % 2 == 1;
    let prose = parts
        .iter()
        .enumerate()
        .filter(|(index, _)| !closed || index % 2 == 0);
    prose.map(|(_, part)| *part).collect::<Vec<_>>().join(" ")
}

/// The anchors that GitHub gives to headings: lower case, punctuation dropped, blanks as `-`, `-N` for repetitions.
fn anchors(text: &str) -> Vec<String> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let headings = prose(text).filter(|(_, line)| line.starts_with('#'));
    headings
        .map(|(_, line)| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            let kept = title
                .chars()
                .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            let anchor: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
            let count = seen.entry(anchor.clone()).or_default();
            *count += 1;
            if *count == 1 {
                anchor
            } else {
                format!("{anchor}-{}", *count - 1)
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# A page, `really`\n[one](other.md) and `[not](code.md)` [two](docs/x.md#top \"title\")\n\
                        ```\n[fenced](no.md)\n# no heading\n```\n[ref]: ../up.md\n# Again\n# Again\n";

    #[test]
    fn links_are_found_outside_code() {
        let expected = [(2, "other.md"), (2, "docs/x.md#top"), (7, "../up.md")];
        let expected: Vec<_> = expected.map(|(line, target)| (line, target.to_owned())).into();
        assert_eq!(links(PAGE), expected);
    }

    #[test]
    fn anchors_are_those_of_github() {
        assert_eq!(anchors(PAGE), ["a-page-really", "again", "again-1"]);
    }

    #[test]
    fn broken_links_are_named_with_file_and_line() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        fs::create_dir(root.join("docs")).unwrap();
        fs::write(root.join("docs/b.md"), "# Top\n").unwrap();
        fs::write(
            root.join("a.md"),
            "[x](docs/b.md#top) [y](/docs/b.md) [z](https://example.test/)\n",
        )
        .unwrap();
        check(root).unwrap();
        fs::write(
            root.join("docs/c.md"),
            "ok\n[x](b.md#bottom) [y](c.txt) [z](#here)\n",
        )
        .unwrap();
        let error = check(root).unwrap_err().to_string();
        let lines: Vec<&str> = error.lines().collect();
        assert_eq!(
            lines,
            [
                "3 broken links:",
                "docs/c.md:2: b.md#bottom: no such heading",
                "docs/c.md:2: c.txt: no such file",
                "docs/c.md:2: #here: no such heading",
            ]
        );
    }
}
