//! Who founds the cluster, and how its members speak to each other.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use quorate_runtime::PeerTls;

use super::UsageError;
use super::flags::{ClusterState, Flags};
use super::urls::{clean, is_https, listens, peer_urls};

/// This member's place in the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// This member's name.
    pub name: String,
    /// What it tells peers, as URLs.
    pub peer_urls: Vec<String>,
    /// `--initial-cluster-token`.
    pub token: String,
    /// Whether an empty data directory may be formatted.
    pub may_format: bool,
    /// `--initial-cluster`, by name; without the flag, this member alone.
    pub members: BTreeMap<String, Vec<String>>,
    /// Whether `--initial-cluster` was given.
    pub is_given: bool,
    /// Where peers are heard, as URLs.
    pub listen_urls: Vec<String>,
    /// What those stand for.
    pub listen: Vec<SocketAddr>,
    /// How peers prove that the network may be theirs.
    pub tls: PeerTls,
}

impl Cluster {
    pub(super) fn check(flags: &Flags, warnings: &mut Vec<String>) -> Result<Self, UsageError> {
        if flags.name.is_empty() || flags.name.contains(['=', ',', '/', '\0']) {
            return Err(UsageError::new(
                "--name must not be empty nor contain '=', ',' or '/'",
            ));
        }
        let advertised = &flags.initial_advertise_peer_urls;
        let told = peer_urls("initial-advertise-peer-urls", advertised)?;
        let listen_urls = peer_urls("listen-peer-urls", &flags.listen_peer_urls)?;
        let listen = listens("listen-peer-urls", listen_urls.clone())?;
        let members = match &flags.initial_cluster {
            Some(members) => parse_members(members)?,
            None => BTreeMap::from([(flags.name.clone(), told.clone())]),
        };
        Ok(Self {
            name: flags.name.clone(),
            peer_urls: told,
            token: flags.initial_cluster_token.clone(),
            may_format: flags.initial_cluster_state == ClusterState::New,
            members,
            is_given: flags.initial_cluster.is_some(),
            tls: tls(flags, &listen_urls, warnings)?,
            listen_urls,
            listen: listen.into_iter().flat_map(|one| one.addresses).collect(),
        })
    }

    /// Whether what is said of a new cluster holds together. Of a member that is born it does not
    /// count any more.
    ///
    /// # Errors
    /// What does not, in one line.
    pub fn check_founders(&self) -> Result<(), UsageError> {
        let name = &self.name;
        let Some(listed) = self.members.get(name) else {
            return Err(UsageError::new(format!(
                "--initial-cluster does not name this member, {name:?}"
            )));
        };
        self.check_distinct()?;
        let sorted = |urls: &[String]| {
            let mut urls = urls.to_vec();
            urls.sort();
            urls.dedup();
            urls
        };
        if sorted(listed) != sorted(&self.peer_urls) {
            return Err(UsageError::new(format!(
                "--initial-cluster has {} for this member, {name:?}, but \
                 --initial-advertise-peer-urls is {}: they must be the same",
                listed.join(","),
                self.peer_urls.join(",")
            )));
        }
        let is_tls = self.listen_urls.iter().any(|url| is_https(url));
        let mut urls = self.members.values().flatten();
        if self.members.len() > 1
            && let Some(other) = urls.find(|url| is_https(url) != is_tls)
        {
            return Err(UsageError::new(format!(
                "--initial-cluster has {other}, and --listen-peer-urls is {}: all members speak \
                 http, or all speak https",
                self.listen_urls.join(",")
            )));
        }
        Ok(())
    }

    fn check_distinct(&self) -> Result<(), UsageError> {
        let mut owners = BTreeMap::new();
        for (name, urls) in &self.members {
            for url in urls {
                match owners.insert(url, name) {
                    None => {}
                    Some(other) if other == name => {
                        return Err(UsageError::new(format!(
                            "--initial-cluster has {url} twice for {name:?}"
                        )));
                    }
                    Some(other) => {
                        return Err(UsageError::new(format!(
                            "--initial-cluster has {url} for both {other:?} and {name:?}: each \
                             member needs URLs of its own"
                        )));
                    }
                }
            }
        }
        Ok(())
    }
}

/// Reads `name=url,name2=url2`; a name may come several times.
fn parse_members(text: &str) -> Result<BTreeMap<String, Vec<String>>, UsageError> {
    let mut members: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for member in text.split(',').map(str::trim).filter(|m| !m.is_empty()) {
        let named = member.split_once('=').filter(|(name, _)| !name.is_empty());
        let Some((name, url)) = named else {
            return Err(UsageError::new(format!(
                "--initial-cluster: {member:?} is not NAME=URL"
            )));
        };
        peer_urls("initial-cluster", url)?;
        members.entry(name.to_owned()).or_default().push(clean(url));
    }
    Ok(members)
}

/// What is given besides the certificate itself: all of it restricts who may be a peer.
struct Restrictions {
    trusted_ca: Option<PathBuf>,
    client_cert_auth: bool,
    allowed_cn: Option<String>,
}

impl Restrictions {
    fn of(flags: &Flags) -> Self {
        let trusted_ca = flags.peer_trusted_ca_file.as_ref();
        Self {
            trusted_ca: trusted_ca.or(flags.peer_ca_file.as_ref()).cloned(),
            client_cert_auth: flags.peer_client_cert_auth || flags.peer_ca_file.is_some(),
            allowed_cn: flags.peer_cert_allowed_cn.clone(),
        }
    }

    /// The first flag of them that was given.
    fn first(&self) -> Option<&'static str> {
        match self {
            Self {
                trusted_ca: Some(_),
                ..
            } => Some("peer-trusted-ca-file"),
            Self {
                client_cert_auth: true,
                ..
            } => Some("peer-client-cert-auth"),
            Self {
                allowed_cn: Some(_),
                ..
            } => Some("peer-cert-allowed-cn"),
            Self { .. } => None,
        }
    }
}

/// How peers speak, by the URLs they are heard on.
fn tls(
    flags: &Flags,
    listen: &[String],
    warnings: &mut Vec<String>,
) -> Result<PeerTls, UsageError> {
    let refused = |why: String| Err(UsageError::new(why));
    let secure = listen.iter().filter(|url| is_https(url)).count();
    if secure != 0 && secure != listen.len() {
        let urls = listen.join(",");
        return refused(format!(
            "--listen-peer-urls: {urls}: all of them must be http, or all https"
        ));
    }
    let pair = match (&flags.peer_cert_file, &flags.peer_key_file) {
        (Some(cert), Some(key)) => Some((cert.clone(), key.clone())),
        (Some(_), None) => {
            return refused("--peer-cert-file needs --peer-key-file beside it".to_owned());
        }
        (None, Some(_)) => {
            return refused("--peer-key-file needs --peer-cert-file beside it".to_owned());
        }
        (None, None) => None,
    };
    let restrictions = Restrictions::of(flags);
    if secure == 0 {
        if let Some(flag) = restrictions.first() {
            return refused(format!(
                "--{flag} would protect nothing: --listen-peer-urls is http, so give https URLs \
                 there, in --initial-advertise-peer-urls and in --initial-cluster"
            ));
        }
        if pair.is_some() {
            let text = "peer URLs are http, so --peer-cert-file and --peer-key-file are not used";
            warnings.push(text.to_owned());
        }
        return Ok(PeerTls::SelfMade);
    }
    if flags.peer_auto_tls && pair.is_none() {
        let text = "--peer-auto-tls: nobody checks the certificates of peers, which keeps nobody \
                    out; --peer-cert-file and --peer-trusted-ca-file do";
        warnings.push(text.to_owned());
    }
    if flags.peer_auto_tls && pair.is_some() {
        warnings.push("--peer-auto-tls is not used: certificates are given".to_owned());
    }
    match (pair, restrictions.first()) {
        (Some((cert, key)), _) => Ok(PeerTls::Files {
            cert,
            key,
            trusted_ca: restrictions.trusted_ca,
            client_cert_auth: restrictions.client_cert_auth,
            allowed_cn: restrictions.allowed_cn,
        }),
        (None, None) if flags.peer_auto_tls => Ok(PeerTls::SelfMade),
        (None, Some(flag)) if flags.peer_auto_tls => refused(format!(
            "--{flag} cannot be served with --peer-auto-tls, whose certificates nobody can check: \
             give --peer-cert-file and --peer-key-file"
        )),
        (None, _) => refused(
            "--listen-peer-urls is https: give --peer-cert-file and --peer-key-file, or \
             --peer-auto-tls"
                .to_owned(),
        ),
    }
}
