use crate::client::Client;
use local_org::Options;
use serde_json::{Value, json};

/// Signed with the key of `certificate.pem`, which nobody has kept; good until the year 3000.
const ASSERTION: &str = "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJzaWduZWQiLCJzdWIiOiJpbnRlZ3JhdGlvbkBleGFtcGxlLmNvbSIsImF1ZCI6Imh0dHBzOi8vbG9naW4uc2FsZXNmb3JjZS5jb20iLCJleHAiOjMyNTAzNjgwMDAwfQ.ghe36DyHdV-32STfCuMUmubzJL00w80xykelgswUE82SWKee9s0NhyKdTkJlCNb9TCcBxULP4Y09zXuRXDS2vpsinG5ilxTDg1HFaD-083Pyg3MPcouqXPz7BO8_xwLGlH3LK5brH8m5D9qK9ooZiv9bO7kGDLdFV7b9SiNhBNPyWiwEfrqqjgzQDckkg_1zBt8Yrx3XjB3gjf7t33oyLfg9CDsXGo5mVJbMEnSe37LurmBzRs4zg74baHvzBFkBIlORxVs_6YO4mAShoL3HpWmO57JDLVoYpoesZb0s4FBmF67Hk6wRvgox5fZ5IxveM_EQQGqHGZPyXET3fASo5w";
/// The same with another algorithm.
const OF_RS512: &str = "eyJhbGciOiJSUzUxMiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJzaWduZWQiLCJzdWIiOiJpbnRlZ3JhdGlvbkBleGFtcGxlLmNvbSIsImF1ZCI6Imh0dHBzOi8vbG9naW4uc2FsZXNmb3JjZS5jb20iLCJleHAiOjMyNTAzNjgwMDAwfQ.eg4WEtCl8tcsUfghBC8ykCmOClCl2bqrQBX2FutZAGbYdoVuGjSrcDojkGupZPpFuzCxU74QAGH3NzKDFICYiZN3MckXl5RHxeOMc0YKndzj39YkjwbiG9A1VSsjBLkHcM9ZnHl140GY711JslhstCxYNDtjh7ICMbRh6Zd46dx6iBg76HUjcKM7GQgEUaDcZorVFVNOTRhxAtbaW-l69PsWkcV_srgWeEi8KXpincdww-IRhxnUl5ivNSVEsy836GgrtkPX6YL0NuLqnnJWPbDFLbeEdcWFvm2LoSGYfg7hxb8XF3aFN5lUaon_QCfGeuPR588yasb7OJ2qG5bVrg";
/// The same, expired in 2023; the moment is a text.
const EXPIRED: &str = "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJzaWduZWQiLCJzdWIiOiJpbnRlZ3JhdGlvbkBleGFtcGxlLmNvbSIsImF1ZCI6Imh0dHBzOi8vbG9naW4uc2FsZXNmb3JjZS5jb20iLCJleHAiOiIxNzAwMDAwMDAwIn0.kAMgyqpEGsXpdhAsit_Il2QoXh98_amz-nIJVBrwGloowQzyfO7xHPXsh5B1jzySiW6fSIgpvRoPeguU86EYFNweYql-oE4QOs7F7rzL4ZkCIyZz-lwsO2X1kCQYwmr6JBwzyFMgJobgc47NM--4Jh0H7LV2C_wE_owJ_LpMPjbQkg7HHutDQhJcd66gc--zvQuAO7t3ZnpoajgNuaMW_d7ns4t2XklwjVtJOblbsufiIkS-MhBHfjG0LjJT3YQ2B-M6pyI0b-JAKhZ3egbjC0UljRUFiXASa6VQP7C9zqbep5RrF3AiFvOzYt6Osm6MaHM_SF8TlDNF-qMOOPlGwA";

#[test]
fn an_assertion_is_checked_to_its_last_bit() {
    let client = Client::start();
    let bearer = |assertion: &str| {
        let grant = "urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer";
        let reply = client.token(&format!("grant_type={grant}&assertion={assertion}")).json();
        match reply["error_description"].as_str() {
            Some(description) => description.to_owned(),
            None => reply["access_token"].as_str().map(|_| "a token".into()).unwrap_or_default(),
        }
    };
    assert_eq!(bearer(ASSERTION), "client identifier invalid");
    client.org.set_client("signed", "s");
    assert_eq!(bearer(ASSERTION), "invalid client credentials");
    assert!(client.org.set_certificate("signed", "-----BEGIN NOTHING-----").is_err());
    client.org.set_certificate("signed", include_str!("certificate.pem")).expect("a certificate");
    assert_eq!(bearer(ASSERTION), "a token");
    assert_eq!(bearer(EXPIRED), "expired authorization code");
    // Neither the claims nor the signature can be others.
    let (signed, signature) = ASSERTION.rsplit_once('.').expect("three parts");
    let (header, claims) = signed.split_once('.').expect("three parts");
    let (_, other_claims) =
        EXPIRED.rsplit_once('.').and_then(|(s, _)| s.split_once('.')).expect("three parts");
    let turned = if signature.starts_with('A') { 'B' } else { 'A' };
    for wrong in [
        format!("{header}.{other_claims}.{signature}"),
        format!("{signed}.{turned}{}", &signature[1..]),
        format!("{signed}."),
        format!("{header}.{claims}"),
        OF_RS512.into(),
        "..".into(),
        "a.b.c".into(),
    ] {
        assert_eq!(bearer(&wrong), "invalid assertion", "{wrong}");
    }
}

#[test]
fn a_login_gives_a_session() {
    let client = Client::start();
    let form =
        "grant_type=client_credentials&client_id=local-org-client&client_secret=local-org-secret";
    let login = client.token(form).json();
    assert_eq!(login["instance_url"], client.org.url());
    assert_eq!(login["token_type"], "Bearer");
    let token = login["access_token"].as_str().unwrap_or_default();
    assert!(token.starts_with(&format!("{}!AQ", &client.org.org_id()[..15])), "{token}");
    assert!(login["issued_at"].as_str().is_some_and(|at| at.len() == 13));
    assert!(login["id"].as_str().is_some_and(|id| id.ends_with(&client.org.users().0)));
}

#[test]
fn a_login_can_be_by_header() {
    let client = Client::start();
    let headers = [
        ("Authorization", "Basic bG9jYWwtb3JnLWNsaWVudDpsb2NhbC1vcmctc2VjcmV0"),
        ("Content-Type", "application/x-www-form-urlencoded"),
    ];
    let body = b"grant_type=client_credentials";
    let reply = client.send("POST", "/services/oauth2/token", &headers, body).expect("an answer");
    assert_eq!(reply.status, 200, "{}", reply.text);
}

#[test]
fn wrong_logins_are_refused() {
    let client = Client::start();
    for (form, error) in [
        ("", "invalid_request"),
        ("grant_type=client_credentials", "invalid_request"),
        ("grant_type=client_credentials&client_id=x&client_secret=y", "invalid_client_id"),
        (
            "grant_type=client_credentials&client_id=local-org-client&client_secret=y",
            "invalid_client",
        ),
        ("grant_type=client_credentials&client_id=local-org-client", "invalid_request"),
        ("grant_type=magic&username=a", "unsupported_grant_type"),
    ] {
        let reply = client.token(form);
        assert_eq!((reply.status, &reply.json()["error"]), (400, &json!(error)), "{form}");
    }
    assert_eq!(client.org.unserved().get("oauth magic"), Some(&1));
}

#[test]
fn a_secret_can_be_rotated_and_clients_can_be_several() {
    let client = Client::start();
    client.org.set_client("local-org-client", "new");
    client.org.set_client("second", "s");
    let log_in = |id: &str, secret: &str| {
        let form = format!("grant_type=client_credentials&client_id={id}&client_secret={secret}");
        client.token(&form).status
    };
    assert_eq!(log_in("local-org-client", "local-org-secret"), 400);
    assert_eq!(log_in("local-org-client", "new"), 200);
    assert_eq!(log_in("second", "s"), 200);
    client.org.remove_client("second");
    assert_eq!(log_in("second", "s"), 400);
}

#[test]
fn a_dead_session_is_told_as_such() {
    let mut client = Client::start();
    assert_eq!(client.get("/limits").status, 200);
    client.org.expire_sessions();
    let reply = client.get("/limits");
    assert_eq!((reply.status, reply.code().as_str()), (401, "INVALID_SESSION_ID"));
    assert_eq!(reply.headers["www-authenticate"], "Token");
    client.log_in();
    assert_eq!(client.get("/limits").status, 200);
    let reply = client.send("GET", "/services/data/v66.0/limits", &[], b"").expect("an answer");
    assert_eq!(reply.status, 401);
}

#[test]
fn who_is_logged_in_can_be_asked() {
    let client = Client::start();
    let bearer = format!("Bearer {}", client.token);
    let headers = [("Authorization", bearer.as_str())];
    let info =
        client.send("GET", "/services/oauth2/userinfo", &headers, b"").expect("an answer").json();
    assert_eq!(info["user_id"], client.org.users().0);
    assert_eq!(info["organization_id"], client.org.org_id());
    let url = info["sub"].as_str().unwrap_or_default().replace(client.org.url(), "");
    let identity = client.send("GET", &url, &headers, b"").expect("an answer").json();
    assert_eq!(identity["username"], "integration@example.com");
}

#[test]
fn versions_are_listed_without_a_session_and_not_counted() {
    let client = Client::start();
    let reply = client.send("GET", "/services/data/", &[], b"").expect("an answer");
    let versions = reply.json();
    let labels = |n: usize| versions[n]["label"].as_str().unwrap_or_default().to_owned();
    assert_eq!((labels(0), labels(35)), ("Summer '14".into(), "Spring '26".into()));
    assert_eq!(client.org.usage().0, 0);
    let bearer = format!("Bearer {}", client.token);
    let headers = [("Authorization", bearer.as_str())];
    for (version, status) in [("v30.0", 410), ("v67.0", 404), ("latest", 404), ("v59.0", 200)] {
        let target = format!("/services/data/{version}/limits");
        assert_eq!(client.send("GET", &target, &headers, b"").expect("an answer").status, status);
    }
}

#[test]
fn the_day_s_calls_come_to_an_end() {
    let client = Client::with(Options { daily_limit: 3, ..Options::default() });
    let reply = client.get("/limits");
    assert_eq!(reply.headers["sforce-limit-info"], "api-usage=1/3");
    assert_eq!(reply.json()["DailyApiRequests"], json!({"Max": 3, "Remaining": 2}));
    let part = |n: u32| json!({"method": "GET", "url": "/services/data/v66.0/limits", "referenceId": format!("r{n}")});
    let parts: Vec<Value> = (0..20).map(part).collect();
    let reply = client.post("/composite", &json!({"compositeRequest": parts}));
    assert_eq!((reply.status, client.org.usage().0), (200, 2));
    assert_eq!(client.get("/limits").status, 200);
    let reply = client.get("/limits");
    assert_eq!((reply.status, reply.code().as_str()), (403, "REQUEST_LIMIT_EXCEEDED"));
    client.org.set_usage(0, 3);
    assert_eq!(client.get("/limits").status, 200);
}
