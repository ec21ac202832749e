//! Many rows into a user's table the way COPY brings them there: a page at a time, with one WAL record for all that
//! fit on it. What an INSERT would make of each row, its casts, defaults and rights among them, the planner has
//! already worked out; so its plan is run for the rows, and only the storing of them is ours.

use super::plan::Column;
use super::statement::{Statement, from_datum};
use super::store::clear;
use bumpalo::Bump;
use change::image::Value;
use pgrx::pg_sys;
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;

/// Most rows, and bytes of rows, that are stored at once: as COPY has it.
const MANY: usize = 1000;
const MANY_BYTES: usize = 64 << 10;

// Declared without pgrx's guard, which costs more than some of the calls: one of ours stands around all that is done
// with a row, or with a page of them.
unsafe extern "C-unwind" {
    fn MemoryContextReset(context: pg_sys::MemoryContext);
    fn ExecStoreVirtualTuple(slot: *mut pg_sys::TupleTableSlot) -> *mut pg_sys::TupleTableSlot;
    fn ExecConstraints(
        info: *mut pg_sys::ResultRelInfo,
        slot: *mut pg_sys::TupleTableSlot,
        estate: *mut pg_sys::EState,
    );
    fn ExecInsertIndexTuples(
        info: *mut pg_sys::ResultRelInfo,
        slot: *mut pg_sys::TupleTableSlot,
        estate: *mut pg_sys::EState,
        update: bool,
        no_error: bool,
        conflict: *mut bool,
        arbiters: *mut pg_sys::List,
        #[cfg(not(feature = "pg15"))] only_summarizing: bool,
    ) -> *mut pg_sys::List;
    fn ExecARInsertTriggers(
        estate: *mut pg_sys::EState,
        info: *mut pg_sys::ResultRelInfo,
        slot: *mut pg_sys::TupleTableSlot,
        recheck: *mut pg_sys::List,
        transition: *mut pg_sys::TransitionCaptureState,
    );
    fn list_free(list: *mut pg_sys::List);
    fn slot_getsomeattrs_int(slot: *mut pg_sys::TupleTableSlot, columns: i32);
}

/// Runs `INSERT INTO table ... SELECT ... FROM` the rows; calls `each` with the values of `results` that each of them
/// has got, in their order. False: nothing was done, the table or the statement is not plain enough.
pub fn insert<'v, 'b>(
    statement: &Statement,
    bump: &'b Bump,
    rows: impl Iterator<Item = impl AsRef<[Value<'v>]>>,
    results: &[&Column],
    each: impl FnMut(&'b [Value<'b>]),
) -> bool {
    // SAFETY: inside an SPI connection, as whom the statement is to run; an error leaves all of it to the abort of
    // the transaction.
    unsafe {
        // The plan wants one to read from; the rows are put where it would read them to.
        let (store, count) = statement.fill(std::iter::empty::<&[Value<'_>]>());
        let fed = statement.register(store, count);
        let owner = pg_sys::CurrentResourceOwner;
        let cached = pg_sys::SPI_plan_get_cached_plan(statement.plan);
        let mut done = false;
        if let Some(source) = source_of(cached) {
            pg_sys::CommandCounterIncrement();
            pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
            let environment = pg_sys::create_queryEnv();
            pg_sys::register_ENR(environment, fed);
            let sources = pg_sys::SPI_plan_get_plan_sources(statement.plan);
            let text = (*first::<pg_sys::CachedPlanSource>(sources)).query_string;
            // Still an INSERT: rights are checked and triggers fired as for one.
            let mut plan = *first::<pg_sys::PlannedStmt>((*cached).stmt_list);
            plan.planTree = source;
            let query = pg_sys::CreateQueryDesc(
                &raw mut plan,
                text,
                pg_sys::GetActiveSnapshot(),
                std::ptr::null_mut(),
                pg_sys::CreateDestReceiver(pg_sys::CommandDest::DestNone),
                std::ptr::null_mut(),
                environment,
                0,
            );
            pg_sys::ExecutorStart(query, 0);
            if let Some(target) = Target::open(query) {
                target.store(bump, statement, rows, results, each);
                done = true;
            }
            pg_sys::ExecutorFinish(query);
            pg_sys::ExecutorEnd(query);
            pg_sys::FreeQueryDesc(query);
            pg_sys::PopActiveSnapshot();
            pg_sys::CommandCounterIncrement();
        }
        if !cached.is_null() {
            pg_sys::ReleaseCachedPlan(cached, owner);
        }
        statement.unregister(store);
        done
    }
}

/// The part of an INSERT's plan that makes the rows, if nothing but storing them is left to do then.
unsafe fn source_of(cached: *mut pg_sys::CachedPlan) -> Option<*mut pg_sys::Plan> {
    // SAFETY: a plan that is held; its nodes are what their tags say.
    unsafe {
        if cached.is_null() || length((*cached).stmt_list) != 1 {
            return None;
        }
        let plan = &*first::<pg_sys::PlannedStmt>((*cached).stmt_list);
        if plan.commandType != pg_sys::CmdType::CMD_INSERT
            || plan.dependsOnRole
            || length(plan.resultRelations) != 1
            || !plan.subplans.is_null()
            || (*plan.planTree).type_ != pg_sys::NodeTag::T_ModifyTable
        {
            return None;
        }
        let insert = &*plan.planTree.cast::<pg_sys::ModifyTable>();
        let source = insert.plan.lefttree;
        // What row security checks, and what an expression would see of the rows before its own.
        let plain = insert.withCheckOptionLists.is_null()
            && insert.onConflictAction == pg_sys::OnConflictAction::ONCONFLICT_NONE
            && !source.is_null()
            && (*source).type_ == pg_sys::NodeTag::T_NamedTuplestoreScan
            && (*source).qual.is_null()
            && !pg_sys::contain_volatile_functions_not_nextval((*source).targetlist.cast());
        plain.then_some(source)
    }
}

/// The table that rows are stored in, with what belongs to one run of the executor.
struct Target {
    estate: *mut pg_sys::EState,
    source: *mut pg_sys::ScanState,
    /// Makes a row of the table of one that it is fed with.
    projection: *mut pg_sys::ProjectionInfo,
    info: *mut pg_sys::ResultRelInfo,
    /// For the AFTER triggers that see all new rows as a table.
    transition: *mut pg_sys::TransitionCaptureState,
    slots: Vec<*mut pg_sys::TupleTableSlot>,
    filled: usize,
}

impl Target {
    /// `None`: its rows are not simply stored.
    unsafe fn open(query: *mut pg_sys::QueryDesc) -> Option<Self> {
        // SAFETY: a started query, whose one target is locked.
        unsafe {
            let estate = (*query).estate;
            let number = (*(*(*query).plannedstmt).resultRelations).elements;
            let info =
                pg_sys::palloc0(size_of::<pg_sys::ResultRelInfo>()).cast::<pg_sys::ResultRelInfo>();
            (*info).type_ = pg_sys::NodeTag::T_ResultRelInfo;
            let old = pg_sys::MemoryContextSwitchTo((*estate).es_query_cxt);
            pg_sys::ExecInitResultRelation(estate, info, (*number).int_value as pg_sys::Index);
            pg_sys::MemoryContextSwitchTo(old);
            let relation = (*info).ri_RelationDesc;
            let class = &*(*relation).rd_rel;
            let triggers = (*info).ri_TrigDesc;
            let constraints = (*(*relation).rd_att).constr;
            #[cfg(not(feature = "pg18"))]
            let generated = !constraints.is_null() && (*constraints).has_generated_stored;
            #[cfg(feature = "pg18")]
            let generated = !constraints.is_null()
                && ((*constraints).has_generated_stored || (*constraints).has_generated_virtual);
            let changed = !triggers.is_null()
                && ((*triggers).trig_insert_before_row || (*triggers).trig_insert_instead_row);
            // A partition would have to refuse what belongs to another; another access method stores in its own way.
            if class.relam != pg_sys::HEAP_TABLE_AM_OID
                || class.relkind as u8 != pg_sys::RELKIND_RELATION
                || class.relispartition
                || generated
                || changed
            {
                return None;
            }
            let transition = pg_sys::MakeTransitionCaptureState(
                triggers,
                (*relation).rd_id,
                pg_sys::CmdType::CMD_INSERT,
            );
            let source = (*query).planstate.cast::<pg_sys::ScanState>();
            let projection = (*source).ps.ps_ProjInfo;
            if projection.is_null() {
                return None;
            }
            let slots = Vec::new();
            Some(Self { estate, source, projection, info, transition, slots, filled: 0 })
        }
    }

    /// Stores the rows.
    unsafe fn store<'v, 'b>(
        mut self,
        bump: &'b Bump,
        statement: &Statement,
        rows: impl Iterator<Item = impl AsRef<[Value<'v>]>>,
        results: &[&Column],
        mut each: impl FnMut(&'b [Value<'b>]),
    ) {
        // SAFETY: as the executor does it for an INSERT, and COPY for many rows.
        unsafe {
            let old = pg_sys::MemoryContextSwitchTo((*self.estate).es_query_cxt);
            pg_sys::ExecOpenIndices(self.info, false);
            pg_sys::ExecBSInsertTriggers(self.estate, self.info);
            let mut scratch = Bump::new();
            let mut bytes = 0;
            for (number, row) in rows.enumerate() {
                let fed = (*self.source).ss_ScanTupleSlot;
                clear(fed);
                let place = ((*fed).tts_values, (*fed).tts_isnull);
                statement.feed(number, row.as_ref(), place, &scratch);
                bytes += self.take(fed);
                scratch.reset();
                if self.filled == MANY || bytes >= MANY_BYTES {
                    self.flush(bump, results, &mut each);
                    bytes = 0;
                }
            }
            self.flush(bump, results, &mut each);
            pg_sys::ExecASInsertTriggers(self.estate, self.info, self.transition);
            pg_sys::MemoryContextSwitchTo(old);
        }
    }

    /// Makes the table's row of what it is fed with, and keeps it if it is as the table wants it. Returns its length.
    unsafe fn take(&mut self, fed: *mut pg_sys::TupleTableSlot) -> usize {
        // SAFETY: a slot whose values are filled, and what the executor does with one that it has read.
        unsafe {
            let relation = (*self.info).ri_RelationDesc;
            if self.filled == self.slots.len() {
                let tables = &raw mut (*self.estate).es_tupleTable;
                self.slots.push(pg_sys::table_slot_create(relation, tables));
            }
            let slot = self.slots[self.filled];
            let context = (*self.source).ps.ps_ExprContext;
            let state = &raw mut (*self.projection).pi_state;
            pg_guard_ffi_boundary(|| {
                MemoryContextReset((*context).ecxt_per_tuple_memory);
                ExecStoreVirtualTuple(fed);
                (*context).ecxt_scantuple = fed;
                let made = (*state).resultslot;
                clear(made);
                let old = pg_sys::MemoryContextSwitchTo((*context).ecxt_per_tuple_memory);
                if let Some(evaluate) = (*state).evalfunc {
                    let mut null = false;
                    evaluate(state, context, &raw mut null);
                }
                pg_sys::MemoryContextSwitchTo(old);
                ExecStoreVirtualTuple(made);
                if let Some(copy) = (*(*slot).tts_ops).copyslot {
                    copy(slot, made);
                }
                (*slot).tts_tableOid = (*relation).rd_id;
                if !(*(*relation).rd_att).constr.is_null() {
                    ExecConstraints(self.info, slot, self.estate);
                }
            });
            self.filled += 1;
            (*(*slot.cast::<pg_sys::BufferHeapTupleTableSlot>()).base.tuple).t_len as usize
        }
    }

    /// Stores the rows at hand, and tells what they are.
    unsafe fn flush<'b>(
        &mut self,
        bump: &'b Bump,
        results: &[&Column],
        each: &mut impl FnMut(&'b [Value<'b>]),
    ) {
        if self.filled == 0 {
            return;
        }
        // SAFETY: as many filled slots as said.
        unsafe {
            let estate = self.estate;
            if (*estate).es_per_tuple_exprcontext.is_null() {
                pg_sys::MakePerTupleExprContext(estate);
            }
            let short = (*(*estate).es_per_tuple_exprcontext).ecxt_per_tuple_memory;
            let old = pg_sys::MemoryContextSwitchTo(short);
            pg_sys::heap_multi_insert(
                (*self.info).ri_RelationDesc,
                self.slots.as_mut_ptr(),
                self.filled as i32,
                (*estate).es_output_cid,
                0,
                std::ptr::null_mut(),
            );
            pg_sys::MemoryContextSwitchTo(old);
            let (info, transition) = (self.info, self.transition);
            let filled = &self.slots[..self.filled];
            pg_guard_ffi_boundary(|| {
                for &slot in filled {
                    let recheck = index(info, slot, estate);
                    ExecARInsertTriggers(estate, info, slot, recheck, transition);
                    list_free(recheck);
                    slot_getsomeattrs_int(slot, (*(*slot).tts_tupleDescriptor).natts);
                }
            });
            for &slot in filled {
                let row = bump.alloc_slice_fill_iter(results.iter().map(|column| {
                    let n = column.attnum as usize - 1;
                    if *(*slot).tts_isnull.add(n) {
                        return Value::Null;
                    }
                    let datum = *(*slot).tts_values.add(n);
                    Value::Bytes(from_datum(bump, datum, column.length, column.by_value))
                }));
                each(row);
            }
            pg_sys::MemoryContextReset(short);
        }
        self.filled = 0;
    }
}

/// Puts a stored row into the indexes of its table. Those in which it may be found to be a double only later.
unsafe fn index(
    info: *mut pg_sys::ResultRelInfo,
    slot: *mut pg_sys::TupleTableSlot,
    estate: *mut pg_sys::EState,
) -> *mut pg_sys::List {
    let none = std::ptr::null_mut();
    // SAFETY: a stored row and opened indexes.
    unsafe {
        if (*info).ri_NumIndices == 0 {
            return none;
        }
        #[cfg(feature = "pg15")]
        let recheck =
            ExecInsertIndexTuples(info, slot, estate, false, false, std::ptr::null_mut(), none);
        #[cfg(not(feature = "pg15"))]
        let recheck = ExecInsertIndexTuples(
            info,
            slot,
            estate,
            false,
            false,
            std::ptr::null_mut(),
            none,
            false,
        );
        recheck
    }
}

unsafe fn length(list: *const pg_sys::List) -> i32 {
    // SAFETY: a list, or none.
    unsafe { if list.is_null() { 0 } else { (*list).length } }
}

/// The first of a list of pointers.
unsafe fn first<T>(list: *const pg_sys::List) -> *mut T {
    // SAFETY: a list that is not empty.
    unsafe { (*(*list).elements).ptr_value.cast() }
}
