--# 13. How fast, and for how many calls
--| A hundred commits. The time is from the change to the org's answer, noted here.

DO $$
BEGIN
    FOR n IN 1..100 LOOP
        UPDATE accounts SET annual_revenue = 1000 * n WHERE account_name = 'Acme';
        COMMIT;
        PERFORM pg_sleep(0.02);
    END LOOP;
END
$$;
SELECT * FROM sync.wait('accounts');
SELECT count(*) AS commits,
       (percentile_cont(0.5)  WITHIN GROUP (ORDER BY extract(epoch FROM synced_at - captured_at)) * 1000)::numeric(9, 1)
           AS "median, ms",
       (percentile_cont(0.99) WITHIN GROUP (ORDER BY extract(epoch FROM synced_at - captured_at)) * 1000)::numeric(9, 1)
           AS "99 of 100 within, ms"
  FROM sync.change_log WHERE changed ? 'annual_revenue' AND status = 'synced';

--| Calls are rationed, so what comes together leaves together: two thousand new rows.

\! curl -s -X DELETE $ORG/control/calls
INSERT INTO accounts (account_name, annual_revenue) SELECT 'Company ' || n, 1000 * n FROM generate_series(1, 2000) n;
SELECT * FROM sync.wait('accounts');
SELECT count(*) AS rows, count(sf_id) AS "with an id of the org" FROM accounts WHERE account_name LIKE 'Company%';
\set calls `curl -s $ORG/control/calls`
SELECT call->>'method' AS method, call->>'path' AS path, count(*) AS calls
  FROM jsonb_array_elements(:'calls') AS call GROUP BY 1, 2 ORDER BY 1, 2;
