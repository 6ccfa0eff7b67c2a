//! TLS to a node, for requests and for the event stream.
//!
//! A node's certificate names the node, not the address it is reached at, and the
//! cluster's CA signs nodes of that cluster only. So a node is trusted when its
//! certificate is a server certificate signed by that CA, whatever the URL says; no
//! other CA is ever trusted.

use std::fmt;
use std::io::{Read, Write};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme,
    StreamOwned,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport,
    TransportAdapter,
};

/// Settings that trust nodes of the cluster whose CA is `roots`.
///
/// # Errors
/// A root that is no certificate.
pub fn config(roots: &[CertificateDer<'static>]) -> Result<Arc<ClientConfig>, rustls::Error> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root.clone())?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Arc::new(ClusterVerifier {
        roots: store,
        provider: Arc::clone(&provider),
    });
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Checks that a certificate belongs to a node of the cluster.
#[derive(Debug)]
struct ClusterVerifier {
    roots: RootCertStore,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for ClusterVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _address: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        rustls::client::verify_server_cert_signed_by_trust_anchor(
            &certificate,
            &self.roots,
            intermediates,
            now,
            self.provider.signature_verification_algorithms.all,
        )?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// Puts TLS around the connections of requests to `https`.
pub struct TlsLayer(pub Option<Arc<ClientConfig>>);

impl fmt::Debug for TlsLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsLayer")
    }
}

impl<In: Transport> Connector<In> for TlsLayer {
    type Out = Either<In, TlsWire>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        below: Option<In>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        let Some(below) = below else { return Ok(None) };
        if !details.needs_tls() {
            return Ok(Some(Either::A(below)));
        }
        let config = self
            .0
            .clone()
            .ok_or(ureq::Error::Tls("no CA certificate"))?;
        let host = details
            .uri
            .host()
            .unwrap_or_default()
            .trim_matches(['[', ']'])
            .to_owned();
        let name = ServerName::try_from(host).map_err(|_| ureq::Error::Tls("wrong host name"))?;
        let mut session = ClientConnection::new(config, name)?;
        let mut wire = TransportAdapter::new(below.boxed(), details.current_time.clone());
        wire.set_timeout(details.timeout);
        session.complete_io(&mut wire)?;
        let sizes = (
            details.config.input_buffer_size(),
            details.config.output_buffer_size(),
        );
        Ok(Some(Either::B(TlsWire {
            buffers: LazyBuffers::new(sizes.0, sizes.1),
            stream: StreamOwned::new(session, wire),
        })))
    }
}

/// A connection under TLS.
pub struct TlsWire {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter>,
}

impl fmt::Debug for TlsWire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsWire")
    }
}

impl Transport for TlsWire {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.stream.get_mut().set_timeout(timeout);
        let waiting = self.buffers.output().get(..amount).unwrap_or_default();
        self.stream.write_all(waiting)?;
        self.stream.flush()?;
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.stream.get_mut().set_timeout(timeout);
        let count = self.stream.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(count);
        Ok(count > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.get_mut().get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::path::Path;

    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    use rustls::{ServerConfig, ServerConnection};
    use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

    use super::*;
    use crate::client::Client;
    use crate::endpoint::Access;
    use crate::error::{Exit, Failure};
    use crate::limits;
    use crate::stream::EventStream;

    struct Authority {
        pem: String,
        issuer: Issuer<'static, KeyPair>,
    }

    fn authority() -> Authority {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).expect("signed").pem();
        Authority {
            pem,
            issuer: Issuer::new(params, key),
        }
    }

    /// A node under TLS that answers every request with an empty list.
    fn node(authority: &Authority) -> String {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec!["n1.0a.strowger".to_owned()]).expect("a name");
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &authority.issuer).expect("signed");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("key and certificate fit");
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!(
            "https://{}",
            listener.local_addr().expect("a bound address")
        );
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let session = ServerConnection::new(Arc::clone(&config)).expect("a session");
                let mut stream = StreamOwned::new(session, socket);
                let mut request = [0; 2_048];
                // A client that does not trust us leaves here.
                if stream.read(&mut request).is_ok_and(|count| count > 0) {
                    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]";
                    stream.write_all(answer).expect("the client listens");
                    stream.conn.send_close_notify();
                    let _ = stream.flush();
                }
            }
        });
        url
    }

    fn access(folder: &Path, pem: &str, url: &str) -> Access {
        let file = folder.join("ca.pem");
        std::fs::write(&file, pem).expect("written");
        Access::read(&[url.to_owned()], None, Some(&file)).expect("a fine CA")
    }

    #[test]
    fn a_node_of_the_cluster_is_trusted_at_any_address() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let authority = authority();
        let access = access(folder.path(), &authority.pem, &node(&authority));
        let client = Client::new(access, limits::ANSWER_TIMEOUT).expect("a client");
        assert_eq!(client.get::<Vec<u8>>("/v1/agents"), Ok(Vec::new()));
    }

    #[test]
    fn a_node_of_another_cluster_is_not() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let url = node(&authority());
        let access = access(folder.path(), &authority().pem, &url);
        let client = Client::new(access.clone(), limits::ANSWER_TIMEOUT).expect("a client");
        let refused = client
            .get::<Vec<u8>>("/v1/agents")
            .expect_err("not trusted");
        assert_eq!(refused.exit(), Exit::Unreachable, "{refused}");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let open = runtime.block_on(EventStream::open(&access, &access.endpoints[0], "now"));
        assert!(matches!(open, Err(Failure::NoNode { .. })));
    }
}
