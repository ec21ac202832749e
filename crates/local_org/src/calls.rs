//! The requests that came in.

use serde_json::{Value, json};
use std::collections::VecDeque;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// How much of the past is kept.
const MOST_CALLS: usize = 50_000;
const MOST_BYTES: usize = 64 << 20;

/// A request that came in, and what became of it.
#[derive(Clone, Debug)]
pub struct Call {
    /// Counts from 1.
    pub number: u64,
    /// When it had been read to its end.
    pub at: SystemTime,
    pub arrived: Instant,
    pub method: String,
    /// Without the query.
    pub path: String,
    pub query: Vec<(String, String)>,
    /// Without the bearer token; names in lower case.
    pub headers: Vec<(String, String)>,
    /// Empty for logins, so that no secret is kept.
    pub body: String,
    /// Nothing while it is being served, and where the connection was cut.
    pub status: Option<u16>,
    /// The kind of fault that it met.
    pub fault: Option<String>,
    pub answered: Option<Instant>,
    /// Counts against the daily limit.
    pub counted: bool,
}

impl Call {
    /// The body as JSON; null where it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or(Value::Null)
    }

    pub(crate) fn report(&self) -> Value {
        let at = self.at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let took = self.answered.map(|end| (end - self.arrived).as_micros() as u64);
        json!({
            "number": self.number,
            "at_ms": at.as_millis() as u64,
            "took_us": took,
            "method": self.method,
            "path": self.path,
            "query": self.query.iter().map(|(n, v)| json!([n, v])).collect::<Vec<_>>(),
            "headers": self.headers.iter().map(|(n, v)| json!([n, v])).collect::<Vec<_>>(),
            "body": match self.json() { Value::Null => self.body.clone().into(), body => body },
            "status": self.status,
            "fault": self.fault,
            "counted": self.counted,
        })
    }
}

/// The newest calls; older ones are let go.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    list: VecDeque<Call>,
    bytes: usize,
    last: u64,
}

impl Calls {
    pub(crate) fn add(&mut self, mut call: Call) -> u64 {
        self.last += 1;
        call.number = self.last;
        self.bytes += call.body.len();
        self.list.push_back(call);
        while (self.list.len() > MOST_CALLS || self.bytes > MOST_BYTES)
            && let Some(call) = self.list.pop_front()
        {
            self.bytes -= call.body.len();
        }
        self.last
    }

    pub(crate) fn get_mut(&mut self, number: u64) -> Option<&mut Call> {
        let first = self.list.front()?.number;
        self.list.get_mut(number.checked_sub(first)? as usize)
    }

    pub(crate) fn list(&self) -> impl Iterator<Item = &Call> {
        self.list.iter()
    }

    pub(crate) fn clear(&mut self) {
        self.list.clear();
        self.bytes = 0;
    }
}
