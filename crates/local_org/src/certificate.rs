//! The certificate of a client, by which its assertions are checked.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};
use webpki::EndEntityCert;

/// An X.509 certificate with an RSA key of 2048 to 8192 bits, as PEM.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Certificate {
    pem: String,
    der: CertificateDer<'static>,
}

impl TryFrom<String> for Certificate {
    type Error = String;

    fn try_from(pem: String) -> Result<Self, String> {
        let der = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|error| format!("the certificate is no PEM: {error}"))?;
        EndEntityCert::try_from(&der).map_err(|error| format!("no X.509 certificate: {error}"))?;
        Ok(Self { pem, der })
    }
}

impl From<Certificate> for String {
    fn from(certificate: Certificate) -> Self {
        certificate.pem
    }
}

impl Certificate {
    /// Whether this signature (RS256, in base64url) of the text was made with the certificate's key.
    pub(crate) fn verifies(&self, text: &str, signature: &str) -> bool {
        let Ok(signature) = URL_SAFE_NO_PAD.decode(signature) else { return false };
        EndEntityCert::try_from(&self.der).is_ok_and(|certificate| {
            let algorithm = webpki::ring::RSA_PKCS1_2048_8192_SHA256;
            certificate.verify_signature(algorithm, text.as_bytes(), &signature).is_ok()
        })
    }
}
