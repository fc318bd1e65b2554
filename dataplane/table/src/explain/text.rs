//! The report as text for a terminal.

use std::fmt::{Display, Formatter, Result};

use super::{
    AskedRequest, Considered, EndpointLine, EntryPointLine, ExcludedLine, Explanation, FurtherLine, NearMiss,
    Outcome, Precedence, RouterLine, Verdict, WayLine,
};

impl Display for Explanation {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        writeln!(f, "{}", self.request)?;
        match &self.outcome {
            Outcome::Forward => self.forward(f)?,
            Outcome::Unavailable { retry_after } => {
                let service = self.service.as_deref().unwrap_or_default();
                writeln!(
                    f,
                    "-> 503, Retry-After: {retry_after}: no endpoint of service {service} can serve"
                )?;
            }
            Outcome::Redirect {
                scheme,
                port,
                permanent,
            } => {
                let port = port.map(|port| format!(" on port {port}")).unwrap_or_default();
                let kind = if *permanent { "permanent" } else { "temporary" };
                writeln!(f, "-> {kind} redirect to {scheme}{port}")?;
            }
            Outcome::NoRoute => writeln!(f, "-> 404: no router matches")?,
        }
        if let Some(router) = &self.router {
            writeln!(f, "\nrouter {router}")?;
        }
        if !self.middlewares.is_empty() {
            writeln!(f, "  runs {}", self.middlewares.join(", "))?;
        }
        left_out(f, &self.excluded)?;
        not_taken(f, &self.considered, self.considered_more)?;
        if self.other_hosts > 0 {
            writeln!(
                f,
                "\n{} more on this entry point are for other hosts",
                self.other_hosts
            )?;
        }
        elsewhere(f, &self.near_misses)
    }
}

/// What is remarkable about an endpoint, on a line of its own.
fn evidence(f: &mut Formatter<'_>, indent: &str, line: &EndpointLine) -> Result {
    let standing = line.standing.to_string();
    if standing.is_empty() {
        return Ok(());
    }
    writeln!(f, "{indent}{standing}")
}

impl Explanation {
    fn forward(&self, f: &mut Formatter<'_>) -> Result {
        let service = self.service.as_deref().unwrap_or_default();
        writeln!(f, "-> service {service}{}", self.way)?;
        endpoints(f, self.panic, &self.candidates, &self.further)?;
        for mirror in &self.mirrors {
            let copy = match (mirror.drawn, &mirror.service) {
                (false, _) => "not this request".to_owned(),
                (true, Some(service)) => format!("this request is copied to service {service}"),
                (true, None) => "it can't serve, so this request is not copied".to_owned(),
            };
            writeln!(f, "   mirror {} ({} %): {copy}", mirror.name, mirror.percent)?;
        }
        if let Some(balanced) = &self.balanced {
            writeln!(f, "   balanced by {balanced}")?;
        }
        Ok(())
    }
}

/// The endpoints in the order to try, and the services that follow.
pub(super) fn endpoints(
    f: &mut Formatter<'_>,
    panic: bool,
    candidates: &[EndpointLine],
    further: &[FurtherLine],
) -> Result {
    if panic {
        writeln!(
            f,
            "   too few endpoints are healthy, so all that are there are used (panic)"
        )?;
    }
    for (place, line) in candidates.iter().enumerate() {
        writeln!(f, "   {}. {line}", place + 1)?;
        evidence(f, "      ", line)?;
    }
    for further in further {
        writeln!(f, "   then service {}{}", further.service, further.way)?;
        for (place, line) in further.candidates.iter().enumerate() {
            writeln!(f, "      {}. {line}", place + 1)?;
            evidence(f, "         ", line)?;
        }
    }
    Ok(())
}

/// The endpoints that were left out.
pub(super) fn left_out(f: &mut Formatter<'_>, excluded: &[ExcludedLine]) -> Result {
    if !excluded.is_empty() {
        writeln!(f, "\nleft out")?;
    }
    for line in excluded {
        writeln!(f, "  {}: {}", line.endpoint, line.reason)?;
        evidence(f, "    ", &line.endpoint)?;
    }
    Ok(())
}

/// The routers that were asked and did not win.
pub(super) fn not_taken(f: &mut Formatter<'_>, considered: &[Considered], more: usize) -> Result {
    let lost: Vec<_> = considered
        .iter()
        .filter(|considered| considered.verdict != Verdict::Won)
        .collect();
    if !lost.is_empty() {
        writeln!(f, "\nnot taken")?;
    }
    for considered in lost {
        writeln!(f, "  {considered}")?;
    }
    if more > 0 {
        writeln!(f, "  and {more} more that were asked")?;
    }
    Ok(())
}

/// The near misses.
pub(super) fn elsewhere(f: &mut Formatter<'_>, near_misses: &[NearMiss]) -> Result {
    if !near_misses.is_empty() {
        writeln!(f, "\nwould match elsewhere")?;
    }
    for near in near_misses {
        writeln!(f, "  {near}")?;
    }
    Ok(())
}

impl Display for AskedRequest {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let scheme = if self.tls { "https" } else { "http" };
        let mark = if self.query.is_empty() { "" } else { "?" };
        write!(
            f,
            "{} {scheme}://{}{}{mark}{} from {} on entry point {}",
            self.method, self.host, self.path, self.query, self.client, self.entry_point
        )
    }
}

impl Display for EntryPointLine {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match &self.name {
            Some(name) => f.write_str(name),
            None => write!(f, "#{}", self.id),
        }
    }
}

impl Display for RouterLine {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        if self.rule.is_empty() {
            return f.write_str(&self.name);
        }
        write!(f, "{} (priority {}): {}", self.name, self.priority, self.rule)
    }
}

impl Display for EndpointLine {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        if self.name == self.url {
            f.write_str(&self.url)?;
        } else {
            write!(f, "{} at {}", self.name, self.url)?;
        }
        match &self.distance {
            Some(distance) => write!(f, ", {distance}"),
            None => Ok(()),
        }
    }
}

impl Display for WayLine {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        if self.0.is_empty() {
            return Ok(());
        }
        write!(f, ", by {}", self.0.join(", "))
    }
}

impl Display for Considered {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "{}", self.router)?;
        match &self.verdict {
            Verdict::Won => f.write_str("\n    won"),
            Verdict::Outranked { by } => write!(f, "\n    matches too, but the winner {by}"),
            Verdict::Refused { because } => because
                .iter()
                .try_for_each(|refusal| write!(f, "\n    {} said no: {}", refusal.matcher, refusal.seen)),
        }
    }
}

impl Display for Precedence {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(match self {
            Self::Priority => "has a higher priority",
            Self::RuleLength => "has the same priority and a longer rule",
            Self::ExactHost => "has the same priority and an exact host",
            Self::Name => "has the same priority and a name that sorts first",
            Self::Https => "is HTTPS",
        })
    }
}

impl Display for NearMiss {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "{}\n    ", self.router)?;
        if self.wrong_entry_point {
            f.write_str("answers on entry point")?;
            for (place, entry_point) in self.entry_points.iter().enumerate() {
                write!(f, "{} {entry_point}", if place > 0 { "," } else { "" })?;
            }
            f.write_str(if self.wrong_tls { ", and " } else { "" })?;
        }
        match (self.wrong_tls, self.tls) {
            (false, _) => Ok(()),
            (true, true) => f.write_str("answers TLS only (the router has `tls`)"),
            (true, false) => f.write_str("answers without TLS only (the router has no `tls`)"),
        }
    }
}
