//! Making and reading certificates (X.509, RFC 5280).

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, PrivatePkcs8KeyDer};
use strowger_core::ports::NodeNumber;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::ClusterId;
use crate::error::IdentityError;

const SUFFIX: &str = "strowger";

/// The name in the certificate of `node` in `cluster`.
pub fn name_of(node: NodeNumber, cluster: ClusterId) -> String {
    format!("n{node}.{cluster}.{SUFFIX}")
}

/// Node and cluster named by a certificate (DER); `None` when it is not one of ours.
pub fn subject_of(certificate: &[u8]) -> Option<(NodeNumber, ClusterId)> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    names
        .value
        .general_names
        .iter()
        .find_map(|name| match name {
            GeneralName::DNSName(name) => parse_name(name),
            _ => None,
        })
}

fn parse_name(name: &str) -> Option<(NodeNumber, ClusterId)> {
    let mut parts = name.split('.');
    let node = parts.next()?.strip_prefix('n')?.parse().ok()?;
    let mut cluster = [0; 16];
    hex::decode_to_slice(parts.next()?, &mut cluster).ok()?;
    (parts.next() == Some(SUFFIX) && parts.next().is_none()).then_some((node, ClusterId(cluster)))
}

/// The hash by which a join token pins the authority.
pub fn hash_of(bytes: &[u8]) -> [u8; 32] {
    *blake3::hash(bytes).as_bytes()
}

fn failed(error: rcgen::Error) -> IdentityError {
    IdentityError::Certificate(error.to_string())
}

/// Makes a cluster's authority: certificate and key, both DER.
pub fn authority(cluster: ClusterId, name: &str) -> Result<(Vec<u8>, Vec<u8>), IdentityError> {
    let key = KeyPair::generate().map_err(failed)?;
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
        .distinguished_name
        .push(DnType::OrganizationName, name);
    params
        .distinguished_name
        .push(DnType::CommonName, format!("{cluster}.{SUFFIX}"));
    let certificate = params.self_signed(&key).map_err(failed)?;
    Ok((certificate.der().to_vec(), key.serialize_der()))
}

/// A key a node made for itself; it never leaves the node.
pub struct NewKey(KeyPair);

impl NewKey {
    /// Makes a key.
    pub fn generate() -> Result<Self, IdentityError> {
        KeyPair::generate().map(Self).map_err(failed)
    }

    /// A signing request (DER). The name in it is only a wish; the signer decides.
    pub fn request(&self, cluster: ClusterId) -> Result<Vec<u8>, IdentityError> {
        let params = CertificateParams::new(vec![name_of(0, cluster)]).map_err(failed)?;
        Ok(params
            .serialize_request(&self.0)
            .map_err(failed)?
            .der()
            .to_vec())
    }

    /// The key, PKCS #8 DER.
    pub fn into_der(self) -> Vec<u8> {
        self.0.serialize_der()
    }
}

/// Signs `request` (DER) for `node`; only the public key is taken from it.
pub fn sign(
    authority: &[u8],
    authority_key: &[u8],
    cluster: ClusterId,
    node: NodeNumber,
    request: &[u8],
) -> Result<Vec<u8>, IdentityError> {
    let request = CertificateSigningRequestDer::from(request.to_vec());
    // Parsing checks the signature, so the asker holds the key.
    let mut request = CertificateSigningRequestParams::from_der(&request).map_err(failed)?;
    let mut params = CertificateParams::new(vec![name_of(node, cluster)]).map_err(failed)?;
    params
        .distinguished_name
        .push(DnType::CommonName, name_of(node, cluster));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    request.params = params;
    let key =
        KeyPair::try_from(&PrivatePkcs8KeyDer::from(authority_key.to_vec())).map_err(failed)?;
    let authority = CertificateDer::from(authority.to_vec());
    let issuer = Issuer::from_ca_cert_der(&authority, key).map_err(failed)?;
    Ok(request.signed_by(&issuer).map_err(failed)?.der().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_names_are_read() {
        let cluster = ClusterId([7; 16]);
        assert_eq!(parse_name(&name_of(42, cluster)), Some((42, cluster)));
        for name in [
            "n1.strowger",
            "x1.00.strowger",
            "n1.zz.strowger",
            "",
            "n-1.07.strowger",
        ] {
            assert_eq!(parse_name(name), None, "{name}");
        }
    }
}
