//! The statement of the JWT bearer flow (RFC 7523; Salesforce help, OAuth 2.0 JWT Bearer Flow).

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use connector::{Fault, FaultKind, Secret};
use ring::rand::SystemRandom;
use ring::signature::{KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;

/// For how long a statement holds: no longer than the org accepts (the same, `exp`).
const LIFETIME: Duration = Duration::from_secs(180);

/// From here on two clocks are too far apart for a statement to be accepted for certain, in milliseconds. Less is
/// never the reason: it would leave most of the lifetime.
const SKEW: i64 = 60_000;

/// Signs statements of one user for one app.
pub(crate) struct Signer {
    client_id: String,
    username: String,
    audience: String,
    key: RsaKeyPair,
    /// The org's clock minus ours, in milliseconds, once it has made a difference.
    offset: AtomicI64,
    /// The last one, which is as good as a password while it holds.
    last: Mutex<Option<Secret>>,
}

impl Signer {
    pub(super) fn new(
        client_id: String,
        username: String,
        audience: String,
        private_key: &Secret,
    ) -> Result<Self, Fault> {
        let key = key(private_key.reveal())?;
        let (offset, last) = (AtomicI64::new(0), Mutex::new(None));
        Ok(Self { client_id, username, audience, key, offset, last })
    }

    /// A new one, good from now on.
    pub(super) fn assertion(&self) -> Result<Secret, Fault> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from((now + LIFETIME).as_millis()).unwrap_or(i64::MAX);
        let expires = now.saturating_add(self.offset.load(Ordering::Relaxed)) / 1000;
        let claims = json!({
            "iss": self.client_id, "sub": self.username, "aud": self.audience, "exp": expires,
        });
        let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let mut text = format!("{}.{}", part(json!({"alg": "RS256", "typ": "JWT"})), part(claims));
        let mut signature = vec![0; self.key.public_key().modulus_len()];
        self.key
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature)
            .map_err(|_| Fault::new(FaultKind::Defect, "NOT_SIGNED", "nothing can be signed"))?;
        text.push('.');
        text.push_str(&URL_SAFE_NO_PAD.encode(signature));
        let assertion = Secret::new(text);
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(assertion.clone());
        Ok(assertion)
    }

    /// Can the clocks be the reason of a refusal? Then they agree from now on.
    pub(super) fn corrected(&self, fault: &Fault, offset: Option<i64>) -> bool {
        let of_time = fault.code == "invalid_grant"
            && ["expired", "invalid assertion", "validity"]
                .iter()
                .any(|word| fault.message.contains(word));
        let Some(offset) = offset.filter(|_| of_time) else { return false };
        let before = self.offset.load(Ordering::Relaxed);
        if offset.abs_diff(before) < SKEW.unsigned_abs() {
            return false;
        }
        self.offset.store(offset, Ordering::Relaxed);
        true
    }

    pub(super) fn secrets(&self) -> Vec<Secret> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

/// Can statements be signed with this key?
///
/// # Errors
/// Why not; never with a part of it.
pub fn check_private_key(pem: &Secret) -> Result<(), Fault> {
    key(pem.reveal()).map(|_| ())
}

/// The key in a text in PEM form.
fn key(pem: &str) -> Result<RsaKeyPair, Fault> {
    let bad = |why: &str, hint: &str| {
        Err(Fault::new(
            FaultKind::Credentials,
            "INVALID_PRIVATE_KEY",
            format!("the private key can't be used: {why}"),
        )
        .with_hint(hint))
    };
    let form =
        "It is given in PEM form, with its line breaks: -----BEGIN PRIVATE KEY----- and so on.";
    let decrypt = "Decrypt it first: openssl pkey -in encrypted.pem -out key.pem.";
    if pem.contains("-----BEGIN ENCRYPTED") || pem.contains("Proc-Type: 4,ENCRYPTED") {
        return bad("it is encrypted", decrypt);
    }
    // What goes wrong here is not told by its own words: they might quote the text.
    let Ok(der) = PrivateKeyDer::from_pem_slice(pem.as_bytes()) else {
        if CertificateDer::from_pem_slice(pem.as_bytes()).is_ok() {
            let hint = "The certificate belongs into the app; here its private key is needed.";
            return bad("it is a certificate", hint);
        }
        return bad("it is no private key in PEM form", form);
    };
    let read = match &der {
        PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
        PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
        _ => return bad("it is no RSA key", "Statements are signed by RS256, with an RSA key."),
    };
    // A word of the library's own list, such as InvalidEncoding or TooSmall.
    match read {
        Ok(key) => Ok(key),
        Err(reason) => bad(
            &reason.to_string(),
            "Statements are signed by RS256, with an RSA key of 2048 to 4096 bits.",
        ),
    }
}
