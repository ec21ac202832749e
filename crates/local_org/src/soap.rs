//! Logging in and out by SOAP, which older clients do before they go on by REST (SOAP API guide, login()), and what is
//! done to records by SOAP alone. All other calls of that API are refused and counted.

mod records;

use crate::exchange::{Answer, Body, Request};
use crate::id;
use crate::org::Org;
use crate::rest::{NEWEST, OLDEST};
use crate::session::Grant;
use roxmltree::{Document, Node};

/// From this version on there is no login() any more.
const WITHOUT_LOGIN: u32 = 65;

/// `POST /services/Soap/u/NN.N` and `/c/NN.N`, the partner and the enterprise API.
pub(crate) fn serve(org: &mut Org, request: &Request) -> Answer {
    let path = request.segments();
    let api = path.get(2).map(String::as_str).unwrap_or_default();
    let version = path.get(3).and_then(|v| v.split('.').next()?.parse::<u32>().ok());
    if request.method != "POST" || !matches!(api, "u" | "c") {
        org.count_unserved(format!("{} Soap/{api}", request.method));
        return fault("UNKNOWN_EXCEPTION", "This part of the SOAP API is not served");
    }
    let Some(version) = version.filter(|v| (OLDEST..=NEWEST).contains(v)) else {
        return fault("UNSUPPORTED_API_VERSION", "Invalid Api version specified on URL");
    };
    let text = String::from_utf8_lossy(&request.body);
    let document = match Document::parse(&text) {
        Ok(document) => document,
        Err(error) => return fault("UNKNOWN_EXCEPTION", &format!("Error parsing XML: {error}")),
    };
    let call = document
        .descendants()
        .find(|node| node.tag_name().name() == "Body")
        .and_then(|body| body.first_element_child());
    if let Some(answer) =
        call.and_then(|call| records::serve(org, request, &document, call, version))
    {
        return answer;
    }
    match call.map(|call| (call.tag_name().name(), call)) {
        Some(("login", _)) if version >= WITHOUT_LOGIN => {
            fault("UNSUPPORTED_API_VERSION", "login() is not supported in this version of the API")
        }
        Some(("login", call)) => login(org, call, api, version),
        Some(("logout", _)) => logout(org, &document),
        other => {
            let name = other.map_or("nothing", |(name, _)| name);
            org.count_unserved(format!("SOAP {name}"));
            fault("UNKNOWN_EXCEPTION", &format!("Operation {name} is not served"))
        }
    }
}

/// The text of the first element of this name.
fn text<'a>(node: Node<'a, '_>, name: &str) -> Option<&'a str> {
    node.descendants().find(|n| n.tag_name().name() == name)?.text()
}

fn login(org: &mut Org, call: Node<'_, '_>, api: &str, version: u32) -> Answer {
    let (name, password) = (text(call, "username"), text(call, "password"));
    let user =
        org.user_with_password(name.unwrap_or_default().trim(), password.unwrap_or_default());
    let Some(user) = user else {
        let message = "Invalid username, password, security token; or user locked out.";
        return fault("INVALID_LOGIN", message);
    };
    let issued = org.clock.now();
    let grant = Grant { user: user.clone(), client: String::new() };
    let token = org.sessions.open(&org.org_id, &grant, None, None, issued);
    let of_user = |field: &str| {
        escape(org.row(&user).map(|row| row.text(field).to_owned()).unwrap_or_default())
    };
    let account = org.object("Account");
    let persons = account.is_some_and(|o| o.field("IsPersonAccount").is_some());
    let (url, short) = (&org.url, id::short(&org.org_id));
    // Clients are known that find the elements by their place, so the order is that of a real answer.
    let elements = [
        ("metadataServerUrl", format!("{url}/services/Soap/m/{version}.0/{short}")),
        ("passwordExpired", "false".into()),
        ("sandbox", "false".into()),
        ("serverUrl", format!("{url}/services/Soap/{api}/{version}.0/{short}")),
        ("sessionId", token),
        ("userId", user.clone()),
    ];
    let info = [
        ("accessibilityMode", "false".into()),
        ("chatterExternal", "false".into()),
        ("currencySymbol", "$".into()),
        ("orgAttachmentFileSizeLimit", "5242880".into()),
        ("orgDefaultCurrencyIsoCode", "USD".into()),
        ("orgDefaultCurrencyLocale", "en_US".into()),
        ("orgDisallowHtmlAttachments", "false".into()),
        ("orgHasPersonAccounts", persons.to_string()),
        ("organizationId", org.org_id.clone()),
        ("organizationMultiCurrency", "false".into()),
        ("organizationName", "Local Org".into()),
        ("sessionSecondsValid", org.sessions.lifetime.as_secs().to_string()),
        ("userEmail", of_user("Email")),
        ("userFullName", of_user("Name")),
        ("userId", user.clone()),
        ("userLanguage", "en_US".into()),
        ("userLocale", "en_US".into()),
        ("userName", of_user("Username")),
        ("userTimeZone", "Etc/UTC".into()),
        ("userType", "Standard".into()),
    ];
    let told = written(&elements);
    let body = format!(
        "<loginResponse><result>{told}<userInfo>{}</userInfo></result></loginResponse>",
        written(&info)
    );
    let namespace = match api {
        "u" => "urn:partner.soap.sforce.com",
        _ => "urn:enterprise.soap.sforce.com",
    };
    envelope(200, &format!(r#"xmlns="{namespace}""#), &body)
}

/// The token that the header of a call has.
fn session_of<'a>(document: &'a Document<'_>) -> &'a str {
    text(document.root_element(), "sessionId").unwrap_or_default().trim()
}

fn logout(org: &mut Org, document: &Document<'_>) -> Answer {
    if !org.sessions.close(session_of(document)) {
        return fault("INVALID_SESSION_ID", "Invalid Session ID found in SessionHeader");
    }
    envelope(200, r#"xmlns="urn:partner.soap.sforce.com""#, "<logoutResponse/>")
}

fn written(elements: &[(&str, String)]) -> String {
    elements.iter().map(|(name, text)| format!("<{name}>{text}</{name}>")).collect()
}

fn fault(code: &str, message: &str) -> Answer {
    let message = escape(message.to_owned());
    let kind = if code == "INVALID_LOGIN" { "LoginFault" } else { "UnexpectedErrorFault" };
    let body = format!(
        r#"<soapenv:Fault><faultcode>sf:{code}</faultcode><faultstring>{code}: {message}</faultstring><detail><sf:{kind} xsi:type="sf:{kind}"><sf:exceptionCode>{code}</sf:exceptionCode><sf:exceptionMessage>{message}</sf:exceptionMessage></sf:{kind}></detail></soapenv:Fault>"#
    );
    envelope(500, r#"xmlns:sf="urn:fault.partner.soap.sforce.com""#, &body)
}

fn envelope(status: u16, namespace: &str, body: &str) -> Answer {
    let text = format!(
        r#"<?xml version="1.0" encoding="UTF-8"?><soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" {namespace}><soapenv:Body>{body}</soapenv:Body></soapenv:Envelope>"#
    );
    Answer { status, headers: Vec::new(), body: Body::Xml(text) }
}

fn escape(text: String) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
