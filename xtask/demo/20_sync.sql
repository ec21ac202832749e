--# 2. One statement makes the sync
--| Which field is which, and what happens to it on its way there (transformation) and back (reverse).
--| The name goes there as one field and comes back as two; each account's own number is written back.

CREATE EXTENSION sync_ext;

SELECT sync.create_sync('people', '{
  "source": {"table": "portal.users"},
  "target": {"table": "salesforce.account"},
  "sync_type": "bidirectional",
  "field_mappings": [
    {"source": "id", "target": "portal_id__c"},
    {"source": ["first_name", "last_name"], "target": "name", "direction": "source_to_target",
     "transformation": "trim(first_name || '' '' || last_name)"},
    {"source": "first_name", "target": "name", "direction": "target_to_source",
     "reverse": "split_part(name, '' '', 1)"},
    {"source": "last_name",  "target": "name", "direction": "target_to_source",
     "reverse": "substr(name, length(split_part(name, '' '', 1)) + 2)"},
    {"source": "email",      "target": "email__c"},
    {"source": "phone",      "target": "phone",
     "transformation": "portal.phone_to_digits", "reverse": "portal.phone_for_people"},
    {"source": "status",     "target": "status__c",
     "transformation": "initcap(status::text)", "reverse": "lower(status__c)::portal.user_status"},
    {"source": "newsletter", "target": "newsletter__c",
     "transformation": "CASE WHEN newsletter THEN ''Yes'' ELSE ''No'' END",
     "reverse": "newsletter__c = ''Yes''"},
    {"source": "last_seen",  "target": "last_seen__c",
     "transformation": "last_seen AT TIME ZONE ''UTC''", "reverse": "last_seen__c AT TIME ZONE ''UTC''"},
    {"source": "account_id", "target": "id", "direction": "target_to_source"}
  ]
}');

SELECT * FROM sync.wait('people');

--| The rows that were there have been loaded. The same person on both sides:

SELECT id, first_name, last_name, phone, status, newsletter AS news, last_seen, account_id
  FROM portal.users WHERE id <= 3 ORDER BY id;
SELECT id, portal_id__c, name, phone, status__c, newsletter__c AS news, last_seen__c
  FROM salesforce.account WHERE portal_id__c <= 3 ORDER BY id;
SELECT sync, state, detail, source, direction, target FROM sync.status;
