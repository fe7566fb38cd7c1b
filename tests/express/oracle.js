/*
 * Pryv's routes in Express, which is what Pryv's services match requests with: each answer says which route a request is taken for.
 *
 * usage: node oracle.js '{"core": 3000, "hfs": 4000, …}'   (a port of 127.0.0.1 for each service; prints "ready")
 */
'use strict';

const express = require('express');

const USER = /^[a-z0-9][a-z0-9-]{3,58}[a-z0-9]$/;

// The order is core's: the first that matches answers.
const CORE = `
  DELETE /users/:username
  POST /users
  ALL /system/*
  POST /register/create-user
  GET /
  GET /:username/
  GET /:username/access-info
  POST /:username
  GET /:username/accesses
  POST /:username/accesses
  PUT /:username/accesses/:id
  DELETE /:username/accesses/:id
  POST /:username/accesses/check-app
  GET /:username/account
  PUT /:username/account
  POST /:username/account/change-password
  POST /:username/account/request-password-reset
  POST /:username/account/reset-password
  GET /:username/auth/who-am-i
  POST /:username/auth/login
  POST /:username/auth/logout
  GET /:username/events/
  GET /:username/events/:id
  GET /:username/events/:id/:fileId/:fileName?
  POST /:username/events/
  POST /:username/events/start
  PUT /:username/events/:id
  POST /:username/events/stop
  POST /:username/events/:id
  DELETE /:username/events/:id
  DELETE /:username/events/:id/:fileId
  GET /:username/followed-slices
  POST /:username/followed-slices
  PUT /:username/followed-slices/:id
  DELETE /:username/followed-slices/:id
  GET /:username/profile/public
  PUT /:username/profile/public
  GET /:username/profile/app
  PUT /:username/profile/app
  GET /:username/profile/private
  PUT /:username/profile/private
  GET /:username/service/info
  GET /:username/service/infos
  GET /:username/streams
  POST /:username/streams
  PUT /:username/streams/:id
  DELETE /:username/streams/:id
  GET /:username/webhooks
  GET /:username/webhooks/:id
  POST /:username/webhooks
  PUT /:username/webhooks/:id
  DELETE /:username/webhooks/:id
  POST /:username/webhooks/:id/test
  GET /:username/audit/logs
`;
const ROUTES = {
  core: CORE,
  hfs: `
    GET /system/status
    POST /:username/events/:id/series
    POST /:username/series/batch
    GET /:username/events/:id/series
  `,
  preview: `
    GET /:username/events/:id:extension(.jpg|.jpeg|)
    POST /clean-up-cache
    POST /:username/clean-up-cache
  `,
  mfa: `
    POST /:username/login
    POST /:username/mfa/activate
    POST /:username/mfa/confirm
    POST /:username/mfa/deactivate
    POST /:username/mfa/recover
    POST /:username/mfa/challenge
    POST /:username/mfa/verify
  `,
  register: `
    POST /users
    PUT /users
    DELETE /users/:username
    POST /users/validate
    POST /records
    GET /admin/users
    GET /admin/users/:username
    GET /:username/check_username
  `,
  mail: '',
};
// Where core does not put the user's name in front; its sockets are answered before any route.
const WITHOUT_USER = { core: ['/system', '/reg', '/www', '/socket.io', '/favicon.ico'] };

/** Puts the user's name, the first label of the host name, in front of a path that does not begin with it. */
function userFirst (service) {
  return (request, response, next) => {
    const label = (request.headers.host || '').split('.')[0];
    const exempt = (WITHOUT_USER[service] || []).some(start => request.url.startsWith(start));
    if (!exempt && USER.test(label.toLowerCase()) && !request.url.startsWith(`/${label}`)) {
      request.url = `/${label}${request.url}`;
    }
    next();
  };
}

/** A form may name another method than its request has. */
function otherMethod (request, response, next) {
  if (request.is('application/x-www-form-urlencoded') && typeof (request.body || {})._method === 'string') {
    request.method = request.body._method.toUpperCase();
  }
  next();
}

function application (service) {
  const app = express();
  app.disable('x-powered-by');
  app.disable('etag');
  const answer = route => (request, response) => {
    const [target, host] = [request.originalUrl, request.headers.host || ''].map(text => Buffer.from(text, 'latin1').toString('hex'));
    response.set({ 'X-Service': service, 'X-Route': route, 'X-Target': target, 'X-Host': host }).end();
  };
  if (service === 'core') app.use((request, response, next) => request.url.startsWith('/socket.io') ? answer('SOCKET')(request, response) : next());
  if (service === 'register') app.use((request, response, next) => request.method === 'OPTIONS' ? answer('OPTIONS')(request, response) : next());
  if (!['register', 'mail'].includes(service)) app.use(userFirst(service), express.urlencoded({ extended: false }), otherMethod);
  for (const line of ROUTES[service].split('\n').map(line => line.trim()).filter(Boolean)) {
    const [method, path] = line.split(' ');
    app[method.toLowerCase()](path, answer(line));
  }
  app.use(answer('NONE'));
  app.use((error, request, response, next) => answer('ERROR')(request, response)); // eslint-disable-line no-unused-vars
  return app;
}

const ports = JSON.parse(process.argv[2]);
Promise.all(Object.entries(ports).map(([service, port]) => new Promise(resolve => {
  const server = application(service).listen(port, '127.0.0.1', resolve);
  server.keepAliveTimeout = 60000;
}))).then(() => console.log('ready'));
