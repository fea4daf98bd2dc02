//! Three members that a load is spread over: of this project, or of the etcd of this machine.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use crate::server::{Server, etcd_binary, free_address, quorate_binary};

/// A cluster of processes on loopback, ended when dropped.
#[derive(Debug)]
pub struct Cluster {
    /// Its members.
    pub members: Vec<Server>,
}

const NAMES: [&str; 3] = ["a", "b", "c"];

impl Cluster {
    /// Starts three members of this project, built in release mode.
    ///
    /// # Errors
    /// If they cannot be built, or do not answer within 30 seconds.
    pub fn quorate(flags: &[&str]) -> io::Result<Self> {
        Self::start(&quorate_binary()?, "quorate", flags)
    }

    /// Starts three members of another build of this project.
    ///
    /// # Errors
    /// If they do not answer within 30 seconds.
    pub fn build(program: &Path, name: &str) -> io::Result<Self> {
        Self::start(program, name, &[])
    }

    /// Starts three members of the etcd of this machine, if there is one.
    ///
    /// # Errors
    /// If they do not answer within 30 seconds.
    pub fn etcd() -> io::Result<Option<Self>> {
        let flags = ["--enable-v2=true", "--log-level=error"];
        let cluster = etcd_binary().map(|program| Self::start(&program, "etcd", &flags));
        cluster.transpose()
    }

    /// Where clients reach its members.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.members.iter().map(|member| member.address).collect()
    }

    /// Processor time that all members have used so far, user and system.
    ///
    /// # Errors
    /// If one is gone.
    pub fn processor_time(&self) -> io::Result<Duration> {
        self.members.iter().map(Server::processor_time).sum()
    }

    fn start(program: &Path, name: &str, flags: &[&str]) -> io::Result<Self> {
        let mut peers = Vec::new();
        for name in NAMES {
            peers.push((name, format!("http://{}", free_address()?)));
        }
        let all: Vec<_> = peers.iter().map(|(n, url)| format!("{n}={url}")).collect();
        let all = all.join(",");
        let mut members = Vec::new();
        for (member, url) in &peers {
            let mut arguments = vec![
                format!("--name={member}"),
                format!("--listen-peer-urls={url}"),
                format!("--initial-advertise-peer-urls={url}"),
                format!("--initial-cluster={all}"),
            ];
            arguments.extend(flags.iter().map(|&flag| flag.to_owned()));
            let name = format!("{name}-{member}");
            members.push(Server::begin(program.to_owned(), &name, arguments)?);
        }
        for member in &members {
            member.wait_until_healthy()?;
        }
        Ok(Self { members })
    }
}
