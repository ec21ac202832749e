use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use connector::{Fault, FaultKind};
use eventbus::v1::{ConsumerEvent, FetchRequest, FetchResponse, ReplayPreset};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::Streaming;
use tonic::codegen::tokio_stream::Stream;

use crate::client::{Client, Identity, Stub, in_time};
use crate::decode::decode;
use crate::event::{Event, Kind};
use crate::trouble::{Trouble, of_status};

/// Most events that were asked for and not taken. More than 100 may not be (Pub/Sub API guide, Subscribe).
const CREDIT: i32 = 100;

/// An answer comes at least every 270 seconds (Pub/Sub API guide, FetchResponse).
const SILENCE: Duration = Duration::from_secs(300);

/// Largest answer that is taken. Salesforce's own clients take 4 MB, what gRPC takes where nothing else is said.
const LARGEST: usize = 8 << 20;

/// Where a stream begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// With what comes from now on.
    Latest,
    /// With the oldest that is kept.
    Earliest,
    /// Behind the event with this replay id.
    After(Vec<u8>),
}

/// A stream of one topic's events. It ends when it is dropped.
pub struct Subscription {
    client: Client,
    stub: Stub,
    identity: Identity,
    requests: mpsc::Sender<FetchRequest>,
    responses: Streaming<FetchResponse>,
    /// Received and not taken.
    waiting: VecDeque<ConsumerEvent>,
    /// The replay id that is good once all of them are taken; of an answer without events.
    keepalive: Option<Vec<u8>>,
    /// Asked for and not received.
    owed: i32,
    heard: Instant,
}

impl Client {
    /// Begins a stream: `/data/AccountChangeEvent`, `/data/ChangeEvents`. When it is there, the other side has
    /// answered; one that begins with [`Start::Latest`] tells what is committed after that.
    pub async fn subscribe(
        &self,
        identity: &Identity,
        topic: &str,
        start: &Start,
    ) -> Result<Subscription, Trouble> {
        let mut stub = self.connect().await?.max_decoding_message_size(LARGEST);
        let (preset, replay_id) = match start {
            Start::Latest => (ReplayPreset::Latest, Vec::new()),
            Start::Earliest => (ReplayPreset::Earliest, Vec::new()),
            Start::After(id) => (ReplayPreset::Custom, id.clone()),
        };
        let (requests, receiver) = mpsc::channel(4);
        let first = FetchRequest {
            topic_name: topic.to_owned(),
            replay_preset: preset.into(),
            replay_id,
            num_requested: CREDIT,
            auth_refresh: String::new(),
        };
        // There is room: nothing was sent yet.
        let _ = requests.try_send(first);
        let request = identity.sign(Requests(receiver))?;
        let responses = in_time(stub.subscribe(request)).await?.into_inner();
        Ok(Subscription {
            client: self.clone(),
            stub,
            identity: identity.clone(),
            requests,
            responses,
            waiting: VecDeque::new(),
            keepalive: None,
            owed: CREDIT,
            heard: Instant::now(),
        })
    }
}

impl Subscription {
    /// The next event. May be dropped before it is there, and called again: nothing is lost.
    ///
    /// # Errors
    /// The stream has ended; what was told before stands.
    pub async fn next(&mut self) -> Result<Event, Trouble> {
        loop {
            if let Some(event) = self.waiting.front() {
                let kind = match &event.event {
                    Some(event) => {
                        let schema = self
                            .client
                            .schema(&mut self.stub, &self.identity, &event.schema_id)
                            .await?;
                        match schema.as_ref() {
                            Ok(schema) => decode(schema, &event.payload),
                            Err(why) => {
                                Kind::Unreadable { why: format!("a schema can't be read: {why}") }
                            }
                        }
                    }
                    None => Kind::Unreadable { why: "an event is empty".to_owned() },
                };
                // Taken only now, so that nothing is lost where the wait for a schema is given up.
                let replay_id =
                    self.waiting.pop_front().map(|event| event.replay_id).unwrap_or_default();
                self.ask();
                return Ok(Event { replay_id, kind });
            }
            if let Some(replay_id) = self.keepalive.take() {
                return Ok(Event { replay_id, kind: Kind::Keepalive });
            }
            let silent = Fault::new(
                FaultKind::Transient,
                "STREAM_SILENT",
                "the stream of events is silent for too long",
            );
            let response =
                tokio::time::timeout_at(self.heard + SILENCE, self.responses.message()).await;
            let response = response
                .map_err(|_| Trouble::Fault(silent))?
                .map_err(|status| of_status(&status))?;
            let Some(response) = response else {
                let message = "the stream of events was closed";
                return Err(Trouble::Fault(Fault::new(
                    FaultKind::Transient,
                    "STREAM_CLOSED",
                    message,
                )));
            };
            self.heard = Instant::now();
            let events = i32::try_from(response.events.len()).unwrap_or(i32::MAX);
            self.owed = self.owed.saturating_sub(events).max(0);
            if response.events.is_empty() && !response.latest_replay_id.is_empty() {
                self.keepalive = Some(response.latest_replay_id);
            }
            self.waiting.extend(response.events);
        }
    }

    /// Asks for more when half of what was asked for has been taken.
    fn ask(&mut self) {
        let waiting = i32::try_from(self.waiting.len()).unwrap_or(i32::MAX);
        let more = CREDIT.saturating_sub(self.owed).saturating_sub(waiting);
        if more < CREDIT / 2 {
            return;
        }
        let request = FetchRequest { num_requested: more, ..FetchRequest::default() };
        // Where there is no room the stream stands still, and is asked again with the next event.
        if self.requests.try_send(request).is_ok() {
            self.owed += more;
        }
    }
}

/// What is asked of a stream, as it is asked.
struct Requests(mpsc::Receiver<FetchRequest>);

impl Stream for Requests {
    type Item = FetchRequest;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<FetchRequest>> {
        self.0.poll_recv(context)
    }
}
