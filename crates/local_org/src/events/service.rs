//! The calls of the Pub/Sub API.

use super::subscribe::{self, Responses};
use crate::id;
use crate::org::Org;
use crate::serve::Shared;
use eventbus::v1::pub_sub_server::PubSub;
use eventbus::v1::{FetchRequest, SchemaInfo, SchemaRequest, TopicInfo, TopicRequest};
use eventbus::{ACCESS_TOKEN, ERROR_CODE, ERROR_PREFIX, INSTANCE_URL, RPC_ID, TENANT_ID};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Notify;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Request, Response, Status, Streaming};

/// Cuts the connection that a call came by.
#[derive(Clone, Default)]
pub(super) struct Scissors(pub(super) Arc<Notify>);

#[derive(Clone)]
pub(super) struct Service {
    pub(super) shared: Shared,
}

/// The number of a call, for finding it again.
pub(super) fn rpc_id() -> String {
    static CALLS: AtomicU64 = AtomicU64::new(1);
    format!("{:08x}-0000-4000-a000-000000000000", CALLS.fetch_add(1, Ordering::Relaxed))
}

/// An error as the API tells it: status, message with the number of the call at its end, trailers
/// (Pub/Sub API guide, handling errors).
pub(super) fn refusal(status: Code, code: &str, message: &str, rpc_id: &str) -> Status {
    let mut trailers = MetadataMap::new();
    for (name, value) in
        [(ERROR_CODE, format!("{ERROR_PREFIX}{code}")), (RPC_ID, rpc_id.to_owned())]
    {
        if let Ok(value) = MetadataValue::try_from(value) {
            trailers.insert(name, value);
        }
    }
    Status::with_metadata(status, format!("{message} rpcId: {rpc_id}"), trailers)
}

/// Who asks, as every call says it (Pub/Sub API guide, authentication).
pub(super) fn authenticate(
    org: &mut Org,
    metadata: &MetadataMap,
    rpc_id: &str,
) -> Result<String, Status> {
    let text =
        |name: &str| metadata.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let blank =
        [ACCESS_TOKEN, INSTANCE_URL, TENANT_ID].into_iter().find(|name| text(name).is_empty());
    if let Some(name) = blank {
        let message = format!("The {name} header is missing or empty.");
        return Err(refusal(
            Code::Unauthenticated,
            "service.auth.headers.invalid",
            &message,
            rpc_id,
        ));
    }
    // `core/…/…/00D…` is taken too.
    let tenant = text(TENANT_ID).rsplit('/').next().unwrap_or_default();
    if id::long(tenant).as_deref() != Some(org.org_id.as_str()) {
        let message = "The tenantid header names another org.";
        return Err(refusal(
            Code::Unauthenticated,
            "service.auth.headers.invalid",
            message,
            rpc_id,
        ));
    }
    if text(INSTANCE_URL).trim_end_matches('/') != org.url {
        let message = "The instanceurl header is not that of the org.";
        return Err(refusal(
            Code::Unauthenticated,
            "service.auth.headers.invalid",
            message,
            rpc_id,
        ));
    }
    if org.sessions.enter(text(ACCESS_TOKEN)).is_none() {
        let message = "An authentication exception occurred. Provide valid authentication headers and ensure that the session has not expired.";
        return Err(refusal(Code::Unauthenticated, "service.auth.error", message, rpc_id));
    }
    Ok(text(ACCESS_TOKEN).to_owned())
}

/// The objects of a topic.
pub(super) fn objects(org: &Org, topic: &str, rpc_id: &str) -> Result<Vec<String>, Status> {
    if topic.is_empty() {
        let message = "The topic name can't be empty.";
        return Err(refusal(Code::InvalidArgument, "topic.validation.empty", message, rpc_id));
    }
    org.events.topic(topic).ok_or_else(|| {
        let message = format!("The topic {topic} can't be found. Check its name and case.");
        refusal(Code::NotFound, "topic.not.found", &message, rpc_id)
    })
}

#[tonic::async_trait]
impl PubSub for Service {
    type SubscribeStream = Responses;

    async fn subscribe(
        &self,
        request: Request<Streaming<FetchRequest>>,
    ) -> Result<Response<Responses>, Status> {
        subscribe::subscribe(&self.shared, request).await.map(Response::new)
    }

    async fn get_schema(
        &self,
        request: Request<SchemaRequest>,
    ) -> Result<Response<SchemaInfo>, Status> {
        let rpc_id = rpc_id();
        let mut org = self.shared.lock();
        authenticate(&mut org, request.metadata(), &rpc_id)?;
        let id = request.into_inner().schema_id;
        let Some(schema) = org.events.schema_of_id(&id) else {
            let message = "The schema ID can't be found.";
            return Err(refusal(
                Code::InvalidArgument,
                "schema.validation.failed",
                message,
                &rpc_id,
            ));
        };
        Ok(Response::new(SchemaInfo { schema_json: schema.json.clone(), schema_id: id, rpc_id }))
    }

    async fn get_topic(
        &self,
        request: Request<TopicRequest>,
    ) -> Result<Response<TopicInfo>, Status> {
        let rpc_id = rpc_id();
        let mut org = self.shared.lock();
        authenticate(&mut org, request.metadata(), &rpc_id)?;
        let topic_name = request.into_inner().topic_name;
        let objects = objects(&org, &topic_name, &rpc_id)?;
        // A channel of several objects has no schema of its own.
        let schema_id = match objects.as_slice() {
            [one] => {
                let object = org.object(one).cloned();
                object.map(|object| org.events.schema(&object).id.clone()).unwrap_or_default()
            }
            _ => String::new(),
        };
        let tenant_guid = format!("core/local/{}", org.org_id);
        Ok(Response::new(TopicInfo {
            topic_name,
            tenant_guid,
            can_publish: false,
            can_subscribe: true,
            schema_id,
            rpc_id,
        }))
    }
}
