//! What goes wrong with events and with the streams that carry them.

use serde::{Deserialize, Serialize};

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum EventFault {
    /// The event never comes to be.
    Drop,
    /// The event, and with it all behind it, comes this much later.
    Delay { ms: u64 },
    /// The event is sent twice, with the same replay id.
    Duplicate,
    /// The event comes as a gap, without values.
    Gap,
    /// A stream, or the call that opens one, ends with this error: the code without its common beginning, and the
    /// status by the name or number that gRPC has for it.
    Error { status: String, code: String },
    /// The connection of a stream is cut.
    Reset,
    /// The session of a stream ends, and the stream with it.
    ExpireToken,
}

impl EventFault {
    /// Does it strike streams, and not events?
    pub(super) fn of_stream(&self) -> bool {
        matches!(self, Self::Error { .. } | Self::Reset | Self::ExpireToken)
    }
}

/// A fault with what it is for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventFaultRule {
    /// Events of this object, or streams whose topic ends in this; all, if left out.
    #[serde(default)]
    pub object: Option<String>,
    /// How often it strikes; nothing: until it is cleared.
    #[serde(default)]
    pub times: Option<u64>,
    /// How many events or streams are let through first.
    #[serde(default)]
    pub skip: u64,
    pub fault: EventFault,
}

impl EventFaultRule {
    pub fn once(fault: EventFault) -> Self {
        Self { object: None, times: Some(1), skip: 0, fault }
    }

    #[must_use]
    pub fn after(mut self, skip: u64) -> Self {
        self.skip = skip;
        self
    }

    #[must_use]
    pub fn always(mut self) -> Self {
        self.times = None;
        self
    }

    #[must_use]
    pub fn object(mut self, object: &str) -> Self {
        self.object = Some(object.to_owned());
        self
    }
}

/// What is ordered.
#[derive(Debug, Default)]
pub(super) struct EventFaults(Vec<EventFaultRule>);

impl EventFaults {
    pub(super) fn add(&mut self, rule: EventFaultRule) {
        self.0.push(rule);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn list(&self) -> &[EventFaultRule] {
        &self.0
    }

    /// Those that an event of this object meets.
    pub(super) fn of_event(&mut self, object: &str) -> Vec<EventFault> {
        self.strike(|rule| {
            !rule.fault.of_stream() && rule.object.as_deref().is_none_or(|o| o == object)
        })
    }

    /// The first that a stream of this topic meets.
    pub(super) fn of_stream(&mut self, topic: &str) -> Option<EventFault> {
        let name = topic.rsplit('/').next().unwrap_or_default();
        let meant = |object: &str| name == object || name == super::schema::event_name(object);
        self.strike(|rule| rule.fault.of_stream() && rule.object.as_deref().is_none_or(meant))
            .into_iter()
            .next()
    }

    fn strike(&mut self, meant: impl Fn(&EventFaultRule) -> bool) -> Vec<EventFault> {
        let mut struck = Vec::new();
        for rule in self.0.iter_mut().filter(|rule| meant(rule)) {
            if rule.skip > 0 {
                rule.skip -= 1;
                continue;
            }
            match &mut rule.times {
                Some(0) => continue,
                Some(times) => *times -= 1,
                None => {}
            }
            struck.push(rule.fault.clone());
            if rule.fault.of_stream() {
                break;
            }
        }
        self.0.retain(|rule| rule.times != Some(0));
        struck
    }
}
