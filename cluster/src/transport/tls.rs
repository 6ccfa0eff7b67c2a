//! TLS 1.3 settings: who is believed, and what a refusal says.

use std::sync::Arc;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};

use super::told::Told;
use crate::identity::{ClusterId, Identity, hash_of, subject_of};
use crate::limits;

/// Protocol between members.
pub const ALPN: &[u8] = b"strowger/1";
/// Protocol of a newcomer that has no certificate yet.
pub const ALPN_JOIN: &[u8] = b"strowger-join/1";

type Failed = Box<dyn std::error::Error + Send + Sync>;

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn roots(authority: &[u8]) -> Result<Arc<RootCertStore>, Failed> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(authority.to_vec()))?;
    Ok(Arc::new(roots))
}

fn chain(identity: &Identity) -> Vec<CertificateDer<'static>> {
    // The authority comes along, so that a newcomer can compare its hash.
    vec![
        identity.certificate.clone().into(),
        identity.authority.clone().into(),
    ]
}

fn key(identity: &Identity) -> PrivateKeyDer<'static> {
    PrivatePkcs8KeyDer::from(identity.key.clone()).into()
}

/// Settings shared by all connections.
pub fn transport_settings() -> Arc<quinn::TransportConfig> {
    let mut settings = quinn::TransportConfig::default();
    let idle = limits::IDLE_TIMEOUT
        .try_into()
        .expect("the idle timeout fits");
    settings.max_idle_timeout(Some(idle));
    settings.keep_alive_interval(Some(limits::KEEP_ALIVE));
    // More is for members: whoever accepts a connection raises it once it is known whose it is.
    settings.max_concurrent_bidi_streams(1u32.into());
    settings.max_concurrent_uni_streams(0u32.into());
    settings.datagram_receive_buffer_size(None);
    Arc::new(settings)
}

/// Accepting: members show a certificate of the authority; a newcomer none.
///
/// # Errors
/// When TLS refuses our own certificate or key.
pub fn server(identity: &Identity) -> Result<quinn::ServerConfig, Failed> {
    let inner =
        WebPkiClientVerifier::builder_with_provider(roots(&identity.authority)?, provider())
            .allow_unauthenticated()
            .build()?;
    let verifier = MemberVerifier {
        inner,
        cluster: identity.cluster,
        told: Told::default(),
    };
    let mut tls = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_single_cert(chain(identity), key(identity))?;
    tls.alpn_protocols = vec![ALPN.to_vec(), ALPN_JOIN.to_vec()];
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
    config.transport_config(transport_settings());
    Ok(config)
}

/// Dialling another member.
///
/// # Errors
/// When TLS refuses our own certificate or key.
pub fn client(identity: &Identity) -> Result<quinn::ClientConfig, Failed> {
    let inner =
        WebPkiServerVerifier::builder_with_provider(roots(&identity.authority)?, provider())
            .build()?;
    let verifier = PeerVerifier {
        inner,
        cluster: identity.cluster,
        told: Told::default(),
    };
    let tls = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(chain(identity), key(identity))?;
    finish_client(tls, ALPN)
}

/// Dialling a member without a certificate, pinned to the hash in a join token.
///
/// # Errors
/// When the settings contradict each other.
pub fn newcomer(authority_hash: [u8; 32]) -> Result<quinn::ClientConfig, Failed> {
    let verifier = PinVerifier {
        authority_hash,
        provider: provider(),
    };
    let tls = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    finish_client(tls, ALPN_JOIN)
}

fn finish_client(
    mut tls: rustls::ClientConfig,
    alpn: &[u8],
) -> Result<quinn::ClientConfig, Failed> {
    tls.alpn_protocols = vec![alpn.to_vec()];
    let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    config.transport_config(transport_settings());
    Ok(config)
}

/// Says in the log, once, what was wrong with a certificate that was refused.
fn explain(told: &Told, certificate: &CertificateDer<'_>, ours: ClusterId, error: &Error) {
    let subject = subject_of(certificate);
    // What follows the second colon may hold a time, which would be news each time.
    let text = error.to_string();
    let why: Vec<&str> = text.split(':').take(2).collect();
    if !told.is_news(&format!("{subject:?}"), &why.concat()) {
        return;
    }
    match subject {
        Some((node, cluster)) if cluster != ours => tracing::error!(
            node, %cluster, %ours,
            "SW0440: refused a certificate of another cluster"
        ),
        Some((node, _)) => tracing::error!(
            node, %error,
            "SW0441: refused a certificate that our authority did not sign"
        ),
        None => tracing::error!(%error, "SW0442: refused a certificate that names no node"),
    }
}

macro_rules! signatures_by {
    ($($inner:tt)+) => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            self.$($inner)+.verify_tls12_signature(message, cert, dss)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            self.$($inner)+.verify_tls13_signature(message, cert, dss)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.$($inner)+.supported_verify_schemes()
        }
    };
}

/// Believes members that dial us.
#[derive(Debug)]
struct MemberVerifier {
    inner: Arc<dyn ClientCertVerifier>,
    cluster: ClusterId,
    told: Told,
}

impl ClientCertVerifier for MemberVerifier {
    fn client_auth_mandatory(&self) -> bool {
        // A newcomer has none; the transport lets it do nothing but join.
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // No hints: a node of another cluster shall show its certificate and be named.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.inner
            .verify_client_cert(end_entity, intermediates, now)
            .inspect_err(|error| explain(&self.told, end_entity, self.cluster, error))
            .inspect(|_| self.told.forget(&format!("{:?}", subject_of(end_entity))))
    }

    signatures_by!(inner);
}

/// Believes members we dial.
#[derive(Debug)]
struct PeerVerifier {
    inner: Arc<WebPkiServerVerifier>,
    cluster: ClusterId,
    told: Told,
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.inner
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            .inspect_err(|error| explain(&self.told, end_entity, self.cluster, error))
            .inspect(|_| self.told.forget(&format!("{:?}", subject_of(end_entity))))
    }

    signatures_by!(inner);
}

/// Believes the cluster whose authority has the pinned hash.
#[derive(Debug)]
struct PinVerifier {
    authority_hash: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl PinVerifier {
    fn inner(&self, authority: &[u8]) -> Result<Arc<WebPkiServerVerifier>, Error> {
        let roots = roots(authority).map_err(|error| Error::General(error.to_string()))?;
        WebPkiServerVerifier::builder_with_provider(roots, self.provider.clone())
            .build()
            .map_err(|error| Error::General(error.to_string()))
    }
}

impl ServerCertVerifier for PinVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let authority = intermediates
            .iter()
            .find(|certificate| hash_of(certificate) == self.authority_hash)
            .ok_or(Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
        self.inner(authority)?.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        )
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::PeerIncompatible(
            rustls::PeerIncompatible::Tls12NotOffered,
        ))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
