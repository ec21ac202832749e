--# 15. An answer gets lost
--| The worst moment for a connection to break: the org has made the account, and its answer does not arrive.
--| Sent again, it would be there twice; taken for failed, its id would be missing here.

\! curl -s -X DELETE $ORG/control/calls
\! curl -s $ORG/control/faults -d '{"times": 1, "match": {"path": "composite"}, "fault": {"kind": "cut_after"}}'
INSERT INTO accounts (account_name, annual_revenue) VALUES ('Stark', 7000000);
SELECT * FROM sync.wait('accounts');

--| It was written down before it was sent. So it is known what to look for in the org, before anything else is done.

\set calls `curl -s $ORG/control/calls`
SELECT call->>'method' AS method, call->>'path' AS path, call->>'status' AS status, call->>'fault' AS fault
  FROM jsonb_array_elements(:'calls') AS call ORDER BY (call->>'number')::int;
\set records `curl -s $ORG/control/records/Account`
SELECT * FROM jsonb_populate_recordset(NULL::org_account, :'records') WHERE "Name" = 'Stark';
SELECT id, sf_id, account_name, annual_revenue FROM accounts WHERE account_name = 'Stark';

--| All that happened to the accounts, as for tables:

SELECT operation, origin, status, count(*) FROM sync.change_log GROUP BY 1, 2, 3 ORDER BY 1, 2, 3;
SELECT what, ok, detail FROM sync.doctor();
