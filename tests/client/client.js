// Uses a platform as apps do, with Pryv's own JavaScript client: see `run`, which starts this.
'use strict';

const assert = require('node:assert/strict');
const { randomBytes } = require('node:crypto');
const dns = require('node:dns');
const { setTimeout: sleep } = require('node:timers/promises');

const say = console.log;
console.log = () => {}; // the client's add-ons say that they were loaded
const pryv = require('pryv');
require('@pryv/socket.io')(pryv);
require('@pryv/monitor')(pryv);
console.log = say;

const APP = 'client-test';
const TIMEOUT_MS = 20_000;
// A red dot of one pixel.
const PICTURE = Buffer.from(
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg==',
  'base64'
);

// --- The platform's own names ---

// Names under the platform's domain are asked of its name server, since nothing delegates the domain to it.
function useNameServer(domain, server) {
  const resolver = new dns.promises.Resolver({ timeout: 3000, tries: 2 });
  resolver.setServers([server]);
  const system = dns.lookup;

  async function addresses(name, depth = 0) {
    if (depth > 4) throw new Error(`${name} leads in circles`);
    const known = await resolver.resolve4(name).catch(() => []);
    if (known.length > 0) return known;
    const [alias] = await resolver.resolveCname(name).catch(() => []);
    if (alias) return addresses(alias, depth + 1);
    throw Object.assign(new Error(`the name server knows no ${name}`), { code: 'ENOTFOUND' });
  }

  dns.lookup = (name, options, callback) => {
    if (typeof options === 'function') [options, callback] = [{}, options];
    if (name !== domain && !name.endsWith(`.${domain}`)) return system(name, options, callback);
    return addresses(name).then(
      (found) =>
        options.all ? callback(null, found.map((address) => ({ address, family: 4 }))) : callback(null, found[0], 4),
      (error) => callback(error)
    );
  };
}

// --- Tools ---

// The client puts no limit on how long it waits.
const plainFetch = globalThis.fetch;
globalThis.fetch = (url, options = {}) => plainFetch(url, { signal: AbortSignal.timeout(TIMEOUT_MS), ...options });

async function within(promise, what) {
  const timer = new AbortController();
  const late = sleep(TIMEOUT_MS, undefined, { signal: timer.signal }).then(() => {
    throw new Error(`${what}: nothing in ${TIMEOUT_MS / 1000} s`);
  });
  late.catch(() => {}); // once the promise has won
  try {
    return await Promise.race([promise, late]);
  } finally {
    timer.abort();
  }
}

async function ask(method, url, body, headers = {}) {
  const options = { method, headers: { ...headers } };
  if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers['Content-Type'] = 'application/json';
  }
  const response = await fetch(url, options);
  return { status: response.status, headers: response.headers, body: await response.json() };
}

async function refused(promise, status, id) {
  const error = await promise.then(
    () => assert.fail(`it was let through, and not refused with ${id}`),
    (reason) => reason
  );
  assert.deepEqual([error.status, error.id], [status, id], error.message);
}

// --- What apps do, for a user of a zone ---

class Visit {
  constructor(service, info, hosting, core) {
    Object.assign(this, { service, info, hosting, core });
    this.username = `client-${randomBytes(6).toString('hex')}`;
    this.password = randomBytes(12).toString('base64url');
    this.origin = info.register.replace(/\/$/, '').replace('//reg.', '//sw.');
  }

  // Registration is at a core since 1.6; the client's createUser() asks the registry, as from 2.0 on.
  register(change = {}) {
    const { username, password } = this;
    const email = `${username}@example.com`;
    const user = { username, password, email, appId: APP, language: 'en', invitationToken: 'no-token', ...change };
    return ask('POST', `${this.core}users`, user);
  }

  async registration() {
    assert.equal(await this.service.userExists(this.username), false);
    for (const [field, value] of [['username', 'no'], ['password', 'short'], ['language', 'much-too-long']]) {
      const { status, body } = await this.register({ [field]: value });
      assert.deepEqual([status, body.error.id], [400, 'invalid-parameters-format'], field);
    }
    const { status, body } = await this.register();
    assert.equal(status, 201, JSON.stringify(body));
    assert.equal(body.username, this.username);
    const again = await this.register();
    assert.deepEqual([again.status, again.body.error.id], [409, 'item-already-exists']);
    assert.equal(await this.service.userExists(this.username), true);
    const where = await ask('POST', `${this.info.register}${this.username}/server`, {});
    const domain = new URL(this.core).hostname.replace(/^[^.]+\./, '');
    assert.ok(where.body.server.endsWith(domain), JSON.stringify(where.body));
    assert.equal(new URL(await this.service.apiEndpointFor(this.username)).hostname, `${this.username}.${domain}`);
  }

  async login() {
    await refused(this.service.login(this.username, 'wrong-password', APP), 401, 'invalid-credentials');
    const stranger = this.service.login(this.username, this.password, APP, 'https://elsewhere.example');
    await refused(stranger, 401, 'invalid-credentials');
    this.connection = await this.service.login(this.username, this.password, APP);
    const access = await this.connection.accessInfo();
    assert.deepEqual([access.type, access.user.username], ['personal', this.username]);
    assert.equal(await this.connection.username(), this.username);
    const again = await this.service.login(this.username, this.password, APP, this.origin);
    assert.equal(again.token, this.connection.token, 'an app has one session');
  }

  async batches() {
    const streams = [
      { id: 'diary', name: 'Diary' },
      { id: 'diary', name: 'Diary' },
      { id: 'weight', name: 'Weight', parentId: 'diary' },
      { id: 'private', name: 'Private' }
    ];
    const calls = streams.map((params) => ({ method: 'streams.create', params }));
    const seen = [];
    calls.push({
      method: 'events.create',
      params: { streamIds: ['diary'], type: 'note/txt', content: 'Good morning' },
      handleResult: (result) => seen.push(result.event.content)
    });
    const results = await this.connection.api(calls);
    assert.deepEqual(seen, ['Good morning']);
    assert.deepEqual(
      results.map((result) => result.error?.id ?? ''),
      ['', 'item-already-exists', '', '', '']
    );
    await assert.rejects(this.connection.apiOne('no.such-method', {}));
    const [diary] = (await this.connection.get('streams', { parentId: 'diary' })).streams;
    assert.equal(diary.id, 'weight');
  }

  async events() {
    const create = (params) => this.connection.apiOne('events.create', params, 'event');
    const now = Date.now() / 1000;
    const made = [];
    for (const [number, streamId] of ['weight', 'diary', 'private'].entries()) {
      made.push(await create({ streamIds: [streamId], type: 'mass/kg', content: 80 + number, time: now - number }));
    }
    const found = await this.connection.get('events', { streams: ['diary'], types: ['mass/kg'], sortAscending: true });
    assert.deepEqual(found.events.map((event) => event.content), [81, 80]);
    const streamed = [];
    await this.connection.getEventsStreamed({ streams: ['diary'], types: ['mass/kg'] }, (event) => streamed.push(event.id));
    assert.deepEqual(streamed.sort(), [made[0].id, made[1].id].sort());
    const update = { id: made[0].id, update: { content: 79, clientData: { scale: 'bathroom' } } };
    assert.equal((await this.connection.apiOne('events.update', update, 'event')).content, 79);
    const wrong = await this.connection.post('events', { streamIds: ['nowhere'], type: 'mass/kg', content: 1 });
    assert.equal(wrong.error.id, 'unknown-referenced-resource');
    const trashed = await this.connection.apiOne('events.delete', { id: made[1].id }, 'event');
    assert.equal(trashed.trashed, true);
    assert.ok(await this.connection.apiOne('events.delete', { id: made[1].id }, 'eventDeletion'));
    const gone = await this.connection.get(`events/${made[1].id}`, null);
    assert.equal(gone.error.id, 'unknown-resource');
  }

  async attachments() {
    const event = { streamIds: ['diary'], type: 'picture/attached' };
    const made = await this.connection.createEventWithFileFromBuffer(event, PICTURE, 'dot é.png');
    assert.equal(made.error, undefined, JSON.stringify(made.error));
    const [file] = made.event.attachments;
    assert.deepEqual([file.fileName, file.type, file.size], ['dot é.png', 'image/png', PICTURE.length]);
    const url = `${this.connection.endpoint}events/${made.event.id}/${file.id}`;
    const read = async (address, headers = {}) => {
      const response = await fetch(address, { headers });
      return [response.status, Buffer.from(await response.arrayBuffer())];
    };
    const own = { Authorization: this.connection.token };
    assert.deepEqual(await read(`${url}/dot.png?readToken=${file.readToken}`), [200, PICTURE]);
    assert.deepEqual(await read(url, own), [200, PICTURE]);
    assert.equal((await read(`${url}?readToken=${file.readToken}x`))[0], 401);
    assert.equal((await read(url))[0], 401);
    const preview = await fetch(`${this.connection.endpoint}previews/events/${made.event.id}?w=256`, { headers: own });
    assert.deepEqual([preview.status, preview.headers.get('content-type')], [200, 'image/jpeg']);
    const begin = Buffer.from(await preview.arrayBuffer()).subarray(0, 3);
    assert.deepEqual(begin, Buffer.from([0xff, 0xd8, 0xff]));
    const anybody = await fetch(`${this.connection.endpoint}previews/events/${made.event.id}`);
    assert.equal(anybody.status, 401);
  }

  async series() {
    const params = { streamIds: ['weight'], type: 'series:mass/kg' };
    const event = await this.connection.apiOne('events.create', params, 'event');
    const fields = ['deltaTime', 'value'];
    await this.connection.addPointsToHFEvent(event.id, fields, [[0, 81.5], [1.5, 82.25], [3, 80]]);
    const batch = {
      format: 'seriesBatch',
      data: [{ eventId: event.id, data: { format: 'flatJSON', fields, points: [[4, 79.5]] } }]
    };
    assert.equal((await this.connection.post('series/batch', batch)).status, 'ok');
    const all = await this.connection.get(`events/${event.id}/series`, {});
    assert.deepEqual(all.points, [[0, 81.5], [1.5, 82.25], [3, 80], [4, 79.5]]);
    const part = await this.connection.get(`events/${event.id}/series`, { fromDeltaTime: 1, toDeltaTime: 2 });
    assert.deepEqual(part.points, [[1.5, 82.25]]);
  }

  async sockets() {
    const socket = await within(this.connection.socket.open(), 'opening a socket');
    try {
      const changed = new Promise((resolve) => socket.on('eventsChanged', resolve));
      const note = { streamIds: ['diary'], type: 'note/txt', content: 'over a socket' };
      const [result] = await within(socket.api([{ method: 'events.create', params: note }]), 'a call over a socket');
      assert.equal(result.event.content, 'over a socket');
      await within(changed, 'word of the new event');
    } finally {
      socket.close();
    }
    const stranger = new pryv.Connection(`https://nonsense@${new URL(this.connection.endpoint).hostname}/`);
    await assert.rejects(within(stranger.socket.open(), 'a socket without an access'));
  }

  async monitors() {
    const monitor = new pryv.Monitor(this.connection, { streams: ['private'] });
    const contents = [];
    monitor.on(pryv.Monitor.Changes.EVENT, (event) => contents.push(event.content));
    await within(monitor.start(), 'starting a monitor');
    assert.deepEqual(contents, [82]);
    const note = { streamIds: ['private'], type: 'note/txt', content: 'news' };
    await this.connection.apiOne('events.create', note, 'event');
    await within(monitor.updateEvents(), 'updating a monitor');
    assert.deepEqual(contents, [82, 'news']);
    monitor.stop();
  }

  async accesses() {
    const requestedPermissions = [{ streamId: 'diary', level: 'read', defaultName: 'Diary' }];
    const wanted = { requestingAppId: 'visiting-app', requestedPermissions, languageCode: 'en' };
    const request = await this.service.startAccessRequest(wanted);
    assert.ok(request.authUrl.startsWith('https://'), request.authUrl);
    assert.equal((await this.service.pollAccessRequest(request.key)).status, 'NEED_SIGNIN');
    // What the page of consent does.
    const check = { requestingAppId: 'visiting-app', requestedPermissions };
    const checked = await this.connection.post('accesses/check-app', check);
    assert.deepEqual(checked.checkedPermissions, [{ streamId: 'diary', level: 'read', name: 'Diary' }]);
    const params = { type: 'app', name: 'visiting-app', permissions: requestedPermissions };
    const access = await this.connection.apiOne('accesses.create', params, 'access');
    const { username } = this;
    const decision = { status: 'ACCEPTED', username, token: access.token, apiEndpoint: access.apiEndpoint };
    assert.equal((await ask('POST', request.poll, decision)).status, 200);
    const accepted = await this.service.pollAccessRequest(request.poll);
    assert.equal(accepted.status, 'ACCEPTED');

    const app = new pryv.Connection(accepted.apiEndpoint);
    assert.equal(await app.username(), username);
    const { events } = await app.get('events', { limit: 100 });
    assert.ok(events.length > 0);
    assert.ok(events.every((event) => !event.streamIds.includes('private')));
    const write = await app.post('events', { streamIds: ['diary'], type: 'note/txt', content: 'no' });
    assert.equal(write.error.id, 'forbidden');
    assert.ok(await app.revoke());
    assert.equal((await app.get('events', {})).error.id, 'invalid-access-token');

    const second = await this.service.startAccessRequest(wanted);
    await ask('POST', second.poll, { status: 'REFUSED', reasonID: 'USER', message: 'no' });
    assert.equal((await this.service.pollAccessRequest(second.key)).status, 'REFUSED');
    await refused(this.service.startAccessRequest({ requestingAppId: 'x', requestedPermissions }), 400, undefined);
  }

  // Pages of apps are of other origins.
  async pages() {
    const headers = { Origin: 'https://app.example', 'Access-Control-Request-Method': 'PUT' };
    for (const url of [`${this.connection.endpoint}events`, `${this.info.register}hostings`]) {
      const response = await fetch(url, { method: 'OPTIONS', headers });
      assert.equal(response.status, 200, url);
      assert.equal(response.headers.get('access-control-allow-origin'), 'https://app.example', url);
    }
  }

  async secondFactor() {
    const url = `${this.connection.endpoint}mfa/`;
    const post = (path, body, token) => ask('POST', url + path, body, { Authorization: token });
    const activation = await post('activate', { phone: '123' }, this.connection.token);
    assert.equal(activation.status, 302, JSON.stringify(activation.body));
    const confirmed = await post('confirm', { code: '1234' }, activation.body.mfaToken);
    assert.equal(confirmed.body.recoveryCodes?.length, 10, JSON.stringify(confirmed.body));
    // The client takes the status, 302, for a failure.
    const error = await this.service.login(this.username, this.password, APP).catch((reason) => reason);
    const token = error.response.body.mfaToken;
    assert.ok(token, error.message);
    await this.service.mfaChallenge(this.username, token);
    const connection = await this.service.mfaVerify(this.username, token, '1234');
    assert.equal((await connection.accessInfo()).type, 'personal');
    await refused(this.service.mfaVerify(this.username, token, '1234'), 403, 'forbidden');
    const recovery = { username: this.username, password: this.password, appId: APP };
    const codes = { ...recovery, recoveryCode: confirmed.body.recoveryCodes[0] };
    const recovered = await ask('POST', `${url}recover`, codes, { Origin: this.origin });
    assert.equal(recovered.status, 200, JSON.stringify(recovered.body));
    this.connection = await this.service.login(this.username, this.password, APP);
  }

  async logout() {
    await this.connection.post('auth/logout', {});
    assert.equal((await this.connection.accessInfo()).error.id, 'invalid-access-token');
  }
}

// --- All of it ---

async function hostingsOf(service) {
  // The first answer after a start names no core yet.
  for (let attempt = 0; attempt < 10; attempt += 1) {
    const found = await service.flatHostings();
    if (found.length > 0 && found.every((hosting) => hosting.availableCore)) return found;
    await sleep(1000);
  }
  throw new Error('the registry names hostings without an available core');
}

async function main() {
  const options = process.argv.slice(2).filter((word) => word.startsWith('--'));
  const [domain, server, ...wanted] = process.argv.slice(2).filter((word) => !word.startsWith('--'));
  assert.ok(domain && server, 'usage: client.js DOMAIN NAME_SERVER [HOSTING ...] [--second-factor]');
  useNameServer(domain, server);

  const service = new pryv.Service(`https://reg.${domain}/service/info`);
  const info = await service.info();
  const hostings = await hostingsOf(service);
  const chosen = wanted.length > 0 ? hostings.filter((one) => wanted.includes(one.key)) : hostings;
  assert.equal(chosen.length, wanted.length || hostings.length, `hostings are ${hostings.map((one) => one.key)}`);

  const steps = ['registration', 'login', 'batches', 'events', 'attachments', 'series', 'sockets', 'monitors', 'accesses', 'pages'];
  if (options.includes('--second-factor')) steps.push('secondFactor');
  steps.push('logout');
  let failed = 0;
  for (const hosting of chosen) {
    const visit = new Visit(service, info, hosting.key, hosting.availableCore.replace(/\/?$/, '/'));
    say(`# ${hosting.key}: ${visit.username} at ${visit.core}`);
    for (const step of steps) {
      try {
        await visit[step]();
        say(`ok - ${hosting.key}: ${step}`);
      } catch (error) {
        failed += 1;
        say(`not ok - ${hosting.key}: ${step}\n  ${String(error.stack ?? error).replaceAll('\n', '\n  ')}`);
        if (error.cause) say(`  because ${error.cause}`);
        if (step === 'registration' || step === 'login') break; // nothing else can work
      }
    }
  }
  say(`${failed} failed`);
  process.exit(failed ? 1 : 0); // sockets that reconnect would keep it alive
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
