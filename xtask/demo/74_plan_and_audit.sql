--# 9. Planned before, audited after
--| What would a change of the document do? The plan of a patch names the keys that would be other than they are.

SELECT what, detail, figure FROM sync.plan('mailing', '{"where": "newsletter", "delete_limit": 500}');

--| It is done, regretted, and taken back: each change of a document is kept with the patch that undoes it.

SELECT sync.alter_sync('mailing', '{"delete_limit": 500}');
SELECT action, patch, back FROM sync.config_history WHERE sync = 'mailing' AND action = 'altered';
SELECT sync.alter_sync(sync, back) FROM sync.config_history WHERE sync = 'mailing' ORDER BY id DESC LIMIT 1;

--| Somebody edits the mailing tool's own table. This sync goes one way, so nothing of that travels. An audit compares
--| both sides and changes nothing; a repair puts right what differs.

UPDATE mailing.recipient SET phone = 'unknown' WHERE id = 1;
DELETE FROM mailing.recipient WHERE id = 4;
SELECT what, records, key, field, source_value, target_value FROM sync.audit('mailing') WHERE records > 0 OR key <> '';
SELECT sync.repair('mailing');
SELECT * FROM sync.wait('mailing');
SELECT what, records FROM sync.audit('mailing', show => 0) WHERE records > 0;
