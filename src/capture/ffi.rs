//! The server functions of capture's inner path, declared without pgrx's guard: a `sigsetjmp` a
//! call would cost more than the calls. An ERROR raised in one of them jumps straight over our
//! frames, which is sound because they hold nothing that has a destructor.

use pgrx::pg_sys::{
    BulkInsertState, CommandId, Datum, HeapTuple, HeapTupleHeader, LOCKMODE, Oid, Relation,
    TupleDesc, TupleTableSlot, varlena,
};
use std::ffi::c_void;

unsafe extern "C-unwind" {
    pub(super) fn slot_getsomeattrs_int(slot: *mut TupleTableSlot, attnum: i32);
    pub(super) fn nextval_internal(relid: Oid, check_permissions: bool) -> i64;
    pub(super) fn GetTopFullTransactionId() -> u64;
    pub(super) fn GetCurrentTimestamp() -> i64;
    pub(super) fn GetCurrentCommandId(used: bool) -> CommandId;
    pub(super) fn HeapTupleHeaderGetCmin(tuple: HeapTupleHeader) -> CommandId;
    pub(super) fn HeapTupleHeaderGetCmax(tuple: HeapTupleHeader) -> CommandId;
    pub(super) fn palloc(size: usize) -> *mut c_void;
    pub(super) fn pg_detoast_datum_packed(datum: *mut varlena) -> *mut varlena;
    pub(super) fn toast_raw_datum_size(value: Datum) -> usize;
    pub(super) fn table_open(relation: Oid, lockmode: LOCKMODE) -> Relation;
    pub(super) fn table_close(relation: Relation, lockmode: LOCKMODE);
    pub(super) fn pg_trigger_depth(call: pgrx::pg_sys::FunctionCallInfo) -> Datum;
    pub(super) fn heap_form_tuple(
        descriptor: TupleDesc,
        values: *mut Datum,
        nulls: *mut bool,
    ) -> HeapTuple;
    pub(super) fn heap_insert(
        relation: Relation,
        tuple: HeapTuple,
        command: CommandId,
        options: i32,
        state: BulkInsertState,
    );
}
