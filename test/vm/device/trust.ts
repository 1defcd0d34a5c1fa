/** Migrations whose ends prove who they are, and peers that cannot. With a device at one end what is said is sealed, and RAM crosses the fabric in clear. */
import { cpSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { HOSTNAME, pskFolder, x509Folder } from '../../support/authority.ts';
import type { Device } from '../arguments.ts';
import { evenOnSiw } from '../interop/again.ts';
import { type Outcome, RdmaMigrate } from '../interop/command.ts';
import { proveRunning, startLiveMigration, waitForOutcome } from '../interop/qemu.ts';
import { expectOk, expectTypedError, listen, type Scene, withSource, withVm } from '../interop/scene.ts';
import { GUEST_ADDRESS } from '../job.ts';
import type { NamedCase } from '../report.ts';
import { expectText } from './doctor.ts';
import { liveMoves } from './live.ts';
import { expectSame, MIB, run, type Stage, sourceImage, startReceiver, type Waiting } from './pair.ts';

type Case = NamedCase<Stage>['run'];

const BYTES = 8n * MIB;
const VERBS = ['--provider', 'verbs'];
const SOFTWARE = ['--provider', 'iwarp'];
/** A new one each time: one that has just been released may not be free yet. */
let qemuPort = 4440;

interface Credentials {
  /** Options of both ends. */
  readonly receive: readonly string[];
  readonly send: readonly string[];
  /** What each end knows of the other. */
  readonly source: string;
  readonly destination: string;
}

interface CredentialKit {
  readonly x509: Credentials;
  readonly psk: Credentials;
  /** Options of sources that prove nothing to the others. */
  readonly otherAuthority: readonly string[];
  /** It knows whom to trust, and shows a certificate of the other authority. */
  readonly impostor: readonly string[];
  readonly otherKey: readonly string[];
}

export function makeCredentials(folder: string): CredentialKit {
  const good = x509Folder(join(folder, 'authority'));
  const other = x509Folder(join(folder, 'other-authority'));
  const impostor = join(folder, 'impostor');
  cpSync(other, impostor, { recursive: true });
  cpSync(join(good, 'ca-cert.pem'), join(impostor, 'ca-cert.pem'));
  const creds = (from: string) => ['--tls-creds', from];
  const source = (from: string) => [...creds(from), '--tls-hostname', HOSTNAME];
  const key = (name: string, byte: number) =>
    creds(pskFolder(join(folder, name), { qemu: Buffer.alloc(32, byte) }));
  const both = key('key', 1);
  const named = '"psk-name":"qemu"';
  return {
    x509: {
      receive: creds(good),
      send: source(good),
      source: 'CN=client.example',
      destination: `CN=${HOSTNAME}`,
    },
    psk: { receive: both, send: both, source: named, destination: named },
    otherAuthority: source(other),
    impostor: source(impostor),
    otherKey: key('other-key', 2),
  };
}

const send = (image: string, uri: string, options: readonly string[]) =>
  new RdmaMigrate(['send', '--again', image, uri, ...VERBS, ...options]);

const receive = (stage: Stage, { receive: options }: Credentials): Promise<Waiting> =>
  startReceiver(stage, { host: GUEST_ADDRESS, provider: 'verbs', receive: options });

/** It knows who the other was, and that RAM was in clear. */
function expectProtected(outcome: Outcome, peer: string): void {
  expectOk(outcome);
  const last: Readonly<Record<string, unknown>> = outcome.last ?? {};
  const { encrypted, integrity, tls } = last;
  if (encrypted !== false || integrity === 'aead')
    throw new Error(`encrypted is ${encrypted}, integrity ${integrity}`);
  expectText(JSON.stringify(tls), peer);
}

/** A source with credentials moves the image to a destination that waits. Milliseconds. */
async function move(
  { receiver, uri, target }: Waiting,
  image: string,
  { source, destination, ...credentials }: Credentials,
): Promise<number> {
  await using sender = send(image, uri, credentials.send);
  const inClear = (end: RdmaMigrate) => end.event('notice', 'RAM crosses the fabric in clear');
  const [sent, received] = await Promise.all([
    sender.outcome(),
    receiver.outcome(),
    inClear(sender),
    inClear(receiver),
  ]);
  expectProtected(sent, destination);
  expectProtected(received, source);
  await expectSame(image, target);
  return Number(sent.last?.['total-time']);
}

const arrives =
  (credentials: Credentials, ...more: readonly string[]): Case =>
  async (stage) => {
    const image = await sourceImage(stage, BYTES);
    const waiting = await receive(stage, credentials);
    await using _ = waiting.receiver;
    return `${await move(waiting, image, { ...credentials, send: [...credentials.send, ...more] })} ms`;
  };

const digests = async (image: string): Promise<string> =>
  run('sha256sum', ...(await readdir(image)).map((file) => join(image, file)));

interface Refused {
  readonly who: string;
  readonly send: readonly string[];
  readonly code: string;
}

/** None of them takes the place of the one that comes then, and none changes its own VM. */
const refuses =
  (credentials: Credentials, peers: readonly Refused[]): Case =>
  async (stage) => {
    const image = await sourceImage(stage, BYTES);
    const before = await digests(image);
    const waiting = await receive(stage, credentials);
    await using receiver = waiting.receiver;
    const said: string[] = [];
    for (const { who, send: options, code } of peers) {
      const notice = receiver.event('notice', 'refused');
      notice.catch(() => undefined); // what the source says counts first
      await using sender = send(image, waiting.uri, options);
      said.push(`${who}: ${expectTypedError(await sender.outcome(), [code])}`);
      await notice;
    }
    if ((await digests(image)) !== before) throw new Error('the source image has changed');
    await move(waiting, image, credentials);
    return `${said.join(', ')}; then a source with credentials arrives`;
  };

const sceneOf = ({ folder }: Stage): Scene => ({ folder, nextPort: () => qemuPort++ });

function ofConnecting(error: unknown): void {
  expectText(String(error), 'RDMA ERROR');
}

/** QEMU knows no TLS over `rdma:`; its guest runs on, and the next source is served. */
const refusesQemu =
  (credentials: Credentials): Case =>
  async (stage) => {
    const image = await sourceImage(stage, BYTES);
    const waiting = await receive(stage, credentials);
    await using receiver = waiting.receiver;
    const message = await withSource(sceneOf(stage), async (source) => {
      const notice = receiver.event('notice', 'refused');
      notice.catch(() => undefined); // what QEMU says counts first
      // A connection that is rejected fails the command already.
      await startLiveMigration(source, waiting.uri, false).catch(ofConnecting);
      const { status } = await waitForOutcome(source);
      if (status !== 'failed') throw new Error(`QEMU's migration: ${status}`);
      await proveRunning(source);
      return String((await notice).message);
    });
    expectText(message, 'is a QEMU', 'only sources with credentials', '--tls-creds');
    await move(waiting, image, credentials);
    return `${message.slice(0, 60)}...; QEMU's guest runs on, and a source with credentials arrives`;
  };

/** A source with credentials says nothing to a QEMU. */
const sendsToNoQemu =
  (credentials: Credentials): Case =>
  async (stage) => {
    const image = await sourceImage(stage, BYTES);
    const scene = sceneOf(stage);
    return evenOnSiw(() =>
      withVm(scene, { name: 'target', incoming: 'defer', paused: true }, async (target) => {
        const uri = await listen(scene, target, false);
        await using sender = send(image, uri, credentials.send);
        const outcome = await sender.outcome();
        expectTypedError(outcome, ['TLS_REQUIRED']);
        return expectText(String(outcome.last?.message), 'the destination has none', 'is a QEMU');
      }),
    );
  };

/** Our software RNIC at one end, the device at the other: iWARP is TCP. What goes between them no device encrypts either. */
function mixed({ x509 }: CredentialKit): NamedCase<Stage>[] {
  const listening = { ...x509, receive: [...x509.receive, ...SOFTWARE] };
  return [
    { name: 'x509, software RNIC → device', run: arrives(x509, ...SOFTWARE) },
    { name: 'x509, device → software RNIC', run: arrives(listening) },
  ];
}

export function trustCases(device: Device, kit: CredentialKit): NamedCase<Stage>[] {
  const { x509, psk, otherAuthority, impostor, otherKey } = kit;
  const stranger = { who: 'no credentials', send: [], code: 'TLS_REQUIRED' };
  // What the kind of credentials changes is the same on every device: each one has half of it.
  const cases: NamedCase<Stage>[] = [
    { name: 'x509, pin-all on, two channels', on: 'siw', run: arrives(x509, '--pin-all', '--channels', '2') },
    { name: 'psk, pin-all on, two channels', on: 'rxe', run: arrives(psk, '--pin-all', '--channels', '2') },
    { name: 'psk, pin-all off', on: 'every', run: arrives(psk) },
    { name: 'x509, pin-all off', on: 'rxe', run: arrives(x509) },
    ...(device === 'siw' ? mixed(kit) : []),
    { name: 'x509, a running guest', on: 'siw', run: () => liveMoves(1, ...x509.send) },
    { name: 'psk, a running guest', on: 'every', run: () => liveMoves(1, ...psk.send) },
    {
      name: 'x509, peers that are refused',
      on: 'rxe',
      run: refuses(x509, [
        stranger,
        { who: 'another authority', send: otherAuthority, code: 'TLS_FAILED' },
        { who: 'a certificate of another authority', send: impostor, code: 'TLS_FAILED' },
      ]),
    },
    {
      name: 'psk, peers that are refused',
      on: 'siw',
      run: refuses(psk, [stranger, { who: 'another key', send: otherKey, code: 'TLS_FAILED' }]),
    },
    { name: 'x509, QEMU is refused', on: 'rxe', run: refusesQemu(x509) },
    { name: 'x509, sends to no QEMU', on: 'siw', run: sendsToNoQemu(x509) },
  ];
  return cases.map((one) => ({ ...one, name: `${device}: protected, ${one.name}` }));
}
