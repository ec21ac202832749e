--# 6. A row that the other side refuses
--| Salesforce's side has a rule about addresses that the portal does not know. The row that breaks it is
--| parked with the reason and tried again; the row that was changed with it goes through.

UPDATE portal.users SET email = CASE id WHEN 1 THEN 'ada@example.org' ELSE 'alan at home' END
 WHERE id IN (1, 3);
SELECT * FROM sync.wait('people');
SELECT name, email__c FROM salesforce.account WHERE portal_id__c IN (1, 3) ORDER BY name;
SELECT key, "table", direction, state, attempts, message FROM sync.queue \gx

--| Somebody mends it where it was made; nobody has to touch the queue.

UPDATE portal.users SET email = 'alan@example.org' WHERE id = 3;
SELECT * FROM sync.wait('people');
SELECT name, email__c FROM salesforce.account WHERE portal_id__c IN (1, 3) ORDER BY name;
SELECT count(*) AS queued FROM sync.queue;
