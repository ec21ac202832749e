use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use connector::{Fault, FaultKind, Secret};
use egress::{Policy, Url};
use eventbus::v1::SchemaRequest;
use eventbus::v1::pub_sub_client::PubSubClient;
use eventbus::{ACCESS_TOKEN, INSTANCE_URL, TENANT_ID};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tonic::Request;
use tonic::body::Body;
use tonic::codegen::http::{Request as HttpRequest, Response as HttpResponse, Uri};
use tonic::metadata::{Ascii, MetadataValue};

use crate::schema::Schema;
use crate::trouble::{Trouble, of_status};

/// Where the Pub/Sub API is (Pub/Sub API guide, endpoints).
pub const PUBLIC_ENDPOINT: &str = "https://api.pubsub.salesforce.com:7443";

/// A silent connection is asked whether it lives, and given up where no answer comes.
const PING: Duration = Duration::from_secs(30);
const PONG: Duration = Duration::from_secs(20);

/// Longest time of a call that is no stream, and until a stream stands.
const PATIENCE: Duration = Duration::from_secs(60);

/// How much may be on its way to a reader that does not read: with one answer that is being read, all the memory
/// that a stream takes.
const WINDOW: u32 = 1 << 20;

/// Schemas kept; a new one comes with every change of an object.
const MOST_SCHEMAS: usize = 256;

/// Who asks.
#[derive(Clone)]
pub struct Identity {
    /// The access token of a session.
    pub token: Secret,
    /// `https://acme.my.salesforce.com`
    pub instance_url: String,
    pub org_id: String,
}

/// A schema, or why it can't be used.
type Read = Result<Schema, String>;

/// The Pub/Sub API at one place.
#[derive(Clone)]
pub struct Client {
    policy: Policy,
    url: Url,
    schemas: Arc<Mutex<HashMap<String, Arc<Read>>>>,
}

impl Client {
    /// Checks the address, as `https://api.pubsub.salesforce.com:7443`; nothing is sent yet.
    ///
    /// # Errors
    /// An address that can't be read, or one that the policy does not let requests go to.
    pub fn new(url: &str, policy: &Policy) -> Result<Self, Fault> {
        let url = policy.url(url)?;
        Ok(Self { policy: policy.clone(), url, schemas: Arc::default() })
    }

    /// A connection of its own: for one stream, and the schemas of its events.
    pub(crate) async fn connect(&self) -> Result<Stub, Trouble> {
        let stream = self.policy.connect(&self.url, "h2").await.map_err(Trouble::Fault)?;
        let broken = |error: hyper::Error| {
            Trouble::Fault(Fault::new(FaultKind::Transient, "NOT_CONNECTED", error.to_string()))
        };
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING)
            .keep_alive_timeout(PONG)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(2 * WINDOW)
            .handshake::<_, Body>(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        // Ends with the last call; what it ends with the calls are told.
        tokio::spawn(async move { drop(connection.await) });
        let origin = Uri::try_from(self.url.origin().ascii_serialization()).map_err(|error| {
            Trouble::Fault(Fault::new(FaultKind::Configuration, "INVALID_URL", error.to_string()))
        })?;
        Ok(PubSubClient::with_origin(Channel(sender), origin))
    }

    /// The schema with this id, asked for once. One that can't be used is kept too: its events come as unreadable.
    pub(crate) async fn schema(
        &self,
        stub: &mut Stub,
        identity: &Identity,
        id: &str,
    ) -> Result<Arc<Read>, Trouble> {
        if let Some(schema) = self.schemas().get(id) {
            return Ok(Arc::clone(schema));
        }
        let request = identity.sign(SchemaRequest { schema_id: id.to_owned() })?;
        let answer = in_time(stub.get_schema(request)).await?.into_inner();
        let schema = Arc::new(Schema::parse(&answer.schema_json));
        let mut schemas = self.schemas();
        if schemas.len() >= MOST_SCHEMAS {
            schemas.clear();
        }
        schemas.insert(id.to_owned(), Arc::clone(&schema));
        Ok(schema)
    }

    fn schemas(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Read>>> {
        self.schemas.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) type Stub = PubSubClient<Channel>;

/// A call whose answer has its time.
pub(crate) async fn in_time<T>(
    call: impl Future<Output = Result<T, tonic::Status>>,
) -> Result<T, Trouble> {
    match tokio::time::timeout(PATIENCE, call).await {
        Ok(answer) => answer.map_err(|status| of_status(&status)),
        Err(_) => {
            let message = "the Pub/Sub API does not answer in time";
            Err(Trouble::Fault(Fault::new(FaultKind::Transient, "TIMEOUT", message)))
        }
    }
}

impl Identity {
    /// With the metadata that every call has (Pub/Sub API guide, authentication).
    pub(crate) fn sign<T>(&self, message: T) -> Result<Request<T>, Trouble> {
        let mut request = Request::new(message);
        let fields = [
            (ACCESS_TOKEN, self.token.reveal()),
            (INSTANCE_URL, &self.instance_url),
            (TENANT_ID, &self.org_id),
        ];
        for (name, text) in fields {
            let mut value = MetadataValue::<Ascii>::try_from(text).map_err(|_| {
                let message = format!("the {name} of the session can't be sent");
                Trouble::Fault(Fault::new(FaultKind::Credentials, "INVALID_TOKEN", message))
            })?;
            value.set_sensitive(name == ACCESS_TOKEN);
            request.metadata_mut().insert(name, value);
        }
        Ok(request)
    }
}

/// One HTTP/2 connection, as calls see it.
#[derive(Clone)]
pub(crate) struct Channel(SendRequest<Body>);

impl tower_service::Service<HttpRequest<Body>> for Channel {
    type Response = HttpResponse<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: HttpRequest<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}
