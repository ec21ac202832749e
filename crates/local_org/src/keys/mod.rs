//! A pair of keys for tests of the JWT bearer flow. Everybody knows it: nothing real may trust it.

/// The client's RSA key, PKCS #8 in PEM form.
pub const PRIVATE_KEY: &str = include_str!("client.key.pem");

/// The certificate of it, for [`Options::certificate`](crate::Options::certificate).
pub const CERTIFICATE: &str = include_str!("client.certificate.pem");
