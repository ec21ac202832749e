//! What goes wrong on demand.

use crate::exchange::Request;
use crate::{ApiError, errors};
use serde::{Deserialize, Serialize};

/// Which requests a fault is for. What is left open matches all.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Match {
    pub method: Option<String>,
    /// A part of the path; logins are under `/services/oauth2`.
    pub path: Option<String>,
    /// The object that the request is about, by its path, its query or its first record.
    pub object: Option<String>,
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Fault {
    /// The request waits before it is served.
    Latency { ms: u64 },
    /// Nothing is done; the answer is this error.
    Error { status: u16, code: String, message: String },
    /// Nothing is done; the answer is a page in HTML with status 503.
    Html503,
    /// Nothing is done; the connection is dropped without an answer.
    CutBefore,
    /// All is done; the connection is dropped without an answer.
    CutAfter,
    /// All is done; the connection is dropped in the middle of the answer.
    CutDuring,
    /// The session of the request ends before it is looked at.
    ExpireSession,
    /// The daily limit is used up: 403 REQUEST_LIMIT_EXCEEDED.
    Quota,
    /// All is done; the answer takes this long to arrive, in several pieces.
    SlowBody { ms: u64 },
    /// A record of the request is refused; `times` counts records.
    Record { code: String, message: String },
    /// The bulk job that the request names fails with this message.
    FailJob { message: String },
    /// The results of the bulk job that the request names are gone.
    ExpireJob,
}

impl Fault {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Latency { .. } => "latency",
            Self::Error { .. } => "error",
            Self::Html503 => "html503",
            Self::CutBefore => "cut_before",
            Self::CutAfter => "cut_after",
            Self::CutDuring => "cut_during",
            Self::ExpireSession => "expire_session",
            Self::Quota => "quota",
            Self::SlowBody { .. } => "slow_body",
            Self::Record { .. } => "record",
            Self::FailJob { .. } => "fail_job",
            Self::ExpireJob => "expire_job",
        }
    }
}

/// A fault with the requests that it is for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultRule {
    #[serde(default, rename = "match")]
    pub matches: Match,
    /// How often it strikes; nothing: until it is cleared.
    #[serde(default)]
    pub times: Option<u64>,
    /// How many requests that match are let through first.
    #[serde(default)]
    pub skip: u64,
    /// How likely it strikes where it could.
    #[serde(default = "certain")]
    pub probability: f64,
    pub fault: Fault,
}

fn certain() -> f64 {
    1.0
}

impl FaultRule {
    /// Strikes once with the error of this code, with the words that Salesforce has for it: a request, or a record that
    /// is written. Nothing where the code is none of those that the control endpoint lists under `/control/errors`.
    pub fn named(code: &str) -> Option<Self> {
        errors::named(code).map(Self::once)
    }

    /// The codes of all errors that can be ordered by name, and whether it is a record that meets them.
    pub fn names() -> impl Iterator<Item = (&'static str, bool)> {
        errors::codes()
    }

    /// Strikes the next request, once.
    pub fn once(fault: Fault) -> Self {
        Self { times: Some(1), ..Self::always(fault) }
    }

    /// Strikes every request until it is cleared.
    pub fn always(fault: Fault) -> Self {
        Self { matches: Match::default(), times: None, skip: 0, probability: 1.0, fault }
    }

    #[must_use]
    pub fn times(mut self, times: u64) -> Self {
        self.times = Some(times);
        self
    }

    #[must_use]
    pub fn method(mut self, method: &str) -> Self {
        self.matches.method = Some(method.to_owned());
        self
    }

    #[must_use]
    pub fn path(mut self, part: &str) -> Self {
        self.matches.path = Some(part.to_owned());
        self
    }

    #[must_use]
    pub fn object(mut self, object: &str) -> Self {
        self.matches.object = Some(object.to_owned());
        self
    }
}

/// Faults at random, the same for the same seed and the same order of requests. Logins are spared unless `logins`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Campaign {
    pub seed: u64,
    pub logins: bool,
    /// How likely each class is, from 0 to 1, and the longest latency in milliseconds.
    pub latency: f64,
    pub latency_ms: u64,
    pub error: f64,
    pub html503: f64,
    pub cut_before: f64,
    pub cut_after: f64,
    pub cut_during: f64,
    pub expire_session: f64,
    /// Of each record: UNABLE_TO_LOCK_ROW.
    pub record: f64,
}

#[derive(Debug)]
struct Ordered {
    number: u64,
    struck: u64,
    rule: FaultRule,
}

#[derive(Debug, Default)]
pub(crate) struct Faults {
    rules: Vec<Ordered>,
    last: u64,
    campaign: Option<Campaign>,
    random: Random,
}

impl Faults {
    pub(crate) fn add(&mut self, rule: FaultRule) -> u64 {
        self.last += 1;
        self.rules.push(Ordered { number: self.last, struck: 0, rule });
        self.last
    }

    /// One, or all of them.
    pub(crate) fn clear(&mut self, number: Option<u64>) {
        self.rules.retain(|ordered| number.is_some_and(|n| n != ordered.number));
    }

    pub(crate) fn campaign(&mut self, campaign: Option<Campaign>) {
        self.random = Random(campaign.as_ref().map_or(0, |c| c.seed));
        self.campaign = campaign;
    }

    /// What is ordered, and how often it has struck.
    pub(crate) fn list(&self) -> impl Iterator<Item = (u64, u64, &FaultRule)> {
        self.rules.iter().map(|ordered| (ordered.number, ordered.struck, &ordered.rule))
    }

    /// All faults that strike this request: each latency, and one of the others.
    pub(crate) fn of_request(&mut self, request: &Request) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut objects = None;
        let mut fatal = false;
        for ordered in &mut self.rules {
            let rule = &mut ordered.rule;
            let slow = matches!(rule.fault, Fault::Latency { .. });
            if matches!(rule.fault, Fault::Record { .. }) || (fatal && !slow) {
                continue;
            }
            let about: &[String] = match &rule.matches.object {
                Some(_) => objects.get_or_insert_with(|| objects_of(request)),
                None => &[],
            };
            if !rule.strikes(&request.method, &request.path, about, &mut self.random) {
                continue;
            }
            ordered.struck += 1;
            fatal |= !slow;
            faults.push(rule.fault.clone());
        }
        let login = crate::gate::is_login(&request.path);
        if let Some(campaign) = self.campaign.clone().filter(|c| c.logins || !login) {
            faults.extend(self.random_faults(&campaign, fatal));
        }
        faults
    }

    fn random_faults(&mut self, campaign: &Campaign, fatal: bool) -> Vec<Fault> {
        let mut faults = Vec::new();
        if self.random.chance(campaign.latency) {
            faults.push(Fault::Latency {
                ms: self.random.below(campaign.latency_ms.saturating_add(1)),
            });
        }
        let classes = [
            (campaign.error, None),
            (campaign.html503, Some(Fault::Html503)),
            (campaign.cut_before, Some(Fault::CutBefore)),
            (campaign.cut_after, Some(Fault::CutAfter)),
            (campaign.cut_during, Some(Fault::CutDuring)),
            (campaign.expire_session, Some(Fault::ExpireSession)),
        ];
        let mut draw = self.random.unit();
        for (probability, fault) in classes {
            if draw < probability {
                let fault = fault.unwrap_or_else(|| self.random_error());
                if !fatal {
                    faults.push(fault);
                }
                break;
            }
            draw -= probability;
        }
        faults
    }

    fn random_error(&mut self) -> Fault {
        const ERRORS: [(u16, &str, &str); 4] = [
            (
                500,
                "UNKNOWN_EXCEPTION",
                "An unexpected error occurred. Please include this ErrorId if you contact support: 1234567890-12345 (-1234567890)",
            ),
            (503, "SERVER_UNAVAILABLE", "Server too busy"),
            (
                403,
                "REQUEST_LIMIT_EXCEEDED",
                "ConcurrentRequests (Concurrent API Requests) Limit exceeded.",
            ),
            (400, "QUERY_TIMEOUT", "Your query request was running for too long."),
        ];
        let (status, code, message) = ERRORS[self.random.below(ERRORS.len() as u64) as usize];
        Fault::Error { status, code: code.into(), message: message.into() }
    }

    /// The error that a single record of a request meets.
    pub(crate) fn of_record(&mut self, method: &str, path: &str, object: &str) -> Option<ApiError> {
        for ordered in &mut self.rules {
            let Fault::Record { code, message } = ordered.rule.fault.clone() else { continue };
            let about = [object.to_owned()];
            if ordered.rule.strikes(method, path, &about, &mut self.random) {
                ordered.struck += 1;
                return Some(ApiError::record(code, message, &[]));
            }
        }
        let probability = self.campaign.as_ref()?.record;
        let message = "unable to obtain exclusive access to this record";
        self.random
            .chance(probability)
            .then(|| ApiError::record("UNABLE_TO_LOCK_ROW", message, &[]))
    }
}

impl FaultRule {
    /// Whether it is this request's turn; counts what it lets through and what it strikes.
    fn strikes(
        &mut self,
        method: &str,
        path: &str,
        objects: &[String],
        random: &mut Random,
    ) -> bool {
        let Match { method: m, path: p, object: o } = &self.matches;
        let fits = m.as_ref().is_none_or(|m| m.eq_ignore_ascii_case(method))
            && p.as_ref().is_none_or(|p| path.contains(p.as_str()))
            && o.as_ref()
                .is_none_or(|o| objects.iter().any(|object| o.eq_ignore_ascii_case(object)));
        if !fits || self.times == Some(0) {
            return false;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        if self.probability < 1.0 && !random.chance(self.probability) {
            return false;
        }
        if let Some(times) = &mut self.times {
            *times -= 1;
        }
        true
    }
}

/// The objects that a request is about.
fn objects_of(request: &Request) -> Vec<String> {
    let mut objects: Vec<String> = object_of_target(request).into_iter().collect();
    if let Ok(body) = request.json() {
        let records = body["records"].as_array().into_iter().flatten();
        objects.extend(records.filter_map(|r| r["attributes"]["type"].as_str()).map(str::to_owned));
        // A bulk job names its object, or has a query.
        objects.extend(body["object"].as_str().map(str::to_owned));
        objects.extend(body["query"].as_str().and_then(object_of_query));
        for part in body["compositeRequest"].as_array().into_iter().flatten() {
            let mut inner = Request::new("", part["url"].as_str().unwrap_or_default());
            inner.body = part["body"].to_string().into_bytes();
            objects.extend(objects_of(&inner));
        }
    }
    objects
}

/// By the path or the query.
fn object_of_target(request: &Request) -> Option<String> {
    let segments = request.segments();
    let behind = segments.iter().position(|s| s == "sobjects").and_then(|at| segments.get(at + 1));
    if let Some(object) = behind {
        return Some(object.clone());
    }
    object_of_query(request.parameter("q")?)
}

fn object_of_query(query: &str) -> Option<String> {
    let words: Vec<&str> = query.split_whitespace().collect();
    let from = words.iter().position(|word| word.eq_ignore_ascii_case("from"))?;
    words.get(from + 1).map(|word| (*word).to_owned())
}

/// Numbers that look random and depend on the seed alone (the generator SplitMix64).
#[derive(Debug, Default)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }
}
