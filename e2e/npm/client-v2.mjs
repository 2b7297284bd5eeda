// node client-v2.mjs URL TOOL ARGUMENTS ERA: lists the tools and calls one with the TypeScript SDK v2.
// ERA is legacy or auto. The token is in WARDER_TOKEN. Prints {tools: [names], result}.
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';

const [url, tool, args, mode] = process.argv.slice(2);
const options = mode === 'legacy' ? { capabilities: {} } : { capabilities: {}, versionNegotiation: { mode } };
const client = new Client({ name: 'e2e-v2', version: '1.0.0' }, options);
await client.connect(new StreamableHTTPClientTransport(new URL(url), {
  requestInit: { headers: { Authorization: `Bearer ${process.env.WARDER_TOKEN}` } },
}));
const { tools } = await client.listTools();
const result = await client.callTool({ name: tool, arguments: JSON.parse(args) });
console.log(JSON.stringify({ tools: tools.map((t) => t.name), result }));
await client.close();
