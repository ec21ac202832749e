--# 4. How fast
--| Two hundred commits, one after another; after each we look until its change has arrived on the other
--| side. Nothing polls: the commit wakes the worker.

CREATE TEMP TABLE arrival (took double precision);
DO $$
DECLARE
    took  double precision[] = '{}';
    began timestamptz;
BEGIN
    FOR n IN 1..200 LOOP
        UPDATE portal.users SET email = 'edsger' || n || '@example.com' WHERE id = 4;
        COMMIT;
        began = clock_timestamp();
        WHILE NOT EXISTS (SELECT FROM salesforce.account
                           WHERE portal_id__c = 4 AND email__c = 'edsger' || n || '@example.com') LOOP
            PERFORM pg_sleep(0.0002);
        END LOOP;
        took = took || extract(epoch FROM clock_timestamp() - began) * 1000;
    END LOOP;
    INSERT INTO arrival SELECT unnest(took);
END
$$;
SELECT count(*) AS commits,
       percentile_cont(0.5)  WITHIN GROUP (ORDER BY took)::numeric(9, 1) AS "median, ms",
       percentile_cont(0.99) WITHIN GROUP (ORDER BY took)::numeric(9, 1) AS "99 of 100 within, ms"
  FROM arrival;

--| And thousands of rows in one statement:

UPDATE portal.users SET newsletter = NOT newsletter WHERE id > 4 AND status <> 'invited';
SELECT * FROM sync.wait('people');
SELECT count(*) AS rows,
       extract(milliseconds FROM max(synced_at) - min(captured_at))::int AS "all within, ms"
  FROM sync.change_log
 WHERE origin = 'user' AND operation = 'UPDATE' AND changed ? 'newsletter';
