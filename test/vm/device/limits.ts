/** Our command as a user with 8 MiB of lockable memory, Debian's default. */
import type { Device } from '../arguments.ts';
import { expectOk, expectTypedError } from '../interop/scene.ts';
import { GUEST_ADDRESS } from '../job.ts';
import type { NamedCase } from '../report.ts';
import { doctor, expectProven, expectText } from './doctor.ts';
import { expectSame, MIB, Pair, type Stage, sourceImage } from './pair.ts';

const LARGE = 16n * MIB;
/** Even with the buffers for control messages it stays below the limit. */
const SMALL = 1n * MIB;
const LIMIT =
  /needs \d+ bytes of pinned memory, .* RLIMIT_MEMLOCK allows 8388608 in all: raise it \(ulimit -l unlimited/;
const LIMIT_BYTES = 8 * 2 ** 20;

async function advised(): Promise<string> {
  const report = await doctor();
  const device = expectProven(report);
  const { status, found, remedy } = report.check('locked-memory');
  if (status !== 'warning') throw new Error(`locked memory is ${status}: ${found}`);
  expectText(remedy, 'ulimit -l unlimited', 'LimitMEMLOCK');
  return `${found}; ${device}`;
}

const pinAllOption = (pinAll: boolean) => (pinAll ? ['--pin-all'] : []);

/** Asked to fail rather than to pin less, `send` says what is needed and what the limit is, before it connects. */
const refused =
  (pinAll: boolean): NamedCase<Stage>['run'] =>
  async (stage) => {
    const image = await sourceImage(stage, LARGE);
    const send = [...pinAllOption(pinAll), '--on-pin-limit', 'fail'];
    await using pair = await Pair.start(stage, { image, host: GUEST_ADDRESS, provider: 'verbs', send });
    const sent = await pair.sender.outcome();
    expectTypedError(sent, ['LOCKED_MEMORY_LIMIT']);
    return `send: LOCKED_MEMORY_LIMIT: ${expectText(String(sent.last?.message), LIMIT)}`;
  };

/** By default the migration keeps to what can be pinned. */
const lowered =
  (pinAll: boolean): NamedCase<Stage>['run'] =>
  async (stage) => {
    const image = await sourceImage(stage, LARGE);
    const send = pinAllOption(pinAll);
    await using pair = await Pair.start(stage, { image, host: GUEST_ADDRESS, provider: 'verbs', send });
    const outcomes = await pair.outcomes();
    for (const outcome of outcomes) expectOk(outcome);
    await expectSame(image, pair.target);
    const budget = Number(outcomes[0].last?.['pin-budget']);
    if (!(budget > 0 && budget < LIMIT_BYTES)) throw new Error(`the pin budget was ${budget} bytes`);
    return `${LARGE / MIB} MiB arrive with a pin budget of ${budget / 2 ** 20} MiB`;
  };

async function fits(stage: Stage): Promise<string> {
  const image = await sourceImage(stage, SMALL);
  const send = ['--pin-all'];
  await using pair = await Pair.start(stage, { image, host: GUEST_ADDRESS, provider: 'verbs', send });
  for (const outcome of await pair.outcomes()) expectOk(outcome);
  await expectSame(image, pair.target);
  return `${SMALL / MIB} MiB arrive`;
}

export function limitCases(device: Device): NamedCase<Stage>[] {
  const cases: NamedCase<Stage>[] = [
    { name: 'doctor', run: advised },
    { name: 'more than the limit, pin-all on, refused', run: refused(true) },
    { name: 'more than the limit, pin-all on, lowered', on: 'every', run: lowered(true) },
    { name: 'more than the limit, pin-all off, refused', on: 'every', run: refused(false) },
    { name: 'more than the limit, pin-all off, lowered', run: lowered(false) },
    { name: 'less than the limit', run: fits },
  ];
  return cases.map((one) => ({ ...one, name: `${device}, 8 MiB of lockable memory: ${one.name}` }));
}
