// What every script needs of the org besides the client: its control endpoint, and what to expect of errors.

import assert from 'node:assert/strict';
import jsforce from 'jsforce';

export const url = process.env.ORG_URL;
export const oauth2 = {
  loginUrl: url,
  clientId: process.env.ORG_CLIENT_ID,
  clientSecret: process.env.ORG_CLIENT_SECRET,
  redirectUri: 'http://localhost/callback',
};

/** A connection that has not logged in yet. */
export const connection = (more = {}) =>
  new jsforce.Connection({ oauth2, loginUrl: url, version: '64.0', ...more });

/** Something that only the org's own endpoint can do. */
export async function control(method, path, body) {
  const answer = await fetch(`${url}/control${path}`, { method, body: body && JSON.stringify(body) });
  assert.equal(answer.status, 200, await answer.clone().text());
  return answer.json();
}

/** The call is refused with this error, which is the client's own. */
export async function refused(code, call) {
  try {
    await call();
  } catch (error) {
    assert.equal(error.errorCode ?? error.name, code, error.stack);
    return error;
  }
  assert.fail(`${code} was expected`);
}
