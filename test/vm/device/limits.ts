/** Our command as a user with 8 MiB of lockable memory, Debian's default. */
import type { Device } from '../arguments.ts';
import { expectOk, expectTypedError } from '../interop/scene.ts';
import { GUEST_ADDRESS } from '../job.ts';
import type { NamedCase } from '../report.ts';
import { doctor, expectProvenDevice, expectText } from './doctor.ts';
import { expectSame, MIB, Pair, type Stage, sourceImage } from './pair.ts';

const LARGE = 16n * MIB;
/** With the buffers for control messages it stays below the limit. */
const SMALL = 1n * MIB;
const LIMIT =
  /registering 16777216 bytes .* needs \d+ bytes .* of locked memory in all, and the limit is 8388608 bytes .*: raise it with ulimit -l unlimited/;

async function advised(): Promise<string> {
  const device = await expectProvenDevice();
  const { status, found, remedy } = (await doctor()).check('locked-memory');
  if (status !== 'warning') throw new Error(`locked memory is ${status}: ${found}`);
  expectText(remedy, 'ulimit -l unlimited', 'LimitMEMLOCK');
  return `${found}; ${device}`;
}

/** The end that meets the limit says what is needed and what is there; the other ends as well. */
const refused =
  (pinAll: boolean): NamedCase<Stage>['run'] =>
  async (stage) => {
    const image = await sourceImage(stage, LARGE);
    const send = pinAll ? ['--pin-all'] : [];
    await using pair = await Pair.start(stage, { image, host: GUEST_ADDRESS, provider: 'verbs', send });
    const [sent, received] = await pair.outcomes();
    const [limited, other] = pinAll ? [received, sent] : [sent, received];
    expectTypedError(limited, ['LOCKED_MEMORY_LIMIT']);
    const code = expectTypedError(other, ['PEER_ERROR', 'CONNECTION_LOST', 'CONNECTION_CLOSED']);
    await pair.expectNothingKept();
    const message = expectText(String(limited.last?.message), LIMIT);
    return `${pinAll ? 'receive' : 'send'}: LOCKED_MEMORY_LIMIT: ${message}; the other end: ${code}`;
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
    { name: 'more than the limit, pin-all on', run: refused(true) },
    { name: 'more than the limit, pin-all off', run: refused(false) },
    { name: 'less than the limit', run: fits },
  ];
  return cases.map(({ name, run }) => ({ name: `${device}, 8 MiB of lockable memory: ${name}`, run }));
}
