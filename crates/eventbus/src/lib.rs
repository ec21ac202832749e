//! The messages of Salesforce's Pub/Sub API, with the stubs of its client and its server: what
//! `proto/pubsub_api.proto` says, as Rust. The code was made from the definition and is kept beside it, so that a
//! build needs neither `protoc` nor a generator; a test makes it anew and compares.

/// Version 1, the only one there is.
#[allow(unreachable_pub, clippy::all, clippy::pedantic, reason = "made by a generator")]
pub mod v1 {
    include!("generated.rs");
}

/// What every error code begins with (Pub/Sub API guide, error codes).
pub const ERROR_PREFIX: &str = "sfdc.platform.eventbus.grpc.";

/// The trailers that tell an error's code and the number of the call.
pub const ERROR_CODE: &str = "error-code";
pub const RPC_ID: &str = "rpc-id";

/// The metadata of every call that say who asks (Pub/Sub API guide, authentication).
pub const ACCESS_TOKEN: &str = "accesstoken";
pub const INSTANCE_URL: &str = "instanceurl";
pub const TENANT_ID: &str = "tenantid";
