//! What every request passes before and after it is served: faults, session, quota, and the headers of
//! the answer.

use crate::ApiError;
use crate::calls::Call;
use crate::duplicates::Insistence;
use crate::events::Author;
use crate::exchange::{Answer, Request};
use crate::faults::Fault;
use crate::org::{Caller, Org};
use crate::rest::{self, oauth};
use crate::soap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How an answer goes out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Delivery {
    /// Not at all.
    pub(crate) cut: bool,
    /// Half of it.
    pub(crate) half: bool,
    /// In pieces, over this time.
    pub(crate) slow_ms: u64,
}

/// A request that has arrived, and the faults that it meets.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) number: u64,
    faults: Vec<Fault>,
}

impl Arrival {
    pub(crate) fn latency_ms(&self) -> u64 {
        let each = self.faults.iter().map(|fault| match fault {
            Fault::Latency { ms } => *ms,
            _ => 0,
        });
        each.sum()
    }
}

/// Whether requests of this path carry what nobody may read.
pub(crate) fn is_login(path: &str) -> bool {
    path.starts_with("/services/oauth2") || path.starts_with("/services/Soap/")
}

/// Notes the request down, and looks up what will go wrong.
pub(crate) fn arrive(org: &mut Org, request: &Request) -> Arrival {
    let login = is_login(&request.path);
    let faults = org.faults.of_request(request);
    let names: Vec<&str> = faults.iter().map(Fault::name).collect();
    let headers = request.headers.iter().filter(|(name, _)| name != "authorization").cloned();
    let body =
        if login { String::new() } else { String::from_utf8_lossy(&request.body).into_owned() };
    let number = org.calls.add(Call {
        number: 0,
        at: SystemTime::now(),
        arrived: Instant::now(),
        method: request.method.clone(),
        path: request.path.clone(),
        query: if login { Vec::new() } else { request.query.clone() },
        headers: headers.collect(),
        body,
        status: None,
        fault: (!names.is_empty()).then(|| names.join(",")),
        answered: None,
        counted: false,
    });
    Arrival { number, faults }
}

/// Serves the request as far as its faults let it.
pub(crate) fn pass(org: &mut Org, request: &Request, arrival: &Arrival) -> (Answer, Delivery) {
    org.settle(false);
    let mut delivery = Delivery::default();
    let mut instead = None;
    for fault in &arrival.faults {
        match fault {
            Fault::Latency { .. } | Fault::Record { .. } => {}
            Fault::Error { status, code, message } => {
                instead = Some(ApiError::new(*status, code, message).into());
            }
            Fault::Html503 => instead = Some(Answer::html(503, "Service Unavailable")),
            Fault::CutBefore => {
                delivery.cut = true;
                instead = Some(Answer::empty(503));
            }
            Fault::CutAfter => delivery.cut = true,
            Fault::CutDuring => delivery.half = true,
            Fault::ExpireSession => {
                if let Some(token) = bearer(request) {
                    org.sessions.close(token);
                }
            }
            Fault::Quota => instead = Some(limit_exceeded()),
            Fault::SlowBody { ms } => delivery.slow_ms = *ms,
            Fault::FailJob { message } => org.jobs.fail(request, message),
            Fault::ExpireJob => org.jobs.expire(request),
        }
    }
    let mut counted = false;
    let answer = instead.unwrap_or_else(|| serve(org, request, &mut counted));
    if answer.status < 400 {
        org.commit();
    } else {
        org.roll_back(0);
    }
    org.events.author = None;
    let answer = with_headers(org, request, answer, arrival.number);
    if let Some(call) = org.calls.get_mut(arrival.number) {
        call.status = (!delivery.cut).then_some(answer.status);
        call.answered = Some(Instant::now());
        call.counted = counted;
    }
    (answer, delivery)
}

fn serve(org: &mut Org, request: &Request, counted: &mut bool) -> Answer {
    // URI and headers together (REST API guide, Status Codes and Error Responses, 414 and 431).
    const LONGEST: usize = 16_384;
    let uri = request.target_length;
    let headers: usize = request.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    if uri > LONGEST {
        return Answer::html(414, "URI Too Long");
    }
    if uri + headers > LONGEST {
        return Answer::html(431, "Request Header Fields Too Large");
    }
    org.renew_quota();
    let path = request.path.trim_end_matches('/');
    match path {
        "/services/oauth2/token" => return oauth::token(org, request),
        "/services/oauth2/authorize" => return oauth::authorize(org, request),
        "/services/oauth2/introspect" => return oauth::introspect(org, request),
        "/services/oauth2/revoke" => return oauth::revoke(org, request),
        "/services/data" => return Answer::json(200, rest::versions()),
        _ if path.starts_with("/services/Soap/") => return soap::serve(org, request),
        _ => {}
    }
    let Some(user) = bearer(request).and_then(|token| org.sessions.enter(token)) else {
        let error = ApiError::new(401, "INVALID_SESSION_ID", "Session expired or invalid");
        return Answer::from(error).with("WWW-Authenticate", "Token");
    };
    if path == "/services/oauth2/userinfo" {
        return oauth::user_info(org, &user);
    }
    if path == oauth::identity_path(org, &user) {
        return oauth::identity(org, &user);
    }
    if org.used >= org.daily_limit {
        return limit_exceeded();
    }
    org.used += 1;
    *counted = true;
    org.events.author = Some(Author::of_request(&user, request));
    let caller = Caller {
        user,
        api: true,
        method: request.method.clone(),
        path: request.path.clone(),
        insistence: Insistence::of(request),
    };
    rest::serve(org, &caller, request)
}

fn bearer(request: &Request) -> Option<&str> {
    let value = request.header("authorization")?;
    let (scheme, token) = value.split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer") || scheme.eq_ignore_ascii_case("oauth"))
        .then(|| token.trim())
}

/// What is said when the calls of a day are used up.
pub(crate) const TOTAL_LIMIT: &str = "TotalRequests Limit exceeded.";

pub(crate) fn limit_exceeded() -> Answer {
    ApiError::new(403, "REQUEST_LIMIT_EXCEEDED", TOTAL_LIMIT).into()
}

/// The headers that real answers have.
fn with_headers(org: &mut Org, request: &Request, answer: Answer, number: u64) -> Answer {
    let id = format!("{number:032x}");
    let now = UNIX_EPOCH + Duration::from_millis(org.clock.now().unsigned_abs());
    let answer = answer
        .with("Date", httpdate::fmt_http_date(now))
        .with("X-SFDC-Request-Id", id.clone())
        .with("X-Request-Id", id)
        .with("Cache-Control", "no-cache,must-revalidate,max-age=0,no-store,private")
        .with("Vary", "Accept-Encoding")
        .with("X-Content-Type-Options", "nosniff")
        .with("X-Robots-Tag", "none")
        .with("Server", "sfdcedge");
    if request.path.starts_with("/services/data/") {
        let usage = format!("api-usage={}/{}", org.used, org.daily_limit);
        answer.with("Sforce-Limit-Info", usage)
    } else {
        answer
    }
}
