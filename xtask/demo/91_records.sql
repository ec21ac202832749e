--# 12. Rows and records
--| A row becomes an account and gets its id, an edit goes there, a deleted row takes its account along.

INSERT INTO accounts (account_name, annual_revenue) VALUES ('Initech', 2500000), ('Umbrella', 900000);
SELECT * FROM sync.wait('accounts');
UPDATE accounts SET industry_type = 'Consulting' WHERE account_name = 'Initech';
DELETE FROM accounts WHERE account_name = 'Umbrella';
SELECT * FROM sync.wait('accounts');

--| The org's side, asked for over HTTP:

CREATE TYPE org_account AS ("Id" text, "Name" text, "Industry" text, "AnnualRevenue" numeric, "IsDeleted" boolean);
\set records `curl -s $ORG/control/records/Account`
SELECT * FROM jsonb_populate_recordset(NULL::org_account, :'records') ORDER BY "Id";

--| In the org somebody edits one account and adds another. The guide asks every 30 seconds; but this org tells of
--| changes by itself, as an org with Change Data Capture does over its Pub/Sub API, and nobody has to wait.

SELECT sf_id AS globex FROM accounts WHERE account_name = 'Globex' \gset
\setenv GLOBEX :globex
\! curl -s -X PATCH $ORG/control/records/$GLOBEX -d '{"Industry": "Banking"}'
\! curl -s $ORG/control/records/Account -d '{"Name": "Hooli", "Industry": "Technology"}'
SELECT clock_timestamp() AS made \gset
DO $$
BEGIN
    WHILE NOT EXISTS (SELECT FROM accounts WHERE account_name = 'Hooli') LOOP
        COMMIT;
        PERFORM pg_sleep(0.002);
    END LOOP;
END
$$;
SELECT round(extract(epoch FROM clock_timestamp() - :'made') * 1000) AS "ms from the org's answer to the row";
SELECT id, sf_id, account_name, industry_type, annual_revenue, last_modified FROM accounts ORDER BY id;
