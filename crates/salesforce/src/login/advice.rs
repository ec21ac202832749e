//! What has to be done in the org when it refuses a login (Salesforce help, OAuth 2.0 Flow Errors).

use connector::Fault;

use super::Flow;

/// What to do about a refusal, where the flow matters.
pub(super) fn hint(flow: &Flow, fault: &Fault) -> Option<String> {
    let says = |part: &str| fault.message.to_ascii_lowercase().contains(part);
    let hint = match (flow, fault.code.as_str()) {
        (_, "inactive_user") => "Activate the user in the org, or name another one.",
        (_, "inactive_org") => {
            "The org is locked, expired or closed. Whoever administers it can say why."
        }
        (_, "invalid_grant") if says("ip restricted") || says("login hours") => {
            "The profile of the user allows no logins from this address or at this hour: mend its login IP ranges and login hours, or relax IP restrictions in the app's policies."
        }
        (_, "invalid_client_id") => {
            "Check that client_id is the consumer key of an app of this org. A new app is known everywhere after ten minutes."
        }
        (_, "unsupported_grant_type") => {
            "Switch this OAuth flow on, in the settings of the app and, for a password, in the org's OAuth and OpenID Connect settings."
        }
        (_, "invalid_app_access") => NOT_APPROVED,
        (_, "invalid_grant") if says("admin approved") || says("approved this consumer") => {
            NOT_APPROVED
        }
        (Flow::JwtBearer(_), "invalid_client" | "invalid_assertion") => CERTIFICATE,
        (Flow::JwtBearer(_), "invalid_grant") if says("audience") => {
            "Set jwt_audience of the connection: https://login.salesforce.com, for a sandbox https://test.salesforce.com, or the org's My Domain."
        }
        (Flow::JwtBearer(_), "invalid_grant") if says("expired") || says("validity") => {
            "The statement had run out when it arrived. Check that the clock of this machine is right."
        }
        (Flow::JwtBearer(_), "invalid_grant") if says("assertion") => CERTIFICATE,
        (Flow::RefreshToken { tokens, .. }, "invalid_grant") if tokens.is_lost() => {
            "The answer to an earlier login was lost. If the app rotates refresh tokens, the new one was in it, and the old one is good no more: authorize the app again, and store the new refresh token with sync.set_secret."
        }
        (Flow::RefreshToken { .. }, "invalid_grant") => {
            "The refresh token has expired, was revoked, or was used before: by another program, or by this server just before a crash. Authorize the app again, and store the new refresh token with sync.set_secret."
        }
        (Flow::RefreshToken { .. }, "invalid_request") if says("client_secret") => {
            "The app wants its secret with a refresh token: store client_secret too."
        }
        (Flow::Password { password, .. }, "invalid_grant" | "LOGIN_MUST_USE_SECURITY_TOKEN") => {
            match password.security_token {
                None => {
                    "Check username and password. Away from the addresses that the org trusts a security_token is needed too. The flow has to be allowed in the org's OAuth and OpenID Connect settings."
                }
                Some(_) => {
                    "Check username, password and security_token, which is another one after each change of the password. The flow has to be allowed in the org's OAuth and OpenID Connect settings."
                }
            }
        }
        _ => return None,
    };
    Some(hint.to_owned())
}

const NOT_APPROVED: &str = "Approve the user for the app: in the app's policies, let users be pre-authorized by an administrator, and add a profile or a permission set of the user.";

const CERTIFICATE: &str = "The app has no certificate, or not the one of this private key. Upload the certificate that belongs to the key, and let the app use digital signatures.";
