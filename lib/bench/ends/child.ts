/** The listening end as a process of its own, for a benchmark on one machine. It ends with its parent. */
import { BenchServer } from './server.ts';

const [, , name, uri = ''] = process.argv;
const provider = name === 'verbs' ? 'verbs' : 'iwarp';
process.on('disconnect', () => process.exit(0));
// Ctrl-C goes to both; the parent ends in order, and then this one.
for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(name, () => undefined);

try {
  const server = await BenchServer.listen(uri, { provider, once: true });
  process.send?.({ uri: server.uri });
  await server.serve();
  process.exit(0);
} catch (error) {
  const { code, message } = error as { code?: string; message: string };
  process.send?.({ code, message });
}
