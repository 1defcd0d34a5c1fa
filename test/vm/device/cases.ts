/** Our command on a device that works, and on one that disappears. */
import { join } from 'node:path';
import type { Device } from '../arguments.ts';
import { RdmaMigrate } from '../interop/command.ts';
import { expectOk, expectTypedError } from '../interop/scene.ts';
import { GUEST_ADDRESS } from '../job.ts';
import type { NamedCase } from '../report.ts';
import { doctor, expectProven, expectText } from './doctor.ts';
import { addDevice, renewDevice } from './link.ts';
import { liveMoves } from './live.ts';
import { expectSame, MIB, Pair, run, type Stage, sourceImage } from './pair.ts';
import { tunnelled } from './tunnel.ts';

type Case = NamedCase<Stage>['run'];

const BYTES = 32n * MIB;
/** Makes a migration of {@link BYTES} outlast everything here that ends it. */
const SLOW = ['--max-bandwidth', '256K'];
const BROKEN = ['CONNECTION_LOST', 'CONNECTION_CLOSED', 'TIMEOUT', 'PEER_ERROR', 'STREAM_TRUNCATED'];

/** Both ends on one provider, with the commit handshake and a digest over all RAM. */
const whole =
  (host: string, provider: string, expected: { provider: string; reason: RegExp }, pinAll: boolean): Case =>
  async (stage) => {
    const image = await sourceImage(stage, BYTES);
    const send = ['--verify', ...(pinAll ? ['--pin-all'] : [])];
    await using pair = await Pair.start(stage, { image, host, provider, send });
    const outcomes = await pair.outcomes();
    for (const outcome of outcomes) expectOk(outcome);
    const [{ last }] = outcomes;
    for (const { last: result } of outcomes) {
      expectText(String(result?.provider), expected.provider);
      expectText(String(result?.['provider-reason']), expected.reason);
    }
    if (last?.outcome !== undefined) expectText(String(last.outcome), 'committed');
    await expectSame(image, pair.target);
    return `${last?.['total-time']} ms; ${last?.connection}; ${last?.['provider-reason']}`;
  };

/** Something happens to the device in the middle of a migration: both ends say so and keep nothing. */
const broken =
  (pinAll: boolean, happen: () => Promise<unknown>, mend: () => Promise<void>): Case =>
  async (stage) => {
    const image = await sourceImage(stage, BYTES);
    const send = [...SLOW, ...(pinAll ? ['--pin-all'] : [])];
    await using pair = await Pair.start(stage, { image, host: GUEST_ADDRESS, provider: 'verbs', send });
    await pair.underWay();
    const started = performance.now();
    const happening = happen();
    const outcomes = await pair.outcomes();
    const seconds = (performance.now() - started) / 1000;
    await happening;
    await mend(); // before the checks: the next case needs the device whatever this one's result
    const [sent, received] = outcomes.map((outcome) => expectTypedError(outcome, BROKEN));
    await pair.expectNothingKept();
    return `send: ${sent}, receive: ${received}, ${seconds.toFixed(1)} s later`;
  };

/** A waiting `receive` does not wait for ever, and does not keep the device from being removed. */
async function deserted(device: Device, { folder }: Stage): Promise<string> {
  const target = join(folder, 'target');
  const way = ['--image', target, '--provider', 'verbs'];
  await using receiver = new RdmaMigrate(['receive', `rdma:${GUEST_ADDRESS}:0`, ...way]);
  await receiver.event('listening');
  await run('rdma', 'link', 'delete', `${device}0`);
  const outcome = await receiver.outcome();
  await addDevice(device);
  return `receive: ${expectTypedError(outcome, ['LISTEN_FAILED'])}: ${outcome.last?.message}`;
}

export function deviceCases(device: Device): NamedCase<Stage>[] {
  const verbs = { provider: 'verbs', reason: /asked for/ };
  const found = { provider: 'verbs', reason: new RegExp(`RDMA device ${device}0`) };
  const software = { provider: 'iwarp', reason: /software RNIC.*no RDMA device .*127\.0\.0\.1/ };
  const both = 'rdma-migrate → rdma-migrate';
  const linkDown = () => run('ip', 'link', 'set', 'eth0', 'down');
  const mendLink = () => renewDevice(device);
  // It returns when the last process that has the device open has ended.
  const remove = () => run('rdma', 'link', 'delete', `${device}0`);
  const cases: NamedCase<Stage>[] = [
    { name: 'doctor', run: async () => expectProven(await doctor()) },
    { name: `${both} (verbs), pin-all off`, on: 'siw', run: whole(GUEST_ADDRESS, 'verbs', verbs, false) },
    { name: `${both} (verbs), pin-all on`, on: 'rxe', run: whole(GUEST_ADDRESS, 'verbs', verbs, true) },
    {
      name: `${both}, auto at the device's address`,
      on: 'rxe',
      run: whole(GUEST_ADDRESS, 'auto', found, false),
    },
    { name: `${both}, auto at 127.0.0.1`, on: 'siw', run: whole('127.0.0.1', 'auto', software, false) },
    { name: 'a tunnel (verbs), both ways and a reset', run: tunnelled },
    { name: 'a running guest (verbs), hash', on: 'siw', run: () => liveMoves(2) },
    {
      name: `${both} (verbs), pin-all off, the port goes down`,
      on: 'siw',
      run: broken(false, linkDown, mendLink),
    },
    {
      name: `${both} (verbs), pin-all on, the port goes down`,
      on: 'rxe',
      run: broken(true, linkDown, mendLink),
    },
    {
      name: `${both} (verbs), pin-all on, the device is removed`,
      run: broken(true, remove, () => addDevice(device)),
    },
    { name: 'receive (verbs) waits, the device is removed', run: (stage) => deserted(device, stage) },
  ];
  return cases.map((one) => ({ ...one, name: `${device}: ${one.name}` }));
}
