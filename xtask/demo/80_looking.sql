--# 10. Where to look
--| The whole story of one record, here Grace in the portal:

SELECT at::time(3), what, detail FROM sync.trace('people', '2');

--| What became of all the changes that people made. (The deletes and the conflict waited for us.)

SELECT "table", operation, status, count(*), min(synced_at - captured_at) AS fastest,
       max(synced_at - captured_at) AS slowest
  FROM sync.change_log WHERE origin = 'user' GROUP BY 1, 2, 3 ORDER BY 1, 2, 3;

--| And whether anything would make a sync wrong or slow:

SELECT what, ok, detail FROM sync.doctor();
SELECT sync, state, detail, source, direction, target FROM sync.status;
