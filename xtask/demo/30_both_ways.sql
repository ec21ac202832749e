--# 3. Changes travel both ways
--| Ada marries and changes her number in the portal. In Salesforce somebody corrects Grace's name and
--| adds Barbara, whom the portal does not know yet.

UPDATE portal.users SET last_name = 'King', phone = '044 668 18 99' WHERE id = 1;
UPDATE salesforce.account SET name = 'Grace Brewster Hopper' WHERE portal_id__c = 2;
INSERT INTO salesforce.account (name, email__c, phone, status__c, newsletter__c)
VALUES ('Barbara Liskov', 'barbara@example.com', '0041446681803', 'Active', 'Yes');

-- Returns when everything committed before is synced, or parked with a reason.
SELECT * FROM sync.wait('people');

SELECT id, portal_id__c, name, phone, status__c, newsletter__c
  FROM salesforce.account WHERE name ~ '^(Ada|Grace|Barbara)' ORDER BY name;
SELECT id, first_name, last_name, phone, status, newsletter, account_id
  FROM portal.users WHERE first_name IN ('Ada', 'Grace', 'Barbara') ORDER BY first_name;

--| Barbara has a portal id now, and the portal has her account's number. Every captured change, what it
--| changed and what became of it is a row of sync.change_log; "ms" is from the change to its arrival.

SELECT seq, "table", key, operation, status, captured_at::time(3) AS captured, changed,
       extract(milliseconds FROM synced_at - captured_at)::numeric(9, 1) AS ms
  FROM sync.change_log WHERE origin = 'user' ORDER BY seq;
