--# 8. Which rows, in which form, by which rules
--| A mailing tool wants those who asked for it, telephone numbers in E.164, and addresses that are ones. Three
--| keys of the document say so: where, transformation, validation_rules.

CREATE SCHEMA mailing;
CREATE TABLE mailing.recipient (id bigint PRIMARY KEY, address text NOT NULL, phone text);

SELECT sync.create_sync('mailing', '{
  "source": {"table": "portal.users"},
  "target": {"table": "mailing.recipient"},
  "where": "newsletter AND status = ''active''",
  "field_mappings": [
    {"source": "id",    "target": "id"},
    {"source": "email", "target": "address", "transformation": "email_norm"},
    {"source": "phone", "target": "phone",   "transformation": "format_phone"}
  ],
  "mapping_options": {"phone_region": "CH"},
  "validation_rules": [{"field": "address", "rule": "email_format"}]
}');

--| Before anything is written one can see what would be, here of the first person:

SELECT * FROM sync.preview('mailing', '1');

SELECT * FROM sync.wait('mailing');

--| Edsger and Barbara subscribe, and come to meet the condition. Barbara's address has a blank in it, which
--| Salesforce's side did not mind.

UPDATE portal.users SET newsletter = true, phone = '044 668 18 04' WHERE first_name = 'Edsger';
UPDATE portal.users SET newsletter = true, email = 'Barbara @Example.com' WHERE first_name = 'Barbara';
SELECT * FROM sync.wait('mailing');
SELECT key, state, sqlstate, message, detail FROM sync.queue WHERE sync = 'mailing' \gx

--| The row is corrected and tried again in one call. The correction is an edit like any other: Salesforce gets it too.

SELECT sync.retry(id, set => '{"email": "Barbara@Example.com"}') FROM sync.queue WHERE sync = 'mailing';
SELECT * FROM sync.wait('mailing');
SELECT * FROM sync.wait('people');
SELECT u.first_name, u.phone, r.phone AS "phone there", u.email, r.address, a.email__c AS salesforce
  FROM portal.users u
  JOIN mailing.recipient r USING (id)
  JOIN salesforce.account a ON a.portal_id__c = u.id
 WHERE u.first_name IN ('Ada', 'Barbara') ORDER BY u.id;
