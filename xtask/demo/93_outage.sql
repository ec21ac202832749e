--# 14. The org is away for a while
--| It answers every request with a page that says 503.

\! curl -s $ORG/control/faults -d '{"fault": {"kind": "html503"}}'
UPDATE accounts SET industry_type = 'Media' WHERE account_name = 'Acme';
SELECT * FROM sync.wait('accounts', timeout => '3s');
SELECT sync, state, detail FROM sync.status;
SELECT name, state, detail FROM sync.connections;

--| No attempt of any record is used up: nobody has refused one. When the org is back it goes on by itself.

SELECT count(*) AS records, coalesce(sum(attempts), 0) AS attempts FROM sync.queue;
\! curl -s -X DELETE $ORG/control/faults
SELECT * FROM sync.wait('accounts');
\set records `curl -s $ORG/control/records/Account`
SELECT * FROM jsonb_populate_recordset(NULL::org_account, :'records') WHERE "Name" = 'Acme';
SELECT sync, state, detail FROM sync.status;
