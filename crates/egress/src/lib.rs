//! Where requests may go, and how much they may bring back. Every connector that speaks HTTP sends
//! through a [`Client`] that a [`Policy`] made; there is no other way out.
//!
//! The policy is checked when a request leaves, for addresses that the other side handed us as well
//! as for configured ones, and once more when a name has been resolved to addresses. Nothing is
//! followed by itself: a redirect is an answer like any other.

mod address;
mod client;
mod connect;
mod failure;
mod host;
mod policy;
mod resolver;

pub use client::{Client, Response};
pub use connect::Connection;
pub use policy::{DEFAULT_BODY_LIMIT, Policy, Rules};
pub use reqwest::header;
pub use reqwest::{Method, Request, StatusCode, Url};
