//! The files that middlewares name, read and put in their place: what is compiled here and told to other nodes needs no
//! file. What can't be read any more stands as it was read last; what never could be stays a path, and compile refuses the
//! middleware. Either way a problem says why.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read as _};
use std::sync::Arc;

use constellation_config::dynamic::{ClientTls, Confidential, Middleware};

use crate::sources::{Contribution, Problem};

/// Longest file of users or PEM, bytes.
const MAX_BYTES: u64 = 1 << 20;

/// Puts files in the place of their paths; remembers what came out, so that what did not change stays the same object.
#[derive(Debug, Default)]
pub(super) struct Inliner {
    last: Vec<(Arc<Contribution>, Arc<Contribution>)>,
    good: Good,
}

/// The last content of each file that could be read, by its path.
type Good = BTreeMap<String, Confidential>;

impl Inliner {
    /// The readings without paths in middlewares. `again`: files are read again although the reading is the same.
    pub(super) fn lay(&mut self, readings: &[Arc<Contribution>], again: bool) -> Vec<Arc<Contribution>> {
        let last = std::mem::take(&mut self.last);
        let good = &mut self.good;
        let laid = readings.iter().map(|reading| {
            let known = last.iter().find(|(raw, _)| Arc::ptr_eq(raw, reading));
            let out = match known {
                Some((_, out)) if !again => out.clone(),
                Some((_, out)) => Some(inline(reading, good))
                    .filter(|new| new != out)
                    .unwrap_or_else(|| out.clone()),
                None => inline(reading, good),
            };
            (reading.clone(), out)
        });
        self.last = laid.collect();
        let middlewares = readings
            .iter()
            .flat_map(|reading| reading.dynamic.http.middlewares.values());
        let named: BTreeSet<&str> = middlewares.flat_map(|middleware| middleware.files()).collect();
        self.good.retain(|path, _| named.contains(path.as_str()));
        self.last.iter().map(|(_, out)| out.clone()).collect()
    }
}

fn inline(reading: &Arc<Contribution>, good: &mut Good) -> Arc<Contribution> {
    let middlewares = reading.dynamic.http.middlewares.iter();
    let naming = middlewares.filter(|(_, middleware)| !middleware.files().is_empty());
    let mut changed = BTreeMap::new();
    let mut problems = Vec::new();
    for (name, middleware) in naming {
        let mut middleware = Middleware::clone(middleware);
        let errors = inline_one(&mut middleware, good);
        problems.extend(errors.into_iter().map(|message| Problem {
            subject: format!("middleware {name}@{}", reading.provider),
            message,
        }));
        changed.insert(name.clone(), Arc::new(middleware));
    }
    if changed.is_empty() {
        return reading.clone();
    }
    let mut out = Contribution::clone(reading);
    out.dynamic.http.middlewares.extend(changed);
    out.problems.extend(problems);
    Arc::new(out)
}

/// What never could be read stays as it is.
fn inline_one(middleware: &mut Middleware, good: &mut Good) -> Vec<String> {
    let mut errors = Vec::new();
    if let Some(basic) = &mut middleware.basic_auth {
        errors.extend(users(&mut basic.users_file, &mut basic.users, good));
    }
    if let Some(digest) = &mut middleware.digest_auth {
        errors.extend(users(&mut digest.users_file, &mut digest.users, good));
    }
    if let Some(ClientTls { ca, cert, key, .. }) = middleware
        .forward_auth
        .as_mut()
        .and_then(|auth| auth.tls.as_mut())
    {
        let mut secret = key.as_str().to_owned();
        errors.extend(pem("tls.ca", ca, good));
        errors.extend(pem("tls.cert", cert, good));
        errors.extend(pem("tls.key", &mut secret, good));
        *key = secret.into();
    }
    errors
}

/// Puts the users of a file before those that are given, which win.
fn users(file: &mut String, users: &mut Vec<Confidential>, good: &mut Good) -> Option<String> {
    if file.is_empty() {
        return None;
    }
    let (text, error) = content("usersFile", file, good, |_| true);
    if let Some(text) = text {
        let lines = text.as_str().lines().map(str::trim);
        let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        let mut all: Vec<Confidential> = lines.map(Confidential::from).collect();
        all.append(users);
        *users = all;
        file.clear();
    }
    error
}

fn pem(option: &str, value: &mut String, good: &mut Good) -> Option<String> {
    if value.is_empty() || value.contains("-----BEGIN") {
        return None;
    }
    let (text, error) = content(option, value, good, |text| text.contains("-----BEGIN"));
    if let Some(text) = text {
        text.as_str().clone_into(value);
    }
    error
}

/// What a file holds, or held when it could be read last, and why it can't be read now.
fn content(
    option: &str,
    path: &str,
    good: &mut Good,
    fits: fn(&str) -> bool,
) -> (Option<Confidential>, Option<String>) {
    let found = read(path).and_then(|text| match fits(&text) {
        true => Ok(Confidential::from(text)),
        false => Err(io::Error::other("it holds no PEM block")),
    });
    match found {
        Ok(text) => {
            good.insert(path.to_owned(), text.clone());
            (Some(text), None)
        }
        Err(error) => {
            let known = good.get(path).cloned();
            let stands = if known.is_some() {
                "; what was read of it before stands"
            } else {
                ""
            };
            let message = format!(
                "{option}: cannot read {path:?}: {error}; correct the path or the file's permissions{stands}"
            );
            (known, Some(message))
        }
    }
}

fn read(path: &str) -> io::Result<String> {
    let mut bytes = Vec::new();
    fs::File::open(path)?
        .take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(io::Error::other("it is larger than 1 MiB"));
    }
    String::from_utf8(bytes).map_err(|_| io::Error::other("it is no UTF-8 text"))
}

#[cfg(test)]
mod tests {
    use constellation_config::dynamic::Dynamic;
    use serde_json::json;

    use super::*;

    fn reading(middleware: serde_json::Value) -> Arc<Contribution> {
        let dynamic: Dynamic =
            serde_json::from_value(json!({"http": {"middlewares": {"m": middleware}}})).unwrap();
        Arc::new(Contribution {
            provider: "file",
            dynamic,
            ..Contribution::default()
        })
    }

    #[test]
    fn users_of_a_file_come_before_those_that_are_given() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("users");
        fs::write(&path, "# people\n a:1 \n\nb:2\n").unwrap();
        for kind in ["basicAuth", "digestAuth"] {
            let raw = reading(json!({kind: {"usersFile": path, "users": ["c:3"]}}));
            let mut inliner = Inliner::default();
            let [out] = &inliner.lay(std::slice::from_ref(&raw), false)[..] else {
                panic!("one reading in, one out");
            };
            let expected = reading(json!({kind: {"users": ["a:1", "b:2", "c:3"]}}));
            assert_eq!(out, &expected);
            fs::write(&path, "a:1\nb:2").unwrap();
            assert!(Arc::ptr_eq(
                &inliner.lay(std::slice::from_ref(&raw), true)[0],
                out
            ));
            fs::write(&path, "d:4\n").unwrap();
            assert!(Arc::ptr_eq(
                &inliner.lay(std::slice::from_ref(&raw), false)[0],
                out
            ));
            let again = &inliner.lay(&[raw], true)[0];
            assert_eq!(again, &reading(json!({kind: {"users": ["d:4", "c:3"]}})));
            fs::write(&path, "# people\n a:1 \n\nb:2\n").unwrap();
        }
    }

    #[test]
    fn what_cannot_be_read_stays_a_path_and_is_said() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &[u8]| {
            let path = directory.path().join(name);
            fs::write(&path, content).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let (long, binary) = (file("long", &[b'a'; (1 << 20) + 1]), file("binary", &[0xff]));
        for (path, expected) in [
            ("/nonexistent/users", "No such file"),
            (&long, "larger than 1 MiB"),
            (&binary, "no UTF-8"),
        ] {
            let raw = reading(json!({"basicAuth": {"usersFile": path, "users": ["a:1"]}}));
            let out = &Inliner::default().lay(std::slice::from_ref(&raw), false)[0];
            assert_eq!(out.dynamic, raw.dynamic);
            let [problem] = &out.problems[..] else {
                panic!("one problem: {:?}", out.problems);
            };
            assert_eq!(problem.subject, "middleware m@file");
            assert!(
                problem.message.contains(expected) && problem.message.contains(path),
                "{problem:?}"
            );
        }
    }

    #[test]
    fn what_was_read_stands_until_it_can_be_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("users");
        fs::write(&path, "a:SECRET\n").unwrap();
        let raw = || reading(json!({"basicAuth": {"usersFile": path}}));
        let users = |names: &[&str]| reading(json!({"basicAuth": {"users": names}})).dynamic.clone();
        let mut inliner = Inliner::default();
        assert_eq!(inliner.lay(&[raw()], false)[0].dynamic, users(&["a:SECRET"]));
        fs::remove_file(&path).unwrap();
        let out = inliner.lay(&[raw()], false).remove(0);
        assert_eq!(out.dynamic, users(&["a:SECRET"]));
        assert!(
            out.problems[0].message.ends_with("before stands"),
            "{:?}",
            out.problems
        );
        assert!(!format!("{inliner:?} {out:?}").contains("SECRET"));
        fs::write(&path, "b:1\n").unwrap();
        assert_eq!(inliner.lay(&[raw()], false)[0].dynamic, users(&["b:1"]));
        // A file that nobody names any more is forgotten.
        inliner.lay(&[], false);
        fs::remove_file(&path).unwrap();
        assert_eq!(inliner.lay(&[raw()], false)[0].dynamic, raw().dynamic);
    }

    #[test]
    fn pem_is_taken_in() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.pem");
        fs::write(&path, "-----BEGIN X-----\n").unwrap();
        let tls =
            |tls: serde_json::Value| reading(json!({"forwardAuth": {"address": "http://a", "tls": tls}}));
        let inline = "-----BEGIN Y-----\n";
        let out = &Inliner::default().lay(&[tls(json!({"ca": path, "cert": inline, "key": path}))], false)[0];
        let expected =
            tls(json!({"ca": "-----BEGIN X-----\n", "cert": inline, "key": "-----BEGIN X-----\n"}));
        assert_eq!(out, &expected);
        fs::write(&path, "hello").unwrap();
        let out = &Inliner::default().lay(&[tls(json!({"ca": path}))], false)[0];
        assert!(
            out.problems[0].message.contains("no PEM block"),
            "{:?}",
            out.problems
        );
    }

    #[test]
    fn readings_that_name_no_file_stay_what_they_are() {
        let raw = reading(json!({"basicAuth": {"users": ["a:1"]}}));
        assert!(Arc::ptr_eq(
            &Inliner::default().lay(std::slice::from_ref(&raw), false)[0],
            &raw
        ));
    }
}
