//! Every way to log in, against a local org that checks what is sent.

mod against;
mod scripted;

use std::sync::Mutex;
use std::time::Duration;

use connector::{Connector, Fault, FaultKind, Secret};
use egress::{Policy, Rules};
use local_org::{Fault as Trouble, FaultRule, LocalOrg, Options, keys};
use salesforce::{Credentials, Salesforce, Settings};
use scripted::{Reply, Server};

const USER: &str = "integration@example.com";
const PASSWORD: &str = "planted-password-4f&+";
const SECURITY_TOKEN: &str = "plantedSecurityToken5b";

fn org() -> LocalOrg {
    let certificate = Some(keys::CERTIFICATE.to_owned());
    LocalOrg::start(Options {
        certificate,
        password: PASSWORD.into(),
        security_token: SECURITY_TOKEN.into(),
        ..Options::default()
    })
    .expect("an org")
}

fn secret(text: &str) -> Secret {
    Secret::new(text.to_owned())
}

fn client(url: &str, credentials: Credentials) -> Salesforce {
    let allowed_hosts = url.trim_start_matches("http://");
    let rules = Rules { allowed_hosts, timeout: Duration::from_secs(10), ..Rules::default() };
    let policy = Policy::parse(&rules).expect("a policy");
    Salesforce::new(&Settings::new(url), credentials, &policy).expect("a client")
}

fn jwt(org: &LocalOrg) -> Credentials {
    Credentials::JwtBearer {
        client_id: org.client_id().into(),
        username: USER.into(),
        private_key: secret(keys::PRIVATE_KEY),
        audience: None,
    }
}

fn refresh(org: &LocalOrg, token: &str) -> Credentials {
    Credentials::RefreshToken {
        client_id: org.client_id().into(),
        client_secret: Some(secret(org.client_secret())),
        refresh_token: secret(token),
    }
}

fn password(org: &LocalOrg, password: &str, security_token: Option<&str>) -> Credentials {
    Credentials::Password {
        client_id: org.client_id().into(),
        client_secret: secret(org.client_secret()),
        username: USER.into(),
        password: secret(password),
        security_token: security_token.map(secret),
    }
}

fn logins(org: &LocalOrg) -> usize {
    org.calls().iter().filter(|call| call.path == "/services/oauth2/token").count()
}

async fn fault(client: &Salesforce) -> Fault {
    client.objects().await.expect_err("a fault")
}

fn in_use(client: &Salesforce) -> Option<String> {
    client.rotating_secret().map(|token| token.reveal().to_owned())
}

#[tokio::test]
async fn every_flow_logs_in_and_once_more_when_the_session_dies() {
    let org = org();
    let token = org.grant(org.client_id());
    let without_secret = Credentials::RefreshToken {
        client_id: org.client_id().into(),
        client_secret: None,
        refresh_token: secret(&token),
    };
    let of_my_domain = Credentials::JwtBearer {
        client_id: org.client_id().into(),
        username: USER.into(),
        private_key: secret(keys::PRIVATE_KEY),
        audience: Some(org.url().to_owned()),
    };
    for (number, credentials) in [
        jwt(&org),
        of_my_domain,
        refresh(&org, &token),
        without_secret,
        password(&org, PASSWORD, Some(SECURITY_TOKEN)),
        password(&org, PASSWORD, None),
    ]
    .into_iter()
    .enumerate()
    {
        org.clear_calls();
        let client = client(org.url(), credentials);
        let account = client.check().await.unwrap_or_else(|fault| panic!("{number}: {fault:?}"));
        assert_eq!((account.user.as_str(), account.id), (USER, org.org_id()));
        assert_eq!(logins(&org), 1, "{number}");
        org.expire_sessions();
        client.objects().await.unwrap_or_else(|fault| panic!("{number}: {fault:?}"));
        assert_eq!(logins(&org), 2, "{number}");
        // Without rotation there is nothing new to store.
        assert!(in_use(&client).is_none_or(|in_use| in_use == token));
    }
}

#[tokio::test]
async fn a_statement_is_signed_anew_by_the_clock_of_the_org() {
    let org = org();
    for skew in [3_600_000, -3_600_000, 30_000] {
        org.set_clock_skew_ms(skew);
        org.clear_calls();
        let client = client(org.url(), jwt(&org));
        client.objects().await.unwrap_or_else(|fault| panic!("{skew}: {fault:?}"));
        // An org that is behind finds nothing wrong with a statement from the future.
        let tries = if skew == 3_600_000 { 2 } else { 1 };
        assert_eq!(logins(&org), tries, "{skew}");
        // What was learnt is kept.
        org.expire_sessions();
        client.objects().await.unwrap_or_else(|fault| panic!("{skew}: {fault:?}"));
        assert_eq!(logins(&org), tries + 1, "{skew}");
    }
}

#[tokio::test]
async fn a_clock_is_corrected_once_and_not_for_ever() {
    // Each answer tells another time.
    let dates = ["Thu, 01 Jan 2026 00:00:00 GMT", "Fri, 01 Jan 2027 00:00:00 GMT"];
    let number = Mutex::new(0);
    let server = Server::start(move |_, _, _| {
        let mut number = number.lock().expect("no panic before");
        *number += 1;
        let body = r#"{"error":"invalid_grant","error_description":"expired authorization code"}"#;
        Reply::With(400, vec![("date", dates[*number % 2].into())], body.into())
    })
    .await;
    let org = org();
    let client = client(&format!("http://127.0.0.1:{}", server.port), jwt(&org));
    let fault = fault(&client).await;
    assert_eq!((fault.kind, server.logins()), (FaultKind::Credentials, 2));
    assert!(fault.hint.contains("clock"), "{fault:?}");
}

#[tokio::test]
async fn a_rotated_token_is_handed_over_and_used() {
    let org = org();
    org.rotate_refresh_tokens(true);
    let first = org.grant(org.client_id());
    let client = client(org.url(), refresh(&org, &first));
    client.objects().await.expect("objects");
    let second = in_use(&client).expect("a new one");
    assert_ne!(second, first);
    assert!(!org.revoke(&first), "it was good only once");
    org.expire_sessions();
    client.objects().await.expect("objects");
    let third = in_use(&client).expect("a new one");
    assert_ne!(third, second);
    // Whoever begins with it goes on.
    let next = self::client(org.url(), refresh(&org, &third));
    next.objects().await.expect("objects");
    let fourth = in_use(&next).expect("a new one");
    assert_ne!(fourth, third);
    // And so does the first one, once it is told.
    org.expire_sessions();
    client.take_rotating_secret(secret(&fourth));
    client.objects().await.expect("objects");
    assert!(in_use(&client).is_some_and(|token| token != fourth));
}

#[tokio::test]
async fn an_answer_with_a_token_that_was_lost_is_told_as_such() {
    let org = org();
    let token = org.grant(org.client_id());
    // Without rotation a lost answer is made good by the next.
    let lose =
        || org.fault(FaultRule::once(Trouble::CutAfter).method("POST").path("/services/oauth2"));
    lose();
    let steady = client(org.url(), refresh(&org, &token));
    assert_eq!(fault(&steady).await.kind, FaultKind::Transient);
    steady.objects().await.expect("objects");
    // With it the new token is gone.
    org.rotate_refresh_tokens(true);
    org.expire_sessions();
    lose();
    assert_eq!(fault(&steady).await.kind, FaultKind::Transient);
    let gone = fault(&steady).await;
    assert_eq!((gone.kind, gone.code.as_str()), (FaultKind::Credentials, "invalid_grant"));
    assert!(gone.hint.contains("answer to an earlier login was lost"), "{gone:?}");
    // One that was merely revoked is no such case.
    org.rotate_refresh_tokens(false);
    let token = org.grant(org.client_id());
    org.revoke(&token);
    let revoked = fault(&client(org.url(), refresh(&org, &token))).await;
    assert!(revoked.hint.contains("was revoked"), "{revoked:?}");
}

#[tokio::test]
async fn what_is_refused_says_what_to_do() {
    use FaultKind::{Configuration, Credentials as Who};
    let org = org();
    let expect = async |credentials, kind, hint: &str| {
        let fault = fault(&client(org.url(), credentials)).await;
        assert_eq!(fault.kind, kind, "{fault:?}");
        assert!(fault.hint.contains(hint), "{fault:?} has no {hint}");
    };
    org.set_approved(org.client_id(), false);
    expect(jwt(&org), Who, "pre-authorized").await;
    org.set_approved(org.client_id(), true);
    let Credentials::JwtBearer { client_id, username, private_key, .. } = jwt(&org) else {
        panic!("another flow")
    };
    let audience = Some("https://test.salesforce.com".to_owned());
    let other = Credentials::JwtBearer { client_id, username, private_key, audience };
    expect(other, Configuration, "jwt_audience").await;
    let stranger = include_str!("../../local_org/tests/org/certificate.pem");
    org.set_certificate(org.client_id(), stranger).expect("a certificate");
    expect(jwt(&org), Who, "certificate").await;
    org.set_client("bare", "s");
    let Credentials::JwtBearer { username, private_key, audience, .. } = jwt(&org) else {
        panic!("another flow")
    };
    let bare = Credentials::JwtBearer { client_id: "bare".into(), username, private_key, audience };
    expect(bare, Who, "certificate").await;
    expect(password(&org, "wrong", None), Who, "security_token is needed").await;
    expect(password(&org, "wrong", Some("x")), Who, "another one after each change").await;
    expect(password(&org, PASSWORD, Some("wrong")), Who, "security_token").await;
    let stranger = Credentials::RefreshToken {
        client_id: "nobody".into(),
        client_secret: None,
        refresh_token: secret("x"),
    };
    expect(stranger, Who, "consumer key").await;
    let off = |code: &str, message: &str| {
        let body = serde_json::json!({"error": code, "error_description": message}).to_string();
        Server::start(move |_, _, _| Reply::Json(400, body.clone()))
    };
    for (code, message, kind, hint) in [
        ("unsupported_grant_type", "grant type not supported", Configuration, "Switch this OAuth"),
        ("invalid_app_access", "user is not admin approved to access this app", Who, "Approve"),
        ("inactive_user", "user is inactive", Who, "Activate"),
        ("invalid_grant", "ip restricted or invalid login hours", Who, "IP ranges"),
    ] {
        let server = off(code, message).await;
        let url = format!("http://127.0.0.1:{}", server.port);
        let fault = fault(&client(&url, password(&org, PASSWORD, None))).await;
        assert_eq!((fault.kind, server.logins()), (kind, 1), "{fault:?}");
        assert!(fault.hint.contains(hint), "{fault:?}");
    }
}

#[tokio::test]
async fn no_secret_is_in_an_error() {
    let org = org();
    // A server that quotes all that it is sent, in full and up to where the client cuts it.
    let decoded = |body: &str| -> String {
        let pairs = scripted_form(body);
        pairs.into_iter().map(|(name, value)| format!("{name}={value};")).collect()
    };
    for filler in [0, 700, 940] {
        let server = Server::start(move |_, asked, _| {
            let said = format!("{}{} {}", "x".repeat(filler), decoded(&asked.body), asked.body);
            let body = serde_json::json!({"error": said, "error_description": said});
            Reply::Json(400, body.to_string())
        })
        .await;
        let url = format!("http://127.0.0.1:{}", server.port);
        let token = "5AepPlantedRefreshToken8e";
        for credentials in [
            jwt(&org),
            refresh(&org, token),
            password(&org, PASSWORD, Some(SECURITY_TOKEN)),
            password(&org, PASSWORD, None),
        ] {
            let fault = fault(&client(&url, credentials)).await;
            let said = format!("{fault:?}");
            assert!(said.contains("***") || filler > 0, "{said}");
            for planted in ["planted-password", SECURITY_TOKEN, token, org.client_secret(), "eyJh"]
            {
                assert!(!said.contains(planted), "{planted} in {said}");
            }
        }
    }
}

fn scripted_form(body: &str) -> Vec<(String, String)> {
    form_urlencoded::parse(body.as_bytes()).into_owned().collect()
}
