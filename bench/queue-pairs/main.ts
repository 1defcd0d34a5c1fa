/**
 * Thousands of queue pairs of the software RNIC between two processes: all are made, each carries a WRITE and a SEND both ways, all are
 * closed. What each stage takes, and what each process holds while all are open.
 *
 *   npm run bench:queue-pairs -- [--count N]
 */
import { parseArgs } from 'node:util';
import { Child } from '../support/child.ts';
import { costOf, inWords } from '../support/cost.ts';

const END = new URL('end.js', import.meta.url);

interface Carried {
  readonly count: number;
  readonly whole: boolean;
}

const { values } = parseArgs({ options: { count: { type: 'string', default: '4096' } } });
const count = Number(values.count);
await using server = new Child(END, ['server']);
server.say({ count });
const { port } = await server.hear<{ port: number }>();
await using client = new Child(END, ['client', String(port), String(count)]);

let began = performance.now();
async function report(stage: string): Promise<void> {
  const seconds = ((performance.now() - began) / 1000).toFixed(2);
  const [here, there] = await Promise.all([costOf(client.pid), costOf(server.pid)]);
  console.log(`${stage} after ${seconds} s\n  client: ${inWords(here)}\n  server: ${inWords(there)}`);
  began = performance.now();
}

await report('0 queue pairs:');
client.say({ go: true });
await client.hear();
await report(`${count} connected`);
client.say({ go: true });
const sent = await client.hear<Carried>();
server.say({ go: true });
const received = await server.hear<Carried>();
await report('a WRITE and a SEND each way');
for (const [end, { count: carried, whole }] of Object.entries({ client: sent, server: received })) {
  console.log(`  ${end}: ${carried} queue pairs, ${whole ? 'all bytes as written' : 'BYTES DIFFER'}`);
  if (carried !== count || !whole) process.exitCode = 1;
}
client.say({ go: true });
await Promise.all([client.hear(), server.hear()]);
await report('all closed');
client.say({ go: true });
server.say({ go: true });
