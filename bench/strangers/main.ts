/**
 * A destination that a crowd besieges, and the real source that comes after: how soon its migration begins, and what the crowd costs.
 *
 *   npm run bench:strangers -- [--each N] [--refused N] [--mib N]
 *
 * Of each kind (silent, slow, garbage, whole handshakes and then nothing) N come, and come again when they are sent away; then N are
 * refused at once, and in the middle of that the source comes.
 */
import { parseArgs } from 'node:util';
import { MigrationSource } from 'rdma-migrate';
import { Child } from '../support/child.ts';
import { costOf, inWords, Peak } from '../support/cost.ts';
import { sourceVm } from '../throughput/memory-vm.ts';

const { values } = parseArgs({
  options: {
    each: { type: 'string', default: '250' },
    refused: { type: 'string', default: '8000' },
    mib: { type: 'string', default: '256' },
  },
});

await using vm = await sourceVm(BigInt(values.mib) << 20n);
await using destination = new Child(new URL('destination.js', import.meta.url));
const { uri } = await destination.hear<{ uri: string }>();
console.log(`destination before: ${inWords(await costOf(destination.pid))}`);
await using strangers = new Child(new URL('strangers.js', import.meta.url));
const port = Number(uri.split(':').at(-1));
const peak = new Peak(destination.pid);
strangers.say({ port, each: Number(values.each), refused: Number(values.refused) });
await strangers.hear();
console.log(`with the crowd: ${inWords(await costOf(destination.pid))}`);

const source = new MigrationSource(vm, uri, { provider: 'iwarp' });
const began = performance.now();
const since = () => `${((performance.now() - began) / 1000).toFixed(2)} s`;
source.on('phase', (phase) => console.log(`source: ${phase} after ${since()}`));
const result = await source.migrate();
console.log(`source: ${result.status} after ${since()}`);
console.log('destination:', await destination.hear());
console.log(`destination at its most: ${inWords(await peak.stop())}`);
