--# 7. A mass delete is stopped and asked about
--| Somebody forgets half of a WHERE clause.

DELETE FROM portal.users WHERE status = 'invited';
--! It stops before anything is deleted.
SELECT * FROM sync.wait('people');
SELECT sync, state, queued FROM sync.status;
SELECT count(*) AS accounts FROM salesforce.account;

--| It was meant after all: confirm => true sends the deletes. (discard => true would have kept the accounts.)

SELECT sync.resume('people', confirm => true);
SELECT * FROM sync.wait('people');
SELECT (SELECT count(*) FROM portal.users) AS users,
       (SELECT count(*) FROM salesforce.account) AS accounts;
