// npm's oidc-provider as a foreign authorization server: DPoP, PAR, RAR, RFC 8707, CIMD, introspection,
// revocation, dynamic registration, back-channel logout, token exchange to an ID-JAG and ID-JAG to an
// access token. Usage: node idp.mjs '{"port":0,"resources":{"https://…":{"format":"jwt"}},"clients":[…]}'.
// It prints one line of JSON with its issuer when it listens. POST /control/remove and /control/restore
// with {"sub":"…"} take a user away and bring it back.
import { createServer } from 'node:http';
import { randomUUID } from 'node:crypto';
import * as jose from 'jose';
import Provider, { errors } from 'oidc-provider';

const options = JSON.parse(process.argv[2] ?? '{}');
const users = new Map(Object.entries(options.users ?? { ana: { groups: ['people'] }, bob: { groups: ['ops'] } }));
const gone = new Set();

const server = createServer();
await new Promise((done) => server.listen(options.port ?? 0, '127.0.0.1', done));
const issuer = `http://127.0.0.1:${server.address().port}`;

const { privateKey, publicKey } = await jose.generateKeyPair('ES256', { extractable: true });
const jwk = { ...(await jose.exportJWK(privateKey)), kid: 'idp-1', alg: 'ES256', use: 'sig' };

const resources = options.resources ?? {};
const idjag = 'urn:ietf:params:oauth:token-type:id-jag';
const exchange = 'urn:ietf:params:oauth:grant-type:token-exchange';

const configuration = {
  jwks: { keys: [jwk] },
  clients: (options.clients ?? []).map((c) => ({ id_token_signed_response_alg: 'ES256', ...c })),
  clientDefaults: { id_token_signed_response_alg: 'ES256', authorization_signed_response_alg: 'ES256', userinfo_signed_response_alg: undefined },
  enabledJWA: { idTokenSigningAlgValues: ['ES256'] },
  cookies: { keys: [randomUUID()] },
  claims: { openid: ['sub', 'sid', 'auth_time', 'acr', 'amr'], profile: ['name', 'groups'], groups: ['groups'] },
  conformIdTokenClaims: false,
  // What is fetched and told in a test is on loopback, which the provider would not reach on its own.
  fetch: (url, { dispatcher: _, ...rest }) => globalThis.fetch(url, rest),
  scopes: ['openid', 'offline_access', 'profile', 'groups', ...(options.scopes ?? [])],
  acrValues: ['urn:warder:test:pwd', 'urn:warder:test:mfa'],
  pkce: { required: () => true },
  rotateRefreshToken: true,
  issueRefreshToken: async (_ctx, client, code) => client.grantTypeAllowed('refresh_token') && (code.scopes.has('offline_access') || options.refresh === true),
  ttl: { AccessToken: options.ttl ?? 300, Session: 3600, Grant: 3600, Interaction: 600, IdToken: 300, RefreshToken: 3600, AuthorizationCode: 60 },
  async findAccount(_ctx, sub) {
    if (!users.has(sub) || gone.has(sub)) return undefined;
    return { accountId: sub, claims: async () => ({ sub, name: sub, ...users.get(sub) }) };
  },
  extraTokenClaims: async (_ctx, token) => {
    const groups = users.get(token.accountId)?.groups;
    return groups ? { groups } : {};
  },
  features: {
    devInteractions: { enabled: true },
    dPoP: { enabled: true, requireNonce: () => options.nonce === true, nonceSecret: Buffer.alloc(32, 7) },
    pushedAuthorizationRequests: { enabled: true },
    richAuthorizationRequests: {
      enabled: options.rar !== false,
      types: { mcp: { validate: () => {} } },
      authorizationDetailsForGrantSource: (ctx) => ctx.oidc.params.authorization_details && JSON.parse(ctx.oidc.params.authorization_details),
      authorizationDetailsForAccessToken: (_ctx, _token, source) => source?.rar,
      authorizationDetailsForIntrospection: (_ctx, token) => token.rar,
    },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => undefined,
      useGrantedResource: () => true,
      getResourceServerInfo(_ctx, indicator) {
        const r = resources[indicator];
        if (!r) throw new errors.InvalidTarget();
        return { scope: r.scope ?? 'openid', audience: indicator, accessTokenFormat: r.format ?? 'jwt', accessTokenTTL: options.ttl ?? 300, jwt: { sign: { alg: 'ES256' } } };
      },
    },
    registration: { enabled: options.dcr === true },
    introspection: { enabled: true, allowedPolicy: (_ctx, _client, token) => !gone.has(token.accountId) },
    revocation: { enabled: true, allowedPolicy: () => true },
    clientCredentials: { enabled: true },
    backchannelLogout: { enabled: true },
    rpInitiatedLogout: { enabled: true },
    clientIdMetadataDocument: { enabled: options.cimd === true, ack: 'draft-02' },
  },
};
if (options.nonce !== true) delete configuration.features.dPoP.requireNonce;

const provider = new Provider(issuer, configuration);
provider.proxy = true;

// Token exchange of an ID token for an ID-JAG (enterprise-managed authorization, first leg).
provider.registerGrantType(exchange, async (ctx) => {
  const p = ctx.oidc.params;
  if (p.requested_token_type !== idjag) throw new errors.InvalidRequest('only ID-JAGs are issued');
  const { payload } = await jose.jwtVerify(p.subject_token, publicKey, { issuer, audience: ctx.oidc.client.clientId });
  if (gone.has(payload.sub)) throw new errors.InvalidGrant('no such user');
  const assertion = await new jose.SignJWT({ client_id: p.client_id_at_as ?? ctx.oidc.client.clientId, resource: p.resource, scope: p.scope })
    .setProtectedHeader({ alg: 'ES256', typ: 'oauth-id-jag+jwt', kid: jwk.kid })
    .setIssuer(issuer).setSubject(payload.sub).setAudience(p.audience).setJti(randomUUID()).setIssuedAt().setExpirationTime('300s')
    .sign(privateKey);
  ctx.body = { access_token: assertion, issued_token_type: idjag, token_type: 'N_A', expires_in: 300, scope: p.scope };
}, ['subject_token', 'subject_token_type', 'requested_token_type', 'audience', 'resource', 'scope', 'client_id_at_as'], []);

const handler = provider.callback();
server.on('request', async (req, res) => {
  const control = req.url.match(/^\/control\/(remove|restore)$/);
  if (req.method === 'POST' && control) {
    let body = '';
    for await (const chunk of req) body += chunk;
    const { sub } = JSON.parse(body);
    if (control[1] === 'remove') gone.add(sub);
    else gone.delete(sub);
    res.writeHead(204).end();
    return;
  }
  handler(req, res);
});
console.log(JSON.stringify({ issuer, jwks: { keys: [{ ...(await jose.exportJWK(publicKey)), kid: jwk.kid, alg: 'ES256', use: 'sig' }] } }));
