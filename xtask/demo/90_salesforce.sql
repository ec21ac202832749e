--# 11. Salesforce itself
--| Now the other side is no table but an org, spoken to over its REST API. A stand-in for one runs beside this
--| cluster, at the address in $ORG. It keeps records, refuses and rounds as an org does, and what people do in an
--| org is done to it over HTTP. Somebody enters two accounts:

\! curl -s $ORG/control/records/Account -d '[{"Name": "Acme", "Industry": "Energy"}, {"Name": "Globex"}]'

--| The five steps are those of Stacksync's guide "How to Implement Stacksync for Salesforce and PostgreSQL". Its
--| table and its JSON are here as they are there, to the letter; its database is called customer_data.

CREATE DATABASE customer_data;
\c customer_data
CREATE EXTENSION sync_ext;

--| Step 1 of 5, create the database schema:

CREATE TABLE accounts (
id SERIAL PRIMARY KEY,
sf_id VARCHAR(18) UNIQUE,
account_name VARCHAR(255),
industry_type VARCHAR(100),
annual_revenue DECIMAL(18,2),
last_modified TIMESTAMP,
last_sync TIMESTAMP
);
CREATE INDEX idx_accounts_sf_id ON accounts(sf_id);

--| Step 2 of 5, configure the connection:

SELECT '{
"connection_name": "SF_Postgres_Accounts",
"source": {
"type": "salesforce",
"credentials": {
"auth_type": "oauth2",
"instance_url": "https://yourinstance.salesforce.com"
},
"object": "Account"
},
"target": {
"type": "postgres",
"credentials": {
"host": "your-postgres-host.example.com",
"port": 5432,
"database": "customer_data",
"schema": "public"
},
"table": "accounts"
}
}' AS connection \gset

--| Step 3 of 5, define field mappings:

SELECT '{
"field_mappings": [
{"source": "Id", "target": "sf_id"},
{"source": "Name", "target": "account_name"},
{"source": "Industry", "target": "industry_type"},
{"source": "AnnualRevenue", "target": "annual_revenue"},
{"source": "LastModifiedDate", "target": "last_modified"}
],
"mapping_options": {
"handle_nulls": "preserve",
"timestamp_format": "iso8601"
}
}' AS mappings \gset

--| Step 4 of 5, configure synchronization settings:

SELECT '{
"sync_settings": {
"sync_type": "bidirectional",
"initial_sync": {
"strategy": "full_load"
},
"ongoing_sync": {
"mode": "real_time",
"polling_interval_seconds": 30
},
"conflict_resolution": {
"strategy": "last_write_wins",
"timestamp_field": "LastModifiedDate"
}
}
}' AS settings \gset

--| Step 5 of 5, set up error handling and monitoring:

SELECT '{
"error_handling": {
"retry_strategy": {
"max_attempts": 3,
"backoff_factor": 2.0
},
"notifications": {
"email": ["data-team@yourcompany.com"],
"slack": "#data-sync-alerts"
}
},
"monitoring": {
"dashboard_enabled": true,
"log_level": "info",
"metric_collection": ["latency", "throughput", "error_rate"]
}
}' AS errors \gset

--| A document comes in one piece or in several, as here.

SELECT sync.create_sync('accounts', :'connection', :'mappings', :'settings', :'errors');
SELECT sync, state, detail FROM sync.status;

--| Secrets are in no document. (And yourinstance is nobody's: the connection is led to the stand-in.)

SELECT sync.set_secret('SF_Postgres_Accounts', client_id => :'CLIENT_ID', client_secret => :'CLIENT_SECRET');
SELECT format('{"credentials": {"instance_url": "%s", "pubsub_url": "%s"}}', :'ORG', :'EVENTS') AS ours \gset
SELECT sync.alter_connection('SF_Postgres_Accounts', :'ours');
SELECT what, ok, detail FROM sync.test_connection('SF_Postgres_Accounts');

SELECT * FROM sync.wait('accounts');

--| The org's accounts have become rows.

SELECT id, sf_id, account_name, industry_type, annual_revenue, last_modified FROM accounts ORDER BY id;
