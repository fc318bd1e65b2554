//! The load generators: wrk for HTTP/1.1, h2load for HTTP/2. Both are closed loops: as many requests in flight as there
//! are connections (times streams), the next one when an answer has come.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::child::Running;
use super::pin::Pin;
use super::scenario::{HOST, Hosts, Scenario, Transport};
use crate::workspace;

/// Connections of wrk.
pub(super) const H1_CONNECTIONS: usize = 64;
/// Connections of h2load.
pub(super) const H2_CONNECTIONS: usize = 16;
/// Streams on each of them.
pub(super) const H2_STREAMS: usize = 16;

/// How wrk says what it saw: one line of JSON. `latency` and `duration` are in microseconds.
const WRK_DONE: &str = r#"
function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    'SAMPLE {"requests":%d,"seconds":%f,"p50":%d,"p99":%d,"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50), latency:percentile(99),
    errors.connect, errors.read, errors.write, errors.status, errors.timeout))
end
"#;

/// What one run of a load generator saw.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Seen {
    /// Answers with 2xx that came whole.
    pub(super) requests: u64,
    /// How long it took, seconds.
    pub(super) seconds: f64,
    /// Median latency, microseconds.
    pub(super) p50: u64,
    /// 99th percentile, microseconds.
    pub(super) p99: u64,
    /// What went wrong; a sample with faults counts for nothing.
    pub(super) faults: Vec<String>,
}

/// Runs the load generators on one CPU.
#[derive(Debug)]
pub(super) struct Load<'a> {
    pub(super) pin: &'a Pin,
    pub(super) cpu: usize,
    /// For scripts and logs.
    pub(super) directory: &'a Path,
}

impl Load<'_> {
    /// Asks the proxy at `port` for this long.
    pub(super) fn run(&self, scenario: Scenario, port: u16, seconds: u32) -> Result<Seen> {
        match scenario.transport() {
            Transport::Plain => self.wrk(scenario, "http", port, seconds),
            Transport::Tls => self.wrk(scenario, "https", port, seconds),
            Transport::Http2 => self.h2load(scenario, port, seconds),
        }
    }

    fn wrk(&self, scenario: Scenario, scheme: &str, port: u16, seconds: u32) -> Result<Seen> {
        let script = self.directory.join("wrk.lua");
        fs::write(&script, wrk_script(scenario))
            .with_context(|| format!("cannot write {}", script.display()))?;
        let mut command = self.pin.command(self.cpu, &program("wrk", "wrk")?);
        command.args([
            "-t1",
            &format!("-c{H1_CONNECTIONS}"),
            &format!("-d{seconds}s"),
            "--timeout",
            "5s",
        ]);
        command.args(["-H", &format!("Host: {HOST}"), "-s"]).arg(&script);
        command.arg(format!("{scheme}://127.0.0.1:{port}{}", scenario.path()));
        let mut wrk = Running::start("wrk", command, &self.directory.join("wrk.log"))?;
        let status = wrk.wait(patience(seconds))?;
        let output = wrk.output()?;
        ensure!(status.success(), "wrk failed ({status}): {output}");
        read_wrk(&output)
    }

    fn h2load(&self, scenario: Scenario, port: u16, seconds: u32) -> Result<Seen> {
        let log = self.directory.join("h2load.tsv");
        fs::write(&log, "").with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = self.pin.command(self.cpu, &program("h2load", "nghttp2-client")?);
        command.args([
            "-t1",
            &format!("-c{H2_CONNECTIONS}"),
            &format!("-m{H2_STREAMS}"),
            &format!("-D{seconds}"),
        ]);
        command
            .arg(format!("--connect-to=127.0.0.1:{port}"))
            .arg("--log-file")
            .arg(&log);
        command.arg(format!("https://{HOST}{}", scenario.path()));
        let mut h2load = Running::start("h2load", command, &self.directory.join("h2load.log"))?;
        let status = h2load.wait(patience(seconds))?;
        let output = h2load.output()?;
        ensure!(status.success(), "h2load failed ({status}): {output}");
        let latencies = fs::read_to_string(&log).with_context(|| format!("cannot read {}", log.display()))?;
        read_h2load(&output, &latencies, f64::from(seconds))
    }
}

/// How long a load generator may take for a run of so many seconds.
fn patience(seconds: u32) -> Duration {
    Duration::from_secs(u64::from(seconds) * 2 + 20)
}

fn program(name: &str, package: &str) -> Result<PathBuf> {
    workspace::program(name).with_context(|| format!("`{name}` (package {package}) is not installed"))
}

/// The script of wrk. Requests for many hosts are made beforehand and sent in an order that jumps about.
fn wrk_script(scenario: Scenario) -> String {
    let Hosts::Many(count) = scenario.hosts() else {
        return WRK_DONE.to_owned();
    };
    format!(
        "local requests, at = {{}}, 0\n\
         function init(arguments)\n  for number = 0, {last} do\n\
         \x20   local host = string.format('h%05d.{HOST}', number * 7919 % {count})\n\
         \x20   requests[number] = wrk.format('GET', '{path}', {{ Host = host }})\n  end\nend\n\
         function request()\n  at = (at + 1) % {count}\n  return requests[at]\nend\n{WRK_DONE}",
        last = count - 1,
        path = scenario.path(),
    )
}

/// The line that [`WRK_DONE`] writes.
#[derive(Deserialize)]
struct WrkSample {
    requests: u64,
    seconds: f64,
    p50: u64,
    p99: u64,
    connect: u64,
    read: u64,
    write: u64,
    status: u64,
    timeout: u64,
}

fn read_wrk(output: &str) -> Result<Seen> {
    let Some(line) = output.lines().find_map(|line| line.strip_prefix("SAMPLE ")) else {
        bail!("wrk printed no sample: {output}");
    };
    let sample: WrkSample = serde_json::from_str(line).with_context(|| format!("wrk printed {line}"))?;
    let errors = [
        (sample.connect, "failed connects"),
        (sample.read, "failed reads"),
        (sample.write, "failed writes"),
        (sample.status, "statuses of 400 and more"),
        (sample.timeout, "timeouts"),
    ];
    Ok(Seen {
        requests: sample.requests,
        seconds: sample.seconds,
        p50: sample.p50,
        p99: sample.p99,
        faults: faults(&errors, sample.requests),
    })
}

fn read_h2load(output: &str, log: &str, seconds: f64) -> Result<Seen> {
    let requests = numbers(output, "requests: ")?;
    let &[_, _, _, succeeded, failed, errored, timeout] = &*requests else {
        bail!("h2load printed other counts than expected: {output}");
    };
    // Its line of status codes counts heads while `requests` counts ends, so that the two differ at both ends of a
    // run; the log has the status of every request that ended.
    let (mut latencies, mut others) = (Vec::new(), 0);
    for line in log.lines() {
        let mut fields = line.split('\t').skip(1);
        let (Some(status), Some(Ok(latency))) = (fields.next(), fields.next().map(str::parse)) else {
            bail!("h2load logged `{line}`");
        };
        latencies.push(latency);
        others += u64::from(!status.starts_with('2'));
    }
    latencies.sort_unstable();
    let errors = [
        (failed, "failed requests"),
        (errored, "broken requests"),
        (timeout, "timeouts"),
        (others, "answers that are not 2xx"),
    ];
    Ok(Seen {
        requests: succeeded,
        seconds,
        p50: percentile(&latencies, 50),
        p99: percentile(&latencies, 99),
        faults: faults(&errors, succeeded),
    })
}

/// The numbers on the line that starts with `start`.
fn numbers(output: &str, start: &str) -> Result<Vec<u64>> {
    let Some(line) = output.lines().find_map(|line| line.strip_prefix(start)) else {
        bail!("h2load printed no `{start}`: {output}");
    };
    let number = |part: &str| part.split_whitespace().next().and_then(|word| word.parse().ok());
    line.split(',')
        .map(|part| number(part).with_context(|| format!("h2load printed `{line}`")))
        .collect()
}

fn percentile(sorted: &[u64], percent: usize) -> u64 {
    let last = sorted.len().saturating_sub(1);
    sorted
        .get((sorted.len() * percent / 100).min(last))
        .copied()
        .unwrap_or_default()
}

fn faults(errors: &[(u64, &str)], requests: u64) -> Vec<String> {
    let errors = errors.iter().filter(|(count, _)| *count > 0);
    let nothing = (requests == 0).then(|| "no answer at all".to_owned());
    errors
        .map(|(count, what)| format!("{count} {what}"))
        .chain(nothing)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrk_is_read() {
        let line = |status, requests| {
            format!(
                "Running 1s test\nSAMPLE {{\"requests\":{requests},\"seconds\":1.002,\"p50\":800,\"p99\":2100,\
                 \"connect\":0,\"read\":2,\"write\":0,\"status\":{status},\"timeout\":0}}\n"
            )
        };
        let seen = read_wrk(&line(7, 41_000)).unwrap();
        assert_eq!((seen.requests, seen.p50, seen.p99), (41_000, 800, 2100));
        assert_eq!(seen.faults, ["2 failed reads", "7 statuses of 400 and more"]);
        assert!(
            read_wrk(&line(0, 0))
                .unwrap()
                .faults
                .contains(&"no answer at all".to_owned())
        );
        assert!(read_wrk("Running 1s test\n").is_err());
    }

    #[test]
    fn h2load_is_read() {
        let output = "finished in 1.00s, 2.00 req/s, 5.01MB/s\n\
                      requests: 3 total, 3 started, 3 done, 3 succeeded, 0 failed, 0 errored, 0 timeout\n\
                      status codes: 4 2xx, 1 3xx, 0 4xx, 0 5xx\n";
        let seen = read_h2load(output, "1\t200\t30\n2\t204\t10\n3\t302\t20\n", 1.0).unwrap();
        assert_eq!((seen.requests, seen.p50, seen.p99), (3, 20, 30));
        assert_eq!(seen.faults, ["1 answers that are not 2xx"]);
        assert!(read_h2load("finished in 1.00s\n", "", 1.0).is_err());
    }

    #[test]
    fn many_hosts_have_a_script_of_their_own() {
        assert!(wrk_script(Scenario::ManyHosts).contains("7919 % 10000"));
        assert_eq!(wrk_script(Scenario::H1Small), WRK_DONE);
    }
}
