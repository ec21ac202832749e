//! One subscriber's stream (Pub/Sub API guide, Subscribe RPC Method).

use super::bus::{Place, place, replay_id};
use super::faults::EventFault;
use super::service::{Scissors, authenticate, objects, refusal, rpc_id};
use crate::org::Org;
use crate::serve::Shared;
use eventbus::v1::{ConsumerEvent, FetchRequest, FetchResponse, ProducerEvent, ReplayPreset};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tonic::codegen::tokio_stream::Stream;
use tonic::{Code, Request, Status, Streaming};

/// Most events that may be asked for and not delivered; more is taken for this many.
const MOST_CREDIT: i32 = 100;

/// Most events of one response.
const MOST_EVENTS: usize = 20;

/// What is sent; one response waits until it has been taken.
pub(super) struct Responses(mpsc::Receiver<Result<FetchResponse, Status>>);

impl Stream for Responses {
    type Item = Result<FetchResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context)
    }
}

/// A stream that stands.
struct Subscription {
    shared: Shared,
    topic: String,
    token: String,
    rpc_id: String,
    scissors: Scissors,
    place: Place,
    credit: i32,
    /// How many copies of the event behind the place were sent already.
    copies: usize,
    /// When something was last sent, and when the credit was used up.
    sent: Instant,
    used_up: Instant,
}

/// What a look at the bus yields.
enum Look {
    Send(FetchResponse),
    /// Nothing; look again then at the latest.
    Wait(Option<Instant>),
    Refuse(Status),
    Cut,
    /// Credit was used up for too long.
    Close,
}

pub(super) async fn subscribe(
    shared: &Shared,
    request: Request<Streaming<FetchRequest>>,
) -> Result<Responses, Status> {
    let rpc_id = rpc_id();
    let token = authenticate(&mut shared.lock(), request.metadata(), &rpc_id)?;
    let scissors = request.extensions().get::<Scissors>().cloned().unwrap_or_default();
    let mut requests = request.into_inner();
    let Some(first) = requests.message().await? else {
        let message = "The stream ended before a request came.";
        return Err(refusal(
            Code::InvalidArgument,
            "subscription.fetch.request.invalid",
            message,
            &rpc_id,
        ));
    };
    let (place, news) = {
        let mut org = shared.lock();
        let place = begin(&mut org, &first, &rpc_id)?;
        org.events.streams += 1;
        (place, org.events.news.subscribe())
    };
    let now = Instant::now();
    let mut subscription = Subscription {
        shared: shared.clone(),
        topic: first.topic_name.clone(),
        token,
        rpc_id,
        scissors,
        place,
        credit: 0,
        copies: 0,
        sent: now,
        used_up: now,
    };
    subscription.add(&first)?;
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move { subscription.run(requests, news, sender).await });
    Ok(Responses(receiver))
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.shared.lock().events.streams -= 1;
    }
}

/// Where the stream begins.
fn begin(org: &mut Org, first: &FetchRequest, rpc_id: &str) -> Result<Place, Status> {
    objects(org, &first.topic_name, rpc_id)?;
    let invalid =
        |code: &str, message: &str| Err(refusal(Code::InvalidArgument, code, message, rpc_id));
    let now = org.event_time();
    if org.events.left(now) == 0 {
        return Err(exceeded(rpc_id));
    }
    match first.replay_preset() {
        ReplayPreset::Latest => Ok(org.events.last),
        ReplayPreset::Earliest => Ok(org.events.floor),
        ReplayPreset::Custom if first.replay_id.is_empty() => invalid(
            "subscription.fetch.replayid.validation.failed",
            "A replay ID is needed with the CUSTOM replay preset.",
        ),
        ReplayPreset::Custom => match place(&first.replay_id) {
            Some(place) if org.events.is_known(place) => Ok(place),
            _ => {
                invalid("subscription.fetch.replayid.corrupted", "The Replay ID validation failed.")
            }
        },
    }
}

fn exceeded(rpc_id: &str) -> Status {
    let message = "You have exceeded the event delivery limit for your org.";
    refusal(Code::ResourceExhausted, "subscription.limit.exceeded", message, rpc_id)
}

impl Subscription {
    /// Takes in how many events more are asked for.
    fn add(&mut self, request: &FetchRequest) -> Result<(), Status> {
        let invalid = |code: &str, message: &str| {
            Err(refusal(Code::InvalidArgument, code, message, &self.rpc_id))
        };
        if !request.topic_name.is_empty() && request.topic_name != self.topic {
            return invalid(
                "subscription.fetch.topic.mismatch",
                "The topic of a stream can't change.",
            );
        }
        if request.num_requested <= 0 {
            return invalid(
                "subscription.fetch.requested.events.invalid",
                "The number of requested events must be greater than zero.",
            );
        }
        self.credit = self.credit.saturating_add(request.num_requested).min(MOST_CREDIT);
        Ok(())
    }

    async fn run(
        mut self,
        mut requests: Streaming<FetchRequest>,
        mut news: tokio::sync::watch::Receiver<u64>,
        sender: mpsc::Sender<Result<FetchResponse, Status>>,
    ) {
        loop {
            // Before the look, so that news that come after it are not missed.
            news.borrow_and_update();
            let until = match self.look() {
                Look::Send(response) => {
                    if sender.send(Ok(response)).await.is_err() {
                        return;
                    }
                    continue;
                }
                Look::Wait(until) => until,
                Look::Refuse(status) => {
                    let _ = sender.send(Err(status)).await;
                    return;
                }
                Look::Cut => {
                    self.scissors.0.notify_waiters();
                    // What is being sent is not finished by the drop of its sender.
                    return std::future::pending().await;
                }
                Look::Close => return,
            };
            let until = until.unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
            tokio::select! {
                _ = news.changed() => {}
                () = tokio::time::sleep_until(until.into()) => {}
                () = sender.closed() => return,
                request = requests.message() => match request {
                    Ok(Some(request)) => if let Err(status) = self.add(&request) {
                        let _ = sender.send(Err(status)).await;
                        return;
                    },
                    Ok(None) | Err(_) => return,
                },
            }
        }
    }

    fn look(&mut self) -> Look {
        let shared = self.shared.clone();
        let mut org = shared.lock();
        org.settle(false);
        let now = org.event_time();
        match org.events.faults.of_stream(&self.topic) {
            Some(EventFault::Error { status, code }) => {
                let message = "An error was ordered.";
                return Look::Refuse(refusal(status_of(&status), &code, message, &self.rpc_id));
            }
            Some(EventFault::ExpireToken) => {
                org.sessions.close(&self.token);
                let message = "An authentication exception occurred.";
                return Look::Refuse(refusal(
                    Code::Unauthenticated,
                    "service.auth.error",
                    message,
                    &self.rpc_id,
                ));
            }
            Some(EventFault::Reset) => return Look::Cut,
            _ => {}
        }
        let Some(objects) = org.events.topic(&self.topic) else {
            let message = format!("The topic {} can't be found.", self.topic);
            return Look::Refuse(refusal(
                Code::NotFound,
                "topic.not.found",
                &message,
                &self.rpc_id,
            ));
        };
        if self.place < org.events.floor {
            let message = "The Replay ID validation failed.";
            let code = "subscription.fetch.replayid.corrupted";
            return Look::Refuse(refusal(Code::InvalidArgument, code, message, &self.rpc_id));
        }
        if self.credit == 0 {
            let end = self.used_up + org.events.patience;
            return if Instant::now() >= end { Look::Close } else { Look::Wait(Some(end)) };
        }
        let left = usize::try_from(org.events.left(now)).unwrap_or(usize::MAX);
        let (events, due) = self.take(&org, &objects, left.max(1));
        if !events.is_empty() {
            if left == 0 {
                return Look::Refuse(exceeded(&self.rpc_id));
            }
            org.events.delivered.push_back((now, events.len() as u64));
            return Look::Send(self.response(events));
        }
        let keepalive = self.sent + org.events.keepalive;
        if Instant::now() >= keepalive {
            return Look::Send(self.response(Vec::new()));
        }
        let until = [Some(keepalive), due, org.next_due()].into_iter().flatten().min();
        Look::Wait(until)
    }

    /// The events that come next, as far as credit and allowance go; and when the next of them is due.
    fn take(
        &mut self,
        org: &Org,
        objects: &[String],
        left: usize,
    ) -> (Vec<ConsumerEvent>, Option<Instant>) {
        let most = MOST_EVENTS.min(self.credit as usize).min(left);
        let mut events = Vec::new();
        let from = org.events.log.partition_point(|entry| entry.place <= self.place);
        for entry in org.events.log.range(from..) {
            if let Some(due) = entry.due.filter(|due| *due > Instant::now()) {
                return (events, Some(due));
            }
            if objects.contains(&entry.object) {
                while self.copies < entry.copies {
                    if events.len() == most {
                        return (events, None);
                    }
                    self.copies += 1;
                    events.push(ConsumerEvent {
                        event: Some(ProducerEvent {
                            id: entry.id.clone(),
                            schema_id: entry.schema.clone(),
                            payload: entry.payload.clone(),
                            headers: Vec::new(),
                        }),
                        replay_id: replay_id(entry.place),
                    });
                }
            }
            self.copies = 0;
            self.place = entry.place;
        }
        (events, None)
    }

    fn response(&mut self, events: Vec<ConsumerEvent>) -> FetchResponse {
        self.credit -= events.len() as i32;
        self.sent = Instant::now();
        self.used_up = self.sent;
        let latest = events.last().map(|event| event.replay_id.clone());
        FetchResponse {
            events,
            latest_replay_id: latest.unwrap_or_else(|| replay_id(self.place)),
            rpc_id: self.rpc_id.clone(),
            pending_num_requested: self.credit,
        }
    }
}

/// A status by its name, as `UNAVAILABLE`, or by its number.
fn status_of(text: &str) -> Code {
    match text.to_ascii_uppercase().as_str() {
        "CANCELLED" => Code::Cancelled,
        "INVALID_ARGUMENT" => Code::InvalidArgument,
        "DEADLINE_EXCEEDED" => Code::DeadlineExceeded,
        "NOT_FOUND" => Code::NotFound,
        "PERMISSION_DENIED" => Code::PermissionDenied,
        "RESOURCE_EXHAUSTED" => Code::ResourceExhausted,
        "INTERNAL" => Code::Internal,
        "UNAVAILABLE" => Code::Unavailable,
        "UNAUTHENTICATED" => Code::Unauthenticated,
        other => other.parse::<i32>().map_or(Code::Unknown, Code::from),
    }
}
