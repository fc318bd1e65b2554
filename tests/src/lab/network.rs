//! The lab's network: a bridge in a namespace of its own, a cable to each host, and rules at the bridge that cut it.
//!
//! Cuts are rules of `nft` for frames from one port to another, so each direction can be cut alone, and the hosts notice
//! nothing but silence.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use super::{Lab, Place, name, process};

/// The host where clients are.
pub const CLIENT: &str = "client";
/// The host with the bridge.
const SWITCH: &str = "switch";
/// The number of the clients' host in addresses.
const CLIENT_NUMBER: usize = 100;

/// How a node's packets fare, in both directions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Delay {
    /// How late each comes, in milliseconds.
    pub milliseconds: u32,
    /// How many of a hundred are lost.
    pub loss: u8,
}

/// A node's address in a /24; 100 is the clients'.
#[must_use]
pub fn address(number: usize) -> IpAddr {
    Ipv4Addr::new(10, 231, 0, u8::try_from(number).unwrap_or(u8::MAX)).into()
}

/// A node's IPv6 address in a /64.
#[must_use]
pub fn address6(number: usize) -> IpAddr {
    Ipv6Addr::new(
        0xfd23,
        0x1000,
        0,
        0,
        0,
        0,
        0,
        u16::try_from(number).unwrap_or(u16::MAX),
    )
    .into()
}

/// The frames between two hosts that arrive at the bridge by either of the first's ports: its own, or that of what makes
/// them late.
fn cut(from: usize, to: usize) -> String {
    format!("iifname {{ \"port{from}\", \"late{from}\" }} oifname {{ \"port{to}\", \"late{to}\" }} drop")
}

impl Lab {
    /// Makes all hosts and wires them.
    pub(super) fn wire(&self) -> Result<()> {
        let switch = self.host(SWITCH)?;
        switch.ip(["link add br0 type bridge", "link set br0 up"])?;
        switch.run("nft", &["add table bridge lab"])?;
        switch.run(
            "nft",
            &["add chain bridge lab cut { type filter hook forward priority 0 ; }"],
        )?;
        switch.run(
            "nft",
            &["add chain bridge lab loss { type filter hook forward priority 1 ; }"],
        )?;
        let nodes = (1..=self.size()).map(|number| (number, name(number)));
        for (number, host) in nodes.chain([(CLIENT_NUMBER, CLIENT.to_owned())]) {
            let place = self.host(&host)?;
            switch.ip([
                format!(
                    "link add port{number} type veth peer name mesh netns {}",
                    place.holder()
                ),
                format!("link set port{number} master br0 up"),
            ])?;
            place.ip([
                format!("link set mesh address 02:00:00:e7:00:{number:02x}"),
                format!("addr add {}/24 dev mesh", address(number)),
                format!("addr add {}/64 dev mesh nodad", address6(number)),
                "link set mesh up".to_owned(),
                // So that a node finds the address it is reached by, as on a host with a way to the Internet.
                format!("route add default via {}", address(254)),
            ])?;
        }
        Ok(())
    }

    fn host(&self, host: &str) -> Result<Place> {
        let (place, child) = Place::make(self.base(), host, self.kept)?;
        self.adopt(format!("holder of {host}"), child);
        self.locked().holders.insert(host.to_owned(), place.holder());
        self.save()?;
        Ok(place)
    }

    /// Cuts all between these groups of nodes, in both directions. What was cut before stays so.
    ///
    /// # Errors
    /// When a node is none of the lab's, or in two groups.
    pub fn partition(&self, groups: &[&[usize]]) -> Result<()> {
        for (at, group) in groups.iter().enumerate() {
            for other in groups.iter().skip(at + 1) {
                for one in *group {
                    for two in *other {
                        ensure!(one != two, "node {one} can't be on both sides");
                        self.one_way(*one, *two)?;
                        self.one_way(*two, *one)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Cuts a node off from all others, but for clients.
    ///
    /// # Errors
    /// When it is none of the lab's.
    pub fn isolate(&self, number: usize) -> Result<()> {
        let others: Vec<usize> = (1..=self.size()).filter(|other| *other != number).collect();
        self.partition(&[&[number], &others])
    }

    /// Nothing of one node reaches another one; the way back is open.
    ///
    /// # Errors
    /// When one is none of the lab's.
    pub fn one_way(&self, from: usize, to: usize) -> Result<()> {
        self.check(from)?;
        self.check(to)?;
        let rule = format!("add rule bridge lab cut {}", cut(from, to));
        self.place(SWITCH)?.run("nft", &[&rule]).map(drop)
    }

    /// Mends all cuts.
    ///
    /// # Errors
    /// When the lab is not there.
    pub fn heal(&self) -> Result<()> {
        self.place(SWITCH)?
            .run("nft", &["flush chain bridge lab cut"])
            .map(drop)
    }

    /// The rules that cut, as `nft` has them.
    ///
    /// # Errors
    /// When the lab is not there.
    pub fn cuts(&self) -> Result<Vec<String>> {
        let text = self.place(SWITCH)?.run("nft", &["list chain bridge lab cut"])?;
        let rules = text.lines().map(str::trim).filter(|line| line.ends_with("drop"));
        Ok(rules.map(str::to_owned).collect())
    }

    /// Makes a node's packets late or lost, in both directions; with zeros, no more.
    ///
    /// # Errors
    /// When it is none of the lab's, or the machine refuses.
    pub fn delay(&self, number: usize, delay: Delay) -> Result<()> {
        self.check(number)?;
        ensure!(delay.loss <= 100, "{} of a hundred can't be lost", delay.loss);
        let switch = self.place(SWITCH)?;
        self.end_delay(number, &switch)?;
        if delay != Delay::default() {
            self.begin_delay(number, delay, &switch)?;
        }
        let losses: Vec<(usize, u8)> = {
            let mut state = self.locked();
            if delay == Delay::default() {
                state.delays.remove(&number);
            } else {
                state.delays.insert(number, delay);
            }
            state
                .delays
                .iter()
                .map(|(number, delay)| (*number, delay.loss))
                .collect()
        };
        switch.run("nft", &["flush chain bridge lab loss"])?;
        for (number, loss) in losses.into_iter().filter(|(_, loss)| *loss > 0) {
            // All of a hundred is no value of its.
            let chance = match loss {
                100 => String::new(),
                loss => format!("numgen random mod 100 < {loss} "),
            };
            for direction in ["iifname", "oifname"] {
                let rule = format!(
                    "add rule bridge lab loss {direction} {{ \"port{number}\", \"late{number}\" }} {chance}drop"
                );
                switch.run("nft", &[&rule])?;
            }
        }
        self.save()
    }

    /// The node's cable goes to a bridge of its own, and a process carries frames from there to the lab's.
    fn begin_delay(&self, number: usize, delay: Delay, switch: &Place) -> Result<()> {
        if delay.milliseconds == 0 {
            return Ok(());
        }
        switch.ip([
            format!("tuntap add near{number} mode tap"),
            format!("tuntap add late{number} mode tap"),
            format!("link add side{number} type bridge"),
            format!("link set side{number} up"),
            format!("link set near{number} master side{number} up"),
            format!("link set late{number} master br0 up"),
        ])?;
        let mut command = switch.command(process::DELAY, program()?, self.kept);
        let child = command
            .env("LAB_DELAY", number.to_string())
            .args(["delay-frames", &format!("near{number}"), &format!("late{number}")])
            .arg(delay.milliseconds.to_string())
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .spawn()?;
        self.adopt(format!("delay of n{number}"), child);
        switch.ip([format!("link set port{number} master side{number}")])
    }

    fn end_delay(&self, number: usize, switch: &Place) -> Result<()> {
        let number_text = number.to_string();
        let running = process::find(
            self.base(),
            &[(process::ROLE, process::DELAY), ("LAB_DELAY", &number_text)],
        );
        if running.is_empty() {
            return Ok(());
        }
        process::signal(&running, nix::sys::signal::Signal::SIGKILL)?;
        process::gone(&running)?;
        switch.ip([
            format!("link set port{number} master br0"),
            format!("link del near{number}"),
            format!("link del late{number}"),
            format!("link del side{number}"),
        ])
    }

    fn check(&self, number: usize) -> Result<()> {
        ensure!(
            (1..=self.size()).contains(&number),
            "there is no node {number}: the lab has {}",
            self.size()
        );
        Ok(())
    }
}

/// The program `lab` of the testkit, beside whatever of it runs.
fn program() -> Result<std::path::PathBuf> {
    let own = std::env::current_exe()?;
    // target/PROFILE/lab, or target/PROFILE/deps/TEST-HASH
    let found = own.ancestors().skip(1).take(2).map(|folder| folder.join("lab"));
    let found = found.into_iter().find(|file| file.is_file());
    found.ok_or_else(|| anyhow::anyhow!("the program `lab` is not beside {}", own.display()))
}
