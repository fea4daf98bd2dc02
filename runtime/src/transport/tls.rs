//! Certificates between members: made at start, or read from files again and again.
//!
//! They prove that a network may be the cluster's, never which member speaks: that is the hello's
//! part. Sessions are never resumed, so a certificate that was replaced is not believed once more.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, RootCertStore,
    SignatureScheme,
};
use tracing::{error, info};

use super::options::PeerTls;

/// What both sides must speak.
pub(super) const ALPN: &[u8] = b"quorate/1";

/// Where systems keep the CAs they trust; the first that exists counts.
const SYSTEM_CAS: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The TLS part of both directions.
#[derive(Clone)]
pub(super) struct Sides {
    pub(super) client: Arc<QuicClientConfig>,
    pub(super) server: Arc<QuicServerConfig>,
}

/// What new connections use, replaced when the files change.
pub(super) struct Credentials {
    tls: PeerTls,
    current: Mutex<Current>,
}

struct Current {
    sides: Sides,
    /// What was read last, good or not: the same is not tried twice.
    read: Result<Material, String>,
}

/// The bytes of the files.
#[derive(Clone, Default, PartialEq, Eq)]
struct Material {
    cert: Vec<u8>,
    key: Vec<u8>,
    trusted_ca: Vec<u8>,
}

impl Credentials {
    /// Makes or reads them.
    ///
    /// # Errors
    /// Which file is wrong, and how.
    pub(super) fn load(tls: PeerTls) -> Result<Self, String> {
        let (sides, read) = match Files::of(&tls) {
            None => (self_made()?, Material::default()),
            Some(files) => {
                let read = files.read()?;
                (files.sides(&read)?, read)
            }
        };
        Ok(Self {
            tls,
            current: Mutex::new(Current {
                sides,
                read: Ok(read),
            }),
        })
    }

    pub(super) fn sides(&self) -> Sides {
        let current = self.current.lock();
        current
            .unwrap_or_else(PoisonError::into_inner)
            .sides
            .clone()
    }

    /// Whether there is anything that may change.
    pub(super) fn are_files(&self) -> bool {
        Files::of(&self.tls).is_some()
    }

    /// Reads the files again, which blocks. Tells what is new, if it is good; what is broken
    /// changes nothing, and is told in the log once.
    pub(super) fn refresh(&self) -> Option<Sides> {
        let files = Files::of(&self.tls)?;
        let read = files.read();
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.read == read {
            return None;
        }
        let sides = read.as_ref().map_err(Clone::clone);
        let sides = sides.and_then(|material| files.sides(material));
        current.read = read;
        match sides {
            Ok(sides) => {
                info!("the TLS files for peers have changed: new connections use them");
                current.sides = sides.clone();
                Some(sides)
            }
            Err(what) => {
                error!(
                    "the TLS files for peers have changed and are not usable, so those read \
                     before stay in use: {what}"
                );
                None
            }
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({:?})", self.tls)
    }
}

/// [`PeerTls::Files`], borrowed.
struct Files<'a> {
    cert: &'a Path,
    key: &'a Path,
    trusted_ca: Option<&'a Path>,
    client_cert_auth: bool,
    allowed_cn: Option<&'a String>,
}

impl<'a> Files<'a> {
    fn of(tls: &'a PeerTls) -> Option<Self> {
        match tls {
            PeerTls::SelfMade => None,
            PeerTls::Files {
                cert,
                key,
                trusted_ca,
                client_cert_auth,
                allowed_cn,
            } => Some(Self {
                cert,
                key,
                trusted_ca: trusted_ca.as_deref(),
                client_cert_auth: *client_cert_auth,
                allowed_cn: allowed_cn.as_ref(),
            }),
        }
    }

    fn read(&self) -> Result<Material, String> {
        Ok(Material {
            cert: read(self.cert)?,
            key: read(self.key)?,
            trusted_ca: read(&self.trusted_ca()?)?,
        })
    }

    fn trusted_ca(&self) -> Result<PathBuf, String> {
        if let Some(path) = self.trusted_ca {
            return Ok(path.to_owned());
        }
        let system = SYSTEM_CAS.iter().map(Path::new).find(|path| path.exists());
        let none = "no CA to check the certificates of peers with: set --peer-trusted-ca-file";
        system.map(Path::to_owned).ok_or_else(|| none.to_owned())
    }

    fn sides(&self, material: &Material) -> Result<Sides, String> {
        let certs = certificates(self.cert, &material.cert)?;
        let key = PrivateKeyDer::from_pem_slice(&material.key)
            .map_err(|e| format!("{}: no private key: {e}", self.key.display()))?;
        let ca = self.trusted_ca()?;
        let roots = Arc::new(roots(&ca, &material.trusted_ca)?);
        let wrong_ca = |e: rustls::client::VerifierBuilderError| format!("{}: {e}", ca.display());
        let provider = provider();
        let server_check = Arc::new(Checked {
            inner: WebPkiServerVerifier::builder_with_provider(
                Arc::clone(&roots),
                Arc::clone(&provider),
            )
            .build()
            .map_err(wrong_ca)?,
            allowed_cn: self.allowed_cn.cloned(),
        });
        let asks = self.trusted_ca.is_some() || self.client_cert_auth || self.allowed_cn.is_some();
        let client_check = if asks {
            let inner = WebPkiClientVerifier::builder_with_provider(roots, provider);
            Some(Arc::new(Checked {
                inner: inner.build().map_err(wrong_ca)?,
                allowed_cn: self.allowed_cn.cloned(),
            }))
        } else {
            None
        };
        let wrong_pair = |e: rustls::Error| {
            let (cert, key) = (self.cert.display(), self.key.display());
            format!("{cert} and {key}: {e}")
        };
        let client = client_builder()?
            .dangerous()
            .with_custom_certificate_verifier(server_check)
            .with_client_auth_cert(certs.clone(), key.clone_key())
            .map_err(wrong_pair)?;
        let server = server_builder()?;
        let server = match client_check {
            Some(check) => server.with_client_cert_verifier(check),
            None => server.with_no_client_auth(),
        };
        let server = server.with_single_cert(certs, key).map_err(wrong_pair)?;
        finish(client, server)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|e| format!("{}: {e}", path.display()))
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let certs: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let certs = certs.map_err(|e| format!("{}: {e}", path.display()))?;
    if certs.is_empty() {
        return Err(format!("{}: no certificate in it", path.display()));
    }
    Ok(certs)
}

fn roots(path: &Path, pem: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(certificates(path, pem)?);
    if added == 0 {
        return Err(format!("{}: no usable CA certificate", path.display()));
    }
    Ok(roots)
}

/// A certificate that proves nothing, for peers that check nothing.
fn self_made() -> Result<Sides, String> {
    let what = |e: rcgen::Error| format!("cannot make a certificate: {e}");
    let key = rcgen::KeyPair::generate().map_err(what)?;
    let params = rcgen::CertificateParams::new(vec!["quorate".to_owned()]).map_err(what)?;
    let cert = params.self_signed(&key).map_err(what)?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let any = Arc::new(AnyCertificate(provider()));
    let client = client_builder()?
        .dangerous()
        .with_custom_certificate_verifier(any)
        .with_no_client_auth();
    let server = server_builder()?
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .map_err(|e| format!("cannot use the certificate just made: {e}"))?;
    finish(client, server)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn client_builder()
-> Result<rustls::ConfigBuilder<rustls::ClientConfig, rustls::WantsVerifier>, String> {
    let builder = rustls::ClientConfig::builder_with_provider(provider());
    let builder = builder.with_protocol_versions(&[&TLS13]);
    builder.map_err(|e| e.to_string())
}

fn server_builder()
-> Result<rustls::ConfigBuilder<rustls::ServerConfig, rustls::WantsVerifier>, String> {
    let builder = rustls::ServerConfig::builder_with_provider(provider());
    let builder = builder.with_protocol_versions(&[&TLS13]);
    builder.map_err(|e| e.to_string())
}

fn finish(
    mut client: rustls::ClientConfig,
    mut server: rustls::ServerConfig,
) -> Result<Sides, String> {
    client.alpn_protocols = vec![ALPN.to_vec()];
    client.resumption = Resumption::disabled();
    client.enable_early_data = false;
    server.alpn_protocols = vec![ALPN.to_vec()];
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.send_tls13_tickets = 0;
    server.max_early_data_size = 0;
    let client = QuicClientConfig::try_from(client).map_err(|e| e.to_string())?;
    let server = QuicServerConfig::try_from(server).map_err(|e| e.to_string())?;
    Ok(Sides {
        client: Arc::new(client),
        server: Arc::new(server),
    })
}

/// Takes any certificate, but only from who has its key: the handshake itself stays sound.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.0.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

/// A check against the CA, and of the common name where one is asked for.
#[derive(Debug)]
struct Checked<V: ?Sized> {
    allowed_cn: Option<String>,
    inner: Arc<V>,
}

impl<V: ?Sized> Checked<V> {
    fn check_name(&self, cert: &CertificateDer<'_>) -> Result<(), rustls::Error> {
        let Some(wanted) = &self.allowed_cn else {
            return Ok(());
        };
        let found = common_name(cert);
        if found.as_ref() == Some(wanted) {
            return Ok(());
        }
        let wanted = wanted.clone();
        let wrong = Arc::new(WrongName { found, wanted });
        Err(CertificateError::Other(OtherError(wrong)).into())
    }
}

impl ServerCertVerifier for Checked<WebPkiServerVerifier> {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self.inner.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        )?;
        self.check_name(end_entity)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

impl ClientCertVerifier for Checked<dyn ClientCertVerifier> {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self
            .inner
            .verify_client_cert(end_entity, intermediates, now)?;
        self.check_name(end_entity)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// The common name of a certificate, if it has one.
fn common_name(cert: &CertificateDer<'_>) -> Option<String> {
    let (_, cert) = x509_parser::parse_x509_certificate(cert).ok()?;
    let name = cert.subject().iter_common_name().next()?;
    name.as_str().ok().map(str::to_owned)
}

/// A certificate of somebody else. rustls shows errors of others by `Debug`.
struct WrongName {
    found: Option<String>,
    wanted: String,
}

impl fmt::Display for WrongName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wanted = &self.wanted;
        match &self.found {
            Some(found) => write!(
                f,
                "it is {found:?}, --peer-cert-allowed-cn wants {wanted:?}"
            ),
            None => write!(f, "it has none, --peer-cert-allowed-cn wants {wanted:?}"),
        }
    }
}

impl fmt::Debug for WrongName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for WrongName {}
