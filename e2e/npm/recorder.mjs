// node recorder.mjs PORT: an MCP server of the TypeScript SDK v1 with the tools "safe" and "evil". GET
// /taken returns what was executed since the last time, and what arrived.
import http from 'node:http';
import { Server } from '@modelcontextprotocol/sdk/server/index.js';
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js';
import { CallToolRequestSchema, ListToolsRequestSchema } from '@modelcontextprotocol/sdk/types.js';

const inputSchema = { type: 'object', properties: { tag: { type: 'string' }, o: { type: 'object' } } };
// Some probes make the SDK or Node throw outside of any request; a server that ends tells nothing more.
process.on('uncaughtException', (err) => console.error(err));
process.on('unhandledRejection', (err) => console.error(err));

let executed = [];
let arrived = 0;

function server() {
  const s = new Server({ name: 'recorder', version: '1.0.0' }, { capabilities: { tools: {} } });
  s.setRequestHandler(ListToolsRequestSchema, () => ({ tools: ['safe', 'evil'].map((name) => ({ name, description: name, inputSchema })) }));
  s.setRequestHandler(CallToolRequestSchema, ({ params }) => {
    executed.push({ tool: params.name, arguments: params.arguments ?? null });
    return { content: [{ type: 'text', text: params.name }] };
  });
  return s;
}

http.createServer(async (req, res) => {
  if (req.url === '/taken') {
    res.end(JSON.stringify({ executed, arrived }));
    executed = [];
    arrived = 0;
    return;
  }
  if (req.method !== 'POST') {
    res.writeHead(405).end();
    return;
  }
  const chunks = [];
  for await (const c of req) chunks.push(c);
  const text = Buffer.concat(chunks).toString();
  if (/"(safe|evil)/.test(text)) arrived++;
  let body;
  try {
    body = JSON.parse(text);
  } catch {
    res.writeHead(400).end();
    return;
  }
  try {
    await answer(req, res, body);
  } catch {
    if (!res.headersSent) res.writeHead(400);
    res.end();
  }
}).listen(Number(process.argv[2]), '127.0.0.1');

async function answer(req, res, body) {
  const transport = new StreamableHTTPServerTransport({ sessionIdGenerator: undefined, enableJsonResponse: true });
  res.on('close', () => transport.close());
  await server().connect(transport);
  await transport.handleRequest(req, res, body);
}
