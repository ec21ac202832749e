//! What is told of an org to a person who looks.

mod against;
mod scripted;

use connector::{Connector, FaultKind, Remark};
use local_org::Fault as Trouble;
use salesforce::{Credentials, Salesforce, Settings};
use scripted::{Reply, Server};

fn remark<'a>(remarks: &'a [Remark], what: &str) -> &'a Remark {
    remarks.iter().find(|remark| remark.what == what).expect("a remark")
}

#[tokio::test]
async fn org_user_and_version_are_told() {
    let org = against::org();
    let client = against::client(&org);
    let before = client.calls();
    let remarks = client.survey().await.expect("remarks");
    assert!(remarks.iter().all(|remark| remark.ok), "{remarks:?}");
    let told = &remark(&remarks, "org").detail;
    for part in ["00D", "Local Org, Developer Edition, no sandbox, instance LOC0, at 127.0.0.1:"] {
        assert!(told.contains(part), "{told}");
    }
    let user = &remark(&remarks, "user").detail;
    assert!(user.contains("integration@example.com") && user.contains(&org.users().0), "{user}");
    assert_eq!(remark(&remarks, "API version").detail, "62.0; the org serves 31.0 to 66.0");
    assert_eq!(client.calls() - before, 1);
    assert_eq!(org.usage().0, 1);
}

/// Not every user may read Organization.
#[tokio::test]
async fn what_the_user_may_not_see_is_said_to_be_so() {
    let org = against::org();
    org.set_access("Organization", "IsSandbox", false, false).expect("a field");
    let remarks = against::client(&org).survey().await.expect("remarks");
    let told = &remark(&remarks, "org").detail;
    assert!(told.starts_with(&org.org_id()) && told.contains("may not see"), "{told}");
}

#[tokio::test]
async fn a_version_that_is_not_served_is_named_with_those_that_are() {
    let org = against::org();
    let allowed_hosts = org.url().trim_start_matches("http://");
    let rules = egress::Rules { allowed_hosts, ..egress::Rules::default() };
    let policy = egress::Policy::parse(&rules).expect("a policy");
    for version in ["30.0", "67.0"] {
        let settings = Settings { version: version.into(), ..Settings::new(org.url()) };
        let credentials = Credentials::ClientCredentials {
            client_id: org.client_id().to_owned(),
            client_secret: connector::Secret::new(org.client_secret().to_owned()),
        };
        let client = Salesforce::new(&settings, credentials, &policy).expect("a client");
        let remarks = client.survey().await.expect("remarks");
        let [told] = remarks.as_slice() else { panic!("{remarks:?}") };
        assert!(!told.ok && told.remedy.contains("api_version"), "{told:?}");
        assert_eq!(told.detail, format!("{version} is not served; the org serves 31.0 to 66.0"));
    }
}

#[tokio::test]
async fn that_the_api_is_closed_to_the_user_is_an_error_with_a_remedy() {
    let org = against::org();
    let closed = Trouble::Error {
        status: 403,
        code: "API_DISABLED_FOR_ORG".into(),
        message: "API is not enabled for this Organization or Partner".into(),
    };
    org.fault(local_org::FaultRule::always(closed).path("/services/data/v"));
    let fault = against::client(&org).check().await.expect_err("a fault");
    assert_eq!(fault.kind, FaultKind::Configuration);
    assert!(fault.hint.contains("API Enabled"), "{fault:?}");
    assert!(against::client(&org).survey().await.is_err());
}

/// The host tells of a sandbox too; nobody is asked there in a test.
#[tokio::test]
async fn an_answer_that_makes_no_sense_is_no_remark() {
    let server = Server::with_login(|_, _| Reply::Json(200, "{}".into())).await;
    let remarks = server.client().survey().await.expect("remarks");
    assert!(!remarks[0].ok && remarks[0].detail.contains("names no version"), "{remarks:?}");
}
