// Loaded with "node --import": shows a bearer token to the gateway on every request that Node makes,
// whatever makes it: the built-in fetch, a copy of undici from npm, or http.request. Nothing else about
// the request changes, so wrong Host and Origin headers arrive as they were sent.
import { subscribe } from 'node:diagnostics_channel';

const { WARDER_TOKEN: token, WARDER_URL: url } = process.env;
const { host } = new URL(url);
const value = `Bearer ${token}`;

subscribe('undici:request:create', ({ request }) => {
  if (new URL(request.origin).host !== host) return;
  const names = Array.isArray(request.headers) ? request.headers.filter((_, i) => i % 2 === 0) : String(request.headers).split('\r\n').map((l) => l.split(':')[0]);
  if (!names.some((n) => String(n).toLowerCase() === 'authorization')) request.addHeader('authorization', value);
});

subscribe('http.client.request.created', ({ request }) => {
  if (!request.headersSent && !request.hasHeader('authorization')) request.setHeader('authorization', value);
});
