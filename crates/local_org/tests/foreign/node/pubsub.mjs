// The Pub/Sub client that Salesforce's developers recommend for Node, over TLS: it logs in, subscribes, and is told
// of every way of changing a record, with what changed by name.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import PubSubApiClient from 'salesforce-pubsub-api-client';
import { control, oauth2, url } from './org.mjs';

const bus = await control('GET', '/events');
await control('POST', '/events', { objects: ['Account', 'Contact'] });

// The client trusts only the authorities of a file of its own, whatever Node is told to trust.
const package_ = path.dirname(fileURLToPath(import.meta.resolve('salesforce-pubsub-api-client')));
const authorities = path.join(package_, fs.readdirSync(package_).find((name) => name.startsWith('cacert')));
const shipped = fs.readFileSync(authorities);

const quiet = { debug() {}, info() {}, warn() {}, error() {} };
const connected = async () => {
  const client = new PubSubApiClient({
    authType: 'oauth-client-credentials',
    loginUrl: url,
    clientId: oauth2.clientId,
    clientSecret: oauth2.clientSecret,
    pubSubEndpoint: bus.address.replace("127.0.0.1", "localhost"),
  }, quiet);
  await client.connect();
  return client;
};

/** What a subscription tells, one by one. */
const listen = (begin) => {
  const told = [];
  const waiting = [];
  begin((_, kind, data) => {
    if (kind === 'event' || kind === 'error') {
      const next = waiting.shift();
      if (next) next([kind, data]);
      else told.push([kind, data]);
    }
  });
  return () => (told.length ? Promise.resolve(told.shift()) : new Promise((done) => waiting.push(done)));
};
const event = async (next) => {
  const [kind, data] = await next();
  assert.equal(kind, 'event', String(data.stack ?? data));
  return data;
};

// Nobody who is not told to trusts the org's authority.
const stranger = await connected();
const [refused, why] = await listen((told) => stranger.subscribe('/data/AccountChangeEvent', told))();
assert.equal(refused, 'error');
assert.match(why.message, /UNAVAILABLE|certificate/);
stranger.close();

try {
  fs.writeFileSync(authorities, Buffer.concat([shipped, Buffer.from(`\n${bus.ca_pem}`)]));
  const client = await connected();
  const next = listen((told) => client.subscribe('/data/AccountChangeEvent', told));
  const contacts = listen((told) => client.subscribe('/data/ContactChangeEvent', told));
  for (let tries = 0; (await control('GET', '/events')).streams < 2; tries++) {
    assert.ok(tries < 500, 'two streams stand');
    await new Promise((done) => setTimeout(done, 10));
  }

  const values = { Name: 'Acme', NumberOfEmployees: 7, AnnualRevenue: 1.5, BillingCity: 'London' };
  const { ids: [id] } = await control('POST', '/records/Account', values);
  const created = await event(next);
  const header = created.payload.ChangeEventHeader;
  assert.deepEqual([header.entityName, header.changeType, header.recordIds], ['Account', 'CREATE', [id]]);
  assert.deepEqual(header.changedFields, []);
  assert.equal(created.payload.Name, 'Acme');
  assert.equal(created.payload.NumberOfEmployees, 7);
  assert.equal(created.payload.AnnualRevenue, 1.5);
  assert.equal(created.payload.BillingAddress.City, 'London');
  assert.equal(created.payload.Industry, null);
  // More than a double holds.
  assert.equal(typeof header.commitNumber, 'bigint');

  await control('PATCH', `/records/${id}`, { Industry: 'Energy', AnnualRevenue: null, BillingCity: 'Paris' });
  const updated = await event(next);
  const changes = updated.payload.ChangeEventHeader;
  assert.equal(changes.changeType, 'UPDATE');
  assert.deepEqual(
    [...changes.changedFields].sort(),
    ['AnnualRevenue', 'BillingAddress.City', 'Industry', 'LastModifiedDate'],
  );
  assert.deepEqual(changes.nulledFields, ['AnnualRevenue']);
  assert.equal(updated.payload.Industry, 'Energy');
  assert.ok(updated.replayId > created.replayId);

  await control('DELETE', `/records/${id}`);
  assert.equal((await event(next)).payload.ChangeEventHeader.changeType, 'DELETE');
  await control('POST', `/records/${id}/undelete`);
  const back = await event(next);
  assert.equal(back.payload.ChangeEventHeader.changeType, 'UNDELETE');
  assert.equal(back.payload.Industry, 'Energy');

  await control('POST', '/records/Contact', { FirstName: 'Ada', LastName: 'King' });
  const contact = await event(contacts);
  assert.equal(contact.payload.Name.LastName, 'King');
  client.close();

  // From a replay id on, and all that is kept.
  const again = await connected();
  const later = listen((told) => again.subscribeFromReplayId('/data/AccountChangeEvent', told, 3, created.replayId));
  for (const type of ['UPDATE', 'DELETE', 'UNDELETE']) {
    assert.equal((await event(later)).payload.ChangeEventHeader.changeType, type);
  }
  const all = listen((told) => again.subscribeFromEarliestEvent('/data/ContactChangeEvent', told, 1));
  assert.equal((await event(all)).replayId, contact.replayId);
  again.close();

  // Errors have their codes.
  const wrong = await connected();
  const [kind, error] = await listen((told) => wrong.subscribe('/data/LeadChangeEvent', told))();
  assert.equal(kind, 'error');
  assert.deepEqual(error.metadata.get('error-code'), ['sfdc.platform.eventbus.grpc.topic.not.found']);
  assert.equal(error.code, 5);
  wrong.close();
} finally {
  fs.writeFileSync(authorities, shipped);
}

console.log('pubsub.mjs passed');
// The client goes on connecting after it was closed.
process.exit(0);
