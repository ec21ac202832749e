use crate::avro::{self, Value};
use crate::bitmap::Fields;
use crate::event::{Change, ChangeType, Field, Kind};
use crate::schema::{Record, Schema, Type};

const HEADER: &str = "ChangeEventHeader";

/// What the payload of an event of this schema says. Never fails: what can't be read is
/// [`Kind::Unreadable`].
pub fn decode(schema: &Schema, payload: &[u8]) -> Kind {
    let read = avro::read(&Type::Record(schema.record.clone()), payload)
        .map_err(|unfit| unfit.why().to_owned())
        .and_then(|value| match value {
            Value::Record(record, values) => event(schema, &record, &values),
            _ => Err("it is no record".to_owned()),
        });
    read.unwrap_or_else(|why| Kind::Unreadable { why: format!("an event can't be read: {why}") })
}

fn event(schema: &Schema, record: &Record, values: &[Value]) -> Result<Kind, String> {
    let place = record.place(HEADER).ok_or("it has no header")?;
    let Some(Value::Record(kind, header)) = values.get(place) else {
        return Err("its header is no record".to_owned());
    };
    let header = Header { kind, values: header };
    let entity = header.text("entityName")?.to_owned();
    let ids: Vec<String> = header.texts("recordIds")?.map(str::to_owned).collect();
    let change = match header.text("changeType")? {
        "CREATE" => ChangeType::Created,
        "UPDATE" => ChangeType::Updated,
        "DELETE" => ChangeType::Deleted,
        "UNDELETE" => ChangeType::Undeleted,
        "GAP_OVERFLOW" => return Ok(Kind::Overflow { entity }),
        // Of a type that is not known yet the records alone are certain, as of a gap.
        other => return Ok(Kind::Gap { entity, ids, change: other.to_owned() }),
    };
    if ids.is_empty() {
        return Err("it names no record".to_owned());
    }
    let sets = Sets {
        changed: header.fields("changedFields")?,
        nulled: header.fields("nulledFields")?,
        differing: header.fields("diffFields")?,
    };
    sets.check(record, place)?;
    let mut told = Told { fields: Vec::new(), untold: Vec::new() };
    if change != ChangeType::Deleted {
        for (at, ((name, kind), value)) in record.fields.iter().zip(values).enumerate() {
            if at != place {
                told.field(change, &sets, at, name, kind, value);
            }
        }
    }
    Ok(Kind::Changed(Change {
        entity,
        ids,
        change,
        fields: told.fields,
        untold: told.untold,
        committed_at: header.integer("commitTimestamp")?,
        user: header.text("commitUser")?.to_owned(),
        origin: header.text("changeOrigin")?.to_owned(),
        transaction: header.text("transactionKey")?.to_owned(),
        sequence: header.integer("sequenceNumber")?,
        schema: schema.clone(),
    }))
}

struct Header<'a> {
    kind: &'a Record,
    values: &'a [Value],
}

impl<'a> Header<'a> {
    fn value(&self, name: &str) -> Option<&'a Value> {
        self.values.get(self.kind.place(name)?)
    }

    fn text(&self, name: &str) -> Result<&'a str, String> {
        match self.value(name) {
            Some(Value::Text(text)) => Ok(text),
            _ => Err(format!("its header has no {name}")),
        }
    }

    fn integer(&self, name: &str) -> Result<i64, String> {
        match self.value(name) {
            Some(Value::Integer(number)) => Ok(*number),
            _ => Err(format!("its header has no {name}")),
        }
    }

    fn texts(&self, name: &str) -> Result<impl Iterator<Item = &'a str>, String> {
        let missing = || format!("its header has no {name}");
        let Some(Value::List(list)) = self.value(name) else { return Err(missing()) };
        let texts: Option<Vec<&str>> = list
            .iter()
            .map(|item| if let Value::Text(text) = item { Some(text.as_str()) } else { None })
            .collect();
        texts.map(Vec::into_iter).ok_or_else(missing)
    }

    fn fields(&self, name: &str) -> Result<Fields, String> {
        Fields::read(self.texts(name)?).ok_or_else(|| format!("its {name} are no sets of fields"))
    }
}

struct Sets {
    changed: Fields,
    nulled: Fields,
    differing: Fields,
}

/// What the sets say of one field or part.
#[derive(Clone, Copy)]
struct Marks {
    changed: bool,
    nulled: bool,
    differs: bool,
}

impl Sets {
    /// Every bit has to mean a field that is there, or the event is not of this schema.
    fn check(&self, record: &Record, header: usize) -> Result<(), String> {
        let sets = [&self.changed, &self.nulled, &self.differing];
        let top = sets
            .iter()
            .flat_map(|set| &set.top)
            .all(|&at| at < record.fields.len() && at != header);
        let parts = sets.iter().flat_map(|set| &set.parts).all(|(&at, parts)| {
            let compound =
                record.fields.get(at).filter(|_| at != header).and_then(|(_, kind)| kind.record());
            compound.is_some_and(|compound| parts.iter().all(|&part| part < compound.fields.len()))
        });
        if top && parts {
            Ok(())
        } else {
            Err("its header names fields that its schema has not".to_owned())
        }
    }

    fn of(&self, at: usize) -> Marks {
        Marks {
            changed: self.changed.has(at),
            nulled: self.nulled.has(at),
            differs: self.differing.has(at),
        }
    }

    fn of_part(&self, at: usize, part: usize) -> Marks {
        Marks {
            changed: self.changed.has_part(at, part),
            nulled: self.nulled.has_part(at, part),
            differs: self.differing.has_part(at, part),
        }
    }
}

struct Told {
    fields: Vec<(Field, Value)>,
    untold: Vec<Field>,
}

impl Told {
    fn field(
        &mut self,
        change: ChangeType,
        sets: &Sets,
        at: usize,
        name: &str,
        kind: &Type,
        value: &Value,
    ) {
        let field =
            |part: Option<&str>| Field { name: name.to_owned(), part: part.map(str::to_owned) };
        let marks = sets.of(at);
        let Some(compound) = kind.record() else {
            return self.value(change, marks, field(None), value);
        };
        let parts: Vec<&Value> = match value {
            Value::Record(_, parts) => parts.iter().collect(),
            Value::Null => compound.fields.iter().map(|_| &Value::Null).collect(),
            // The name of an account that is no person.
            plain => return self.value(change, marks, field(None), plain),
        };
        // A name that may be a text is that, unless parts are named.
        let named = |set: &Fields| set.parts.contains_key(&at);
        let by_part = [&sets.changed, &sets.nulled, &sets.differing].into_iter().any(named);
        let may_be_text = matches!(kind, Type::Union(branches) if branches.contains(&Type::Text));
        if value == &Value::Null && !by_part && may_be_text {
            return self.value(change, marks, field(None), value);
        }
        for (number, (value, (part, _))) in parts.into_iter().zip(&compound.fields).enumerate() {
            let mut own = sets.of_part(at, number);
            // A mark of the whole is one of each part, but for that of a change beside marks of parts, which says
            // no more than they do.
            own.nulled |= marks.nulled && value == &Value::Null;
            own.changed |= marks.changed && !by_part;
            own.differs |= marks.differs;
            self.value(change, own, field(Some(part)), value);
        }
    }

    /// A value counts where nothing contradicts it: presence is decided by the marks, and a value that comes
    /// without a mark is one too. Everything else has to be read.
    fn value(&mut self, change: ChangeType, marks: Marks, field: Field, value: &Value) {
        let null = value == &Value::Null;
        let nested = matches!(value, Value::Record(..) | Value::List(_) | Value::Bytes(_));
        if marks.differs || nested || marks.nulled && !null {
            self.untold.push(field);
        } else if !null || marks.nulled || change != ChangeType::Updated {
            self.fields.push((field, value.clone()));
        } else if marks.changed {
            self.untold.push(field);
        }
    }
}
