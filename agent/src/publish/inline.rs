//! The files that middlewares name, read and put in their place: what is compiled here and told to other nodes needs no
//! file. What can't be read stays a path, with a problem that says why; compile refuses the middleware.

use std::collections::BTreeMap;
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
}

impl Inliner {
    /// The readings without paths in middlewares. `again`: files are read again although the reading is the same.
    pub(super) fn lay(&mut self, readings: &[Arc<Contribution>], again: bool) -> Vec<Arc<Contribution>> {
        let last = std::mem::take(&mut self.last);
        let laid = readings.iter().map(|reading| {
            let known = last.iter().find(|(raw, _)| Arc::ptr_eq(raw, reading));
            let out = match known {
                Some((_, out)) if !again => out.clone(),
                Some((_, out)) => Some(inline(reading))
                    .filter(|new| new != out)
                    .unwrap_or_else(|| out.clone()),
                None => inline(reading),
            };
            (reading.clone(), out)
        });
        self.last = laid.collect();
        self.last.iter().map(|(_, out)| out.clone()).collect()
    }
}

fn inline(reading: &Arc<Contribution>) -> Arc<Contribution> {
    let middlewares = reading.dynamic.http.middlewares.iter();
    let naming = middlewares.filter(|(_, middleware)| !middleware.files().is_empty());
    let mut changed = BTreeMap::new();
    let mut problems = Vec::new();
    for (name, middleware) in naming {
        let mut middleware = Middleware::clone(middleware);
        let errors = inline_one(&mut middleware);
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

/// What could not be read stays as it is.
fn inline_one(middleware: &mut Middleware) -> Vec<String> {
    let mut errors = Vec::new();
    if let Some(basic) = &mut middleware.basic_auth {
        errors.extend(users(&mut basic.users_file, &mut basic.users));
    }
    if let Some(digest) = &mut middleware.digest_auth {
        errors.extend(users(&mut digest.users_file, &mut digest.users));
    }
    if let Some(ClientTls { ca, cert, key, .. }) = middleware
        .forward_auth
        .as_mut()
        .and_then(|auth| auth.tls.as_mut())
    {
        let mut secret = key.as_str().to_owned();
        errors.extend(pem("tls.ca", ca));
        errors.extend(pem("tls.cert", cert));
        errors.extend(pem("tls.key", &mut secret));
        *key = secret.into();
    }
    errors
}

/// Puts the users of a file before those that are given, which win.
fn users(file: &mut String, users: &mut Vec<Confidential>) -> Option<String> {
    if file.is_empty() {
        return None;
    }
    match read(file) {
        Ok(text) => {
            let lines = text.lines().map(str::trim);
            let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
            let mut all: Vec<Confidential> = lines.map(Confidential::from).collect();
            all.append(users);
            *users = all;
            file.clear();
            None
        }
        Err(error) => Some(unreadable("usersFile", file, &error)),
    }
}

fn pem(option: &str, value: &mut String) -> Option<String> {
    if value.is_empty() || value.contains("-----BEGIN") {
        return None;
    }
    match read(value) {
        Ok(text) if text.contains("-----BEGIN") => {
            *value = text;
            None
        }
        Ok(_) => Some(unreadable(
            option,
            value,
            &io::Error::other("it holds no PEM block"),
        )),
        Err(error) => Some(unreadable(option, value, &error)),
    }
}

fn unreadable(option: &str, path: &str, error: &io::Error) -> String {
    format!("{option}: cannot read {path:?}: {error}; correct the path or the file's permissions")
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
            let out = &Inliner::default().lay(&[raw.clone()], false)[0];
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
            &Inliner::default().lay(&[raw.clone()], false)[0],
            &raw
        ));
    }
}
