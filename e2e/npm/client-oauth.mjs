// node client-oauth.mjs URL TOOL ARGUMENTS OPTIONS: the TypeScript SDK v2 logs in at whatever authorization
// server the MCP server at URL names, and calls the tool as often as OPTIONS.calls says (1). OPTIONS: dpop
// (bind the tokens to a key), document (client metadata URL; otherwise it registers itself), id (registered
// client), legacy (open a session), links (it can show links),
// redirect. It prints {"open":"…"} for each address that a person must
// open, reads the query of the redirect from a line of standard input, and prints {"result":…} or
// {"error":…} for each call, the next one after another line of input.
import { createInterface } from 'node:readline';
import { Client, StreamableHTTPClientTransport, DpopSession, UnauthorizedError } from '@modelcontextprotocol/client';

const [url, tool, args, given] = process.argv.slice(2);
const options = JSON.parse(given ?? '{}');
const say = (what) => console.log(JSON.stringify(what));
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

class Provider {
  constructor() {
    if (options.document) this.clientMetadataUrl = options.document;
    if (options.id) this.information = { client_id: options.id };
    if (options.dpop) {
      const session = DpopSession.create();
      this.dpop = () => session;
    }
  }
  redirectUrl = options.redirect;
  clientMetadata = {
    client_name: 'ts-sdk', redirect_uris: [options.redirect], token_endpoint_auth_method: 'none',
    grant_types: ['authorization_code', 'refresh_token'], response_types: ['code'], application_type: 'native',
  };
  clientInformation() { return this.information; }
  saveClientInformation(i) { this.information = i; }
  tokens() { return this.kept; }
  saveTokens(t) { this.kept = t; }
  redirectToAuthorization(to) { say({ open: to.href }); }
  saveCodeVerifier(v) { this.verifier = v; }
  codeVerifier() { return this.verifier; }
  discoveryState() { return this.discovered; }
  saveDiscoveryState(d) { this.discovered = d; }
  invalidateCredentials(scope) {
    if (scope === 'all' || scope === 'tokens') this.kept = undefined;
    if (scope === 'all' || scope === 'client') this.information = undefined;
    if (scope === 'all' || scope === 'discovery') this.discovered = undefined;
  }
}

const provider = new Provider();

async function connect() {
  const client = new Client({ name: 'ts-sdk', version: '1.0.0' }, { capabilities: options.links ? { elicitation: { url: {} } } : {}, versionNegotiation: { mode: options.legacy ? 'legacy' : 'auto' } });
  const transport = new StreamableHTTPClientTransport(new URL(url), { authProvider: provider });
  try {
    await client.connect(transport);
    return client;
  } catch (problem) {
    if (!(problem instanceof UnauthorizedError)) throw problem;
    await transport.finishAuth(new URLSearchParams((await lines.next()).value));
    return null;
  }
}

try {
  const client = (await connect()) ?? (await connect());
  for (let n = 0; n < (options.calls ?? 1); n++) {
    if (n > 0) await lines.next();
    try {
      say({ result: await client.callTool({ name: tool, arguments: JSON.parse(args) }), type: provider.kept?.token_type, token: provider.kept?.access_token });
    } catch (problem) {
      say({ error: String(problem), code: problem.code, data: problem.data });
    }
  }
  await client.close();
} catch (problem) {
  say({ error: String(problem.stack ?? problem) });
}
process.exit(0);
