use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use connector::{Fault, FaultKind, Secret};
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};

use super::{Flow, audience_of};
use crate::settings::{Credentials, Settings};

fn secret(text: &str) -> Secret {
    Secret::new(text.to_owned())
}

fn jwt(private_key: &str, audience: Option<&str>) -> Result<Flow, Fault> {
    let credentials = Credentials::JwtBearer {
        client_id: "the app".into(),
        username: "user@example.com".into(),
        private_key: secret(private_key),
        audience: audience.map(str::to_owned),
    };
    Flow::new(credentials, &Settings::new("https://acme.my.salesforce.com"))
}

fn field(flow: &Flow, name: &str) -> Option<String> {
    let form = flow.form().expect("a form");
    let found = form_urlencoded::parse(form.reveal().as_bytes()).find(|(n, _)| n == name);
    found.map(|(_, value)| value.into_owned())
}

fn part(text: &str) -> Value {
    let bytes = URL_SAFE_NO_PAD.decode(text).expect("base64url without padding");
    serde_json::from_slice(&bytes).expect("JSON")
}

fn now() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    i64::try_from(now.as_secs()).expect("before the end of time")
}

fn claims(flow: &Flow) -> Value {
    part(field(flow, "assertion").expect("an assertion").split('.').nth(1).expect("three parts"))
}

#[test]
fn a_statement_says_who_for_whom_and_how_long_and_is_signed() {
    let flow = jwt(local_org::keys::PRIVATE_KEY, None).expect("a key");
    assert_eq!(
        field(&flow, "grant_type").as_deref(),
        Some("urn:ietf:params:oauth:grant-type:jwt-bearer")
    );
    let assertion = field(&flow, "assertion").expect("an assertion");
    let (signed, signature) = assertion.rsplit_once('.').expect("three parts");
    let (header, body) = signed.split_once('.').expect("three parts");
    assert_eq!(part(header), json!({"alg": "RS256", "typ": "JWT"}));
    let claims = part(body);
    assert_eq!(claims["iss"], "the app");
    assert_eq!(claims["sub"], "user@example.com");
    assert_eq!(claims["aud"], "https://login.salesforce.com");
    assert_eq!(claims.as_object().map(serde_json::Map::len), Some(4));
    let left = claims["exp"].as_i64().expect("a number") - now();
    assert!((175..=181).contains(&left), "{left}");
    // The public key stands in the certificate as a sequence of modulus and exponent (RFC 8017, A.1.1): here 270
    // bytes, for 2048 bits and 65537.
    let der = CertificateDer::from_pem_slice(local_org::keys::CERTIFICATE.as_bytes()).expect("one");
    let at = der.windows(4).position(|w| w == [0x30, 0x82, 0x01, 0x0a]).expect("a public key");
    let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &der[at..at + 270]);
    let signature = URL_SAFE_NO_PAD.decode(signature).expect("base64url");
    public.verify(signed.as_bytes(), &signature).expect("signed by the key");
}

#[test]
fn both_forms_of_a_key_can_be_used() {
    let pkcs8 = jwt(local_org::keys::PRIVATE_KEY, Some("a")).expect("PKCS #8");
    let pkcs1 = jwt(&pkcs1(), Some("a")).expect("PKCS #1");
    // A signature of RS256 has no chance in it.
    let signature = |flow: &Flow| -> String {
        let assertion = field(flow, "assertion").expect("an assertion");
        assertion.rsplit_once('.').expect("three parts").1.to_owned()
    };
    let same = (0..5).any(|_| signature(&pkcs8) == signature(&pkcs1));
    assert!(same, "the moment differs each time");
}

/// The same key as PKCS #1, which lies in PKCS #8 as it is: the last element (RFC 5208, 5).
fn pkcs1() -> String {
    let der = rustls_pki_types::PrivatePkcs8KeyDer::from_pem_slice(
        local_org::keys::PRIVATE_KEY.as_bytes(),
    )
    .expect("PKCS #8");
    let body = base64::engine::general_purpose::STANDARD.encode(&der.secret_pkcs8_der()[26..]);
    format!("-----BEGIN RSA PRIVATE KEY-----\n{body}\n-----END RSA PRIVATE KEY-----\n")
}

#[test]
fn what_is_no_key_is_named_and_not_quoted() {
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIplanted\n-----END ENCRYPTED PRIVATE KEY-----\n";
    // As `openssl ecparam -name prime256v1 -genkey` begins one; it is not looked at any further.
    let curve = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIplanted\n-----END EC PRIVATE KEY-----\n";
    let broken = "-----BEGIN PRIVATE KEY-----\nMIIxplantedA\n-----END PRIVATE KEY-----\n";
    let one_line = local_org::keys::PRIVATE_KEY.replace('\n', " ");
    for (text, says) in [
        (encrypted, "it is encrypted"),
        (curve, "it is no RSA key"),
        (broken, "can't be used: "),
        (local_org::keys::CERTIFICATE, "it is a certificate"),
        ("planted", "no private key in PEM form"),
        (&one_line, "no private key in PEM form"),
        ("", "no private key in PEM form"),
    ] {
        let fault = jwt(text, None).err().expect("a fault");
        assert_eq!((fault.kind, &*fault.code), (FaultKind::Credentials, "INVALID_PRIVATE_KEY"));
        assert!(fault.message.contains(says), "{fault}");
        assert!(!fault.hint.is_empty() && !format!("{fault:?}").contains("planted"), "{fault:?}");
    }
}

#[test]
fn a_sandbox_has_another_audience() {
    let with = |instance: &str, login: Option<&str>| {
        audience_of(&Settings { login_url: login.map(str::to_owned), ..Settings::new(instance) })
    };
    let (live, trial) = ("https://login.salesforce.com", "https://test.salesforce.com");
    let acme = "https://acme.my.salesforce.com";
    for (instance, login, expected) in [
        (acme, None, live),
        ("https://acme-dev-ed.develop.my.salesforce.com", None, live),
        ("https://acme--dev.sandbox.my.salesforce.com", None, trial),
        ("https://a-b.scratch.my.salesforce.com", None, trial),
        (acme, Some(trial), trial),
        ("https://sandbox.my.salesforce.com.example.com", None, live),
        ("nonsense", None, live),
    ] {
        assert_eq!(with(instance, login), expected, "{instance} {login:?}");
    }
    let flow = jwt(local_org::keys::PRIVATE_KEY, Some("https://acme.my.salesforce.com"));
    assert_eq!(claims(&flow.expect("a key"))["aud"], "https://acme.my.salesforce.com");
}

#[test]
fn the_clock_is_corrected_only_where_it_can_be_the_reason() {
    let flow = jwt(local_org::keys::PRIVATE_KEY, None).expect("a key");
    let refused = |message: &str, offset: Option<i64>| {
        let mut fault = Fault::new(FaultKind::Credentials, "invalid_grant", message);
        flow.refused(&mut fault, offset)
    };
    let left = || claims(&flow)["exp"].as_i64().expect("a number") - now();
    assert!(!refused("user hasn't approved this consumer", Some(600_000)));
    assert!(!refused("expired authorization code", Some(50_000)));
    assert!(!refused("expired authorization code", None));
    assert!((175..=181).contains(&left()));
    assert!(refused("expired authorization code", Some(600_000)));
    assert!((775..=781).contains(&left()));
    // It was not the clock after all.
    assert!(!refused("expired authorization code", Some(600_300)));
    // Nor is it for good.
    assert!(refused("invalid assertion", Some(0)));
    assert!((175..=181).contains(&left()));
}

#[test]
fn a_password_is_sent_with_the_security_token_behind_it() {
    let flow = |security_token: Option<&str>| {
        let credentials = Credentials::Password {
            client_id: "app".into(),
            client_secret: secret("s"),
            username: "u@example.com".into(),
            password: secret("p&w"),
            security_token: security_token.map(secret),
        };
        Flow::new(credentials, &Settings::new("https://a.my.salesforce.com")).expect("a flow")
    };
    assert_eq!(field(&flow(Some("tok")), "password").as_deref(), Some("p&wtok"));
    assert_eq!(field(&flow(None), "password").as_deref(), Some("p&w"));
}
