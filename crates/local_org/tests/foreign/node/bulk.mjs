// jsforce reads and writes in bulk, by Bulk API 2.0.

import assert from 'node:assert/strict';
import { connection, control, refused } from './org.mjs';

const conn = connection();
await conn.authorize({ grant_type: 'client_credentials' });
conn.bulk2.pollInterval = 10;
conn.bulk2.pollTimeout = 20_000;

// In, with one record that is refused.
const input = Array.from({ length: 450 }, (_, n) => ({
  Name: n === 7 ? '' : `In bulk ${n}`, External_Id__c: `k${n}`, Site: 'a "quoted", site',
}));
const results = await conn.bulk2.loadAndWaitForResults({ object: 'Account', operation: 'insert', input });
assert.equal(results.successfulResults.length, 449);
assert.deepEqual(results.failedResults.map((row) => row.External_Id__c), ['k7']);
assert.match(results.failedResults[0].sf__Error, /^REQUIRED_FIELD_MISSING:/);
assert.deepEqual(results.unprocessedRecords, []);
const ids = Object.fromEntries(results.successfulResults.map((row) => [row.External_Id__c, row.sf__Id]));
assert.equal(results.successfulResults[0].Site, 'a "quoted", site');

// By key, step by step.
const job = conn.bulk2.createJob({ object: 'Account', operation: 'upsert', externalIdFieldName: 'External_Id__c' });
assert.equal((await job.open()).state, 'Open');
await job.uploadData('External_Id__c,Name\nk0,Known\nnew,New\n');
await job.close();
await job.poll(10, 20_000);
assert.equal((await job.check()).numberRecordsProcessed, 2);
assert.equal((await job.getSuccessfulResults()).find((row) => row.External_Id__c === 'k0').sf__Created, 'false');
assert.equal((await control('GET', `/records/${ids.k0}`)).Name, 'Known');
await job.delete();
await refused('NOT_FOUND', () => job.check());

await conn.bulk2.loadAndWaitForResults({ object: 'Account', operation: 'delete', input: [{ Id: ids.k1 }] });
assert.equal((await control('GET', `/records/${ids.k1}`)).IsDeleted, true);

// A job that fails says why.
const broken = conn.bulk2.createJob({ object: 'Account', operation: 'insert' });
await broken.open();
await broken.uploadData('Nothing__c\nx\n');
await broken.close();
await assert.rejects(broken.poll(10, 20_000), /Field name not found : Nothing__c/);

// Out again, in one page: behind the first, this client writes into a stream that it has ended.
const read = await (await conn.bulk2.query('SELECT Id, Name, External_Id__c FROM Account')).toArray();
assert.equal(read.length, 449);
assert.equal(read.find((row) => row.External_Id__c === 'k0').Name, 'Known');
const all = await conn.bulk2.query('SELECT Id FROM Account WHERE IsDeleted = true', { scanAll: true });
assert.deepEqual((await all.toArray()).map((row) => row.Id), [ids.k1]);

console.log('bulk.mjs passed');
