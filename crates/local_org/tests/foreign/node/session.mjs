// A working day of jsforce: describe, rows, queries, collections, and the errors that it tells.

import assert from 'node:assert/strict';
import { connection, control, refused } from './org.mjs';

const conn = connection();
const user = await conn.authorize({ grant_type: 'client_credentials' });
const state = await control('GET', '');
assert.deepEqual([user.id, user.organizationId], [state.integration_user, state.org_id]);

const identity = await conn.identity();
assert.deepEqual([identity.user_id, identity.username], [user.id, 'integration@example.com']);

// Describe and limits.
const objects = (await conn.describeGlobal()).sobjects.map((object) => object.name);
assert.ok(['Account', 'Contact', 'Lead', 'Opportunity', 'User'].every((name) => objects.includes(name)));
const described = await conn.sobject('Account').describe();
assert.ok(described.fields.find((field) => field.name === 'External_Id__c').externalId);
assert.ok(described.childRelationships.some((child) => child.childSObject === 'Contact'));
assert.equal((await conn.limits()).DailyApiRequests.Max, 15000);
assert.ok(conn.limitInfo.apiUsage.used > 0);

// One record.
const accounts = conn.sobject('Account');
const made = await accounts.create({ Name: 'Acme', External_Id__c: 'a1' });
assert.equal(made.success, true);
assert.deepEqual(await accounts.update({ Id: made.id, Industry: 'Energy' }), { id: made.id, success: true, errors: [] });
assert.equal((await accounts.retrieve(made.id)).Industry, 'Energy');
const again = await accounts.upsert({ External_Id__c: 'a1', Name: 'Acme Again' }, 'External_Id__c');
assert.deepEqual([again.id, again.created], [made.id, false]);
const contact = await conn.sobject('Contact').create({ LastName: 'Doe', Account: { External_Id__c: 'a1' } });
assert.equal((await conn.sobject('Contact').retrieve(contact.id)).AccountId, made.id);
assert.equal((await conn.sobject('Contact').destroy(contact.id)).success, true);
await refused('ENTITY_IS_DELETED', () => conn.sobject('Contact').destroy(contact.id));

// Collections, more of them than fit into one call.
const many = Array.from({ length: 450 }, (_, n) => ({ LastName: `N${String(n).padStart(4, '0')}` }));
const saved = await conn.sobject('Contact').create(many, { allowRecursive: true });
assert.equal(saved.filter((result) => result.success).length, 450);
const changed = await conn.sobject('Contact').update(
  saved.slice(0, 3).map(({ id }) => ({ Id: id, Title: 'first' })),
);
assert.ok(changed.every((result) => result.success));
const mixed = await conn.sobject('Contact').create([{ LastName: 'Good' }, { FirstName: 'Bad' }], { allOrNone: true });
assert.deepEqual(
  mixed.map((result) => result.errors[0].statusCode),
  ['ALL_OR_NONE_OPERATION_ROLLED_BACK', 'REQUIRED_FIELD_MISSING'],
);
const upserted = await accounts.upsert(
  [{ External_Id__c: 'a1', Name: 'A' }, { External_Id__c: 'b1', Name: 'B' }],
  'External_Id__c',
);
assert.deepEqual(upserted.map((result) => result.created), [false, true]);
const read = await accounts.retrieve([made.id, '001000000000000AAA'], { fields: ['Name'] });
assert.deepEqual([read[0].Name, read[1]], ['A', null]);

// Queries: pages by hand, pages by the client, deleted records, and what a query builder makes.
const soql = 'SELECT Id, LastName, Account.Name FROM Contact ORDER BY LastName';
const headers = { 'Sforce-Query-Options': 'batchSize=200' };
const first = await conn.query(soql, { headers });
assert.deepEqual([first.totalSize, first.done, first.records.length], [450, false, 200]);
const second = await conn.queryMore(first.nextRecordsUrl);
assert.deepEqual([second.done, second.records[0].LastName], [false, 'N0200']);
const all = await conn.query(soql, { headers, autoFetch: true, maxFetch: 1000 });
assert.equal(all.records.length, 450);
const deleted = await conn.query('SELECT Id FROM Contact WHERE IsDeleted = true', { scanAll: true });
assert.deepEqual(deleted.records.map((record) => record.Id), [contact.id]);
const found = await conn.sobject('Contact').find({ Title: 'first', LastName: { $like: 'N%' } }, 'Id, Title').sort('-LastName').limit(2);
assert.deepEqual(found.map((record) => record.Id), [saved[2].id, saved[1].id]);
assert.equal(await conn.sobject('Contact').count({ Title: 'first' }), 3);
const gone = await conn.sobject('Contact').destroy(saved.slice(0, 2).map(({ id }) => id));
assert.ok(gone.every((result) => result.success));

// What changed and what went, in a span that ends a little later than now.
const leads = conn.sobject('Lead');
const lead = await leads.create({ LastName: 'Stays', Company: 'C' });
const lost = await leads.create({ LastName: 'Goes', Company: 'C' });
await leads.destroy(lost.id);
const [start, end] = [Date.now() - 120_000, Date.now() + 120_000].map((at) => new Date(at));
assert.deepEqual((await leads.updated(start, end)).ids, [lead.id]);
assert.deepEqual((await leads.deleted(start, end)).deletedRecords.map((record) => record.id), [lost.id]);
await refused('INVALID_REPLICATION_DATE', () => leads.deleted(end, start));

// What only SOAP does: back from the bin, two records made one, out of the bin for good.
assert.deepEqual(await conn.soap.undelete([lost.id]), [{ id: lost.id, success: true, errors: [] }]);
const merged = await conn.soap.merge({ masterRecord: { type: 'Lead', Id: lead.id, Phone: '1' }, recordToMergeIds: [lost.id] });
assert.deepEqual([merged.success, merged.id, merged.mergedRecordIds], [true, lead.id, [lost.id]]);
assert.equal((await leads.retrieve(lead.id)).Phone, '1');
const loser = await conn.query(`SELECT MasterRecordId FROM Lead WHERE Id = '${lost.id}'`, { scanAll: true });
assert.equal(loser.records[0].MasterRecordId, lead.id);
const [kept] = await conn.soap.undelete([lead.id]);
assert.deepEqual([kept.success, kept.errors[0].statusCode], [false, 'UNDELETE_FAILED']);
assert.equal((await conn.soap.emptyRecycleBin([lost.id]))[0].success, true);

// Errors.
await refused('MALFORMED_QUERY', () => conn.query('SELECT Id FROM'));
await refused('INVALID_FIELD', () => conn.query('SELECT Nothing__c FROM Account'));
await refused('INVALID_TYPE', () => conn.query('SELECT Id FROM Nothing__c'));
await refused('NOT_FOUND', () => accounts.retrieve('001000000000000AAA'));
await refused('REQUIRED_FIELD_MISSING', () => accounts.create({ Industry: 'Energy' }));
const duplicate = await refused('DUPLICATE_VALUE', () => accounts.create({ Name: 'C', External_Id__c: 'a1' }));
assert.ok(duplicate.message.includes(made.id.slice(0, 15)));
await control('POST', '/duplicate_rules', { object: 'Contact', fields: ['Email'] });
const ada = { LastName: 'King', Email: 'ada@example.com' };
const contacts = conn.sobject('Contact');
const only = await contacts.create(ada);
const twice = await refused('DUPLICATES_DETECTED', () => contacts.create(ada));
assert.equal(twice.data.duplicateResult.matchResults[0].matchRecords[0].record.Id, only.id);
const insists = { headers: { 'Sforce-Duplicate-Rule-Header': 'allowSave=true' } };
assert.equal((await contacts.create(ada, insists)).success, true);
await control('DELETE', '/duplicate_rules');
await control('POST', '/settings', { daily_limit: 0 });
await refused('REQUEST_LIMIT_EXCEEDED', () => accounts.retrieve(made.id));
await control('POST', '/settings', { daily_limit: 15000 });
await control('POST', '/faults', { times: 1, fault: { kind: 'html503' } });
await refused('ERROR_HTTP_503', () => accounts.create({ Name: 'Never' }));

// A session that has died, without and with a way to a new one.
await control('DELETE', '/sessions');
const bare = connection({ oauth2: undefined, accessToken: conn.accessToken, instanceUrl: conn.instanceUrl });
await refused('INVALID_SESSION_ID', () => bare.sobject('Account').retrieve(made.id));
let renewed = 0;
const renewing = connection({
  refreshFn: async (_, callback) => {
    const fresh = connection();
    await fresh.authorize({ grant_type: 'client_credentials' });
    renewed += 1;
    callback(null, fresh.accessToken);
  },
  accessToken: 'dead',
  instanceUrl: conn.instanceUrl,
});
assert.equal((await renewing.sobject('Account').retrieve(made.id)).Id, made.id);
assert.equal(renewed, 1);

console.log('session.mjs passed');
