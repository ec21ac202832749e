//! Who is logged in.

use crate::exchange::Answer;
use crate::org::Org;
use serde_json::{Value, json};

/// The path of a user's identity; the URL of it is told at each login, and clients take the ids out of it.
pub(crate) fn identity_path(org: &Org, user: &str) -> String {
    format!("/id/{}/{user}", org.org_id)
}

pub(super) fn identity_url(org: &Org, user: &str) -> String {
    format!("{}{}", org.url, identity_path(org, user))
}

/// Where the parts of the API are; clients put the version in.
fn urls(org: &Org) -> Value {
    let (url, short) = (&org.url, crate::id::short(&org.org_id));
    let data = format!("{url}/services/data/v{{version}}");
    json!({
        "enterprise": format!("{url}/services/Soap/c/{{version}}/{short}"),
        "metadata": format!("{url}/services/Soap/m/{{version}}/{short}"),
        "partner": format!("{url}/services/Soap/u/{{version}}/{short}"),
        "rest": format!("{data}/"),
        "sobjects": format!("{data}/sobjects/"),
        "search": format!("{data}/search/"),
        "query": format!("{data}/query/"),
        "recent": format!("{data}/recent/"),
        "custom_domain": url,
    })
}

/// `GET /services/oauth2/userinfo`.
pub(crate) fn user_info(org: &Org, user: &str) -> Answer {
    let row = org.row(user);
    let text = |field: &str| row.map_or(Value::Null, |row| row.get(field).clone());
    Answer::json(
        200,
        json!({
            "sub": identity_url(org, user),
            "user_id": user,
            "organization_id": org.org_id,
            "preferred_username": text("Username"),
            "nickname": text("Alias"),
            "name": text("Name"),
            "email": text("Email"),
            "email_verified": true,
            "given_name": text("FirstName"),
            "family_name": text("LastName"),
            "zoneinfo": "Etc/UTC",
            "urls": urls(org),
            "active": org.is_active(user),
            "user_type": "STANDARD",
            "language": "en_US",
            "locale": "en_US",
            "utcOffset": 0,
            "updated_at": text("SystemModstamp"),
        }),
    )
}

/// What the identity URL of a session leads to.
pub(crate) fn identity(org: &Org, user: &str) -> Answer {
    let row = org.row(user);
    let text = |field: &str| row.map_or(Value::Null, |row| row.get(field).clone());
    Answer::json(
        200,
        json!({
            "id": identity_url(org, user),
            "asserted_user": true,
            "user_id": user,
            "organization_id": org.org_id,
            "username": text("Username"),
            "nick_name": text("Alias"),
            "display_name": text("Name"),
            "email": text("Email"),
            "email_verified": true,
            "first_name": text("FirstName"),
            "last_name": text("LastName"),
            "timezone": "Etc/UTC",
            "urls": urls(org),
            "active": org.is_active(user),
            "user_type": "STANDARD",
            "language": "en_US",
            "locale": "en_US",
            "utcOffset": 0,
            "last_modified_date": text("LastModifiedDate"),
            "is_app_installed": true,
        }),
    )
}
