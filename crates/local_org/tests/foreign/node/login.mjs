// Every way in which jsforce logs in and out, and what it is told where that fails.

import assert from 'node:assert/strict';
import jsforce from 'jsforce';
import { connection, control, oauth2, refused, url } from './org.mjs';

const user = 'integration@example.com';
const password = process.env.ORG_PASSWORD + process.env.ORG_SECURITY_TOKEN;
const works = async (conn) => {
  const me = await conn.identity();
  assert.equal(me.username, user);
  assert.equal((await conn.query('SELECT count() FROM Account')).totalSize, 0);
};
const fails = (name, message, call) =>
  assert.rejects(call, (error) => error.name === name && error.message === message);

// By OAuth with a password; the session is renewed by itself.
let conn = connection();
await conn.login(user, password);
await works(conn);
await control('DELETE', '/sessions');
await works(conn);
await fails('invalid_grant', 'authentication failure', () => connection().login(user, 'wrong'));

// By SOAP; logging out ends the session.
conn = new jsforce.Connection({ loginUrl: url, version: '64.0', logLevel: 'FATAL' });
const info = await conn.login(user, password);
assert.ok(info.id.startsWith('005') && info.organizationId.startsWith('00D'));
await works(conn);
await control('DELETE', '/sessions');
await works(conn);
const token = conn.accessToken;
const instanceUrl = conn.instanceUrl;
await conn.logout();
const dead = new jsforce.Connection({ instanceUrl, accessToken: token });
await refused('INVALID_SESSION_ID', () => dead.query('SELECT Id FROM Account'));
const wrong = 'INVALID_LOGIN: Invalid username, password, security token; or user locked out.';
await fails('Error', wrong, () => new jsforce.Connection({ loginUrl: url, logLevel: 'FATAL' }).login(user, 'no'));

// By a code that the user approved, with a proof; the refresh token renews the session.
const proving = new jsforce.OAuth2({ ...oauth2, useVerifier: true });
const approve = async (more) => {
  const answer = await fetch(proving.getAuthorizationUrl({ scope: 'api refresh_token', state: 'a b', ...more }), { redirect: 'manual' });
  assert.equal(answer.status, 302);
  const location = new URL(answer.headers.get('location'));
  assert.equal(location.searchParams.get('state'), 'a b');
  return location.searchParams.get('code');
};
conn = new jsforce.Connection({ oauth2: proving, version: '64.0' });
await conn.authorize(await approve());
assert.ok(conn.refreshToken);
await works(conn);
await control('DELETE', '/sessions');
await works(conn);
const code = await approve();
proving.codeVerifier = 'another';
await fails('invalid_grant', 'invalid code verifier', () => conn.authorize(code));
await fails('invalid_grant', 'expired authorization code', () => conn.authorize(code));

// A refresh token that changes with each use is good only once.
await control('POST', '/settings', { rotate_refresh_tokens: true });
const plain = new jsforce.OAuth2(oauth2);
const before = conn.refreshToken;
const renewed = await plain.refreshToken(before);
assert.ok(renewed.refresh_token && renewed.refresh_token !== before);
await fails('invalid_grant', 'expired access/refresh token', () => plain.refreshToken(before));
await control('POST', '/settings', { rotate_refresh_tokens: false });
const again = await plain.refreshToken(renewed.refresh_token);
assert.equal(again.refresh_token, undefined);

// Revoking it ends the sessions that came from it.
conn = new jsforce.Connection({ oauth2: plain, version: '64.0', instanceUrl: again.instance_url,
  accessToken: again.access_token, refreshToken: renewed.refresh_token });
await works(conn);
await conn.logout(true);
const after = new jsforce.Connection({ instanceUrl, accessToken: again.access_token });
await refused('INVALID_SESSION_ID', () => after.query('SELECT Id FROM Account'));
await fails('invalid_grant', 'expired access/refresh token', () => plain.refreshToken(renewed.refresh_token));

console.log('login.mjs passed');
