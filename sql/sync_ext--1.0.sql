-- The schema "sync": private tables begin with an underscore and nothing is granted on them;
-- what people touch are the functions and views further down.

\echo Use "CREATE EXTENSION sync_ext" to load this file. \quit

DO $$
BEGIN
    -- All text passes through UTF-8, by the server's own conversions.
    IF pg_catalog.getdatabaseencoding() OPERATOR(pg_catalog.<>) 'UTF8' AND (
        SELECT pg_catalog.count(*) FROM pg_catalog.pg_conversion c
         WHERE c.connamespace OPERATOR(pg_catalog.=) 'pg_catalog'::pg_catalog.regnamespace AND c.condefault
           AND (pg_catalog.pg_encoding_to_char(c.conforencoding) OPERATOR(pg_catalog.=) pg_catalog.getdatabaseencoding()
                AND pg_catalog.pg_encoding_to_char(c.contoencoding) OPERATOR(pg_catalog.=) 'UTF8'
             OR pg_catalog.pg_encoding_to_char(c.contoencoding) OPERATOR(pg_catalog.=) pg_catalog.getdatabaseencoding()
                AND pg_catalog.pg_encoding_to_char(c.conforencoding) OPERATOR(pg_catalog.=) 'UTF8')) OPERATOR(pg_catalog.<) 2 THEN
        RAISE EXCEPTION 'sync_ext cannot be used in a database whose encoding is %', pg_catalog.getdatabaseencoding()
            USING ERRCODE = 'feature_not_supported',
                  DETAIL = CASE WHEN pg_catalog.getdatabaseencoding() OPERATOR(pg_catalog.=) 'SQL_ASCII'
                                THEN 'SQL_ASCII stores bytes of unknown meaning, which cannot be compared with or sent to another system.'
                                ELSE 'The server has no conversion between this encoding and UTF8, in which sync_ext works.' END,
                  HINT = 'Create a database with TEMPLATE template0 ENCODING ''UTF8'' and restore a dump of this one into it; pg_dump converts.';
    END IF;
    IF EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname OPERATOR(pg_catalog.=) 'sync') THEN
        RAISE EXCEPTION 'schema "sync" already exists'
            USING ERRCODE = 'duplicate_schema',
                  DETAIL = 'sync_ext keeps its tables, functions and views in a schema of this name and adopts nobody else''s.',
                  HINT = 'Rename the existing schema (ALTER SCHEMA sync RENAME TO ...) and try again.';
    END IF;
END
$$;

CREATE SCHEMA sync;
COMMENT ON SCHEMA sync IS 'sync_ext: keeps tables in real-time, two-way sync';

--------------------------------------------------------------------------------------------------
-- The log of changes: insert-only, rotating. The layout is part of the name; another layout would
-- be another set of tables. Capture writes these rows directly, the worker reads them directly.
-- No index: the worker keeps its own map of the blocks, and an index would cost every writer.

CREATE SEQUENCE sync._log_seq AS int8 CACHE 1 NO CYCLE;

CREATE TABLE sync._log_v1_0 (
    -- its number, its transaction (top level), when it was captured, how to read its images
    seq     int8        NOT NULL,
    xid     int8        NOT NULL,
    at      timestamptz NOT NULL,
    shape   int8        NOT NULL,
    -- its place inside the transaction; 0 for a user, else who applied it
    command int4        NOT NULL,
    origin  int4        NOT NULL,
    op      "char"      NOT NULL,
    -- key and changed columns; all watched columns
    old     bytea,
    new     bytea
) WITH (autovacuum_enabled = false, toast.autovacuum_enabled = false, toast_tuple_target = 8160);
ALTER TABLE sync._log_v1_0 ALTER COLUMN old SET STORAGE EXTERNAL, ALTER COLUMN new SET STORAGE EXTERNAL;
CREATE TABLE sync._log_v1_1 (LIKE sync._log_v1_0 INCLUDING STORAGE)
    WITH (autovacuum_enabled = false, toast.autovacuum_enabled = false, toast_tuple_target = 8160);
CREATE TABLE sync._log_v1_2 (LIKE sync._log_v1_0 INCLUDING STORAGE)
    WITH (autovacuum_enabled = false, toast.autovacuum_enabled = false, toast_tuple_target = 8160);
CREATE TABLE sync._log_v1_3 (LIKE sync._log_v1_0 INCLUDING STORAGE)
    WITH (autovacuum_enabled = false, toast.autovacuum_enabled = false, toast_tuple_target = 8160);

-- How to read an image: content-addressed, so duplicates mean nothing. Deliberately not unique: two
-- backends that meet a new shape at the same time must not wait for each other.
CREATE TABLE sync._shape (
    id       int8  NOT NULL,
    relation oid   NOT NULL,
    content  bytea NOT NULL
);
CREATE INDEX _shape_id ON sync._shape (id);

-- What the trigger records of each table: the columns that some sync wants to see (NULL: all) and
-- those of their keys; and the sync, where only one side of one sync wants any. Derived from the syncs.
CREATE TABLE sync._capture (
    relation regclass NOT NULL,
    columns  text[],
    keys     text[]   NOT NULL,
    sole     int4
);
CREATE UNIQUE INDEX _capture_relation ON sync._capture (relation);
-- Under a publication FOR ALL TABLES a table without identity could not be updated.
ALTER TABLE sync._capture REPLICA IDENTITY USING INDEX _capture_relation;

--------------------------------------------------------------------------------------------------
-- Configuration

-- Names this CREATE EXTENSION. In no dump: syncs that come out of one know by it that they are copies.
CREATE TABLE sync._installation (
    id uuid NOT NULL
);
INSERT INTO sync._installation (id) VALUES (pg_catalog.gen_random_uuid());

-- Which server wrote this database's state. A new row (a new epoch) whenever that changes.
CREATE TABLE sync._epoch (
    epoch             int4        GENERATED ALWAYS AS IDENTITY CONSTRAINT _epoch_pkey PRIMARY KEY,
    system_identifier int8        NOT NULL,
    timeline          int8        NOT NULL,
    database          oid         NOT NULL,
    data_directory    text        NOT NULL,
    instance          text        NOT NULL,
    began_at          timestamptz NOT NULL DEFAULT pg_catalog.now(),
    state             text        NOT NULL CONSTRAINT state_known CHECK (state OPERATOR(pg_catalog.=) ANY (ARRAY['active', 'verifying', 'fenced'])),
    reason            text        NOT NULL
);

-- Who this database is, nobody else can say: rows of a publisher of all tables are kept out, without
-- stopping the subscription that brings them.
CREATE FUNCTION sync._keep_out() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER keep_out BEFORE INSERT OR UPDATE OR DELETE ON sync._installation FOR EACH ROW EXECUTE FUNCTION sync._keep_out();
CREATE TRIGGER keep_out BEFORE INSERT OR UPDATE OR DELETE ON sync._epoch FOR EACH ROW EXECUTE FUNCTION sync._keep_out();
ALTER TABLE sync._installation ENABLE REPLICA TRIGGER keep_out;
ALTER TABLE sync._epoch ENABLE REPLICA TRIGGER keep_out;

CREATE TABLE sync._sync (
    id           int4        GENERATED ALWAYS AS IDENTITY CONSTRAINT _sync_pkey PRIMARY KEY,
    name         text        NOT NULL CONSTRAINT _sync_name UNIQUE,
    owner        regrole     NOT NULL,
    -- what the user wants, and what the worker makes of it
    state        text        NOT NULL DEFAULT 'running'
                 CONSTRAINT state_known CHECK (state OPERATOR(pg_catalog.=) ANY (ARRAY['running', 'paused', 'needs decision'])),
    reason       text,
    -- what a decision is about: the batch that waits for it
    decision     text,
    -- the tables; NULL where a side is an object of another system, named by connection and object
    source       regclass,
    target       regclass,
    connection   text,
    object       text,
    -- the hub whose document this one's is made from
    hub          text,
    direction    text        NOT NULL
                 CONSTRAINT direction_known CHECK (direction OPERATOR(pg_catalog.=) ANY (ARRAY['->', '<-', '<->'])),
    document     jsonb       NOT NULL,
    search_path  text        NOT NULL,
    -- what capture has to record of each side; NULL where changes do not leave it
    source_columns text[],
    source_key     text[],
    target_columns text[],
    target_key     text[],
    installation uuid        NOT NULL,
    changed_at   timestamptz NOT NULL DEFAULT pg_catalog.now(),
    created_at   timestamptz NOT NULL DEFAULT pg_catalog.now(),
    CONSTRAINT name_not_empty CHECK (name OPERATOR(pg_catalog.<>) ''),
    -- without a target the application itself takes the changes
    CONSTRAINT both_sides CHECK (CASE WHEN connection IS NULL THEN source IS NOT NULL AND object IS NULL
                                      ELSE (source IS NULL) OPERATOR(pg_catalog.<>) (target IS NULL) AND object IS NOT NULL END)
);

-- Documents of which one sync for each system and object is made.
CREATE TABLE sync._hub (
    name       text        NOT NULL CONSTRAINT _hub_pkey PRIMARY KEY,
    owner      regrole     NOT NULL,
    document   jsonb       NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    created_at timestamptz NOT NULL DEFAULT pg_catalog.now()
);

-- Every change of a document and of what is done with it: kept when the sync has ended.
CREATE TABLE sync._config (
    id     int8        GENERATED ALWAYS AS IDENTITY CONSTRAINT _config_pkey PRIMARY KEY,
    name   text        NOT NULL,
    owner  oid         NOT NULL,
    at     timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    by     text        NOT NULL,
    action text        NOT NULL,
    reason text,
    before jsonb,
    after  jsonb
);

CREATE FUNCTION sync._note_configuration() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    was jsonb := CASE WHEN TG_OP OPERATOR(pg_catalog.<>) 'INSERT' THEN pg_catalog.to_jsonb(OLD) END;
    now jsonb := CASE WHEN TG_OP OPERATOR(pg_catalog.<>) 'DELETE' THEN pg_catalog.to_jsonb(NEW) END;
    what text;
BEGIN
    IF TG_OP OPERATOR(pg_catalog.=) 'INSERT' AND NEW.created_at OPERATOR(pg_catalog.<>) pg_catalog.now() THEN
        -- It comes out of a dump, with its history.
        RETURN NULL;
    END IF;
    what := CASE WHEN was IS NULL THEN 'created'
                 WHEN now IS NULL THEN 'dropped'
                 WHEN (was OPERATOR(pg_catalog.->) 'document') IS DISTINCT FROM (now OPERATOR(pg_catalog.->) 'document') THEN 'altered'
                 WHEN (was OPERATOR(pg_catalog.->>) 'state') IS DISTINCT FROM (now OPERATOR(pg_catalog.->>) 'state') THEN
                     CASE now OPERATOR(pg_catalog.->>) 'state' WHEN 'paused' THEN 'paused' WHEN 'running' THEN 'resumed' ELSE 'stopped to ask' END END;
    IF what IS NOT NULL THEN
        INSERT INTO sync._config (name, owner, by, action, reason, before, after)
        SELECT COALESCE(now, was) OPERATOR(pg_catalog.->>) 'name',
               CASE WHEN TG_OP OPERATOR(pg_catalog.=) 'DELETE' THEN OLD.owner ELSE NEW.owner END,
               CASE WHEN a.backend_type OPERATOR(pg_catalog.=) 'client backend' THEN SESSION_USER::text ELSE a.backend_type END,
               what, now OPERATOR(pg_catalog.->>) 'reason',
               was OPERATOR(pg_catalog.->) 'document', now OPERATOR(pg_catalog.->) 'document'
          FROM pg_catalog.pg_stat_get_activity(pg_catalog.pg_backend_pid()) AS a;
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON sync._sync FOR EACH ROW EXECUTE FUNCTION sync._note_configuration();
CREATE TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON sync._hub FOR EACH ROW EXECUTE FUNCTION sync._note_configuration();

-- What other systems say of their objects, as this connection's user sees them.
CREATE TABLE sync._object (
    connection   text        NOT NULL,
    object       text        NOT NULL,
    described_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    description  jsonb       NOT NULL,
    CONSTRAINT _object_pkey PRIMARY KEY (connection, object)
);

-- How far the changes of another system have been read, by that system's clock.
CREATE TABLE sync._pull (
    sync      int4        NOT NULL CONSTRAINT _pull_pkey PRIMARY KEY,
    at        text        NOT NULL,
    polled_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    -- where the events stand that it was told; what they named is in the queue, or settled
    told      bytea,
    -- when all its records were last compared
    reconciled_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);

-- What syncs with rate limits did of late: calls, or records written, up to the end of each step of time.
CREATE TABLE sync._pace (
    sync  int4        NOT NULL,
    at    timestamptz NOT NULL,
    count int8        NOT NULL,
    CONSTRAINT _pace_pkey PRIMARY KEY (sync, at)
) WITH (fillfactor = 50);

-- The limit that a sync waits for, and until when; of no meaning afterwards.
CREATE TABLE sync._pace_wait (
    sync   int4        NOT NULL CONSTRAINT _pace_wait_pkey PRIMARY KEY,
    until  timestamptz NOT NULL,
    reason text        NOT NULL
) WITH (fillfactor = 50);

-- How far a sync has read the log. "seen": everything in it is settled. While a batch is worked
-- through, "frozen" is its end and "seq" the last change settled.
CREATE TABLE sync._cursor (
    sync     int4        NOT NULL,
    seen     pg_snapshot NOT NULL,
    frozen   pg_snapshot,
    seq      int8        NOT NULL,
    moved_at timestamptz NOT NULL
) WITH (fillfactor = 50);
CREATE UNIQUE INDEX _cursor_sync ON sync._cursor (sync);
ALTER TABLE sync._cursor REPLICA IDENTITY USING INDEX _cursor_sync;

-- Work that is not in the log: first loads, and reconciling after a gap, side by side.
CREATE TABLE sync._load (
    sync        int4        NOT NULL,
    side        int2        NOT NULL,
    kind        text        NOT NULL CONSTRAINT kind_known CHECK (kind OPERATOR(pg_catalog.=) ANY (ARRAY['rows', 'links'])),
    reason      text        NOT NULL,
    -- transactions that may still write by the old rules, before the first row is read
    waits_for   text[]      NOT NULL DEFAULT '{}',
    last_key    bytea,
    -- the other system's job that reads for it, and the page of its result to go on with
    job         text,
    page        text,
    done        int8        NOT NULL DEFAULT 0,
    expected    int8        NOT NULL DEFAULT 0,
    -- what a person decided about the deletes it finds
    confirmed   bool        NOT NULL DEFAULT false,
    discarded   bool        NOT NULL DEFAULT false,
    -- what a person decided about the rows it finds outside the filter
    exits       text        CONSTRAINT exits_known CHECK (exits OPERATOR(pg_catalog.=) ANY (ARRAY['confirmed', 'discarded'])),
    -- and about those that have lost the value of a field
    blanks      text        CONSTRAINT blanks_known CHECK (blanks OPERATOR(pg_catalog.=) ANY (ARRAY['confirmed', 'discarded'])),
    -- nothing that was changed here goes to another system before this has read what is there
    before_sending bool     NOT NULL DEFAULT false,
    started_at  timestamptz NOT NULL DEFAULT pg_catalog.now(),
    CONSTRAINT _load_pkey PRIMARY KEY (sync, kind, side)
);

--------------------------------------------------------------------------------------------------
-- State of the records

-- Which record belongs to which, and what both sides last agreed on. One partition a sync, each with
-- its own indexes: a key on the parent could not be restored. In a peer sync "key" is the source's.
CREATE TABLE sync._link (
    sync           int4  NOT NULL,
    layout         int8  NOT NULL,
    deleted_at     timestamptz,
    key            bytea NOT NULL,
    remote_id      bytea,
    base           bytea,
    -- how its rows stood to the filter when they were last asked; null: inside
    standing       int2
) PARTITION BY LIST (sync);

-- The records that are not settled: one row each, gone when settled.
CREATE TABLE sync._queue (
    id         int8        GENERATED ALWAYS AS IDENTITY,
    sync       int4        NOT NULL,
    side       int2        NOT NULL,
    key        bytea       NOT NULL,
    key_text   text        NOT NULL,
    state      text        NOT NULL CONSTRAINT state_known
               CHECK (state OPERATOR(pg_catalog.=) ANY (ARRAY['pending', 'sending', 'retrying', 'waiting for parent', 'review'])),
    attempts   int4        NOT NULL DEFAULT 0,
    -- when the record was changed (for last write wins), since when it waits, when it is tried next
    changed_at timestamptz NOT NULL,
    since      timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    next_at    timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    sqlstate   text,
    message    text,
    detail     text,
    hint       text,
    -- what its row was called when the link was written, if it was renamed since
    before     bytea,
    -- a create of it may have been carried out unseen: only a person's word sends it again
    in_doubt   bool        NOT NULL DEFAULT false,
    -- a person has what differs of it put right: the side whose value is to stand, 2: as the document says
    repair     int2,
    -- the record that it waits for, where it points to one: its sync, the side, the key there
    parent_sync int4,
    parent_side int2,
    parent_key  bytea
);
CREATE UNIQUE INDEX _queue_key ON sync._queue (sync, side, key);
ALTER TABLE sync._queue REPLICA IDENTITY USING INDEX _queue_key;
CREATE UNIQUE INDEX _queue_id ON sync._queue (id);
CREATE INDEX _queue_parent ON sync._queue (parent_sync, parent_side, parent_key) WHERE parent_sync IS NOT NULL;
CREATE INDEX _queue_due ON sync._queue (sync, next_at) WHERE state OPERATOR(pg_catalog.<>) 'review';

-- What has been decided to be written to another system and has not been settled: committed before
-- anything of it leaves, gone when the answer is there.
CREATE TABLE sync._intent (
    sync      int4   NOT NULL,
    number    int8   NOT NULL,
    layout    int8   NOT NULL,
    -- when the row was changed (microseconds since 2000), when this was written (milliseconds since 1970)
    at        int8   NOT NULL,
    made_at   int8   NOT NULL,
    -- l: look whether it is there, c: create, u: update, d: delete
    op        "char" NOT NULL,
    key       bytea  NOT NULL,
    remote_id text,
    identity  text,
    base      bytea  NOT NULL,
    CONSTRAINT _intent_pkey PRIMARY KEY (sync, number)
);

-- Jobs of another system that carry intents out.
CREATE TABLE sync._write_job (
    sync    int4   NOT NULL,
    job     text   NOT NULL,
    intents int8[] NOT NULL,
    CONSTRAINT _write_job_pkey PRIMARY KEY (sync, job)
);

CREATE TABLE sync._conflict (
    id           int8        GENERATED ALWAYS AS IDENTITY CONSTRAINT _conflict_pkey PRIMARY KEY,
    sync         int4        NOT NULL,
    key_text     text        NOT NULL,
    kind         text        NOT NULL,
    field        text        NOT NULL,
    base         text,
    source_value text,
    target_value text,
    -- null: a person decides
    winner       text,
    reason       text        NOT NULL,
    at           timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    -- whose key: by it the record is found; which side's value is to stand, and who said so; when it was decided
    side         int2,
    key          bytea,
    keep         int2,
    resolved_by  text,
    resolved_at  timestamptz
);
CREATE INDEX _conflict_sync ON sync._conflict (sync, at);
CREATE INDEX _conflict_open ON sync._conflict (sync, key) WHERE winner IS NULL;
CREATE INDEX _conflict_key ON sync._conflict (sync, key_text, field, id);

CREATE TABLE sync._error (
    id       int8        GENERATED ALWAYS AS IDENTITY CONSTRAINT _error_pkey PRIMARY KEY,
    sync     int4        NOT NULL,
    side     int2,
    key_text text,
    attempt  int4        NOT NULL,
    sqlstate text        NOT NULL,
    message  text        NOT NULL,
    detail   text,
    hint     text,
    context  text,
    at       timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    -- how its record left the queue, if it was given up, and since when it had waited: its changes since then are meant
    outcome  text        CONSTRAINT outcome_known CHECK (outcome OPERATOR(pg_catalog.=) ANY (ARRAY['skipped', 'discarded'])),
    since    timestamptz
);
CREATE INDEX _error_sync ON sync._error (sync, at);
CREATE INDEX _error_given_up ON sync._error (sync, key_text, at) WHERE outcome IS NOT NULL;

-- Changes of the fields of another system's object, a row for each sync that has it. Without an effect: not followed yet.
CREATE TABLE sync._schema_change (
    id     int8        GENERATED ALWAYS AS IDENTITY CONSTRAINT _schema_change_pkey PRIMARY KEY,
    sync   int4        NOT NULL,
    field  text        NOT NULL,
    change text        NOT NULL,
    was    text,
    is_now text,
    effect text,
    remedy text,
    at     timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
CREATE INDEX _schema_change_sync ON sync._schema_change (sync, at);

-- Changes of a table that no trigger saw, and when they were made good.
CREATE TABLE sync._gap (
    id            int8        GENERATED ALWAYS AS IDENTITY CONSTRAINT _gap_pkey PRIMARY KEY,
    relation      text        NOT NULL,
    sync          int4        NOT NULL,
    reason        text        NOT NULL,
    noticed_at    timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    reconciled_at timestamptz
);

-- What the catalogs said of each captured table when they were last looked at.
CREATE TABLE sync._catalog (
    relation oid  NOT NULL,
    root     oid  NOT NULL,
    facts    text NOT NULL,
    CONSTRAINT _catalog_pkey PRIMARY KEY (root, relation)
);

--------------------------------------------------------------------------------------------------
-- History: what was synced, when, which way, with what outcome. A partition a day, made and dropped
-- by the worker; written in the log's binary form, rendered on reading.

CREATE TABLE sync._history (
    settled_at  timestamptz NOT NULL,
    captured_at timestamptz NOT NULL,
    seq         int8        NOT NULL,
    shape       int8        NOT NULL,
    epoch       int4        NOT NULL,
    sync        int4        NOT NULL,
    origin      int4        NOT NULL,
    side        int2        NOT NULL,
    op          "char"      NOT NULL,
    outcome     "char"      NOT NULL,
    old         bytea,
    new         bytea
) PARTITION BY RANGE (settled_at);

-- The changes that intents were made of, on their way into history.
CREATE TABLE sync._sending (
    LIKE sync._history,
    intent int8 NOT NULL
);
CREATE INDEX _sending_intent ON sync._sending (sync, intent);
ALTER TABLE sync._sending REPLICA IDENTITY FULL;

-- The changes that applications are to take, each with its place in the queue: gone into history when it is done with.
CREATE TABLE sync._delivery (
    LIKE sync._history,
    -- from the sequence of the queue, so that one number means one thing
    id       int8        NOT NULL,
    key      bytea       NOT NULL,
    key_text text        NOT NULL,
    state    text        NOT NULL CONSTRAINT state_known
             CHECK (state OPERATOR(pg_catalog.=) ANY (ARRAY['pending', 'sending', 'retrying', 'review'])),
    attempts int4        NOT NULL,
    since    timestamptz NOT NULL,
    -- when it may be taken, or taken again
    next_at  timestamptz NOT NULL,
    message  text,
    CONSTRAINT _delivery_pkey PRIMARY KEY (sync, id)
);
CREATE UNIQUE INDEX _delivery_id ON sync._delivery (id);
CREATE INDEX _delivery_key ON sync._delivery (sync, key, id);

--------------------------------------------------------------------------------------------------
-- Functions. Declared by hand: this file is what a reader of the catalogs sees.

-- The trigger of every captured table. ENABLE ALWAYS; it reads the tables above.
CREATE FUNCTION sync._capture() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'sync_ext_capture';

-- Takes the locks that CREATE TRIGGER needs: at most three times two seconds for all tables and partitions
-- together, all or none, so that no writer waits longer behind us, then says who is in the way. One by
-- one, because lock_timeout counts for each: the later have what the earlier have left of the time.
CREATE FUNCTION sync._lock_tables(tables regclass[]) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
    SET lock_timeout = '1900ms'
AS $$
DECLARE
    deadline timestamptz;
    one      regclass;
    part     regclass;
    names    text := (SELECT pg_catalog.string_agg(t::text, ', ' ORDER BY t::pg_catalog.oid) FROM pg_catalog.unnest(tables) AS t);
    blockers text;
BEGIN
    FOR try IN 1..3 LOOP
        BEGIN
            deadline := pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+) interval '1900 milliseconds';
            FOR one IN SELECT t FROM pg_catalog.unnest(tables) AS t ORDER BY t::pg_catalog.oid LOOP
                -- The root before its partitions, which cannot change from then on.
                PERFORM pg_catalog.set_config('lock_timeout', GREATEST(1, (1000 OPERATOR(pg_catalog.*) EXTRACT(epoch FROM deadline OPERATOR(pg_catalog.-) pg_catalog.clock_timestamp()))::pg_catalog.int4)::pg_catalog.text, true);
                EXECUTE pg_catalog.format('LOCK TABLE ONLY %s IN SHARE ROW EXCLUSIVE MODE', one);
                FOR part IN SELECT p.relid FROM pg_catalog.pg_partition_tree(one) WITH ORDINALITY AS p (relid, parentrelid, isleaf, level, n)
                             WHERE p.relid::pg_catalog.oid OPERATOR(pg_catalog.<>) one::pg_catalog.oid ORDER BY p.n LOOP
                    PERFORM pg_catalog.set_config('lock_timeout', GREATEST(1, (1000 OPERATOR(pg_catalog.*) EXTRACT(epoch FROM deadline OPERATOR(pg_catalog.-) pg_catalog.clock_timestamp()))::pg_catalog.int4)::pg_catalog.text, true);
                    EXECUTE pg_catalog.format('LOCK TABLE ONLY %s IN SHARE ROW EXCLUSIVE MODE', part);
                END LOOP;
            END LOOP;
            RETURN;
        EXCEPTION WHEN lock_not_available THEN
            PERFORM pg_catalog.pg_sleep(0.1);
        END;
    END LOOP;
    SELECT pg_catalog.string_agg(CASE WHEN l.pid IS NULL THEN pg_catalog.format('a prepared transaction (%s)', l.relation)
                                      ELSE pg_catalog.format('process %s (%s, %s, %s)', l.pid, a.usename, a.state, l.relation) END, ', ')
      INTO blockers
      FROM (SELECT DISTINCT k.pid, k.relation::pg_catalog.regclass AS relation FROM pg_catalog.pg_locks k
             WHERE k.relation OPERATOR(pg_catalog.=) ANY (
                       SELECT t::pg_catalog.oid FROM pg_catalog.unnest(tables) AS t UNION ALL
                       SELECT p.relid::pg_catalog.oid FROM pg_catalog.unnest(tables) AS t, LATERAL pg_catalog.pg_partition_tree(t) AS p)
               AND k.granted
               AND k.database OPERATOR(pg_catalog.=) (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
               AND k.pid IS DISTINCT FROM pg_catalog.pg_backend_pid()
               AND k.mode OPERATOR(pg_catalog.<>) ALL (ARRAY['AccessShareLock', 'RowShareLock'])) l
      LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid OPERATOR(pg_catalog.=) l.pid;
    RAISE EXCEPTION '% in use', CASE WHEN pg_catalog.cardinality(tables) OPERATOR(pg_catalog.=) 1 THEN pg_catalog.format('table %s is', names)
                                     ELSE pg_catalog.format('one of the tables %s is', names) END
        USING ERRCODE = 'lock_not_available',
              DETAIL = pg_catalog.format('It is held by %s. Three attempts of two seconds each did not get the lock; nothing was changed.', COALESCE(blockers, 'somebody who has just gone')),
              HINT = 'Wait for that transaction, or end it, and try again.';
END
$$;

CREATE FUNCTION sync.create_sync(name text, VARIADIC pieces jsonb[]) RETURNS text
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'create_sync_wrapper';
COMMENT ON FUNCTION sync.create_sync(text, jsonb[]) IS 'makes a sync of the pieces of a configuration document';

CREATE FUNCTION sync.alter_sync(name text, VARIADIC pieces jsonb[]) RETURNS text
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'alter_sync_wrapper';
COMMENT ON FUNCTION sync.alter_sync(text, jsonb[]) IS 'changes a sync: later pieces replace earlier ones, null removes a key';

CREATE FUNCTION sync.map_field(name text, source text, target text, direction text DEFAULT NULL) RETURNS text
    LANGUAGE c AS 'MODULE_PATHNAME', 'map_field_wrapper';
COMMENT ON FUNCTION sync.map_field(text, text, text, text) IS 'takes one more field into a sync, makes its column where there is none, and brings over what is there already';

CREATE FUNCTION sync.unmap_field(name text, target text) RETURNS text
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'unmap_field_wrapper';
COMMENT ON FUNCTION sync.unmap_field(text, text) IS 'takes a field out of a sync; its columns stay as they are on both sides';

CREATE FUNCTION sync.alter_syncs(patch jsonb, names text[] DEFAULT NULL, matching text DEFAULT NULL) RETURNS TABLE (sync text, outcome text)
    LANGUAGE c AS 'MODULE_PATHNAME', 'alter_syncs_wrapper';
COMMENT ON FUNCTION sync.alter_syncs(jsonb, text[], text) IS 'changes the documents of many syncs by one patch, all of them or none';

CREATE FUNCTION sync.export(name text DEFAULT NULL) RETURNS jsonb
    LANGUAGE c AS 'MODULE_PATHNAME', 'export_wrapper';
COMMENT ON FUNCTION sync.export(text) IS 'the documents of one sync or of all, with their connections and without a secret';

CREATE FUNCTION sync.document_schema() RETURNS jsonb
    LANGUAGE c IMMUTABLE AS 'MODULE_PATHNAME', 'document_schema_wrapper';
COMMENT ON FUNCTION sync.document_schema() IS 'the JSON Schema of a document, as this version reads it';

-- The merge patch that makes one document of another.
CREATE FUNCTION sync._patch(before jsonb, after jsonb) RETURNS jsonb
    LANGUAGE c STRICT IMMUTABLE AS 'MODULE_PATHNAME', 'patch_between_wrapper';

CREATE FUNCTION sync.import(configuration jsonb, dry_run boolean DEFAULT false, drop_missing boolean DEFAULT false)
    RETURNS TABLE (kind text, name text, action text, detail text)
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'import_configuration_wrapper';
COMMENT ON FUNCTION sync.import(jsonb, boolean, boolean) IS 'makes connections and syncs what an exported configuration says';

CREATE FUNCTION sync.drop_sync(name text) RETURNS void
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'drop_sync_wrapper';
COMMENT ON FUNCTION sync.drop_sync(text) IS 'ends a sync; the rows of both sides stay as they are';

CREATE FUNCTION sync.show(name text) RETURNS jsonb
    LANGUAGE c STRICT STABLE AS 'MODULE_PATHNAME', 'show_wrapper';
COMMENT ON FUNCTION sync.show(text) IS 'the configuration document of a sync as it is in force';

CREATE FUNCTION sync.pause(name text) RETURNS void
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'pause_wrapper';
COMMENT ON FUNCTION sync.pause(text) IS 'stops a sync; changes are still captured';

CREATE FUNCTION sync.resume(name text, confirm boolean DEFAULT false, discard boolean DEFAULT false) RETURNS void
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'resume_wrapper';
COMMENT ON FUNCTION sync.resume(text, boolean, boolean) IS 'goes on with a sync; confirm sends the deletes it asked about, discard keeps the rows of the other side';

CREATE FUNCTION sync.retry(id bigint, set jsonb DEFAULT NULL) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'retry_wrapper';
COMMENT ON FUNCTION sync.retry(bigint, jsonb) IS 'tries a queued record again now, with other values if some are given';

CREATE FUNCTION sync.retry_all(name text DEFAULT NULL, state text DEFAULT NULL, sqlstate text DEFAULT NULL, message text DEFAULT NULL) RETURNS bigint
    LANGUAGE c AS 'MODULE_PATHNAME', 'retry_all_wrapper';
COMMENT ON FUNCTION sync.retry_all(text, text, text, text) IS 'tries all queued records that are like this again now, and says how many';

CREATE FUNCTION sync.discard_all(reason text, name text DEFAULT NULL, state text DEFAULT NULL, sqlstate text DEFAULT NULL, message text DEFAULT NULL) RETURNS bigint
    LANGUAGE c AS 'MODULE_PATHNAME', 'discard_all_wrapper';
COMMENT ON FUNCTION sync.discard_all(text, text, text, text, text) IS 'takes all records that are like this out of the queue, and says how many';

CREATE FUNCTION sync.discard(id bigint, reason text) RETURNS void
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'discard_wrapper';
COMMENT ON FUNCTION sync.discard(bigint, text) IS 'takes a record out of the queue; it is synced again when it is next edited';

CREATE FUNCTION sync.resolve(id bigint, keep text DEFAULT NULL, set jsonb DEFAULT NULL) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'resolve_wrapper';
COMMENT ON FUNCTION sync.resolve(bigint, text, jsonb) IS 'decides a conflict that waits for a person: the value of this side goes to the other, or these go to both';

CREATE FUNCTION sync.resolve_all(name text, keep text, field text DEFAULT NULL) RETURNS bigint
    LANGUAGE c AS 'MODULE_PATHNAME', 'resolve_all_wrapper';
COMMENT ON FUNCTION sync.resolve_all(text, text, text) IS 'decides all conflicts of a sync, or of one of its fields, that wait for a person; returns how many';

CREATE FUNCTION sync._take(name text, up_to integer, lease interval) RETURNS SETOF bigint
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'take_wrapper';

CREATE FUNCTION sync.done(name text, ids bigint[]) RETURNS bigint
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'done_wrapper';
COMMENT ON FUNCTION sync.done(text, bigint[]) IS 'settles changes that an application has taken; returns how many';

CREATE FUNCTION sync.failed(name text, id bigint, message text, retry boolean DEFAULT true) RETURNS text
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'failed_wrapper';
COMMENT ON FUNCTION sync.failed(text, bigint, text, boolean) IS 'gives a change back that an application could not deal with: it is tried again, or waits for a person; returns its state';

CREATE FUNCTION sync.pull(name text, key text) RETURNS void
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'pull_wrapper';
COMMENT ON FUNCTION sync.pull(text, text) IS 'has the worker read one record of the other side now, and merge it';

CREATE FUNCTION sync.push(name text, key text) RETURNS void
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'push_wrapper';
COMMENT ON FUNCTION sync.push(text, text) IS 'has the worker send one row now, merged with what the other side holds';

CREATE FUNCTION sync.index_recommendations(name text DEFAULT NULL, create_them boolean DEFAULT false)
    RETURNS TABLE (sync text, "table" text, statement text, reason text, created boolean)
    LANGUAGE c AS 'MODULE_PATHNAME', 'index_recommendations_wrapper';
COMMENT ON FUNCTION sync.index_recommendations(text, boolean) IS 'indexes without which a sync, or what comes of it, reads whole tables';

CREATE FUNCTION sync._index_advice() RETURNS TABLE (sync text, statement text, reason text)
    LANGUAGE c AS 'MODULE_PATHNAME', 'index_advice_wrapper';

CREATE FUNCTION sync.cancel_load(name text) RETURNS bigint
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'cancel_load_wrapper';
COMMENT ON FUNCTION sync.cancel_load(text) IS 'stops going through the tables of a sync: what has been brought over stays, later changes travel';

CREATE FUNCTION sync.preview(name text, key text)
    RETURNS TABLE (field text, value text, arrives text, there text, action text, detail text)
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'preview_wrapper';
COMMENT ON FUNCTION sync.preview(text, text) IS 'what would be sent of one row, field by field, without sending anything';

CREATE FUNCTION sync.format_phone(value text, region text DEFAULT NULL) RETURNS text
    LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'format_phone_wrapper';
COMMENT ON FUNCTION sync.format_phone(text, text) IS 'a phone number in E.164; what is none stays as it is';

CREATE FUNCTION sync.join_choices(choices text[], in_order text[] DEFAULT NULL) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT pg_catalog.string_agg(c.choice, ';' ORDER BY pg_catalog.array_position(in_order, c.choice), c.choice COLLATE pg_catalog."C")
      FROM pg_catalog.unnest(choices) AS c (choice);
$$;
COMMENT ON FUNCTION sync.join_choices(text[], text[]) IS 'the values of a multi-select picklist as one text, red;blue, in an order that is given';

CREATE FUNCTION sync.split_choices(choices text) RETURNS text[]
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT pg_catalog.array_agg(DISTINCT pg_catalog.btrim(c.choice) COLLATE pg_catalog."C" ORDER BY pg_catalog.btrim(c.choice) COLLATE pg_catalog."C")
      FROM pg_catalog.unnest(pg_catalog.string_to_array(choices, ';')) AS c (choice)
     WHERE pg_catalog.btrim(c.choice) OPERATOR(pg_catalog.<>) '';
$$;
COMMENT ON FUNCTION sync.split_choices(text) IS 'the values of a multi-select picklist from one text, red;blue';

CREATE FUNCTION sync._wait(name text, milliseconds bigint) RETURNS boolean
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'wait_for_wrapper';

CREATE FUNCTION sync._payload(relation oid, row_at tid, part text) RETURNS jsonb
    LANGUAGE c STRICT STABLE AS 'MODULE_PATHNAME', 'payload_wrapper';

CREATE FUNCTION sync._key(relation oid, row_at tid) RETURNS text
    LANGUAGE c STRICT STABLE AS 'MODULE_PATHNAME', 'change_key_wrapper';

CREATE FUNCTION sync._worker_state() RETURNS text
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'worker_state_wrapper';

CREATE FUNCTION sync._activate() RETURNS void
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'activate_wrapper';

CREATE FUNCTION sync._created() RETURNS void
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'extension_created_wrapper';

-- Has syncs, or all of them, compare all their records once more, because nobody knows what happened to them:
-- from the beginning, also where one was in the middle of comparing.
CREATE FUNCTION sync._reconcile_all(why text, chosen int4[] DEFAULT NULL) RETURNS void
    LANGUAGE sql
    SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO sync._load (sync, side, kind, reason, before_sending)
    SELECT s.id, v.side, v.kind, why, true
      FROM sync._sync s,
           LATERAL (VALUES (0, 'rows', s.source_key IS NOT NULL OR s.source IS NULL), (0, 'links', s.source_key IS NOT NULL OR s.source IS NULL),
                           (1, 'rows', s.target_key IS NOT NULL OR s.target IS NULL), (1, 'links', s.target_key IS NOT NULL OR s.target IS NULL)) AS v (side, kind, wanted)
     WHERE v.wanted AND (chosen IS NULL OR s.id OPERATOR(pg_catalog.=) ANY (chosen))
    ON CONFLICT (sync, kind, side) DO UPDATE
       SET last_key = NULL, done = 0, confirmed = false, discarded = false, exits = NULL, blanks = NULL, before_sending = true,
           started_at = pg_catalog.clock_timestamp(),
           -- this one stands for what a load may do
           reason = CASE WHEN sync._load.reason OPERATOR(pg_catalog.=) 'match_only' THEN sync._load.reason ELSE EXCLUDED.reason END;
    UPDATE sync._cursor SET seen = pg_catalog.format('%s:%s:', x, x)::pg_catalog.pg_snapshot, frozen = NULL, seq = 0
      FROM (SELECT pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())) AS t (x)
     WHERE chosen IS NULL OR sync OPERATOR(pg_catalog.=) ANY (chosen);
$$;

CREATE FUNCTION sync.activate(connection text DEFAULT NULL) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    chosen int4[] := ARRAY(SELECT s.id FROM sync._sync s
                            WHERE activate.connection IS NULL OR COALESCE(s.connection, 'local') OPERATOR(pg_catalog.=) activate.connection);
    -- Read before the first of them is no longer what it was.
    others int4[] := ARRAY(SELECT s.id FROM sync._sync s
                            WHERE s.id OPERATOR(pg_catalog.<>) ALL (chosen) AND sync._fence(s.installation) IS NOT NULL);
BEGIN
    IF activate.connection OPERATOR(pg_catalog.<>) 'local'
       AND NOT EXISTS (SELECT FROM sync.connections c WHERE c.name OPERATOR(pg_catalog.=) activate.connection) THEN
        RAISE EXCEPTION 'connection "%" does not exist', activate.connection
            USING ERRCODE = 'undefined_object',
                  HINT = 'The view sync.connections lists them; SELECT sync.activate() is for all syncs.';
    END IF;
    INSERT INTO sync._cursor (sync, seen, seq, moved_at)
    SELECT s.id, '1:1:', 0, pg_catalog.clock_timestamp() FROM pg_catalog.unnest(chosen) AS s (id)
    ON CONFLICT (sync) DO NOTHING;
    PERFORM sync._reconcile_all('this copy of the database was activated', chosen);
    UPDATE sync._sync SET installation = (SELECT i.id FROM sync._installation i) WHERE id OPERATOR(pg_catalog.=) ANY (chosen);
    -- The database is active from now on; the others stay as they are, and owe the log nothing.
    UPDATE sync._sync SET installation = '00000000-0000-0000-0000-000000000000' WHERE id OPERATOR(pg_catalog.=) ANY (others);
    DELETE FROM sync._cursor WHERE sync OPERATOR(pg_catalog.=) ANY (others);
    -- A copy made by CREATE DATABASE ... TEMPLATE carries no mark.
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_db_role_setting r JOIN pg_catalog.pg_database d ON d.oid OPERATOR(pg_catalog.=) r.setdatabase
                    WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database() AND r.setrole OPERATOR(pg_catalog.=) 0
                      AND 'sync_ext.installed=on' OPERATOR(pg_catalog.=) ANY (r.setconfig)) THEN
        EXECUTE pg_catalog.format('ALTER DATABASE %I SET sync_ext.installed = ''on''', pg_catalog.current_database());
    END IF;
    PERFORM sync._activate();
END
$$;
COMMENT ON FUNCTION sync.activate(text) IS 'lets a copy of a database sync, all of it or what is connected with one system: compares all records, then goes on';

-- Why nothing is sent from here, if so: the sync came out of a dump, or the database or the server is a copy.
CREATE FUNCTION sync._fence(installation uuid) RETURNS text
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN installation OPERATOR(pg_catalog.=) '00000000-0000-0000-0000-000000000000' THEN 'this copy was activated for other connections only'
                WHEN installation OPERATOR(pg_catalog.<>) (SELECT i.id FROM sync._installation i) THEN 'it came out of a dump'
                WHEN e.database OPERATOR(pg_catalog.<>) (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
                THEN 'this database is a copy of another one'
                WHEN e.state OPERATOR(pg_catalog.=) 'fenced' THEN e.reason END
      FROM (SELECT 1) AS one LEFT JOIN LATERAL (SELECT x.state, x.reason, x.database FROM sync._epoch x ORDER BY x.epoch DESC LIMIT 1) e ON true
$$;

CREATE FUNCTION sync._epoch_now(OUT state text, OUT reason text)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN f.why IS NULL THEN e.state ELSE 'fenced' END, COALESCE(f.why, e.reason)
      FROM sync._epoch e, LATERAL (SELECT sync._fence(NULL) AS why) f
     ORDER BY e.epoch DESC LIMIT 1
$$;

--------------------------------------------------------------------------------------------------
-- Connections: servers of the wrapper sync_ext. What everybody may know stands in a server's options,
-- secrets stand in its user mapping for a role that nobody can be.

-- It belongs to the whole cluster, so that it may be there already.
DO $$
DECLARE
    secrets text := COALESCE(pg_catalog.current_setting('sync_ext.secret_role', true), 'sync_ext_secrets');
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolname OPERATOR(pg_catalog.=) secrets) THEN
        BEGIN
            EXECUTE pg_catalog.format('CREATE ROLE %I NOLOGIN', secrets);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            -- Another database was quicker.
            NULL;
        END;
    END IF;
    IF EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolname OPERATOR(pg_catalog.=) secrets AND (r.rolcanlogin OR r.rolsuper)) THEN
        RAISE EXCEPTION 'role "%" cannot hold secrets', secrets
            USING ERRCODE = 'invalid_role_specification',
                  DETAIL = 'It can log in. Secrets are kept in its user mappings, where whoever is that role reads them.',
                  HINT = 'Make it NOLOGIN, or name another role in the setting sync_ext.secret_role.';
    END IF;
END
$$;

CREATE FUNCTION sync._validate_options(options text[], catalog oid) RETURNS void
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'validate_options_wrapper';

CREATE FOREIGN DATA WRAPPER sync_ext VALIDATOR sync._validate_options;
COMMENT ON FOREIGN DATA WRAPPER sync_ext IS 'connections of sync_ext to other systems';

-- What the worker has found out about each connection. In no dump: it is true of this server only.
CREATE TABLE sync._connection (
    server          oid         NOT NULL CONSTRAINT _connection_pkey PRIMARY KEY,
    state           text        NOT NULL CONSTRAINT state_known CHECK (state OPERATOR(pg_catalog.=) ANY
                    (ARRAY['ok', 'waiting', 'needs credentials', 'unreachable', 'refused', 'no connector'])),
    reason          text,
    -- what became of a secret that was to take the place of the one in use
    new_secret      text,
    retry_at        timestamptz,
    since           timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    -- who we are there, how much of the day's calls is used, how far its clock is from ours
    account_id      text,
    account_user    text,
    api_used        int8,
    api_allowed     int8,
    clock_offset_ms int8
);

CREATE FUNCTION sync.create_connection(name text, settings jsonb) RETURNS text
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'create_connection_wrapper';
COMMENT ON FUNCTION sync.create_connection(text, jsonb) IS 'makes a connection to another system, without its secrets';

CREATE FUNCTION sync.alter_connection(name text, patch jsonb) RETURNS text
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'alter_connection_wrapper';
COMMENT ON FUNCTION sync.alter_connection(text, jsonb) IS 'changes the settings of a connection; null removes one';

CREATE FUNCTION sync.drop_connection(name text) RETURNS void
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'drop_connection_wrapper';
COMMENT ON FUNCTION sync.drop_connection(text) IS 'ends a connection that no sync uses, and forgets its secrets';

CREATE FUNCTION sync.set_secret(connection text, client_id text DEFAULT NULL, client_secret text DEFAULT NULL,
                                client_secret_file text DEFAULT NULL, private_key text DEFAULT NULL, private_key_file text DEFAULT NULL,
                                refresh_token text DEFAULT NULL, password text DEFAULT NULL, password_file text DEFAULT NULL,
                                security_token text DEFAULT NULL) RETURNS text
    LANGUAGE c AS 'MODULE_PATHNAME', 'set_secret_wrapper';
COMMENT ON FUNCTION sync.set_secret(text, text, text, text, text, text, text, text, text, text) IS 'stores the secrets of a connection; those in use stay until the new ones have worked';

-- What the worker does once it has tried a new secret, by hand: it takes the place of the old one, or
-- was refused and is forgotten.
CREATE FUNCTION sync._settle_secret(connection text, refused text DEFAULT NULL) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'settle_secret_wrapper';

CREATE FUNCTION sync.test_connection(name text)
    RETURNS TABLE (what text, ok boolean, detail text, remedy text)
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'test_connection_wrapper';
COMMENT ON FUNCTION sync.test_connection(text) IS 'looks whether a connection works, step by step, and says what to do where it does not';

CREATE FUNCTION sync.objects(connection text)
    RETURNS TABLE (name text, label text, createable boolean, updateable boolean, deletable boolean)
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'connection_objects_wrapper';
COMMENT ON FUNCTION sync.objects(text) IS 'the objects on the other side of a connection';

CREATE FUNCTION sync.fields(connection text, object text)
    RETURNS TABLE (name text, label text, type text, postgres_type text, length int4, nillable boolean,
                   createable boolean, updateable boolean, external_id boolean, refers_to text)
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'connection_fields_wrapper';
COMMENT ON FUNCTION sync.fields(text, text) IS 'the fields of an object on the other side of a connection';

-- The calls of the account that a connection leads to, as this server counts them and has been told: of the last 24
-- hours, by what ours were for, what is kept up, what is expected, and the seconds that the next change has to wait.
CREATE FUNCTION sync._api_usage(server oid)
    RETURNS TABLE (state text, detail text, used int8, allowed int8, push int8, poll int8, load int8, other int8, reserve int8,
                   remaining int8, per_hour float8, polling_stretch float8, expected int8, reserve_in float8,
                   events_by_us int8, events_used int8, events_allowed int8, wait float8)
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'api_usage_wrapper';

CREATE VIEW sync.connections AS
SELECT s.srvname::pg_catalog.text AS name,
       s.srvtype AS type,
       k.state,
       CASE WHEN k.state OPERATOR(pg_catalog.=) 'no connector' THEN pg_catalog.format('this version has no connector for systems of type %s', s.srvtype)
            WHEN k.state OPERATOR(pg_catalog.=) 'needs credentials' THEN pg_catalog.format('store them: SELECT sync.set_secret(%L, %s);', s.srvname, l.missing)
            ELSE COALESCE(pg_catalog.concat_ws('; ',
                              COALESCE(c.reason, CASE WHEN k.state OPERATOR(pg_catalog.=) 'ok' THEN pg_catalog.concat_ws(' ', 'org ' OPERATOR(pg_catalog.||) c.account_id, 'as ' OPERATOR(pg_catalog.||) c.account_user)
                                                              ELSE 'not used yet' END),
                              CASE WHEN c.retry_at OPERATOR(pg_catalog.>) pg_catalog.clock_timestamp()
                                   THEN pg_catalog.format('next try at %s', pg_catalog.date_trunc('second', c.retry_at)) END,
                              COALESCE(c.new_secret, CASE WHEN m.pending THEN 'a new secret waits to be tried' END)), '') END AS detail,
       (SELECT COALESCE(pg_catalog.max(o.option_value) FILTER (WHERE o.option_name OPERATOR(pg_catalog.=) 'host'),
                        pg_catalog.max(pg_catalog.split_part(pg_catalog.split_part(o.option_value, '://', 2), '/', 1))
                            FILTER (WHERE o.option_name OPERATOR(pg_catalog.=) ANY (ARRAY['instance_url', 'base_url'])))
          FROM pg_catalog.pg_options_to_table(s.srvoptions) o) AS host,
       pg_catalog.pg_get_userbyid(s.srvowner)::pg_catalog.text AS owner,
       c.since,
       CASE WHEN a.allowed IS NULL THEN c.api_used ELSE a.used END AS api_used,
       COALESCE(a.allowed, c.api_allowed) AS api_limit,
       CASE WHEN a.wait OPERATOR(pg_catalog.>) 0 THEN pg_catalog.make_interval(secs => a.wait) END AS next_call_in
  FROM pg_catalog.pg_foreign_server s
  JOIN pg_catalog.pg_foreign_data_wrapper w ON w.oid OPERATOR(pg_catalog.=) s.srvfdw AND w.fdwname OPERATOR(pg_catalog.=) 'sync_ext'
  LEFT JOIN sync._connection c ON c.server OPERATOR(pg_catalog.=) s.oid
  LEFT JOIN LATERAL sync._api_usage(s.oid) a ON true
  LEFT JOIN LATERAL (
       -- the names of the secrets and nothing else of them
       SELECT pg_catalog.array_agg(pg_catalog.regexp_replace(o.name, '_file$', '')) AS held,
              pg_catalog.bool_or(pg_catalog.starts_with(o.name, 'new_')) AS pending
         FROM (SELECT pg_catalog.split_part(u.option, '=', 1) AS name
                 FROM pg_catalog.pg_user_mapping p
                 JOIN pg_catalog.pg_roles r ON r.oid OPERATOR(pg_catalog.=) p.umuser,
                      LATERAL pg_catalog.unnest(p.umoptions) AS u (option)
                WHERE p.umserver OPERATOR(pg_catalog.=) s.oid
                  AND r.rolname OPERATOR(pg_catalog.=) COALESCE(pg_catalog.current_setting('sync_ext.secret_role', true), 'sync_ext_secrets')) o) m ON true
  LEFT JOIN LATERAL (
       -- what the way to log in needs, as src/connection/flow.rs has it
       SELECT pg_catalog.string_agg(n.name OPERATOR(pg_catalog.||) ' => ...', ', ') AS missing
         FROM (SELECT pg_catalog.max(o.option_value) AS auth_type FROM pg_catalog.pg_options_to_table(s.srvoptions) o
                WHERE o.option_name OPERATOR(pg_catalog.=) 'auth_type') w,
              LATERAL pg_catalog.unnest(CASE WHEN w.auth_type OPERATOR(pg_catalog.=) ANY (ARRAY['jwt', 'jwt_bearer']) THEN ARRAY['client_id', 'private_key']
                                             WHEN w.auth_type OPERATOR(pg_catalog.=) 'refresh_token' THEN ARRAY['client_id', 'refresh_token']
                                             WHEN w.auth_type OPERATOR(pg_catalog.=) 'password' THEN ARRAY['client_id', 'client_secret', 'password']
                                             ELSE ARRAY['client_id', 'client_secret'] END) AS n (name)
        WHERE (n.name OPERATOR(pg_catalog.=) ANY (m.held)) IS NOT TRUE) l ON true,
       LATERAL (SELECT CASE WHEN COALESCE(s.srvtype, '') OPERATOR(pg_catalog.<>) 'salesforce' THEN 'no connector'
                            WHEN l.missing IS NOT NULL THEN 'needs credentials'
                            WHEN c.state OPERATOR(pg_catalog.<>) 'needs credentials' THEN c.state
                            ELSE 'waiting' END AS state) k;
COMMENT ON VIEW sync.connections IS 'the connections to other systems, and how each of them does';

CREATE VIEW sync.api_usage AS
SELECT s.srvname::pg_catalog.text AS connection,
       COALESCE(a.state, 'unknown') AS state,
       COALESCE(a.detail, 'the account has not been called since the server was started') AS detail,
       a.used, a.allowed,
       a.push OPERATOR(pg_catalog.+) a.poll OPERATOR(pg_catalog.+) a.load OPERATOR(pg_catalog.+) a.other AS used_by_us,
       a.push, a.poll, a.load, a.other, a.reserve, a.remaining,
       pg_catalog.round(a.per_hour::pg_catalog.numeric, 1) AS per_hour,
       pg_catalog.round(a.polling_stretch::pg_catalog.numeric, 2) AS polling_stretch,
       a.expected,
       pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+) pg_catalog.make_interval(secs => a.reserve_in) AS reserve_at,
       a.events_by_us, a.events_used, a.events_allowed
  FROM pg_catalog.pg_foreign_server s
  JOIN pg_catalog.pg_foreign_data_wrapper w ON w.oid OPERATOR(pg_catalog.=) s.srvfdw AND w.fdwname OPERATOR(pg_catalog.=) 'sync_ext'
  LEFT JOIN LATERAL sync._api_usage(s.oid) a ON true;
COMMENT ON VIEW sync.api_usage IS 'the calls of each connection''s account: used, by what for, what is left, and what is expected';

--------------------------------------------------------------------------------------------------
-- Views

CREATE VIEW sync.status AS
SELECT s.name AS sync,
       CASE WHEN w.state OPERATOR(pg_catalog.=) 'standby' THEN 'standby'
            WHEN w.hopeless THEN 'no worker'
            WHEN f.why IS NOT NULL THEN 'fenced'
            WHEN w.state OPERATOR(pg_catalog.=) 'switched off' THEN 'off'
            WHEN w.state OPERATOR(pg_catalog.=) 'failing' THEN 'failing'
            WHEN w.state OPERATOR(pg_catalog.<>) 'running' THEN 'no worker'
            WHEN s.state OPERATOR(pg_catalog.<>) 'running' THEN s.state
            WHEN n.trouble THEN n.state
            WHEN s.reason IS NOT NULL THEN 'failing'
            WHEN s.connection IS NOT NULL AND NOT n.described THEN 'connecting'
            WHEN l.waiting OPERATOR(pg_catalog.>) 0 THEN 'waiting for writers'
            WHEN l.loads OPERATOR(pg_catalog.>) 0 THEN 'loading'
            WHEN q.review OPERATOR(pg_catalog.>) 0 THEN 'needs review'
            WHEN q.waiting OPERATOR(pg_catalog.>) q.resting THEN 'retrying'
            WHEN d.review OPERATOR(pg_catalog.>) 0 THEN 'needs review'
            ELSE 'running' END AS state,
       CASE WHEN w.state OPERATOR(pg_catalog.=) 'not preloaded' THEN 'the library was not loaded when the server started; set shared_preload_libraries = ''sync_ext'' and restart the server'
            WHEN w.state OPERATOR(pg_catalog.=) 'no worker slot' THEN 'all worker slots are in use; increase max_worker_processes and restart the server'
            WHEN w.state OPERATOR(pg_catalog.=) 'no launcher' THEN 'the launcher has not started, see the server log; max_worker_processes may be too small'
            WHEN w.state OPERATOR(pg_catalog.=) 'standby' THEN 'this server is a standby; the primary syncs'
            WHEN f.why IS NOT NULL THEN pg_catalog.format('%s; SELECT sync.activate() if this database is meant to sync', f.why)
            WHEN w.state OPERATOR(pg_catalog.=) 'switched off' THEN 'sync_ext.enabled is off; changes are captured'
            WHEN w.state OPERATOR(pg_catalog.=) 'failing' THEN 'its worker cannot work, the server log says why; changes are captured'
            WHEN w.state OPERATOR(pg_catalog.<>) 'running' THEN pg_catalog.format('its worker is %s; changes are captured', w.state)
            WHEN s.state OPERATOR(pg_catalog.=) 'paused' THEN pg_catalog.concat_ws('; ', s.reason, 'changes are captured and wait; SELECT sync.resume(...) to go on')
            WHEN n.trouble THEN n.reason
            WHEN s.reason IS NOT NULL THEN s.reason
            WHEN s.connection IS NOT NULL AND NOT n.described THEN 'the other system is asked what the object looks like'
            WHEN l.waiting OPERATOR(pg_catalog.>) 0 THEN pg_catalog.format('waiting for %s writers that began before the sync', l.waiting)
            WHEN l.loads OPERATOR(pg_catalog.>) 0 THEN pg_catalog.concat_ws('; ', pg_catalog.format('%s records compared (%s)', l.done, l.reason), p.paced)
            WHEN q.review OPERATOR(pg_catalog.>) 0 THEN pg_catalog.concat_ws('; ', pg_catalog.format('%s records need a person, see sync.queue', q.review), p.paced)
            WHEN q.waiting OPERATOR(pg_catalog.>) q.resting THEN pg_catalog.concat_ws('; ', pg_catalog.format('%s records wait, see sync.queue', q.waiting), p.paced)
            WHEN p.paced IS NOT NULL THEN p.paced
            WHEN q.resting OPERATOR(pg_catalog.>) 0 THEN pg_catalog.format('%s records are looked at once nothing more happens to them, see sync.queue', q.resting)
            WHEN d.review OPERATOR(pg_catalog.>) 0 THEN pg_catalog.format('%s changes need a person, see sync.queue', d.review)
            WHEN d.waiting OPERATOR(pg_catalog.>) 0 THEN pg_catalog.format('%s changes wait to be taken, since %s', d.waiting, d.since)
            WHEN d.taken OPERATOR(pg_catalog.>) 0 THEN pg_catalog.format('%s changes have been taken', d.taken)
            ELSE COALESCE(o.looked, 'in sync') END AS detail,
       COALESCE(s.source::pg_catalog.text, pg_catalog.format('%s:%s', s.connection, s.object)) AS source,
       s.direction,
       CASE WHEN s.connection IS NULL AND s.target IS NULL THEN 'application'
            ELSE COALESCE(s.target::pg_catalog.text, pg_catalog.format('%s:%s', s.connection, s.object)) END AS target,
       q.waiting OPERATOR(pg_catalog.+) d.waiting OPERATOR(pg_catalog.+) d.taken AS queued,
       q.review OPERATOR(pg_catalog.+) d.review AS in_review,
       c.moved_at AS last_activity
  FROM sync._sync s
  LEFT JOIN sync._cursor c ON c.sync OPERATOR(pg_catalog.=) s.id
  LEFT JOIN LATERAL (SELECT pg_catalog.format('%s: next at %s', x.reason, pg_catalog.date_trunc('milliseconds', x.until)) AS paced FROM sync._pace_wait x
                      WHERE x.sync OPERATOR(pg_catalog.=) s.id AND x.until OPERATOR(pg_catalog.>) (pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) interval '1 second')) p ON true
  LEFT JOIN LATERAL (SELECT pg_catalog.format('in sync as of %s, when it was last read', pg_catalog.date_trunc('milliseconds', x.polled_at)) AS looked FROM sync._pull x
                      WHERE x.sync OPERATOR(pg_catalog.=) s.id
                        AND (s.document OPERATOR(pg_catalog.#>>) '{performance_settings,change_detection}') OPERATOR(pg_catalog.=) 'polling') o ON true
 CROSS JOIN LATERAL (SELECT x.state, x.state OPERATOR(pg_catalog.=) ANY (ARRAY['not preloaded', 'no launcher', 'no worker slot']) AS hopeless
                       FROM sync._worker_state() AS x (state)) w
 CROSS JOIN LATERAL (SELECT sync._fence(s.installation) AS why) f
 CROSS JOIN LATERAL (SELECT pg_catalog.count(*) AS loads, COALESCE(pg_catalog.sum(x.done), 0) AS done, pg_catalog.min(x.reason) AS reason,
                            COALESCE(pg_catalog.max(pg_catalog.cardinality(x.waits_for)), 0) AS waiting
                       FROM sync._load x WHERE x.sync OPERATOR(pg_catalog.=) s.id) l
 CROSS JOIN LATERAL (SELECT COALESCE(pg_catalog.bool_or(c.state OPERATOR(pg_catalog.<>) 'ok'), false) AS trouble, pg_catalog.min(c.state) AS state,
                            COALESCE(pg_catalog.min(c.detail), '') AS reason,
                            EXISTS (SELECT FROM sync._object o WHERE o.connection OPERATOR(pg_catalog.=) s.connection
                                       AND pg_catalog.lower(o.object) OPERATOR(pg_catalog.=) pg_catalog.lower(s.object)) AS described
                       FROM sync.connections c WHERE c.name OPERATOR(pg_catalog.=) s.connection) n
 CROSS JOIN LATERAL (SELECT pg_catalog.count(*) FILTER (WHERE x.state OPERATOR(pg_catalog.<>) 'review') AS waiting,
                            pg_catalog.count(*) FILTER (WHERE x.state OPERATOR(pg_catalog.=) 'pending') AS resting,
                            pg_catalog.count(*) FILTER (WHERE x.state OPERATOR(pg_catalog.=) 'review') AS review
                       FROM sync._queue x WHERE x.sync OPERATOR(pg_catalog.=) s.id) q
 CROSS JOIN LATERAL (SELECT pg_catalog.count(*) FILTER (WHERE x.state OPERATOR(pg_catalog.=) ANY (ARRAY['pending', 'retrying'])) AS waiting,
                            pg_catalog.count(*) FILTER (WHERE x.state OPERATOR(pg_catalog.=) 'sending') AS taken,
                            pg_catalog.count(*) FILTER (WHERE x.state OPERATOR(pg_catalog.=) 'review') AS review,
                            pg_catalog.min(x.since) FILTER (WHERE x.state OPERATOR(pg_catalog.=) ANY (ARRAY['pending', 'retrying'])) AS since
                       FROM sync._delivery x WHERE x.sync OPERATOR(pg_catalog.=) s.id) d
 ORDER BY CASE WHEN w.state OPERATOR(pg_catalog.<>) 'running' THEN 0
               WHEN f.why IS NOT NULL THEN 1
               WHEN s.state OPERATOR(pg_catalog.=) 'needs decision' THEN 2
               WHEN n.trouble OR s.reason IS NOT NULL THEN 3
               WHEN q.review OPERATOR(pg_catalog.>) 0 THEN 4
               WHEN q.waiting OPERATOR(pg_catalog.>) q.resting THEN 5
               WHEN s.state OPERATOR(pg_catalog.=) 'paused' THEN 6
               ELSE 7 END, s.name;
COMMENT ON VIEW sync.status IS 'one row a sync, the worst first: its state, and in a sentence what it means';

CREATE VIEW sync.queue AS
SELECT q.id, s.name AS sync,
       CASE WHEN p.see THEN q.key_text END AS key,
       COALESCE(p.side::pg_catalog.text, pg_catalog.format('%s:%s', s.connection, s.object)) AS "table",
       CASE WHEN q.side OPERATOR(pg_catalog.=) 0 THEN 'source to target' ELSE 'target to source' END AS direction,
       q.state, q.attempts, q.since,
       CASE WHEN q.state OPERATOR(pg_catalog.<>) 'review' AND q.next_at OPERATOR(pg_catalog.<) '9999-01-01'::pg_catalog.timestamptz THEN q.next_at END AS next_try,
       q.sqlstate, q.message,
       CASE WHEN p.see THEN q.detail END AS detail,
       q.hint, q.changed_at AS at
  FROM sync._queue q JOIN sync._sync s ON s.id OPERATOR(pg_catalog.=) q.sync
 CROSS JOIN LATERAL (SELECT t.side, pg_catalog.has_table_privilege(t.own, 'SELECT') AND NOT pg_catalog.row_security_active(t.own) AS see
                       FROM (SELECT CASE WHEN q.side OPERATOR(pg_catalog.=) 0 THEN s.source ELSE s.target END AS side,
                                    COALESCE(CASE WHEN q.side OPERATOR(pg_catalog.=) 0 THEN s.source ELSE s.target END, s.source, s.target) AS own) t) p
UNION ALL
SELECT d.id, s.name,
       CASE WHEN p.see THEN d.key_text END, s.source::pg_catalog.text, 'source to target',
       d.state, d.attempts, d.since,
       CASE WHEN d.state OPERATOR(pg_catalog.<>) 'review' THEN d.next_at END,
       NULL,
       CASE WHEN p.see THEN d.message END, NULL, NULL, d.captured_at
  FROM sync._delivery d JOIN sync._sync s ON s.id OPERATOR(pg_catalog.=) d.sync
 CROSS JOIN LATERAL (SELECT pg_catalog.has_table_privilege(s.source, 'SELECT') AND NOT pg_catalog.row_security_active(s.source) AS see) p
 WHERE d.state OPERATOR(pg_catalog.<>) 'pending'
 ORDER BY id;
COMMENT ON VIEW sync.queue IS 'the records that are not settled: why, since when, and when they are tried next';

-- What applications take. Payloads are shown to who may read the table.
CREATE VIEW sync.deliveries AS
SELECT d.id, s.name AS sync, s.source::pg_catalog.text AS "table",
       CASE WHEN p.see THEN d.key_text END AS key,
       CASE WHEN d.op OPERATOR(pg_catalog.=) 'I' THEN 'INSERT' WHEN d.op OPERATOR(pg_catalog.=) 'U' THEN 'UPDATE' WHEN d.op OPERATOR(pg_catalog.=) 'D' THEN 'DELETE' WHEN d.op OPERATOR(pg_catalog.=) 'T' THEN 'TRUNCATE' ELSE 'NOT CAPTURED' END AS operation,
       CASE WHEN d.op OPERATOR(pg_catalog.=) 'U' THEN sync._payload(d.tableoid, d.ctid, 'new') OPERATOR(pg_catalog.||) sync._payload(d.tableoid, d.ctid, 'old')
            ELSE sync._payload(d.tableoid, d.ctid, 'old') END AS old,
       sync._payload(d.tableoid, d.ctid, 'new') AS new,
       sync._payload(d.tableoid, d.ctid, 'changed') AS changed,
       CASE WHEN d.origin OPERATOR(pg_catalog.=) 0 THEN 'user' ELSE COALESCE((SELECT o.name FROM sync._sync o WHERE o.id OPERATOR(pg_catalog.=) (d.origin OPERATOR(pg_catalog./) 2)), 'a sync that has ended') END AS origin,
       d.captured_at, d.state, d.attempts,
       CASE WHEN d.state OPERATOR(pg_catalog.<>) 'review' THEN d.next_at END AS next_try,
       CASE WHEN p.see THEN d.message END AS message
  FROM sync._delivery d JOIN sync._sync s ON s.id OPERATOR(pg_catalog.=) d.sync
 CROSS JOIN LATERAL (SELECT pg_catalog.has_table_privilege(s.source, 'SELECT') AND NOT pg_catalog.row_security_active(s.source) AS see) p
 ORDER BY d.id;
COMMENT ON VIEW sync.deliveries IS 'changes that applications have not done with, the oldest first';

CREATE VIEW sync.errors AS
SELECT e.id, s.name AS sync,
       CASE WHEN p.see THEN e.key_text END AS key,
       CASE WHEN e.side OPERATOR(pg_catalog.=) 0 THEN 'source to target' WHEN e.side OPERATOR(pg_catalog.=) 1 THEN 'target to source' END AS direction,
       e.attempt, e.sqlstate, e.message,
       CASE WHEN p.see THEN e.detail END AS detail,
       e.hint, e.outcome, e.at
  FROM sync._error e JOIN sync._sync s ON s.id OPERATOR(pg_catalog.=) e.sync
 CROSS JOIN LATERAL (SELECT pg_catalog.has_table_privilege(t.side, 'SELECT') AND NOT pg_catalog.row_security_active(t.side) AS see
                       FROM (SELECT COALESCE(CASE WHEN e.side OPERATOR(pg_catalog.=) 1 THEN s.target ELSE s.source END, s.source, s.target) AS side) t) p
 ORDER BY e.id DESC;
COMMENT ON VIEW sync.errors IS 'every failed attempt, the latest first';

CREATE VIEW sync.conflicts AS
SELECT c.id, s.name AS sync,
       CASE WHEN p.see THEN c.key_text END AS key, c.kind, c.field,
       CASE WHEN p.see THEN c.base END AS base,
       CASE WHEN p.see THEN c.source_value END AS source_value,
       CASE WHEN p.see THEN c.target_value END AS target_value,
       c.winner, c.reason, c.at, c.resolved_at, c.resolved_by
  FROM sync._conflict c JOIN sync._sync s ON s.id OPERATOR(pg_catalog.=) c.sync
 CROSS JOIN LATERAL (SELECT pg_catalog.has_table_privilege(t.source, 'SELECT') AND pg_catalog.has_table_privilege(t.target, 'SELECT')
                            AND NOT pg_catalog.row_security_active(t.source) AND NOT pg_catalog.row_security_active(t.target) AS see
                       FROM (SELECT COALESCE(s.source, s.target) AS source, COALESCE(s.target, s.source) AS target) t) p
 ORDER BY c.id DESC;
COMMENT ON VIEW sync.conflicts IS 'fields that both sides changed to different values: base, both values, who won (null: a person decides) and why';

CREATE VIEW sync.gaps AS
SELECT g.id, g.relation AS "table", s.name AS sync, g.reason, g.noticed_at, g.reconciled_at
  FROM sync._gap g JOIN sync._sync s ON s.id OPERATOR(pg_catalog.=) g.sync
 ORDER BY g.id DESC;
COMMENT ON VIEW sync.gaps IS 'changes that no trigger saw: what happened, and when the table was reconciled';

CREATE VIEW sync.schema_changes AS
SELECT c.id, s.name AS sync, s.connection, s.object, c.field, c.change, c.was, c.is_now AS now,
       COALESCE(c.effect, 'not followed yet') AS effect, c.remedy, c.at
  FROM sync._schema_change c JOIN sync._sync s ON s.id OPERATOR(pg_catalog.=) c.sync
 ORDER BY c.id DESC;
COMMENT ON VIEW sync.schema_changes IS 'what was changed of fields over there and of columns here: what came of it, and what can be done about it';

CREATE VIEW sync.progress AS
SELECT s.name AS sync, COALESCE(CASE WHEN l.side OPERATOR(pg_catalog.=) 0 THEN s.source ELSE s.target END::pg_catalog.text, pg_catalog.format('%s:%s', s.connection, s.object)) AS "table",
       CASE WHEN l.kind OPERATOR(pg_catalog.=) 'rows' THEN 'comparing rows' ELSE 'looking for rows that are gone' END AS phase, l.reason,
       pg_catalog.cardinality(l.waits_for) AS waiting_for_writers, l.done, e.expected,
       CASE WHEN e.expected OPERATOR(pg_catalog.>) 0 THEN (e.bytes::pg_catalog.float8 OPERATOR(pg_catalog.*) LEAST(1, l.done::pg_catalog.float8 OPERATOR(pg_catalog./) e.expected))::pg_catalog.int8 END AS bytes,
       r.rate AS rows_per_second,
       CASE WHEN r.rate OPERATOR(pg_catalog.>) 0 AND e.expected OPERATOR(pg_catalog.>=) l.done
            THEN pg_catalog.make_interval(secs => (e.expected OPERATOR(pg_catalog.-) l.done) OPERATOR(pg_catalog./) r.rate) END AS ends_in,
       l.job, l.started_at
  FROM sync._load l JOIN sync._sync s ON s.id OPERATOR(pg_catalog.=) l.sync
  LEFT JOIN pg_catalog.pg_class t ON t.oid OPERATOR(pg_catalog.=) CASE WHEN l.side OPERATOR(pg_catalog.=) 0 THEN s.source ELSE s.target END::pg_catalog.oid
 CROSS JOIN LATERAL (SELECT CASE WHEN l.expected OPERATOR(pg_catalog.>) 0 THEN l.expected WHEN t.reltuples OPERATOR(pg_catalog.>) 0 THEN t.reltuples::pg_catalog.int8 END AS expected,
                            pg_catalog.pg_table_size(t.oid::pg_catalog.regclass) AS bytes) e
 CROSS JOIN LATERAL (SELECT CASE WHEN p.seconds OPERATOR(pg_catalog.>) 0 THEN pg_catalog.round(l.done OPERATOR(pg_catalog./) p.seconds, 1)::pg_catalog.float8 END AS rate
                       FROM (SELECT EXTRACT(epoch FROM pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) l.started_at)) AS p (seconds)) r;
COMMENT ON VIEW sync.progress IS 'tables that are being gone through: first loads and reconciling';

CREATE VIEW sync.config_history AS
SELECT c.id, c.name AS sync, c.at, c.by, c.action, c.reason,
       CASE WHEN o.member THEN COALESCE(sync._patch(c.before, c.after), c.after) END AS patch,
       CASE WHEN o.member THEN sync._patch(c.after, c.before) END AS back
  FROM sync._config c
 CROSS JOIN LATERAL (SELECT EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.oid OPERATOR(pg_catalog.=) c.owner
                                       AND pg_catalog.pg_has_role(r.oid, 'USAGE')) AS member) o
 ORDER BY c.id DESC;
COMMENT ON VIEW sync.config_history IS 'every change of a sync''s configuration: who made it, when, what it was, and the patch that takes it back';

-- The log beyond each sync's cursor, and history. One branch a status, each with its status as a
-- constant, so that a query for what is pending never looks into history.
CREATE VIEW sync.change_log AS
WITH log AS NOT MATERIALIZED (
    SELECT tableoid, ctid, seq, xid, at, shape, origin, op FROM sync._log_v1_0
    UNION ALL SELECT tableoid, ctid, seq, xid, at, shape, origin, op FROM sync._log_v1_1
    UNION ALL SELECT tableoid, ctid, seq, xid, at, shape, origin, op FROM sync._log_v1_2
    UNION ALL SELECT tableoid, ctid, seq, xid, at, shape, origin, op FROM sync._log_v1_3
), waiting AS NOT MATERIALIZED (
    SELECT s.id AS sync_id, s.name AS sync, v.side, v.relation, l.tableoid, l.ctid, l.seq, l.at, l.origin, l.op,
           c.frozen IS NOT NULL AND pg_catalog.pg_visible_in_snapshot(l.xid::pg_catalog.text::pg_catalog.xid8, c.frozen) AS taken
      FROM sync._sync s
      JOIN sync._cursor c ON c.sync OPERATOR(pg_catalog.=) s.id
     CROSS JOIN LATERAL (VALUES (0, s.source, s.source_key), (1, s.target, s.target_key)) AS v (side, relation, key)
      JOIN log l ON EXISTS (SELECT FROM sync._shape h WHERE h.id OPERATOR(pg_catalog.=) l.shape AND h.relation OPERATOR(pg_catalog.=) v.relation::pg_catalog.oid)
     WHERE v.key IS NOT NULL
       AND l.origin OPERATOR(pg_catalog.<>) (s.id OPERATOR(pg_catalog.*) 2 OPERATOR(pg_catalog.+) v.side)
       AND NOT pg_catalog.pg_visible_in_snapshot(l.xid::pg_catalog.text::pg_catalog.xid8, c.seen)
       AND (c.frozen IS NULL OR l.seq OPERATOR(pg_catalog.>) c.seq OR NOT pg_catalog.pg_visible_in_snapshot(l.xid::pg_catalog.text::pg_catalog.xid8, c.frozen))
), change AS NOT MATERIALIZED (
    SELECT w.sync_id, w.sync, w.side, w.relation, w.tableoid, w.ctid, w.seq, w.at, NULL::pg_catalog.timestamptz AS settled_at, w.origin, w.op, 'pending'::pg_catalog.text AS status
      FROM waiting w WHERE NOT w.taken
    UNION ALL
    SELECT w.sync_id, w.sync, w.side, w.relation, w.tableoid, w.ctid, w.seq, w.at, NULL, w.origin, w.op, 'sending'
      FROM waiting w WHERE w.taken
    UNION ALL
    SELECT s.id, s.name, h.side, CASE WHEN h.side OPERATOR(pg_catalog.=) 0 THEN s.source ELSE s.target END, h.tableoid, h.ctid, h.seq, h.captured_at, NULL, h.origin, h.op, 'sending'
      FROM sync._sending h JOIN sync._sync s ON s.id OPERATOR(pg_catalog.=) h.sync
    UNION ALL
    SELECT s.id, s.name, d.side, s.source, d.tableoid, d.ctid, d.seq, d.captured_at, NULL, d.origin, d.op, 'sending'
      FROM sync._delivery d JOIN sync._sync s ON s.id OPERATOR(pg_catalog.=) d.sync WHERE d.state OPERATOR(pg_catalog.=) ANY (ARRAY['pending', 'sending'])
    UNION ALL
    SELECT s.id, s.name, d.side, s.source, d.tableoid, d.ctid, d.seq, d.captured_at, NULL, d.origin, d.op, 'parked'
      FROM sync._delivery d JOIN sync._sync s ON s.id OPERATOR(pg_catalog.=) d.sync WHERE d.state OPERATOR(pg_catalog.=) ANY (ARRAY['retrying', 'review'])
    UNION ALL
    SELECT s.id, s.name, h.side, CASE WHEN h.side OPERATOR(pg_catalog.=) 0 THEN s.source ELSE s.target END, h.tableoid, h.ctid, h.seq, h.captured_at, h.settled_at, h.origin, h.op, 'synced'
      FROM sync._history h JOIN sync._sync s ON s.id OPERATOR(pg_catalog.=) h.sync WHERE h.outcome OPERATOR(pg_catalog.=) 's'
    UNION ALL
    SELECT s.id, s.name, h.side, CASE WHEN h.side OPERATOR(pg_catalog.=) 0 THEN s.source ELSE s.target END, h.tableoid, h.ctid, h.seq, h.captured_at, h.settled_at, h.origin, h.op, 'conflict'
      FROM sync._history h JOIN sync._sync s ON s.id OPERATOR(pg_catalog.=) h.sync WHERE h.outcome OPERATOR(pg_catalog.=) 'c'
    UNION ALL
    SELECT s.id, s.name, h.side, CASE WHEN h.side OPERATOR(pg_catalog.=) 0 THEN s.source ELSE s.target END, h.tableoid, h.ctid, h.seq, h.captured_at, h.settled_at, h.origin, h.op, 'unchanged'
      FROM sync._history h JOIN sync._sync s ON s.id OPERATOR(pg_catalog.=) h.sync WHERE h.outcome OPERATOR(pg_catalog.=) 'u'
    UNION ALL
    SELECT s.id, s.name, h.side, CASE WHEN h.side OPERATOR(pg_catalog.=) 0 THEN s.source ELSE s.target END, h.tableoid, h.ctid, h.seq, h.captured_at, h.settled_at, h.origin, h.op, 'parked'
      FROM sync._history h JOIN sync._sync s ON s.id OPERATOR(pg_catalog.=) h.sync WHERE h.outcome OPERATOR(pg_catalog.=) 'p'
    UNION ALL
    SELECT s.id, s.name, h.side, CASE WHEN h.side OPERATOR(pg_catalog.=) 0 THEN s.source ELSE s.target END, h.tableoid, h.ctid, h.seq, h.captured_at, h.settled_at, h.origin, h.op, 'merged again'
      FROM sync._history h JOIN sync._sync s ON s.id OPERATOR(pg_catalog.=) h.sync WHERE h.outcome OPERATOR(pg_catalog.=) 'a'
)
SELECT c.sync, c.seq, c.relation::pg_catalog.text AS "table",
       sync._key(c.tableoid, c.ctid) AS key,
       CASE WHEN c.op OPERATOR(pg_catalog.=) 'I' THEN 'INSERT' WHEN c.op OPERATOR(pg_catalog.=) 'U' THEN 'UPDATE' WHEN c.op OPERATOR(pg_catalog.=) 'D' THEN 'DELETE' WHEN c.op OPERATOR(pg_catalog.=) 'T' THEN 'TRUNCATE' ELSE 'NOT CAPTURED' END AS operation,
       CASE WHEN c.side OPERATOR(pg_catalog.=) 0 THEN 'source to target' ELSE 'target to source' END AS direction,
       c.status,
       CASE WHEN c.status OPERATOR(pg_catalog.=) 'parked' THEN COALESCE(
           (SELECT e.outcome FROM sync._error e
             WHERE e.sync OPERATOR(pg_catalog.=) c.sync_id AND e.side OPERATOR(pg_catalog.=) c.side AND e.outcome IS NOT NULL
               AND e.key_text OPERATOR(pg_catalog.=) sync._key(c.tableoid, c.ctid)
               AND c.settled_at OPERATOR(pg_catalog.>=) e.since AND c.settled_at OPERATOR(pg_catalog.<=) e.at LIMIT 1),
           (SELECT q.state FROM sync._queue q
             WHERE q.sync OPERATOR(pg_catalog.=) c.sync_id AND q.side OPERATOR(pg_catalog.=) c.side AND q.key_text OPERATOR(pg_catalog.=) sync._key(c.tableoid, c.ctid)),
           (SELECT d.state FROM sync._delivery d WHERE d.tableoid OPERATOR(pg_catalog.=) c.tableoid AND d.ctid OPERATOR(pg_catalog.=) c.ctid), 'settled later') END AS queue_state,
       CASE WHEN c.origin OPERATOR(pg_catalog.=) 0 THEN 'user' ELSE COALESCE((SELECT o.name FROM sync._sync o WHERE o.id OPERATOR(pg_catalog.=) (c.origin OPERATOR(pg_catalog./) 2)), 'a sync that has ended') END AS origin,
       sync._payload(c.tableoid, c.ctid, 'old') AS old,
       sync._payload(c.tableoid, c.ctid, 'new') AS new,
       sync._payload(c.tableoid, c.ctid, 'changed') AS changed,
       c.at AS captured_at,
       c.settled_at AS synced_at
  FROM change c;
COMMENT ON VIEW sync.change_log IS 'every captured change and what became of it in each sync';

--------------------------------------------------------------------------------------------------
-- Functions over the views

CREATE FUNCTION sync.wait(name text, timeout interval DEFAULT '30 seconds',
                          OUT settled boolean, OUT parked bigint, OUT waited interval) RETURNS record
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    begun timestamptz := pg_catalog.clock_timestamp();
BEGIN
    settled := sync._wait(name, (EXTRACT(epoch FROM timeout) OPERATOR(pg_catalog.*) 1000)::bigint);
    waited := pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) begun;
    -- What is pending has come since and is being taken up.
    SELECT pg_catalog.count(*) INTO parked FROM sync.queue q
     WHERE (q.sync OPERATOR(pg_catalog.=) wait.name OR pg_catalog.starts_with(q.sync, wait.name OPERATOR(pg_catalog.||) '/')) AND q.state OPERATOR(pg_catalog.<>) 'pending';
END
$$;
COMMENT ON FUNCTION sync.wait(text, interval) IS 'waits until everything committed before is synced or parked; settled is false when the time was up';

CREATE FUNCTION sync.take(name text, up_to integer DEFAULT 100, lease interval DEFAULT '5 minutes')
    RETURNS TABLE (id bigint, "table" text, key text, operation text, old jsonb, new jsonb, changed jsonb, origin text, captured_at timestamptz, attempt integer)
    LANGUAGE sql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT d.id, d."table", d.key, d.operation, d.old, d.new, d.changed, d.origin, d.captured_at, d.attempts OPERATOR(pg_catalog.+) 1
      FROM sync._take(take.name, take.up_to, take.lease) AS t (id) JOIN sync.deliveries d ON d.id OPERATOR(pg_catalog.=) t.id
     ORDER BY d.id
$$;
COMMENT ON FUNCTION sync.take(text, integer, interval) IS 'hands changes over to an application, of each record the oldest; they are its own until the lease ends, or sync.done or sync.failed settles them';

CREATE FUNCTION sync.trace(name text, key text)
    RETURNS TABLE (at timestamptz, what text, "table" text, detail text, old jsonb, new jsonb)
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT t.at, t.what, t.relation, t.detail, t.old, t.new FROM (
        SELECT l.captured_at AS at, pg_catalog.format('%s %s', l.operation, l.status) AS what, l."table" AS relation,
               pg_catalog.concat_ws('; ', 'by ' OPERATOR(pg_catalog.||) l.origin, 'settled ' OPERATOR(pg_catalog.||) l.synced_at::text, l.queue_state) AS detail, l.old, l.new
          FROM sync.change_log l WHERE l.sync OPERATOR(pg_catalog.=) trace.name AND l.key OPERATOR(pg_catalog.=) trace.key
        UNION ALL
        SELECT c.at, 'conflict', NULL, pg_catalog.format('%s: base %s, source %s, target %s; %s: %s', c.field, COALESCE(c.base, 'none'), COALESCE(c.source_value, 'none'), COALESCE(c.target_value, 'none'), COALESCE('the ' OPERATOR(pg_catalog.||) c.winner OPERATOR(pg_catalog.||) ' won', 'it waits for a person'), c.reason), NULL, NULL
          FROM sync.conflicts c WHERE c.sync OPERATOR(pg_catalog.=) trace.name AND c.key OPERATOR(pg_catalog.=) trace.key
        UNION ALL
        SELECT e.at, 'failed attempt', NULL, pg_catalog.concat_ws(' - ', e.message, e.detail, e.hint), NULL, NULL
          FROM sync.errors e WHERE e.sync OPERATOR(pg_catalog.=) trace.name AND e.key OPERATOR(pg_catalog.=) trace.key
        UNION ALL
        SELECT q.since, 'queued: ' OPERATOR(pg_catalog.||) q.state, q."table", q.message, NULL, NULL
          FROM sync.queue q WHERE q.sync OPERATOR(pg_catalog.=) trace.name AND q.key OPERATOR(pg_catalog.=) trace.key) t
     ORDER BY t.at
$$;
COMMENT ON FUNCTION sync.trace(text, text) IS 'the whole story of one record';

CREATE FUNCTION sync.register_table(relation text, connection text DEFAULT 'local', object text DEFAULT NULL,
                                    direction text DEFAULT 'pull', name text DEFAULT NULL)
    RETURNS TABLE (field text, "column" text, type text, travels text, note text)
    LANGUAGE c AS 'MODULE_PATHNAME', 'register_table_wrapper';
COMMENT ON FUNCTION sync.register_table(text, text, text, text, text) IS 'syncs a table with an object, the fields of like names; makes the table where there is none';

CREATE FUNCTION sync.plan(name text, VARIADIC pieces jsonb[] DEFAULT ARRAY['{}'::pg_catalog.jsonb])
    RETURNS TABLE (object text, what text, detail text, figure float8)
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'plan_sync_wrapper';
COMMENT ON FUNCTION sync.plan(text, jsonb[]) IS 'what a sync would take, or a change of one: calls, time, disk, warnings; makes nothing';

CREATE FUNCTION sync.plan_objects(connection text, objects text[], direction text DEFAULT 'pull')
    RETURNS TABLE (object text, what text, detail text, figure float8)
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'plan_objects_wrapper';
COMMENT ON FUNCTION sync.plan_objects(text, text[], text) IS 'what it would take to import these objects: calls, time, disk, warnings; makes nothing';

CREATE FUNCTION sync.audit(name text, show integer DEFAULT 100)
    RETURNS TABLE (what text, records bigint, key text, remote_id text, field text, source_value text, target_value text, detail text)
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'audit_wrapper';
COMMENT ON FUNCTION sync.audit(text, integer) IS 'compares both sides of a sync and changes nothing: counts first, then the records that are not as they should be';

CREATE FUNCTION sync.repair(name text, keep text DEFAULT NULL, create_missing boolean DEFAULT false) RETURNS bigint
    LANGUAGE c AS 'MODULE_PATHNAME', 'repair_wrapper';
COMMENT ON FUNCTION sync.repair(text, text, boolean) IS 'has the worker put right what sync.audit finds; returns how many records were handed over';

CREATE FUNCTION sync._import_order(connection text, objects text[], schema text)
    RETURNS TABLE (object text, relation text, sync text, note text, problem text, detail text, hint text)
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'import_order_wrapper';

-- A procedure that commits can have no settings of its own: every name and operator in it is qualified.
CREATE PROCEDURE sync.import_objects(connection text, objects text[], schema text DEFAULT 'salesforce', direction text DEFAULT 'pull',
                                     INOUT imported integer DEFAULT NULL, INOUT present integer DEFAULT NULL, INOUT failed integer DEFAULT NULL)
    LANGUAGE plpgsql
AS $$
DECLARE
    step record;
    fields pg_catalog.int8;
    message pg_catalog.text;
    detail pg_catalog.text;
    hint pg_catalog.text;
BEGIN
    imported := 0;
    present := 0;
    failed := 0;
    -- Where it cannot commit, that is to be said before anything is done.
    COMMIT;
    FOR step IN SELECT * FROM sync._import_order(import_objects.connection, COALESCE(import_objects.objects, '{}'), import_objects.schema) LOOP
        IF step.sync IS NOT NULL THEN
            present := present OPERATOR(pg_catalog.+) 1;
            RAISE NOTICE '%: sync "%" has it already, which is left as it is', step.object, step.sync;
            CONTINUE;
        END IF;
        BEGIN
            IF step.problem IS NOT NULL THEN
                RAISE EXCEPTION '%', step.problem
                    USING DETAIL = COALESCE(step.detail, ''), HINT = COALESCE(step.hint, '');
            END IF;
            IF pg_catalog.to_regnamespace(pg_catalog.quote_ident(import_objects.schema)) IS NULL THEN
                EXECUTE pg_catalog.format('CREATE SCHEMA %I', import_objects.schema);
            END IF;
            SELECT pg_catalog.count(r.travels) INTO fields
              FROM sync.register_table(step.relation, connection => import_objects.connection, object => step.object,
                                       direction => import_objects.direction) r;
            imported := imported OPERATOR(pg_catalog.+) 1;
            RAISE NOTICE '%: table % with % fields%', step.object, step.relation, fields,
                COALESCE(', ' OPERATOR(pg_catalog.||) step.note, '');
        EXCEPTION WHEN OTHERS THEN
            GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
            failed := failed OPERATOR(pg_catalog.+) 1;
            RAISE WARNING '%: not imported: %', step.object, message USING DETAIL = detail, HINT = hint;
        END;
        COMMIT;
    END LOOP;
END
$$;
COMMENT ON PROCEDURE sync.import_objects(text, text[], text, text, integer, integer, integer) IS 'makes tables and syncs for many objects of a connection, parents first, a commit each; says what became of each';

CREATE FUNCTION sync.import_heroku_connect(connection text, schema text DEFAULT 'salesforce', export jsonb DEFAULT NULL,
                                           triggers text DEFAULT 'disable', stamp boolean DEFAULT false, dry_run boolean DEFAULT false)
    RETURNS TABLE (object text, "table" text, sync text, access text, outcome text, note text, remedy text)
    LANGUAGE c AS 'MODULE_PATHNAME', 'import_heroku_connect_wrapper';
COMMENT ON FUNCTION sync.import_heroku_connect(text, text, jsonb, text, boolean, boolean) IS 'makes paused syncs, which send nothing, of the tables that Heroku Connect has left';

CREATE FUNCTION sync.pause_all() RETURNS void
    LANGUAGE sql
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT sync.pause(s.sync) FROM sync.status s;
$$;
COMMENT ON FUNCTION sync.pause_all() IS 'pauses every sync of this database';

CREATE FUNCTION sync.doctor() RETURNS TABLE (what text, ok boolean, detail text, remedy text)
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT c.what, c.ok, c.detail, CASE WHEN NOT c.ok THEN c.remedy END FROM (
    SELECT 'library preloaded', w.state OPERATOR(pg_catalog.<>) 'not preloaded',
           pg_catalog.format('the library is %s', CASE WHEN w.state OPERATOR(pg_catalog.=) 'not preloaded' THEN 'not preloaded' ELSE 'preloaded' END),
           'Set shared_preload_libraries = ''sync_ext'' and restart the server.'
      FROM sync._worker_state() AS w (state)
    UNION ALL
    SELECT 'worker', w.state OPERATOR(pg_catalog.=) 'running', pg_catalog.format('the worker of this database is %s', w.state),
           'See the server log; sync.status says what each sync waits for.'
      FROM sync._worker_state() AS w (state)
    UNION ALL
    SELECT 'worker slots', w.state OPERATOR(pg_catalog.<>) ALL (ARRAY['no worker slot', 'no launcher']), pg_catalog.format('max_worker_processes = %s', pg_catalog.current_setting('max_worker_processes')),
           'One for the launcher and one for each database; increase max_worker_processes and restart the server.'
      FROM sync._worker_state() AS w (state)
    UNION ALL
    SELECT 'sequence cache', q.seqcache OPERATOR(pg_catalog.=) 1 AND NOT q.seqcycle, pg_catalog.format('sync._log_seq has CACHE %s', q.seqcache),
           'ALTER SEQUENCE sync._log_seq CACHE 1 NO CYCLE; with a cache, later changes get lower numbers.'
      FROM pg_catalog.pg_sequence q WHERE q.seqrelid OPERATOR(pg_catalog.=) 'sync._log_seq'::pg_catalog.regclass
    UNION ALL
    SELECT 'capture triggers', pg_catalog.count(*) FILTER (WHERE t.tgenabled OPERATOR(pg_catalog.<>) 'A') OPERATOR(pg_catalog.=) 0,
           COALESCE('not ENABLE ALWAYS on ' OPERATOR(pg_catalog.||) pg_catalog.string_agg(t.tgrelid::pg_catalog.regclass::text, ', ') FILTER (WHERE t.tgenabled OPERATOR(pg_catalog.<>) 'A'), 'all are ENABLE ALWAYS'),
           'The worker puts them right and reconciles the table; look at sync.gaps.'
      FROM pg_catalog.pg_trigger t WHERE t.tgfoid OPERATOR(pg_catalog.=) 'sync._capture()'::pg_catalog.regprocedure
    UNION ALL
    SELECT 'missing triggers', pg_catalog.count(*) OPERATOR(pg_catalog.=) 0,
           COALESCE('no capture trigger on ' OPERATOR(pg_catalog.||) pg_catalog.string_agg(DISTINCT m.relation::pg_catalog.text, ', '), 'all captured tables have theirs'),
           'The worker puts them back and compares the table. If it does not, see the server log: somebody may hold the table.'
      FROM (SELECT CASE WHEN v.name OPERATOR(pg_catalog.!~) '^[0-9]+$' THEN pg_catalog.to_regclass(v.name) END AS relation
              FROM sync.status s,
                   LATERAL (VALUES (s.source, s.direction OPERATOR(pg_catalog.<>) '<-'), (s.target, s.direction OPERATOR(pg_catalog.<>) '->')) AS v (name, captured)
             WHERE v.captured) m
     WHERE m.relation IS NOT NULL
       AND (SELECT pg_catalog.count(*) FROM pg_catalog.pg_trigger t
             WHERE t.tgrelid OPERATOR(pg_catalog.=) m.relation::pg_catalog.oid AND t.tgfoid OPERATOR(pg_catalog.=) 'sync._capture()'::pg_catalog.regprocedure
               AND t.tgparentid OPERATOR(pg_catalog.=) 0::pg_catalog.oid) OPERATOR(pg_catalog.<) 2
    UNION ALL
    SELECT 'trigger order', pg_catalog.count(o.tgname) OPERATOR(pg_catalog.=) 0,
           COALESCE('these fire before capture: ' OPERATOR(pg_catalog.||) pg_catalog.string_agg(DISTINCT o.tgname::text, ', '), 'capture fires first everywhere'),
           'Rename the trigger so that its name does not sort before "!sync_ext".'
      FROM pg_catalog.pg_trigger t
      LEFT JOIN pg_catalog.pg_trigger o ON o.tgrelid OPERATOR(pg_catalog.=) t.tgrelid AND NOT o.tgisinternal
                                       AND (o.tgtype::pg_catalog.int4 OPERATOR(pg_catalog.&) 3) OPERATOR(pg_catalog.=) 1
                                       AND o.tgname OPERATOR(pg_catalog.<) t.tgname AND o.tgfoid OPERATOR(pg_catalog.<>) t.tgfoid
     WHERE t.tgfoid OPERATOR(pg_catalog.=) 'sync._capture()'::pg_catalog.regprocedure
    UNION ALL
    SELECT 'prepared transactions', pg_catalog.count(*) OPERATOR(pg_catalog.=) 0,
           pg_catalog.format('%s older than %s, whose changes wait for COMMIT PREPARED', pg_catalog.count(*), COALESCE(pg_catalog.current_setting('sync_ext.doctor_age', true), '1h')), 'SELECT * FROM pg_prepared_xacts; then COMMIT or ROLLBACK PREPARED.'
      FROM pg_catalog.pg_prepared_xacts p WHERE p.database OPERATOR(pg_catalog.=) pg_catalog.current_database() AND p.prepared OPERATOR(pg_catalog.<) (pg_catalog.now() OPERATOR(pg_catalog.-) COALESCE(pg_catalog.current_setting('sync_ext.doctor_age', true), '1h')::interval)
    UNION ALL
    SELECT 'long transactions', pg_catalog.count(*) OPERATOR(pg_catalog.=) 0,
           pg_catalog.format('%s write transactions older than %s', pg_catalog.count(*), COALESCE(pg_catalog.current_setting('sync_ext.doctor_age', true), '1h')), 'SELECT pid, xact_start, query FROM pg_stat_activity WHERE backend_xid IS NOT NULL ORDER BY xact_start;'
      FROM pg_catalog.pg_stat_activity a WHERE a.backend_xid IS NOT NULL AND a.xact_start OPERATOR(pg_catalog.<) (pg_catalog.now() OPERATOR(pg_catalog.-) COALESCE(pg_catalog.current_setting('sync_ext.doctor_age', true), '1h')::interval)
    UNION ALL
    SELECT 'log rotation', pg_catalog.count(*) FILTER (WHERE g.bytes OPERATOR(pg_catalog.=) 0) OPERATOR(pg_catalog.>) 0,
           pg_catalog.format('the log takes %s, %s of %s segments are empty', pg_catalog.pg_size_pretty(pg_catalog.sum(g.bytes)),
                             pg_catalog.count(*) FILTER (WHERE g.bytes OPERATOR(pg_catalog.=) 0), pg_catalog.count(*)),
           'An old transaction has read or written the log and keeps it from being emptied: SELECT * FROM pg_locks WHERE relation::regclass::text LIKE ''sync.\_log\_v1%'';'
      FROM (SELECT pg_catalog.pg_relation_size(c.oid::pg_catalog.regclass) AS bytes FROM pg_catalog.pg_class c
             WHERE c.relnamespace OPERATOR(pg_catalog.=) 'sync'::pg_catalog.regnamespace AND c.relkind OPERATOR(pg_catalog.=) 'r'
               AND pg_catalog.starts_with(c.relname::text, '_log_v1_')) g
    UNION ALL
    -- In order also where it is not drained: a paused sync is meant to have changes left.
    SELECT 'undrained', true,
           COALESCE('changes are pending: ' OPERATOR(pg_catalog.||) pg_catalog.string_agg(s.sync, ', ' ORDER BY s.sync) OPERATOR(pg_catalog.||) '; before pg_upgrade resume what is paused, and sync.wait',
                    'all captured changes are settled'), NULL
      FROM sync.status s
     WHERE EXISTS (SELECT FROM sync.change_log l WHERE l.sync OPERATOR(pg_catalog.=) s.sync AND l.status OPERATOR(pg_catalog.=) ANY (ARRAY['pending', 'sending']))
    UNION ALL
    SELECT 'publications', pg_catalog.count(*) OPERATOR(pg_catalog.=) 0,
           COALESCE('FOR ALL TABLES: ' OPERATOR(pg_catalog.||) pg_catalog.string_agg(p.pubname::text, ', '), 'none FOR ALL TABLES'),
           'Name the tables of the publication: with FOR ALL TABLES the configuration and the links of sync_ext are replicated too.'
      FROM pg_catalog.pg_publication p WHERE p.puballtables
    UNION ALL
    SELECT 'fencing', COALESCE(e.state, 'active') OPERATOR(pg_catalog.<>) 'fenced', COALESCE(pg_catalog.format('%s: %s', e.state, e.reason), 'its worker has not started yet'), 'SELECT sync.activate(); if this database is meant to sync.'
      FROM (SELECT 1) AS one LEFT JOIN LATERAL sync._epoch_now() AS e ON true
    UNION ALL
    SELECT 'secret role', pg_catalog.count(*) FILTER (WHERE r.rolcanlogin OR m.roleid IS NOT NULL) OPERATOR(pg_catalog.=) 0,
           COALESCE(pg_catalog.max(r.rolname::text) FILTER (WHERE r.rolcanlogin OR m.roleid IS NOT NULL) OPERATOR(pg_catalog.||) ' can log in, or other roles are members of it', 'nobody can be the role that secrets belong to'),
           'ALTER ROLE ... NOLOGIN, and REVOKE it from all: whoever is that role reads the secrets.'
      FROM pg_catalog.pg_roles r LEFT JOIN pg_catalog.pg_auth_members m ON m.roleid OPERATOR(pg_catalog.=) r.oid
     WHERE r.rolname OPERATOR(pg_catalog.=) COALESCE(pg_catalog.current_setting('sync_ext.secret_role', true), 'sync_ext_secrets')
    UNION ALL
    SELECT 'indexes', false, pg_catalog.format('sync "%s": %s', i.sync, i.reason), i.statement FROM sync._index_advice() i
    UNION ALL
    SELECT 'syncs', pg_catalog.count(*) OPERATOR(pg_catalog.=) 0, pg_catalog.format('%s syncs need attention', pg_catalog.count(*)), 'SELECT * FROM sync.status;'
      FROM sync.status s WHERE s.state OPERATOR(pg_catalog.=) ANY (ARRAY['needs decision', 'failing', 'needs review', 'fenced'])
    ) AS c (what, ok, detail, remedy)
$$;
COMMENT ON FUNCTION sync.doctor() IS 'looks for what would make a sync wrong or slow, and says what to do about it';

-- Gives a role what it needs: "monitor" to look, "admin" to make and change syncs of its tables.
CREATE FUNCTION sync."grant"(role regrole, level text DEFAULT 'admin') RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    item text;
BEGIN
    IF level OPERATOR(pg_catalog.<>) ALL (ARRAY['admin', 'monitor']) THEN
        RAISE EXCEPTION 'level "%" is not known', level
            USING ERRCODE = 'invalid_parameter_value', HINT = 'It is "monitor" (to look) or "admin" (to make and change syncs).';
    END IF;
    EXECUTE pg_catalog.format('GRANT USAGE ON SCHEMA sync TO %s', role);
    FOR item IN SELECT c.oid::pg_catalog.regclass::text FROM pg_catalog.pg_class c
                 WHERE c.relnamespace OPERATOR(pg_catalog.=) 'sync'::pg_catalog.regnamespace AND c.relkind OPERATOR(pg_catalog.=) 'v' LOOP
        EXECUTE pg_catalog.format('GRANT SELECT ON %s TO %s', item, role);
    END LOOP;
    FOREACH item IN ARRAY ARRAY['_payload(oid,tid,text)', '_key(oid,tid)', '_index_advice()', '_patch(jsonb,jsonb)', '_worker_state()', '_fence(uuid)', '_api_usage(oid)', '_epoch_now()', '_wait(text,bigint)',
                                'wait(text,interval)', 'trace(text,text)', 'doctor()'] LOOP
        EXECUTE pg_catalog.format('GRANT EXECUTE ON FUNCTION sync.%s TO %s', item, role);
    END LOOP;
    IF level OPERATOR(pg_catalog.=) 'admin' THEN
        FOR item IN SELECT p.oid::pg_catalog.regprocedure::text FROM pg_catalog.pg_proc p
                     WHERE p.pronamespace OPERATOR(pg_catalog.=) 'sync'::pg_catalog.regnamespace AND p.proname OPERATOR(pg_catalog.<>) 'grant'
                       AND (p.proname OPERATOR(pg_catalog.!~) '^_' OR p.proname OPERATOR(pg_catalog.=) ANY (ARRAY['_capture', '_lock_tables', '_import_order', '_take'])) LOOP
            EXECUTE pg_catalog.format('GRANT EXECUTE ON ROUTINE %s TO %s', item, role);
        END LOOP;
        EXECUTE pg_catalog.format('GRANT USAGE ON FOREIGN DATA WRAPPER sync_ext TO %s', role);
    END IF;
END
$$;
COMMENT ON FUNCTION sync."grant"(regrole, text) IS 'gives a role the rights to look at syncs (monitor) or to make and change them (admin)';

--------------------------------------------------------------------------------------------------
-- Nothing is for everybody.

REVOKE ALL ON ALL ROUTINES IN SCHEMA sync FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA sync FROM PUBLIC;
REVOKE ALL ON SCHEMA sync FROM PUBLIC;

-- What a dump carries: the configuration and the state of the records; not the log, the cursors and
-- the history, which mean nothing to another server.
SELECT pg_catalog.pg_extension_config_dump('sync._sync', '');
SELECT pg_catalog.pg_extension_config_dump('sync._hub', '');
SELECT pg_catalog.pg_extension_config_dump('sync._config', '');
SELECT pg_catalog.pg_extension_config_dump('sync._config_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('sync._sync_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('sync._capture', '');
SELECT pg_catalog.pg_extension_config_dump('sync._shape', '');
SELECT pg_catalog.pg_extension_config_dump('sync._intent', '');
SELECT pg_catalog.pg_extension_config_dump('sync._write_job', '');
SELECT pg_catalog.pg_extension_config_dump('sync._pull', '');
SELECT pg_catalog.pg_extension_config_dump('sync._queue', '');
SELECT pg_catalog.pg_extension_config_dump('sync._delivery', '');
SELECT pg_catalog.pg_extension_config_dump('sync._queue_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('sync._conflict', '');
SELECT pg_catalog.pg_extension_config_dump('sync._conflict_id_seq', '');

-- The mark by which the launcher finds this database.
DO $$
BEGIN
    -- The worker of an extension that was dropped takes the mark off under the same lock.
    PERFORM pg_catalog.pg_advisory_xact_lock(1937337955, 1);
    EXECUTE pg_catalog.format('ALTER DATABASE %I SET sync_ext.installed = ''on''', pg_catalog.current_database());
END
$$;
SELECT sync._created();
