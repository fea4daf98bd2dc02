//! The servers a load is put on: processes of their own, ended when dropped.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A server with a data directory of its own, removed with it.
#[derive(Debug)]
pub struct Server {
    child: Child,
    directory: PathBuf,
    program: PathBuf,
    arguments: Vec<String>,
    /// Where clients reach it.
    pub address: SocketAddr,
}

impl Server {
    /// Starts this project's server, built in release mode.
    ///
    /// # Errors
    /// If it cannot be built, or does not answer within 30 seconds.
    pub fn quorate(name: &str, flags: &[&str]) -> io::Result<Self> {
        let mut arguments = vec!["--name".to_owned(), "bench".to_owned()];
        arguments.extend(flags.iter().map(|&flag| flag.to_owned()));
        Self::start(quorate_binary()?, name, arguments)
    }

    /// Starts another build of this project's server.
    ///
    /// # Errors
    /// If it does not answer within 30 seconds.
    pub fn build(program: &Path, name: &str) -> io::Result<Self> {
        let arguments = vec!["--name=bench".to_owned()];
        Self::start(program.to_owned(), name, arguments)
    }

    /// Starts the etcd of this machine, if there is one.
    ///
    /// # Errors
    /// If it is there but does not answer within 30 seconds.
    pub fn etcd(name: &str) -> io::Result<Option<Self>> {
        let Some(program) = etcd_binary() else {
            return Ok(None);
        };
        let peer = format!("http://{}", free_address()?);
        let arguments = [
            "--enable-v2=true",
            "--name=bench",
            &format!("--listen-peer-urls={peer}"),
            &format!("--initial-advertise-peer-urls={peer}"),
            &format!("--initial-cluster=bench={peer}"),
            "--log-level=error",
        ];
        Self::start(program, name, arguments.map(str::to_owned).to_vec()).map(Some)
    }

    fn start(program: PathBuf, name: &str, arguments: Vec<String>) -> io::Result<Self> {
        let server = Self::begin(program, name, arguments)?;
        server.wait_until_healthy()?;
        Ok(server)
    }

    /// Starts it, and does not wait until it answers.
    pub(crate) fn begin(
        program: PathBuf,
        name: &str,
        mut arguments: Vec<String>,
    ) -> io::Result<Self> {
        let address = free_address()?;
        let directory =
            std::env::temp_dir().join(format!("quorate-bench-{}-{name}", std::process::id()));
        fs::create_dir_all(&directory)?;
        arguments.push(format!("--data-dir={}", directory.join("data").display()));
        arguments.push(format!("--listen-client-urls=http://{address}"));
        arguments.push(format!("--advertise-client-urls=http://{address}"));
        let child = spawn(&program, &arguments, &directory)?;
        Ok(Self {
            child,
            directory,
            program,
            arguments,
            address,
        })
    }

    /// Ends it with SIGKILL and starts it again on the same data; the time until it answers.
    ///
    /// # Errors
    /// If it does not come up again.
    pub fn restart(&mut self) -> io::Result<Duration> {
        self.kill()?;
        let began = Instant::now();
        self.revive()?;
        self.wait_until_healthy()?;
        Ok(began.elapsed())
    }

    /// Ends it with SIGKILL.
    ///
    /// # Errors
    /// If it cannot be ended.
    pub fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }

    /// Starts it again after [`Server::kill`], and does not wait until it answers.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn revive(&mut self) -> io::Result<()> {
        self.child = spawn(&self.program, &self.arguments, &self.directory)?;
        Ok(())
    }

    /// Resident memory, in bytes.
    ///
    /// # Errors
    /// If the process is gone.
    pub fn resident(&self) -> io::Result<u64> {
        memory(self.child.id(), "VmRSS:")
    }

    /// The most resident memory since it was started, in bytes.
    ///
    /// # Errors
    /// If the process is gone.
    pub fn peak(&self) -> io::Result<u64> {
        memory(self.child.id(), "VmHWM:")
    }

    /// Its process.
    #[must_use]
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Whether it leads.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn leads(&self) -> io::Result<bool> {
        Ok(self.get("/v2/stats/self")?.contains("StateLeader"))
    }

    /// The last entry it has applied.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn applied(&self) -> io::Result<u64> {
        let text = self.get("/debug/vars")?;
        let after = text.split("\"applied\":").nth(1).unwrap_or_default();
        let digits = after.split(',').next().unwrap_or_default().trim();
        digits.parse().map_err(io::Error::other)
    }

    /// Processor time used so far, user and system.
    ///
    /// # Errors
    /// If the process is gone.
    pub fn processor_time(&self) -> io::Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let after = stat.rsplit(')').next().unwrap_or_default();
        let fields: Vec<u64> = after
            .split_whitespace()
            .map(|field| field.parse().unwrap_or(0))
            .collect();
        // Fields 14 and 15 of proc(5), in clock ticks of 10 ms; two fields precede the `)`.
        Ok(Duration::from_millis(10 * (fields[11] + fields[12])))
    }

    /// The metric of this name.
    ///
    /// # Errors
    /// If the server does not answer, or has no such metric: a number nobody counts is not zero.
    pub fn metric(&self, name: &str) -> io::Result<f64> {
        let text = self.get("/metrics")?;
        let found = text.lines().find_map(|line| {
            let (metric, value) = line.split_once(' ')?;
            (metric == name).then(|| value.parse().ok())?
        });
        found.ok_or_else(|| io::Error::other(format!("there is no metric {name}")))
    }

    pub(crate) fn wait_until_healthy(&self) -> io::Result<()> {
        let end = Instant::now() + Duration::from_secs(30);
        while !self
            .get("/health")
            .is_ok_and(|answer| answer.contains("true"))
        {
            if Instant::now() > end {
                return Err(io::Error::other(format!(
                    "{} is not up",
                    self.program.display()
                )));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    fn get(&self, path: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// What `/proc` says of a process under this name, in bytes.
///
/// # Errors
/// If the process is gone.
pub fn memory(process: u32, name: &str) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    Ok(kib.ok_or_else(|| io::Error::other(format!("no {name}")))? * 1024)
}

fn spawn(program: &Path, arguments: &[String], directory: &Path) -> io::Result<Child> {
    let log = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(directory.join("log"))?;
    Command::new(program)
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
}

/// The etcd of this machine.
pub(crate) fn etcd_binary() -> Option<PathBuf> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths)
        .map(|dir| dir.join("etcd"))
        .find(|p| p.exists())
}

/// An address that nobody used a moment ago.
pub(crate) fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

/// Builds the server in release mode, and tells where it is.
pub(crate) fn quorate_binary() -> io::Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args([
            "build",
            "--release",
            "--quiet",
            "-p",
            "quorate",
            "--bin",
            "quorate",
        ])
        .status()?;
    if !built.success() {
        return Err(io::Error::other("the server does not build"));
    }
    // A bench runs from target/release/deps.
    let me = std::env::current_exe()?;
    let target = me.ancestors().find(|dir| dir.ends_with("release"));
    let target = target.ok_or_else(|| io::Error::other("not run by cargo bench"))?;
    Ok(target.join("quorate"))
}
