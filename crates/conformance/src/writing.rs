//! What is promised of writes.

use crate::{NAME, NOTE, Scratch, Verdict, create, delete, demand, names, told, update};
use connector::{Before, Done, FaultKind, Identity};

/// A batch may have `max_write` records, and the outcomes stand in their order.
pub(crate) async fn as_many_as_said_in_their_order(s: &Scratch<'_>) -> Verdict {
    let can = s.connector.capabilities();
    let names = names("many", can.max_write);
    let ids = s.make(&names).await?;
    for (ids, names) in ids.chunks(can.max_fetch).zip(names.chunks(can.max_fetch)) {
        for (record, name) in s.fetch(ids).await?.into_iter().zip(names) {
            let held = record.and_then(|r| r.values[NAME].clone());
            demand!(held.as_ref() == Some(name), "the outcome of {name} has the id of {held:?}");
        }
    }
    Ok(())
}

/// So many updates, read before where it can, are one request, and one more is another.
pub(crate) async fn one_call_for_a_step(s: &Scratch<'_>) -> Verdict {
    let can = s.connector.capabilities();
    let ids = s.make(&names("step", can.write_step + 1)).await?;
    for (count, expected) in [(can.write_step, 1), (can.write_step + 1, 2)] {
        let before = s.connector.calls();
        let writes = ids[..count].iter().map(|id| update(id, NOTE, Some("step"))).collect();
        s.write(can.reads_before_write, writes).await?;
        let calls = s.connector.calls() - before;
        demand!(calls == expected, "{count} records were {calls} calls, not {expected}");
    }
    Ok(())
}

pub(crate) async fn a_refused_record_is_alone(s: &Scratch<'_>) -> Verdict {
    let too_long = "x".repeat(s.name.length as usize + 1);
    let refused = if s.name.length > 0 { too_long.as_str() } else { "" };
    let writes = vec![create(None, "first"), create(None, refused), create(None, "last")];
    let outcomes = s.write(false, writes).await?;
    for (place, name) in [(0, "first"), (2, "last")] {
        let Ok(Done::Created { id }) = &outcomes[place].result else {
            return Err(format!("{name} came back as {:?}", outcomes[place].result));
        };
        let held = s.one(id).await?;
        demand!(held.values[NAME].as_deref() == Some(name), "{held:?}, not {name}");
    }
    let kind = outcomes[1].result.as_ref().err().map(|fault| fault.kind);
    demand!(kind == Some(FaultKind::Refused), "a value too long: {:?}", outcomes[1].result);
    Ok(())
}

/// A null is written, a field that is not named stays as it is.
pub(crate) async fn null_and_unnamed(s: &Scratch<'_>) -> Verdict {
    let ids = s.make(&names("null", 1)).await?;
    s.write(false, vec![update(&ids[0], NOTE, Some("kept"))]).await?;
    s.write(false, vec![update(&ids[0], NAME, Some("renamed"))]).await?;
    let record = s.one(&ids[0]).await?;
    demand!(record.values[NOTE].as_deref() == Some("kept"), "not named, and became {record:?}");
    s.write(false, vec![update(&ids[0], NOTE, None)]).await?;
    let record = s.one(&ids[0]).await?;
    demand!(record.values[NOTE].is_none(), "set to null, and is {record:?}");
    demand!(record.values[NAME].as_deref() == Some("renamed"), "not named, and became {record:?}");
    Ok(())
}

pub(crate) async fn deleted_twice(s: &Scratch<'_>) -> Verdict {
    let ids = s.make(&names("deleted", 1)).await?;
    for expected in [Done::Deleted, Done::Gone] {
        let outcomes = s.write(false, vec![delete(&ids[0])]).await?;
        demand!(outcomes[0].result == Ok(expected.clone()), "{:?}, not {expected:?}", outcomes[0]);
    }
    let outcomes = s.write(false, vec![update(&ids[0], NAME, Some("late"))]).await?;
    demand!(outcomes[0].result == Ok(Done::Gone), "an update of it is {:?}", outcomes[0]);
    Ok(())
}

/// A create with an identity makes one record, however often it is sent.
pub(crate) async fn a_create_is_repeatable(s: &Scratch<'_>) -> Verdict {
    if !s.connector.capabilities().upsert {
        return Ok(());
    }
    let Some(column) = &s.identity else {
        return Err("the object has no field that could identify a record".into());
    };
    let identity = || Some(Identity { field: column.name.clone(), value: "the same".into() });
    let first = s.write(false, vec![create(identity(), "once")]).await?;
    let Ok(Done::Created { id }) = &first[0].result else {
        return Err(format!("the first came back as {:?}", first[0].result));
    };
    let again = s.write(false, vec![create(identity(), "twice")]).await?;
    let expected = Ok(Done::Updated { id: id.clone() });
    demand!(again[0].result == expected, "the second came back as {:?}", again[0].result);
    let columns = s.columns();
    let values = ["the same".to_owned()];
    let found = s.connector.find(s.object, &columns, &column.name, &values).await.map_err(told)?;
    demand!(found.len() == 1 && found[0].id == *id, "{found:?}, not {id} alone");
    demand!(found[0].values[NAME].as_deref() == Some("twice"), "{found:?}");
    Ok(())
}

/// Where it can, the state before a write comes back with it, if it is asked for.
pub(crate) async fn the_state_before(s: &Scratch<'_>) -> Verdict {
    let can = s.connector.capabilities();
    let ids = s.make(&names("before", 3)).await?;
    s.write(false, vec![delete(&ids[2])]).await?;
    let held = s.fetch(&ids[..2]).await?;
    let writes = || {
        vec![
            update(&ids[0], NAME, Some("after")),
            delete(&ids[1]),
            update(&ids[2], NAME, Some("x")),
        ]
    };
    let outcomes = s.write(true, writes()).await?;
    for (outcome, held) in outcomes.iter().zip(held.into_iter().chain([None])) {
        let expected = match held {
            _ if !can.reads_before_write => Before::NotRead,
            Some(record) => Before::There(record),
            None => Before::Missing,
        };
        demand!(outcome.before == expected, "{:?}, not {expected:?}", outcome.before);
    }
    let unasked = s.write(false, vec![update(&ids[0], NAME, Some("unasked"))]).await?;
    demand!(unasked[0].before == Before::NotRead, "not asked for: {:?}", unasked[0].before);
    Ok(())
}

/// `canonical` tells what will be read back, and of that says the same.
pub(crate) async fn canonical_is_what_is_read_back(s: &Scratch<'_>) -> Verdict {
    let ids = s.make(&names("canonical", 1)).await?;
    for value in
        ["plain", "  blanks around  ", "", "   ", "two\nlines", "Größe 漢字 🙂", "a'b\"c\\d"]
    {
        s.write(false, vec![update(&ids[0], NOTE, Some(value))]).await?;
        let expected = s.connector.canonical(&s.note, Some(value));
        let held = s.one(&ids[0]).await?.values[NOTE].clone();
        demand!(held == expected, "{value:?} is read back as {held:?}, not as {expected:?}");
        let again = s.connector.canonical(&s.note, expected.as_deref());
        demand!(again == expected, "{expected:?} becomes {again:?}");
    }
    demand!(s.connector.canonical(&s.note, None).is_none(), "null is canonically a value");
    Ok(())
}
