--# 5. Both sides at once
--| While the sync is paused, changes are still captured. Here both sides change the same person: different
--| fields, and one field (the e-mail address) on both.

SELECT sync.pause('people');
UPDATE portal.users SET phone = '044 668 18 77', email = 'grace@navy.example' WHERE id = 2;
UPDATE salesforce.account SET status__c = 'Suspended', email__c = 'hopper@example.org'
 WHERE portal_id__c = 2;
SELECT operation, "table", status, new->>'email' AS email, new->>'email__c' AS email__c
  FROM sync.change_log WHERE status = 'pending' ORDER BY seq;

SELECT sync.resume('people');
SELECT * FROM sync.wait('people');

--| Edits of different fields both survive. The address was changed twice, so the later one wins, and what
--| lost is kept.

SELECT first_name, last_name, email, phone, status FROM portal.users WHERE id = 2;
SELECT name, email__c, phone, status__c FROM salesforce.account WHERE portal_id__c = 2;
SELECT key, field, base, source_value, target_value, winner FROM sync.conflicts;
