/** The partner of a program that makes its connections anew wherever it arrives: it is told, registers its memory again, and accepts again. */
import { type ConnectionRequest, listen, openDomain } from 'rdma-migrate/verbs';
import type { PartnerSaid, PartnerStart } from '../../examples/moving-program/partner.ts';
import { Program } from '../../examples/moving-program/program.ts';
import { Sampler } from '../../examples/moving-program/sampler.ts';

const say = (what: PartnerSaid): void => void process.send?.(what);
const indexOf = (request: ConnectionRequest): number => Buffer.from(request.privateData).readUInt32BE(12);

async function run({ traffic, host }: PartnerStart): Promise<void> {
  await using domain = await openDomain({ provider: 'iwarp' });
  let program = await Program.create(domain, traffic, false, undefined);
  let connected = 0;
  let again: Promise<void> = Promise.resolve();
  const sampler = new Sampler(() => program.progress.bytes);
  const isOver = async (one: Program): Promise<void> => {
    await one.over;
    say({ said: 'over', progress: one.progress, samples: sampler.stop() });
    await listener.close();
  };

  /** Everything of before has ended in order. */
  const begin = async (): Promise<void> => {
    const { region, memory, queuePairs } = program.parts;
    await Promise.all(queuePairs.map(({ closed }) => closed));
    program.stop();
    await region.close();
    program = await Program.create(domain, traffic, false, undefined, memory);
  };
  const take = async (request: ConnectionRequest): Promise<void> => {
    if (connected === traffic.queuePairs) {
      connected = 0;
      again = begin();
    }
    connected += 1;
    const isLast = connected === traffic.queuePairs;
    await again;
    const index = indexOf(request);
    program.meet(index, request.privateData);
    const privateData = program.describe(index);
    await program.parts.queuePairs[index]?.accept(request, { privateData, maySendAtOnce: true });
    if (!isLast) return;
    program.run();
    void isOver(program);
  };
  const listener = await listen({ host, port: 0 }, { provider: 'iwarp' });
  say({ said: 'listening', port: listener.port });
  for await (const request of listener) void take(request);
}

process.once('message', (start: PartnerStart) => {
  run(start).finally(() => process.disconnect());
});
