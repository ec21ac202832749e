//! Looking at the other side on behalf of a person: read only, in his own backend.

use super::call::{Caller, Resolve, Turn};
use super::catalog::{self, Connection, value};
use super::health;
use super::rights::{self, Need};
use super::{connector, connector_with_new_secret, fault_to_failure, has_new_secret, link, secret};
use crate::sql::{self, Arg};
use crate::worker::transaction::{Failure, refuse};
use connector::{
    Account, Connector, Fault, FaultKind, Field, Kind, Object, ObjectName, Remark, Usage,
};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// One thing that was looked at.
pub struct Finding {
    pub what: String,
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

/// An object of the other side with its fields, and with those of its parents that are named.
///
/// # Errors
/// As [`objects`]; of an object that is not there with the name that may be meant.
pub fn describe(
    connection: &Connection,
    object: &str,
    of_parents: &[String],
) -> Result<Object, Failure> {
    let _turn = Turn::take(connection)?;
    described_by(&mut Caller::new(connection, connector(connection.server)?), object, of_parents)
}

/// Several objects, with one login: each as [`describe`] would.
///
/// # Errors
/// Of the connection as a whole; what is wrong with one object is its own result.
pub fn describe_each(
    connection: &Connection,
    objects: &[String],
    of_parents: &[String],
) -> Result<Vec<Result<Object, Failure>>, Failure> {
    let _turn = Turn::take(connection)?;
    let mut caller = Caller::new(connection, connector(connection.server)?);
    each_described_by(&mut caller, objects, of_parents)
}

fn each_described_by(
    caller: &mut Caller,
    objects: &[String],
    of_parents: &[String],
) -> Result<Vec<Result<Object, Failure>>, Failure> {
    let mut described = Vec::with_capacity(objects.len());
    for object in objects {
        match described_by(caller, object, of_parents) {
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
    of_parents: &[String],
) -> Result<Vec<Counted>, Failure> {
    let _turn = Turn::take(connection)?;
    let mut caller = Caller::new(connection, connector(connection.server)?);
    let described = each_described_by(&mut caller, objects, of_parents)?;
    let mut count = |object: Object| {
        let name = object.name.clone();
        let asked =
            caller.ask(Resolve::Yields, move |c| Box::pin(async move { c.count(&name).await }));
        let count = asked?.map_err(|fault| fault_to_failure(&fault))?;
        Ok((object, count))
    };
    Ok(described.into_iter().map(|object| object.and_then(&mut count)).collect())
}

fn described_by(
    caller: &mut Caller,
    object: &str,
    of_parents: &[String],
) -> Result<Object, Failure> {
    let (wanted, of_parents) = (object.to_owned(), of_parents.to_vec());
    caller
        .ask(Resolve::Yields, move |link| {
            Box::pin(async move {
                let mut described = link.describe(&wanted, &of_parents).await;
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
    remarks: Result<Vec<Remark>, Fault>,
    objects: Option<Result<Vec<ObjectName>, Fault>>,
    /// The objects that syncs use.
    described: Vec<(String, Result<Object, Fault>)>,
}

/// Goes through all that a connection needs, and what its syncs need of the other side, up to the first thing that
/// keeps the rest from being looked at.
///
/// # Errors
/// None of the connection's own; these are what it finds.
pub fn test(
    connection: &Connection,
    needs: &[(String, Result<Need, Failure>)],
) -> Result<Vec<Finding>, Failure> {
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
    let readable: Vec<&Need> = needs.iter().filter_map(|(_, need)| need.as_ref().ok()).collect();
    match asked(connection, link, &readable)? {
        None => {
            found.push(no_answer());
            return Ok(found);
        }
        Some(answers) => {
            report(&answers, &mut found);
            for (object, described) in &answers.described {
                let of_it: Vec<&Need> = readable
                    .iter()
                    .copied()
                    .filter(|need| need.object.eq_ignore_ascii_case(object))
                    .collect();
                found.extend(rights::findings(&of_it, described));
            }
        }
    }
    let unreadable = needs.iter().filter_map(|(sync, need)| Some((sync, need.as_ref().err()?)));
    found.extend(unreadable.map(|(sync, failure)| failed(format!("sync {sync}"), failure)));
    if has_new_secret(connection.server)
        && let Some(finding) = new_secret(connection)?
    {
        found.push(finding);
    }
    if found.iter().all(|finding| finding.ok) {
        health::mended(&connection.name);
    }
    Ok(found)
}

/// In one call: a connection of the client lives no longer than the thread that made it.
fn asked(
    connection: &Connection,
    link: Arc<dyn Connector>,
    needs: &[&Need],
) -> Result<Option<Answers>, Failure> {
    let mut objects: Vec<(String, Vec<String>)> = Vec::new();
    for need in needs {
        let known = objects.iter().position(|(name, _)| name.eq_ignore_ascii_case(&need.object));
        let at = known.unwrap_or_else(|| {
            objects.push((need.object.clone(), Vec::new()));
            objects.len() - 1
        });
        need.add_of_parents(&mut objects[at].1);
    }
    let begun = Instant::now();
    let answer = Caller::new(connection, link)
        .ask(Resolve::Insists, move |c| Box::pin(async move { look(&*c, objects).await }));
    let refused = |fault| Answers {
        account: Err(fault),
        took: begun.elapsed(),
        remarks: Ok(Vec::new()),
        objects: None,
        described: Vec::new(),
    };
    Ok(in_time(answer)?.map(|answers| answers.unwrap_or_else(refused)))
}

/// On a network thread: the connection, and these objects with fields of their parents.
async fn look(link: &dyn Connector, objects: Vec<(String, Vec<String>)>) -> Result<Answers, Fault> {
    let begun = Instant::now();
    let account = link.check().await;
    let took = begun.elapsed();
    if let Err(fault) = &account
        && (fault.kind != FaultKind::Configuration || is_of_the_way(fault))
    {
        return Err(fault.clone());
    }
    // Where it is the setup that is wrong, what is there to see may tell why.
    let remarks = link.survey().await;
    let (mut all, mut described) = (None, Vec::new());
    if account.is_ok() {
        let found = link.objects().await;
        // Nothing can be said of one object where nothing can be said of all.
        for (object, of_parents) in objects.into_iter().filter(|_| found.is_ok()) {
            let answer = link.describe(&object, &of_parents).await;
            described.push((object, answer));
        }
        all = Some(found);
    }
    Ok(Answers { account, took, remarks, objects: all, described })
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
        what: "reached".into(),
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
            what: "address".into(),
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
            let told = answers.remarks.iter().flatten().filter(|remark| !remark.ok);
            found.extend(told.map(of_remark));
            return;
        }
    };
    found.push(reached(answers.took));
    let user = if account.user.is_empty() { &account.user_id } else { &account.user };
    found.push(fine("login", format!("org {} as {user}", account.id)));
    match &answers.remarks {
        Ok(remarks) => found.extend(remarks.iter().map(of_remark)),
        Err(fault) => found.push(of_fault("survey", fault)),
    }
    found.push(match account.usage {
        None => fine("quota", "the user may not see how many calls are left".into()),
        Some(usage) => quota(usage),
    });
    if let Some(offset) = account.clock_offset_ms {
        let ok = offset.abs() < CLOCK_TOLERANCE;
        found.push(Finding {
            what: "clock".into(),
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
                what: "objects".into(),
                ok,
                detail: format!("{} can be read, {writable} of them written", objects.len()),
                remedy: (!ok).then(|| "Give the user rights on the objects to be synced.".into()),
            });
        }
    }
}

fn quota(usage: Usage) -> Finding {
    let left = usage.allowed.saturating_sub(usage.used);
    let share = governor::Limits::default().reserve_share;
    let reserve = (usage.allowed as f64 * share).ceil() as u64;
    let ok = left.saturating_mul(20) >= usage.allowed;
    Finding {
        what: "quota".into(),
        ok,
        detail: format!(
            "{} of {} calls of the day are used, {left} are left; syncs leave {reserve} of them to others",
            usage.used, usage.allowed
        ),
        remedy: (!ok).then(|| "Something uses most of the calls; see the org's API usage.".into()),
    }
}

fn of_remark(remark: &Remark) -> Finding {
    Finding {
        what: remark.what.into(),
        ok: remark.ok,
        detail: remark.detail.clone(),
        remedy: (!remark.remedy.is_empty()).then(|| remark.remedy.clone()),
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

fn fine(what: impl Into<String>, detail: String) -> Finding {
    Finding { what: what.into(), ok: true, detail, remedy: None }
}

fn of_fault(what: impl Into<String>, fault: &Fault) -> Finding {
    failed(what, &fault_to_failure(fault))
}

pub(super) fn failed(what: impl Into<String>, failure: &Failure) -> Finding {
    let mut detail = failure.message.clone();
    if let Some(more) = &failure.detail {
        detail = format!("{detail}. {more}");
    }
    Finding { what: what.into(), ok: false, detail, remedy: failure.hint.clone() }
}
