//! A stand-in for a Salesforce org, as a library for tests and as the program `local-org`: real state, the
//! normalisation that an org does to what is written, and failures on demand. What it does not serve it
//! refuses with an error that Salesforce documents, and counts; it never makes an answer up.
//!
//! ```text
//! serve      sockets, requests and answers; connections that are cut
//! gate       what each request passes: faults, session, quota, headers
//! session    apps, tokens and codes; certificate those of apps; soap the logins of older clients
//! rest       which path leads where; one file for each part of the REST API
//! bulk       Bulk API 2.0: jobs that read and write many records in CSV
//! soql       queries: lexer, parser, plan, evaluation
//! org        the state; save is how records are written, recycle and merging how they go, late what commits late
//! seed       records of a new Developer Edition
//! schema     objects, field their fields; standard those that are there from the start; define how they come
//!            and go; describe how they are told
//! person     accounts that are persons, and their contacts
//! value      what becomes of a value that is written; formula and rollup what the org computes
//! table      the records of one object with their indexes
//! events     change data capture, and the Pub/Sub API on a port of its own
//! duplicates which records are taken for one that is there
//! faults     what goes wrong; errors those that have a name; rules what triggers do; calls what was asked; history what was edited
//! persist    what outlives the program, in a file
//! control    the endpoint below
//! ```
//!
//! # In a test
//!
//! ```no_run
//! use local_org::{Fault, FaultRule, LocalOrg, Options};
//! use serde_json::json;
//!
//! let org = LocalOrg::start(Options::default())?;
//! // org.url(), org.client_id() and org.client_secret() are for the client.
//! let id = org.insert("Account", json!({"Name": "Acme", "External_Id__c": "a"}))?;
//! org.edit(&id, json!({"Industry": "Energy"}))?;
//! org.fault(FaultRule::once(Fault::CutAfter).method("PATCH").object("Account"));
//! assert_eq!(org.count("Account"), 1);
//! assert!(org.unserved().is_empty());
//! # anyhow::Ok(())
//! ```
//!
//! # The program
//!
//! `local-org` prints its URL and, on a second line, that of its event bus when it is ready, and ends by SIGTERM,
//! SIGINT, or with `--until-stdin-closes` when its input does. `--person-accounts` and `--seed-data` (the sample
//! records of a Developer Edition) shape a new org. With `--persist FILE` the org outlives the program: it is saved
//! every few seconds in which it changed and at the end, and where the file is there, it says what the org is. After a
//! kill, what was done since it was last saved is lost, but no id, token or replay id that may have been seen is given
//! out a second time: replay ids of lost events are refused. Sessions, bulk jobs, cursors, faults and what waits to be
//! committed do not outlive the program, and the event bus has a new certificate.
//!
//! # The control endpoint
//!
//! JSON without login, below `/control`. Errors are as in the REST API: 400 `JSON_PARSER_ERROR` for an order
//! that can't be read, 404 `NOT_FOUND`. What is done here is done by another user than the one that logs in,
//! and above field-level security and duplicate rules; its requests are neither counted nor recorded.
//!
//! | request | what it does |
//! |---|---|
//! | `GET /control` | the state: url, ids, time, calls used and allowed, records per object, `unserved` |
//! | `GET /control/calls?since=N` | the requests after number N: method, path, query, headers, body, status (null where cut), `at_ms`, `took_us`, fault, counted |
//! | `DELETE /control/calls` | forgets them |
//! | `POST /control/faults` | orders a fault (below); answers its `number` |
//! | `GET /control/faults` | what is ordered, what is left of it and how often each has `struck` |
//! | `DELETE /control/faults[/N]` | ends all faults, or one |
//! | `GET /control/errors` | the errors that can be ordered by name: `code`, `of` (`request` or `record`), `status`, `message` |
//! | `POST /control/errors/CODE` | orders one, as a fault: `match`, `times` (once, if left out), `skip`, `probability`, `message`, each as wanted; answers its `number` |
//! | `POST /control/campaign` | faults at random: `seed`, `logins`, and the probabilities `latency` (with `latency_ms`), `error`, `html503`, `cut_before`, `cut_after`, `cut_during`, `expire_session`, `record` |
//! | `DELETE /control/campaign` | ends it |
//! | `POST /control/clock` | `{"set": "2026-05-01T07:25:37Z"}` or `{"advance_ms": N}`; the clock goes on from there, the recycle bin loses what lay in it for 15 days, and the calls of a day that is over are free again; answers `now` |
//! | `POST /control/settings` | `daily_limit`, `used`, `clock_skew_ms`, `round_numbers`, `trim_text_areas`, `session_seconds`, `rotate_refresh_tokens`, each as wanted; with `used` at `daily_limit` the quota is exhausted |
//! | `DELETE /control/sessions` | every token dies |
//! | `POST /control/clients` | `{"client_id", "client_secret"}`: a further client, or a new secret; with `certificate` (PEM), `approved` (users are pre-authorised, for JWT bearer) and `runs_as_user` (for client credentials) as wanted |
//! | `DELETE /control/clients/ID` | the client may no longer log in |
//! | `POST /control/objects` | an [`Object`]; needs only `name`; replaces the one of its name |
//! | `DELETE /control/objects/X` | takes it away |
//! | `POST /control/objects/X/fields` | a [`Field`]; needs only `name` and `type`; replaces the one of its name; also a detail's `master_detail`, a `formula`, or a `summary` ([`Summary`]) |
//! | `DELETE /control/objects/X/fields/F` | takes it away |
//! | `POST /control/objects/X/fields/F/access` | `{"visible", "editable"}` for the user that logs in |
//! | `POST /control/rules` | a [`Rule`]: `{"object", "action", …}` with `upper_case` (`field`), `set` (`field`, `to`), `reject` or `throw` (`field`, `value`, `message`) |
//! | `DELETE /control/rules` | ends all rules |
//! | `POST /control/duplicate_rules` | a [`DuplicateRule`]: `{"object", "fields"}`, and `name`, `block`, `message` as wanted |
//! | `DELETE /control/duplicate_rules` | ends all of them |
//! | `GET /control/records/X` | all records of an object, deleted ones too |
//! | `GET /control/records/ID` | one record |
//! | `POST /control/records/X` | inserts a record or an array of them, all or none; answers `ids` |
//! | `PATCH /control/records/ID` | changes fields |
//! | `DELETE /control/records/ID` | into the recycle bin |
//! | `POST /control/records/ID/undelete` | out of it, with those that went along |
//! | `POST /control/records/ID/merge` | `{"losers": [ids], "values"}`: they go into the bin with this one's id, and it takes their children; answers those as `updated` |
//! | `POST /control/records/ID/purge` | gone for good |
//! | `POST /control/commit` | commits what waits |
//! | `GET /control/events` | the event bus: address, the authority of its certificate, the latest replay id, and how it behaves |
//! | `POST /control/events` | [`EventSettings`]: `objects` (those captured), `keepalive_ms`, `patience_ms`, `overflow`, `allowance`, each as wanted |
//! | `POST /control/events/channels/X__chn` | a custom channel of an array of objects |
//! | `POST /control/events/faults` | orders an [`EventFaultRule`] (below); `GET` lists them, `DELETE` ends them |
//! | `POST /control/events/gap` | publishes an event without values: `{"object", "type", "ids"}` |
//! | `POST /control/events/move` | the org moves: replay ids that were given out are good no more |
//! | `POST /control/bulk` | [`BulkManners`], each as wanted; answers all of them and what is left of the day's jobs and batches |
//! | `POST /control/bulk/finish` | carries every bulk job that was closed to its end |
//!
//! Writes of records take `?user=ID` for another author, and the first two of them `?commit_after_ms=N`: the
//! record becomes visible only then, with the SystemModstamp of now, and is locked until then.
//!
//! A fault is `{"match": {"method", "path", "object"}, "times", "skip", "probability", "fault": {"kind", …}}`,
//! of which only `fault` is needed: `path` is a part of the path, `times` how often it strikes (always, if left
//! out), `skip` how many matching requests pass before. The kinds:
//!
//! | kind | what happens |
//! |---|---|
//! | `latency` (`ms`) | the request waits, then is served |
//! | `error` (`status`, `code`, `message`) | nothing is done; this error |
//! | `html503` | nothing is done; a page in HTML |
//! | `cut_before` | nothing is done; no answer |
//! | `cut_after` | all is done; no answer |
//! | `cut_during` | all is done; half an answer |
//! | `expire_session` | the request's token dies: 401 |
//! | `quota` | 403 `REQUEST_LIMIT_EXCEEDED` |
//! | `slow_body` (`ms`) | all is done; the answer comes in pieces |
//! | `record` (`code`, `message`) | a record of the request is refused; `times` and `skip` count records |
//! | `fail_job` (`message`) | the bulk job that the request is about fails with this message |
//! | `expire_job` | what the bulk job of the request has read or done is gone, as after seven days |
//!
//! A fault of events is `{"object", "times", "skip", "fault": {"kind", …}}`. The kinds:
//!
//! | kind | what happens |
//! |---|---|
//! | `drop` | the event never comes |
//! | `delay` (`ms`) | the event, and with it all behind it, comes later |
//! | `duplicate` | the event comes twice |
//! | `gap` | the event comes without its values |
//! | `error` (`status`, `code`) | a stream ends with this error, as `UNAVAILABLE` and `service.unavailable` |
//! | `reset` | the connection of a stream is cut |
//! | `expire_token` | the session of a stream ends, and the stream with it |

// A described field has nearly sixty keys in one literal.
#![recursion_limit = "256"]

mod bulk;
mod calls;
mod certificate;
mod clock;
mod control;
mod define;
mod describe;
mod duplicates;
mod error;
mod errors;
mod events;
mod exchange;
mod faults;
mod field;
mod formula;
mod gate;
mod history;
mod id;
pub mod keys;
mod late;
mod local_org;
mod merging;
mod moment;
mod options;
mod org;
mod persist;
mod person;
mod recycle;
mod rest;
mod rollup;
mod rules;
mod save;
mod schema;
mod seed;
mod serve;
mod session;
mod soap;
mod soql;
mod standard;
mod table;
mod value;
mod wire;

pub use bulk::BulkManners;
pub use calls::Call;
pub use duplicates::DuplicateRule;
pub use error::ApiError;
pub use events::{EventFault, EventFaultRule, EventSettings};
pub use faults::{Campaign, Fault, FaultRule, Match};
pub use history::{Deed, Edit};
pub use local_org::LocalOrg;
pub use options::Options;
pub use rollup::{Operation, Summary};
pub use rules::{Rule, RuleAction};
pub use schema::{Field, FieldType, Object};
pub use standard::specimen;
pub use value::Manners;
