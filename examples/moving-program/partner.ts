/** The end that stays: a process that accepts, talks, and knows nothing of any move. */
import { listen, type MigrationError, openDomain, type QueuePairOptions } from 'rdma-migrate/verbs';
import type { Traffic } from './layout.ts';
import { Program, type Progress } from './program.ts';
import { Sampler } from './sampler.ts';

export interface PartnerStart {
  readonly traffic: Traffic;
  readonly host: string;
  readonly resume: QueuePairOptions['resume'];
}
export type PartnerSaid =
  | { readonly said: 'listening'; readonly port: number }
  | { readonly said: 'over'; readonly progress: Progress; readonly samples: readonly [number, number][] }
  | { readonly said: 'ended'; readonly code: string; readonly progress: Progress };

const say = (what: PartnerSaid): void => void process.send?.(what);

async function run({ traffic, host, resume }: PartnerStart): Promise<void> {
  await using domain = await openDomain({ provider: 'iwarp' });
  const program = await Program.create(domain, traffic, false, resume);
  const { queuePairs } = program.parts;
  let connected = 0;
  let everyoneIsHere = (): void => {};
  const all = new Promise<void>((resolve) => {
    everyoneIsHere = resolve;
  });
  await using listener = await listen({ host, port: 0 }, { provider: 'iwarp' }, async (request) => {
    const index = Buffer.from(request.privateData).readUInt32BE(12);
    program.meet(index, request.privateData);
    await queuePairs[index]?.accept(request, { privateData: program.describe(index), maySendAtOnce: true });
    connected += 1;
    if (connected === queuePairs.length) everyoneIsHere();
  });
  say({ said: 'listening', port: listener.port });
  await all;
  program.run();
  const sampler = new Sampler(() => program.progress.bytes);
  // The program may be over, and leave in order, before its last words have been taken from the queue here.
  const failure = new Promise<MigrationError>((resolve) => {
    for (const { closed } of queuePairs) void closed.then((reason) => reason !== null && resolve(reason));
  });
  const reason = await Promise.race([program.over.then(() => null), failure]);
  const { progress } = program;
  if (reason !== null) return say({ said: 'ended', code: reason.code, progress });
  say({ said: 'over', progress, samples: sampler.stop() });
  await Promise.all(queuePairs.map(({ closed }) => closed));
}

process.once('message', (start: PartnerStart) => {
  run(start).finally(() => process.disconnect());
});
