//! The order inside a transaction, and what becomes of several changes of one key.

use super::{assert_equal, pair, settle};
use pgrx_tests::{db, query_one, rows, run};

/// A trigger of the user's that does `what` to row 2 when row 1 is updated.
fn trigger(what: &str) -> String {
    format!(
        "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {what}; RETURN NULL; END $$;
         CREATE TRIGGER touch AFTER UPDATE ON public.t FOR EACH ROW WHEN (OLD.id = 1) EXECUTE FUNCTION touch();
         INSERT INTO t VALUES (1, 'first', ''), (2, 'first', '')"
    )
}

/// A3: the trigger's change of row 2 is logged before the statement's own, older image of it.
#[test]
fn a_trigger_that_edits_a_later_row_of_its_statement_has_the_last_word() {
    let db = db();
    let mut client = db.connect();
    pair(&mut client, "one_way");
    run(&mut client, &trigger("UPDATE public.t SET v = 'by the trigger' WHERE id = 2"));
    settle(&mut client, "t");
    run(&mut client, "UPDATE t SET v = 'by the statement'");
    settle(&mut client, "t");
    // The row must have been changed in this order, or the test says nothing.
    assert_eq!(query_one(&mut client, "SELECT v FROM t WHERE id = 2"), "by the trigger");
    assert_equal(&mut client);
}

/// A3, P4: in the order of the log, the deleted row would come back.
#[test]
fn a_row_that_a_trigger_deletes_in_the_same_statement_stays_deleted() {
    let db = db();
    let mut client = db.connect();
    pair(&mut client, "one_way");
    run(&mut client, &trigger("DELETE FROM public.t WHERE id = 2"));
    settle(&mut client, "t");
    run(&mut client, "UPDATE t SET v = 'by the statement'");
    settle(&mut client, "t");
    assert_eq!(rows(&mut client, "SELECT id, v FROM peer.t"), ["1|by the statement"]);
    assert_equal(&mut client);
}

/// A3 in both directions at once: the nested change of a two-way sync comes back as what it is.
#[test]
fn nested_changes_of_a_two_way_sync_end_equal_on_both_sides() {
    let db = db();
    let mut client = db.connect();
    pair(&mut client, "bidirectional");
    run(&mut client, &trigger("UPDATE public.t SET w = NEW.v WHERE id = 2"));
    settle(&mut client, "t");
    for round in 0..10 {
        run(
            &mut client,
            &format!("UPDATE t SET v = 'source {round}'; UPDATE peer.t SET v = 'target {round}'"),
        );
    }
    settle(&mut client, "t");
    assert_equal(&mut client);
}

/// A10: the record on the other side is the same one afterwards.
#[test]
fn a_delete_and_an_insert_of_one_key_are_one_update_of_the_other_side() {
    let db = db();
    let mut client = db.connect();
    pair(&mut client, "one_way");
    run(
        &mut client,
        "CREATE TABLE deleted (id int);
         CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.deleted VALUES (OLD.id); RETURN NULL; END $$;
         CREATE TRIGGER note AFTER DELETE ON peer.t FOR EACH ROW EXECUTE FUNCTION note();
         INSERT INTO t VALUES (1, 'first', 'kept')",
    );
    settle(&mut client, "t");
    run(&mut client, "BEGIN; DELETE FROM t; INSERT INTO t VALUES (1, 'second', 'kept'); COMMIT");
    settle(&mut client, "t");
    assert_equal(&mut client);
    assert_eq!(query_one(&mut client, "SELECT count(*) FROM deleted"), "0");
    run(
        &mut client,
        "BEGIN; DELETE FROM t; INSERT INTO t VALUES (1, 'third', 'kept'); DELETE FROM t; COMMIT",
    );
    settle(&mut client, "t");
    assert_eq!(rows(&mut client, "TABLE deleted"), ["1"]);
    assert_equal(&mut client);
}

/// engines.md (a): with a cache, later changes get lower numbers.
#[test]
fn doctor_names_a_sequence_with_a_cache() {
    let db = db();
    let mut client = db.connect();
    let look = "SELECT ok FROM sync.doctor() WHERE what = 'sequence cache'";
    assert_eq!(query_one(&mut client, look), "t");
    run(&mut client, "ALTER SEQUENCE sync._log_seq CACHE 20");
    assert_eq!(query_one(&mut client, look), "f");
}

/// engines.md (a): a trigger that fires before capture logs its own changes first.
#[test]
fn doctor_names_a_trigger_that_fires_before_capture() {
    let db = db();
    let mut client = db.connect();
    pair(&mut client, "one_way");
    let look = "SELECT ok, detail ~ '!!mine' FROM sync.doctor() WHERE what = 'trigger order'";
    assert_eq!(query_one(&mut client, look), "t|f");
    run(
        &mut client,
        "CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
         CREATE TRIGGER \"!!mine\" AFTER UPDATE ON t FOR EACH ROW EXECUTE FUNCTION nothing()",
    );
    assert_eq!(query_one(&mut client, look), "f|t");
}

#[test]
fn doctor_names_a_table_that_has_lost_its_trigger() {
    let db = db();
    let mut client = db.connect();
    pair(&mut client, "one_way");
    let look = "SELECT ok, detail FROM sync.doctor() WHERE what = 'missing triggers'";
    assert_eq!(query_one(&mut client, look), "t|all captured tables have theirs");
    let name = "SELECT quote_ident(tgname) FROM pg_trigger WHERE tgrelid = 't'::regclass AND tgtype & 1 = 1";
    let name = query_one(&mut client, name);
    // Before the worker can put it back.
    run(&mut client, &format!("BEGIN; DROP TRIGGER {name} ON t"));
    assert_eq!(query_one(&mut client, look), "f|no capture trigger on public.t");
    run(&mut client, "ROLLBACK");
    assert_eq!(query_one(&mut client, look), "t|all captured tables have theirs");
}

/// P9: what they changed waits for them.
#[test]
fn doctor_names_transactions_that_are_open_for_long() {
    let db = super::small_log().database("old").unwrap();
    let (mut client, mut writer) = (db.connect(), db.connect());
    run(&mut client, "CREATE EXTENSION sync_ext");
    pair(&mut client, "one_way");
    run(&mut client, "INSERT INTO t VALUES (1)");
    run(&mut writer, "BEGIN; INSERT INTO t VALUES (2); PREPARE TRANSACTION 'doctor'");
    run(&mut writer, "BEGIN; INSERT INTO t VALUES (3)");
    let look = "SELECT count(*) FROM sync.doctor() WHERE NOT ok AND what IN ('long transactions', 'prepared transactions')";
    assert_eq!(query_one(&mut client, look), "0");
    run(&mut client, "SET sync_ext.doctor_age = 0");
    assert_eq!(query_one(&mut client, look), "2");
    run(&mut writer, "COMMIT");
    run(&mut writer, "COMMIT PREPARED 'doctor'");
    // Every transaction is old by this measure, those of the worker too while they last.
    db.wait_until("the doctor has nothing to say", || query_one(&mut client, look) == "0");
}
