//! Set-based statements on user tables: one plan, fed with many rows at once through a named
//! tuplestore, so that every type works and no value ever becomes text.

use super::plan::Column;
use crate::border;
use crate::log::segments;
use bumpalo::Bump;
use change::image::Value;
use pgrx::pg_sys::{self, Datum, Oid};
use pgrx::prelude::*;
use std::ffi::CString;

/// Name under which a statement sees the rows it is fed with.
pub const FED: &str = "__sync_rows";
/// Its first column: the number of the row, from 0.
pub const ORD: &str = "__sync_ord";

/// The name of that column beside others whose names a user chose.
pub fn ord(columns: &[Fed]) -> String {
    let mut name = ORD.to_owned();
    while columns.iter().any(|c| c.name == name) {
        name.push('_');
    }
    name
}

/// A column that a statement is fed with.
#[derive(Clone, Debug)]
pub struct Fed {
    pub name: String,
    pub type_oid: Oid,
    pub collation: Oid,
    pub length: i16,
    pub by_value: bool,
}

impl Fed {
    pub fn of(name: String, column: &Column) -> Self {
        Self {
            name,
            type_oid: column.base_type,
            collation: column.collation,
            length: column.length,
            by_value: column.by_value,
        }
    }
}

/// A prepared statement with the description of what it is fed with.
pub struct Statement {
    pub(super) plan: pg_sys::SPIPlanPtr,
    descriptor: pg_sys::TupleDesc,
    columns: Vec<Fed>,
    name: CString,
    writes: bool,
}

impl Drop for Statement {
    fn drop(&mut self) {
        // SAFETY: kept plans and descriptors in TopMemoryContext belong to us.
        unsafe {
            if !std::thread::panicking() {
                pg_sys::SPI_freeplan(self.plan);
                pg_sys::FreeTupleDesc(self.descriptor);
            }
        }
    }
}

impl Statement {
    /// Prepares `text`; inside an SPI connection. `fed_as` is the name of the fed rows.
    pub fn prepare(text: &str, fed_as: &str, columns: Vec<Fed>, writes: bool) -> Self {
        let (text, name) = (border::exact(text), border::exact(fed_as));
        let names: Vec<CString> = columns.iter().map(|c| border::exact(&c.name)).collect();
        let first = border::exact(&ord(&columns));
        // SAFETY: the descriptor is built in memory that lives as long as the plan.
        unsafe {
            let old = pg_sys::MemoryContextSwitchTo(pg_sys::TopMemoryContext);
            let descriptor = pg_sys::CreateTemplateTupleDesc(columns.len() as i32 + 1);
            let entry = |n: usize, name: &CString, type_oid: Oid, collation: Oid| {
                let number = n as pg_sys::AttrNumber;
                pg_sys::TupleDescInitEntry(descriptor, number, name.as_ptr(), type_oid, -1, 0);
                pg_sys::TupleDescInitEntryCollation(descriptor, number, collation);
            };
            entry(1, &first, pg_sys::INT4OID, pg_sys::InvalidOid);
            for (n, (column, name)) in columns.iter().zip(&names).enumerate() {
                entry(n + 2, name, column.type_oid, column.collation);
            }
            pg_sys::MemoryContextSwitchTo(old);
            register(&name, descriptor, std::ptr::null_mut(), 500);
            let plan = pg_sys::SPI_prepare(text.as_ptr(), 0, std::ptr::null_mut());
            if plan.is_null() {
                let code = pg_sys::SPI_result;
                ereport!(
                    ERROR,
                    PgSqlErrorCode::ERRCODE_INTERNAL_ERROR,
                    format!("SPI_prepare failed with code {code}")
                );
            }
            pg_sys::SPI_keepplan(plan);
            pg_sys::SPI_unregister_relation(name.as_ptr());
            Self { plan, descriptor, columns, name, writes }
        }
    }

    /// Runs the statement over `rows`; calls `each` with the number of the row (the first result
    /// column) and the other result columns. Returns how many rows came back.
    pub fn run<'v, 'b>(
        &self,
        bump: &'b Bump,
        rows: impl Iterator<Item = impl AsRef<[Value<'v>]>>,
        results: &[&Column],
        mut each: impl FnMut(usize, &'b [Value<'b>]),
    ) -> usize {
        // SAFETY: inside an SPI connection; the result tuples are read before the connection runs anything else.
        unsafe {
            let (store, count) = self.fill(rows);
            self.register(store, count);
            let code = pg_sys::SPI_execute_plan(
                self.plan,
                std::ptr::null_mut(),
                std::ptr::null(),
                !self.writes,
                0,
            );
            if code < 0 {
                ereport!(
                    ERROR,
                    PgSqlErrorCode::ERRCODE_INTERNAL_ERROR,
                    format!("SPI_execute_plan failed with code {code}")
                );
            }
            let processed = pg_sys::SPI_processed as usize;
            let table = pg_sys::SPI_tuptable;
            if !table.is_null() {
                let width = (*(*table).tupdesc).natts as usize;
                check_types((*table).tupdesc, results);
                let (mut values, mut nulls) = (vec![Datum::null(); width], vec![true; width]);
                for n in 0..(*table).numvals as usize {
                    let tuple = *(*table).vals.add(n);
                    pg_sys::heap_deform_tuple(
                        tuple,
                        (*table).tupdesc,
                        values.as_mut_ptr(),
                        nulls.as_mut_ptr(),
                    );
                    let ord = if nulls[0] { n } else { values[0].value() as u32 as usize };
                    let row = bump.alloc_slice_fill_iter(results.iter().enumerate().map(
                        |(i, column)| {
                            if nulls[i + 1] {
                                Value::Null
                            } else {
                                Value::Bytes(from_datum(
                                    bump,
                                    values[i + 1],
                                    column.length,
                                    column.by_value,
                                ))
                            }
                        },
                    ));
                    each(ord, row);
                }
                pg_sys::SPI_freetuptable(table);
            }
            self.unregister(store);
            processed
        }
    }

    /// How many columns it is fed with.
    pub(super) fn width(&self) -> usize {
        self.columns.len() + 1
    }

    /// Writes what it is fed with for one row to `values` and `nulls`, which have room for as many as it has columns.
    /// The values live as long as `scratch` is not reset.
    pub(super) unsafe fn feed(
        &self,
        number: usize,
        row: &[Value<'_>],
        (values, nulls): (*mut Datum, *mut bool),
        scratch: &Bump,
    ) {
        // SAFETY: the number of the row, and a value of its type for every other column.
        unsafe {
            values.write(Datum::from(number as i32));
            nulls.write(false);
            for (n, (column, value)) in self.columns.iter().zip(row).enumerate() {
                let datum = match value {
                    Value::Bytes(bytes) => {
                        Some(to_datum(bytes, column.length, column.by_value, scratch))
                    }
                    _ => None,
                };
                nulls.add(n + 1).write(datum.is_none());
                values.add(n + 1).write(datum.unwrap_or(Datum::null()));
            }
        }
    }

    /// A tuplestore with copies of these rows, and their number.
    pub(super) unsafe fn fill<'v>(
        &self,
        rows: impl Iterator<Item = impl AsRef<[Value<'v>]>>,
    ) -> (*mut pg_sys::Tuplestorestate, usize) {
        let mut values = vec![Datum::null(); self.width()];
        let mut nulls = vec![true; self.width()];
        let (values, nulls) = (values.as_mut_ptr(), nulls.as_mut_ptr());
        let mut scratch = Bump::new();
        let mut count = 0;
        // SAFETY: there is room for a row.
        unsafe {
            let store = pg_sys::tuplestore_begin_heap(false, false, 4096);
            for row in rows {
                self.feed(count, row.as_ref(), (values, nulls), &scratch);
                pg_sys::tuplestore_putvalues(store, self.descriptor, values, nulls);
                scratch.reset();
                count += 1;
            }
            (store, count)
        }
    }

    /// Lets the statement see the rows of the tuplestore.
    pub(super) unsafe fn register(
        &self,
        store: *mut pg_sys::Tuplestorestate,
        rows: usize,
    ) -> pg_sys::EphemeralNamedRelation {
        // SAFETY: inside an SPI connection.
        unsafe { register(&self.name, self.descriptor, store, rows) }
    }

    pub(super) unsafe fn unregister(&self, store: *mut pg_sys::Tuplestorestate) {
        // SAFETY: registered, and read no more.
        unsafe {
            pg_sys::SPI_unregister_relation(self.name.as_ptr());
            pg_sys::tuplestore_end(store);
        }
    }
}

/// Values are read by the types that are expected: another one would be taken for what it is not.
unsafe fn check_types(descriptor: pg_sys::TupleDesc, results: &[&Column]) {
    // SAFETY: the descriptor of a result.
    let is = |n: usize, column: &Column| unsafe {
        n < (*descriptor).natts as usize
            && [column.type_oid, column.base_type]
                .contains(&(*segments::attribute(descriptor, n as i32)).atttypid)
    };
    if let Some((n, _)) = results.iter().enumerate().find(|(n, column)| !is(n + 1, column)) {
        ereport!(
            ERROR,
            PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH,
            format!("result {} of a statement is of another type than its column", n + 1)
        );
    }
}

unsafe fn register(
    name: &CString,
    descriptor: pg_sys::TupleDesc,
    store: *mut pg_sys::Tuplestorestate,
    rows: usize,
) -> pg_sys::EphemeralNamedRelation {
    // SAFETY: inside an SPI connection; the description lives in its memory.
    unsafe {
        let relation = pg_sys::palloc0(size_of::<pg_sys::EphemeralNamedRelationData>())
            .cast::<pg_sys::EphemeralNamedRelationData>();
        (*relation).md.name = name.as_ptr().cast_mut();
        (*relation).md.reliddesc = pg_sys::InvalidOid;
        (*relation).md.tupdesc = descriptor;
        (*relation).md.enrtype = pg_sys::EphemeralNameRelationType::ENR_NAMED_TUPLESTORE;
        (*relation).md.enrtuples = rows as f64;
        (*relation).reldata = store.cast();
        let code = pg_sys::SPI_register_relation(relation);
        if code < 0 {
            ereport!(
                ERROR,
                PgSqlErrorCode::ERRCODE_INTERNAL_ERROR,
                format!("SPI_register_relation failed with code {code}")
            );
        }
        relation
    }
}

/// The datum of a value in its stored bytes; it lives as long as `scratch` is not reset.
pub unsafe fn to_datum(bytes: &[u8], length: i16, by_value: bool, scratch: &Bump) -> Datum {
    // SAFETY: copies into memory of the right size.
    unsafe {
        if by_value {
            let mut word = [0u8; 8];
            let n = bytes.len().min(8);
            word[..n].copy_from_slice(&bytes[..n]);
            // Narrow types are sign-extended, as the server does; the high bytes are never read.
            return Datum::from(match n {
                1 => i64::from(word[0] as i8),
                2 => i64::from(i16::from_ne_bytes([word[0], word[1]])),
                4 => i64::from(i32::from_ne_bytes([word[0], word[1], word[2], word[3]])),
                _ => i64::from_ne_bytes(word),
            });
        }
        let header = if length == -1 { 4 } else { 0 };
        let tail = usize::from(length == -2);
        let words = (header + bytes.len() + tail).div_ceil(8);
        // Aligned as the strictest type asks for.
        let raw = scratch.alloc_slice_fill_copy(words, 0u64).as_mut_ptr().cast::<u8>();
        if length == -1 {
            raw.cast::<u32>().write(((bytes.len() + 4) as u32) << 2);
        }
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), raw.add(header), bytes.len());
        if length == -2 {
            raw.add(bytes.len()).write(0);
        }
        Datum::from(raw)
    }
}

/// The bytes of a value as images hold them.
pub unsafe fn from_datum(bump: &Bump, datum: Datum, length: i16, by_value: bool) -> &[u8] {
    // SAFETY: a value of a type with that length.
    unsafe {
        if by_value {
            let word = (datum.value() as u64).to_ne_bytes();
            bump.alloc_slice_copy(&word[..length as usize])
        } else if length == -1 {
            // Most lie there as they are: a call would cost more than the copy.
            let held = datum.cast_mut_ptr::<pg_sys::varlena>();
            if pgrx::varatt_is_4b_u(held) || pgrx::varatt_is_1b(held) && !pgrx::varatt_is_1b_e(held)
            {
                return bump.alloc_slice_copy(pgrx::varlena_to_byte_slice(held));
            }
            let raw = pg_sys::pg_detoast_datum_packed(datum.cast_mut_ptr());
            let copy = bump.alloc_slice_copy(pgrx::varlena_to_byte_slice(raw));
            if !std::ptr::eq(raw, datum.cast_mut_ptr()) {
                pg_sys::pfree(raw.cast());
            }
            copy
        } else if length == -2 {
            bump.alloc_slice_copy(std::ffi::CStr::from_ptr(datum.cast_mut_ptr()).to_bytes())
        } else {
            bump.alloc_slice_copy(std::slice::from_raw_parts(
                datum.cast_mut_ptr::<u8>(),
                length as usize,
            ))
        }
    }
}

/// The text of a value, by its type's output function.
pub fn render(bytes: &[u8], column: &Column) -> String {
    // SAFETY: a value that this server wrote, of this type.
    unsafe {
        let scratch = Bump::new();
        let datum = to_datum(bytes, column.length, column.by_value, &scratch);
        render_datum(datum, column.type_oid)
    }
}

/// The text of a datum, by its type's output function.
///
/// # Safety
/// `datum` is a value of the type.
pub unsafe fn render_datum(datum: Datum, type_oid: Oid) -> String {
    // SAFETY: the caller's promise.
    unsafe {
        let (mut function, mut varlena) = (pg_sys::InvalidOid, false);
        pg_sys::getTypeOutputInfo(type_oid, &raw mut function, &raw mut varlena);
        let text = pg_sys::OidOutputFunctionCall(function, datum);
        let string = border::inwards_from(text);
        pg_sys::pfree(text.cast());
        string
    }
}
