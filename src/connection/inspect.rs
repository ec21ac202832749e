//! Looking at the other side on behalf of a person: read only, in his own backend.

use super::call::{Caller, Resolve, Turn};
use super::catalog::{self, Connection, value};
use super::{connector, connector_with_new_secret, fault_to_failure, has_new_secret, link, secret};
use crate::sql::{self, Arg};
use crate::worker::transaction::{Failure, refuse};
use connector::{Account, Connector, Fault, FaultKind, Field, Kind, Object, ObjectName};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// One thing that was looked at.
pub struct Finding {
    pub what: &'static str,
    pub ok: bool,
    pub detail: String,
    pub remedy: Option<String>,
}

/// From here on a clock is worth a word: last write wins compares times of both sides.
const CLOCK_TOLERANCE: i64 = 60_000;

/// The connection of this name, if the caller may use it: its owner, or whoever has USAGE on the server.
///
/// # Errors
/// There is none, or he may not.
pub fn usable(name: &str) -> Result<Connection, Failure> {
    let connection = catalog::by_name(name)?;
    let may = sql::one(
        "SELECT pg_catalog.has_server_privilege($1, 'USAGE')",
        &[Arg::Oid(connection.server)],
    );
    if may.as_deref() == Some("t") {
        return Ok(connection);
    }
    Err(refuse(
        "42501",
        format!("permission denied for connection \"{name}\""),
        "Looking at the other side takes USAGE on the server.",
        &format!(
            "Its owner gives it: GRANT USAGE ON FOREIGN SERVER {} TO …;",
            sql::identifier(name)
        ),
    ))
}

/// The objects of the other side.
///
/// # Errors
/// What [`connector`] and the other side say.
pub fn objects(connection: &Connection) -> Result<Vec<ObjectName>, Failure> {
    let _turn = Turn::take(connection)?;
    let mut caller = Caller::new(connection, connector(connection.server)?);
    caller
        .ask(Resolve::Yields, |c| Box::pin(async move { c.objects().await }))?
        .map_err(|fault| fault_to_failure(&fault))
}

/// An object of the other side with its fields.
///
/// # Errors
/// As [`objects`]; of an object that is not there with the name that may be meant.
pub fn describe(connection: &Connection, object: &str) -> Result<Object, Failure> {
    let _turn = Turn::take(connection)?;
    described_by(&mut Caller::new(connection, connector(connection.server)?), object)
}

/// Several objects, with one login: each as [`describe`] would.
///
/// # Errors
/// Of the connection as a whole; what is wrong with one object is its own result.
pub fn describe_each(
    connection: &Connection,
    objects: &[String],
) -> Result<Vec<Result<Object, Failure>>, Failure> {
    let _turn = Turn::take(connection)?;
    let mut caller = Caller::new(connection, connector(connection.server)?);
    let mut described = Vec::with_capacity(objects.len());
    for object in objects {
        match described_by(&mut caller, object) {
            // Of the way there, or of who we are: the others would end alike.
            Err(failure) if ["08", "28", "53"].iter().any(|c| failure.sqlstate.starts_with(c)) => {
                return Err(failure);
            }
            object => described.push(object),
        }
    }
    Ok(described)
}

/// An object as [`describe_each`] has it, and how many records there are, where the other side says so.
pub type Counted = Result<(Object, Option<u64>), Failure>;

/// The same with how many records each object has.
///
/// # Errors
/// As [`describe_each`].
pub fn describe_and_count(
    connection: &Connection,
    objects: &[String],
) -> Result<Vec<Counted>, Failure> {
    let described = describe_each(connection, objects)?;
    let _turn = Turn::take(connection)?;
    let mut caller = Caller::new(connection, connector(connection.server)?);
    let mut count = |object: Object| {
        let name = object.name.clone();
        let asked =
            caller.ask(Resolve::Yields, move |c| Box::pin(async move { c.count(&name).await }));
        let count = asked?.map_err(|fault| fault_to_failure(&fault))?;
        Ok((object, count))
    };
    Ok(described.into_iter().map(|object| object.and_then(&mut count)).collect())
}

fn described_by(caller: &mut Caller, object: &str) -> Result<Object, Failure> {
    let wanted = object.to_owned();
    caller
        .ask(Resolve::Yields, move |link| {
            Box::pin(async move {
                let mut described = link.describe(&wanted).await;
                if let Err(fault) = &mut described
                    && matches!(fault.kind, FaultKind::Configuration | FaultKind::Schema)
                    && let Ok(objects) = link.objects().await
                    && !objects.iter().any(|o| o.name.eq_ignore_ascii_case(&wanted))
                    && let Some(near) =
                        document::nearest(&wanted, objects.iter().map(|o| o.name.as_str()))
                {
                    fault.hint = format!("Perhaps you meant \"{near}\".");
                }
                described
            })
        })?
        .map_err(|fault| fault_to_failure(&fault))
}

/// The type of a column that holds all values of a field.
pub fn postgres_type(field: &Field) -> &'static str {
    match field.kind {
        Kind::Id | Kind::Text | Kind::Choice => "text",
        Kind::Choices => "text[]",
        Kind::Boolean => "boolean",
        Kind::Integer if field.precision > 0 && field.precision <= 9 => "integer",
        Kind::Integer => "bigint",
        Kind::Number => "numeric",
        Kind::Date => "date",
        Kind::DateTime => "timestamp with time zone",
        Kind::Time => "time without time zone",
        Kind::Bytes => "bytea",
        Kind::Structure => "jsonb",
    }
}

/// What the other side said in a test.
struct Answers {
    account: Result<Account, Fault>,
    took: Duration,
    objects: Option<Result<Vec<ObjectName>, Fault>>,
}

/// Goes through all that a connection needs, up to the first thing that is missing.
///
/// # Errors
/// None of the connection's own; these are what it finds.
pub fn test(connection: &Connection) -> Result<Vec<Finding>, Failure> {
    let mut found = Vec::new();
    if let Err(failure) = link::check_system(connection) {
        found.push(failed("connector", &failure));
        return Ok(found);
    }
    found.push(fine("connector", connection.system.clone()));
    let addresses = addresses(connection);
    let reached = addresses.ok;
    found.push(addresses);
    let _turn = Turn::take(connection)?;
    let link = match connector(connection.server) {
        Ok(link) => {
            found.push(fine(
                "secret",
                format!("{} are stored", secret::flow_of(connection)?.needs.join(" and ")),
            ));
            link
        }
        // Said already.
        Err(_) if !reached => return Ok(found),
        Err(failure) => {
            let what =
                if failure.sqlstate == super::NEEDS_CREDENTIALS || failure.sqlstate == "58P01" {
                    "secret"
                } else {
                    "settings"
                };
            found.push(failed(what, &failure));
            return Ok(found);
        }
    };
    if !reached {
        return Ok(found);
    }
    match asked(connection, link)? {
        None => {
            found.push(no_answer());
            return Ok(found);
        }
        Some(answers) => report(&answers, &mut found),
    }
    if has_new_secret(connection.server)
        && let Some(finding) = new_secret(connection)?
    {
        found.push(finding);
    }
    Ok(found)
}

fn asked(connection: &Connection, link: Arc<dyn Connector>) -> Result<Option<Answers>, Failure> {
    let mut caller = Caller::new(connection, link);
    let begun = Instant::now();
    let Some(account) =
        in_time(caller.ask(Resolve::Insists, |c| Box::pin(async move { c.check().await })))?
    else {
        return Ok(None);
    };
    let took = begun.elapsed();
    let objects = if account.is_ok() {
        let objects =
            in_time(caller.ask(Resolve::Insists, |c| Box::pin(async move { c.objects().await })))?;
        let Some(objects) = objects else { return Ok(None) };
        Some(objects)
    } else {
        None
    };
    Ok(Some(Answers { account, took, objects }))
}

/// That there was no answer in time is a finding.
fn in_time<T>(answer: Result<T, Failure>) -> Result<Option<T>, Failure> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(failure) if failure.sqlstate == "08006" => Ok(None),
        Err(failure) => Err(failure),
    }
}

fn no_answer() -> Finding {
    Finding {
        what: "reached",
        ok: false,
        detail: format!("no answer within {} ms", crate::settings::CALL_TIMEOUT.get()),
        remedy: Some("Try again, or increase sync_ext.call_timeout.".into()),
    }
}

fn addresses(connection: &Connection) -> Finding {
    let options = catalog::settings(connection.server);
    let policy = match link::policy() {
        Ok(policy) => policy,
        Err(failure) => return failed("address", &failure),
    };
    let mut hosts = Vec::new();
    for name in ["instance_url", "login_url"] {
        let Some(text) = value(&options, name) else { continue };
        match policy.url(text) {
            Ok(url) => hosts.push(url.host_str().unwrap_or_default().to_owned()),
            Err(fault) => return failed("address", &fault_to_failure(&fault)),
        }
    }
    if hosts.is_empty() {
        return Finding {
            what: "address",
            ok: false,
            detail: "the connection has no instance_url".into(),
            remedy: Some("Set it with sync.alter_connection.".into()),
        };
    }
    hosts.dedup();
    fine("address", format!("{} is allowed", hosts.join(", ")))
}

fn report(answers: &Answers, found: &mut Vec<Finding>) {
    let account = match &answers.account {
        Ok(account) => account,
        Err(fault) => {
            // A refusal is an answer too.
            if !is_of_the_way(fault) {
                found.push(reached(answers.took));
            }
            found.push(of_fault(if is_of_the_way(fault) { "reached" } else { "login" }, fault));
            return;
        }
    };
    found.push(reached(answers.took));
    let user = if account.user.is_empty() { &account.user_id } else { &account.user };
    found.push(fine("login", format!("org {} as {user}", account.id)));
    found.push(fine("API version", account.version.clone()));
    found.push(match account.usage {
        None => fine("quota", "the user may not see how many calls are left".into()),
        Some(usage) => {
            let left = usage.allowed.saturating_sub(usage.used);
            let ok = left.saturating_mul(20) >= usage.allowed;
            Finding {
                what: "quota",
                ok,
                detail: format!("{left} of {} calls of the day are left", usage.allowed),
                remedy: (!ok)
                    .then(|| "Something uses most of the calls; see the org's API usage.".into()),
            }
        }
    });
    if let Some(offset) = account.clock_offset_ms {
        let ok = offset.abs() < CLOCK_TOLERANCE;
        found.push(Finding {
            what: "clock",
            ok,
            detail: format!("the other side's is {offset} ms from this server's"),
            remedy: (!ok).then(|| "Have this server's clock set by NTP.".into()),
        });
    }
    match &answers.objects {
        None => {}
        Some(Err(fault)) => found.push(of_fault("objects", fault)),
        Some(Ok(objects)) => {
            let writable = objects.iter().filter(|o| o.createable && o.updateable).count();
            let ok = !objects.is_empty();
            found.push(Finding {
                what: "objects",
                ok,
                detail: format!("{} can be read, {writable} of them written", objects.len()),
                remedy: (!ok).then(|| "Give the user rights on the objects to be synced.".into()),
            });
        }
    }
}

/// Did the request not even come to the other side's application?
fn is_of_the_way(fault: &Fault) -> bool {
    matches!(fault.kind, FaultKind::Transient | FaultKind::Ambiguous)
        || matches!(
            fault.code.as_str(),
            "HOST_NOT_ALLOWED" | "CERTIFICATE_REFUSED" | "NO_CERTIFICATES" | "TLS_FAILED"
        )
}

fn new_secret(connection: &Connection) -> Result<Option<Finding>, Failure> {
    let link = match connector_with_new_secret(connection.server) {
        Ok(None) => return Ok(None),
        Ok(Some(link)) => link,
        Err(failure) => return Ok(Some(failed("new secret", &failure))),
    };
    let answer = Caller::new(connection, link)
        .ask(Resolve::Insists, |c| Box::pin(async move { c.check().await }));
    Ok(Some(match answer {
        Ok(Ok(_)) => {
            fine("new secret", "it works, and takes the old one's place at the next login".into())
        }
        Ok(Err(fault)) => of_fault("new secret", &fault),
        Err(failure) => failed("new secret", &failure),
    }))
}

fn reached(took: Duration) -> Finding {
    fine("reached", format!("answered within {} ms", took.as_millis().max(1)))
}

fn fine(what: &'static str, detail: String) -> Finding {
    Finding { what, ok: true, detail, remedy: None }
}

fn of_fault(what: &'static str, fault: &Fault) -> Finding {
    failed(what, &fault_to_failure(fault))
}

fn failed(what: &'static str, failure: &Failure) -> Finding {
    let mut detail = failure.message.clone();
    if let Some(more) = &failure.detail {
        detail = format!("{detail}. {more}");
    }
    Finding { what, ok: false, detail, remedy: failure.hint.clone() }
}
