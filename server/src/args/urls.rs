//! URLs of members, as flags have them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::UsageError;

/// One URL to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// As it was given.
    pub url: String,
    /// What it stands for: `localhost` means 127.0.0.1 and ::1, the second where there is one.
    pub addresses: Vec<SocketAddr>,
}

impl Listen {
    pub(super) fn is_everywhere(&self) -> bool {
        self.addresses
            .iter()
            .any(|address| address.ip().is_unspecified())
    }
}

/// A URL taken apart.
struct Url<'a> {
    is_https: bool,
    host: &'a str,
    port: u16,
}

/// The URLs in `urls`, which are for clients.
pub(super) fn client_urls(flag: &str, urls: &str) -> Result<Vec<String>, UsageError> {
    let urls = split(flag, urls)?;
    for url in &urls {
        if parse(flag, url, "http://")?.is_https {
            let why = "TLS is not served by this version of quorate";
            return Err(UsageError::new(format!("--{flag}: {url}: {why}")));
        }
    }
    Ok(urls)
}

/// The URLs in `urls`, which are for peers.
pub(super) fn peer_urls(flag: &str, urls: &str) -> Result<Vec<String>, UsageError> {
    let urls = split(flag, urls)?;
    for url in &urls {
        parse(flag, url, "http:// or https://")?;
    }
    Ok(urls)
}

/// The same URL, written in one way.
pub(super) fn clean(url: &str) -> String {
    url.trim().trim_end_matches('/').to_owned()
}

/// Whether a URL that was checked says that TLS is spoken.
pub(super) fn is_https(url: &str) -> bool {
    url.starts_with("https://")
}

/// What `urls`, which were checked, stand for.
pub(super) fn listens(flag: &str, urls: Vec<String>) -> Result<Vec<Listen>, UsageError> {
    let listen = |url: String| {
        let addresses = addresses(flag, &url)?;
        Ok(Listen { url, addresses })
    };
    urls.into_iter().map(listen).collect()
}

fn split(flag: &str, urls: &str) -> Result<Vec<String>, UsageError> {
    let urls: Vec<String> = urls
        .split(',')
        .map(clean)
        .filter(|url| !url.is_empty())
        .collect();
    if urls.is_empty() {
        return Err(UsageError::new(format!("--{flag} names no URL")));
    }
    Ok(urls)
}

/// Takes `http://host:port` apart.
fn parse<'a>(flag: &str, url: &'a str, schemes: &str) -> Result<Url<'a>, UsageError> {
    let wrong = |why: &str| UsageError::new(format!("--{flag}: {url}: {why}"));
    let (is_https, rest) = match url.split_once("://") {
        Some(("http", rest)) => (false, rest),
        Some(("https", rest)) => (true, rest),
        Some(("unix" | "unixs", _)) => return Err(wrong("unix sockets are not served")),
        Some(_) | None => return Err(wrong(&format!("a URL must begin with {schemes}"))),
    };
    let form = "a URL must have the form http://host:port";
    let (host, port) = rest.rsplit_once(':').ok_or_else(|| wrong(form))?;
    if port.contains('/') || host.contains('/') {
        return Err(wrong("a URL must not contain a path"));
    }
    match port.parse() {
        Ok(port) if !host.is_empty() => Ok(Url {
            is_https,
            host,
            port,
        }),
        Ok(_) | Err(_) => Err(wrong(form)),
    }
}

fn addresses(flag: &str, url: &str) -> Result<Vec<SocketAddr>, UsageError> {
    let Url { host, port, .. } = parse(flag, url, "http://")?;
    let hosts = if host == "localhost" {
        vec![
            IpAddr::from(Ipv4Addr::LOCALHOST),
            IpAddr::from(Ipv6Addr::LOCALHOST),
        ]
    } else {
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        let Ok(host) = bare.parse() else {
            return Err(UsageError::new(format!(
                "--{flag}: {url}: listening needs an IP address or localhost, not a name"
            )));
        };
        vec![host]
    };
    Ok(hosts
        .into_iter()
        .map(|host| SocketAddr::new(host, port))
        .collect())
}
