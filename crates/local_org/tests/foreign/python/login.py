"""Every way in which simple-salesforce logs in, and what it is told where that fails."""

import datetime
import os
import org
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from org import control
from simple_salesforce import Salesforce, SalesforceAuthenticationFailed

USER = "integration@example.com"
PASSWORD = os.environ["ORG_PASSWORD"]
TOKEN = os.environ["ORG_SECURITY_TOKEN"]
APP = {"consumer_key": org.CLIENT_ID, "consumer_secret": org.CLIENT_SECRET}


def log_in(**how):
    return Salesforce(session=org.session(), **how)


def works(sf):
    who = sf.oauth2("userinfo")
    assert who["preferred_username"] == USER and who["organization_id"].startswith("00D"), who
    assert sf.query("SELECT count() FROM Account")["totalSize"] == 0
    dead = sf.session_id
    control("DELETE", "/sessions")
    assert sf.query("SELECT count() FROM Account")["totalSize"] == 0 and sf.session_id != dead


def fails(code, message, **how):
    try:
        log_in(**how)
    except SalesforceAuthenticationFailed as error:
        assert (error.code, error.auth_message) == (code, message), str(error)
        return
    raise AssertionError(f"{code} was expected")


def key_and_certificate():
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    pem = serialization.Encoding.PEM
    return (
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode(),
        builder.sign(key, hashes.SHA256()).public_bytes(pem).decode(),
    )


# By SOAP: the password with the security token behind it, or from a trusted address without.
works(log_in(username=USER, password=PASSWORD, security_token=TOKEN))
works(log_in(username=USER, password=PASSWORD, organizationId=control("GET", "")["org_id"]))
wrong = "INVALID_LOGIN", "Invalid username, password, security token; or user locked out."
fails(*wrong, username=USER, password=PASSWORD, security_token="another")
fails(*wrong, username="no <one> & nobody", password=PASSWORD, security_token=TOKEN)
fails("UNSUPPORTED_API_VERSION", "login() is not supported in this version of the API",
      username=USER, password=PASSWORD, security_token=TOKEN, version="65.0")

# By OAuth with a password.
works(log_in(username=USER, password=PASSWORD, **APP))
fails("invalid_grant", "authentication failure", username=USER, password="wrong", **APP)
fails("invalid_client", "invalid client credentials", username=USER, password=PASSWORD,
      consumer_key=org.CLIENT_ID, consumer_secret="wrong")

# By the client's own credentials.
works(log_in(domain="example.my", **APP))
fails("invalid_client_id", "client identifier invalid", domain="example.my", consumer_key="no", consumer_secret="no")
control("POST", "/clients", {"client_id": "tied", "client_secret": "s", "runs_as_user": False})
fails("invalid_grant", "no client credentials user enabled", domain="example.my", consumer_key="tied", consumer_secret="s")
answer = org.session().post("https://login.salesforce.com/services/oauth2/token", {"grant_type": "client_credentials"})
assert answer.json()["error_description"] == "request not supported on this domain", answer.text

# By a signed assertion.
key, certificate = key_and_certificate()
other, _ = key_and_certificate()
bearer = {"username": USER, "consumer_key": "signed", "privatekey": key}
fails("invalid_client_id", "client identifier invalid", **bearer)
control("POST", "/clients", {"client_id": "signed", "client_secret": "s", "certificate": certificate})
works(log_in(**bearer))
fails("invalid_grant", "invalid assertion", **{**bearer, "privatekey": other})
fails("invalid_grant", "Audience validation failed", domain="test", **bearer)
fails("invalid_grant", "user hasn't approved this consumer", **{**bearer, "username": "nobody@example.com"})
control("POST", "/clients", {"client_id": "signed", "client_secret": "s", "approved": False})
fails("invalid_grant", "user hasn't approved this consumer", **bearer)
control("POST", "/clients", {"client_id": "signed", "client_secret": "s", "approved": True})
control("POST", "/settings", {"clock_skew_ms": 3600_000})
fails("invalid_grant", "expired authorization code", **bearer)
control("POST", "/settings", {"clock_skew_ms": 0})

# A session that nobody used for long is dead; one that is used lives on.
sf = log_in(**bearer)
asked = {"token": sf.session_id, "client_id": "signed", "client_secret": "s"}
seen = requests.post(f"{org.URL}/services/oauth2/introspect", asked).json()
assert seen["active"] and seen["username"] == USER and seen["client_id"] == "signed", seen
assert 7100 < seen["exp"] - seen["iat"] <= 7200, seen
control("POST", "/settings", {"session_seconds": 0})
assert requests.post(f"{org.URL}/services/oauth2/introspect", asked).json() == {"active": False}
control("POST", "/settings", {"session_seconds": 7200})
assert requests.get(f"{org.URL}/services/oauth2/revoke", {"token": sf.session_id}).status_code == 200
assert requests.post(f"{org.URL}/services/oauth2/introspect", asked).json() == {"active": False}
print("login.py passed")
