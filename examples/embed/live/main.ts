/**
 * Moves a running guest from host to host, all of them processes of this machine, and checks every page after each move:
 *
 *     npm run demo:embed -- --moves 10
 *     npm run demo:embed -- --moves 50 --chaos --seed 7 --tracker write-protect
 *     npm run demo:embed -- --provider verbs --address ADDRESS_OF_AN_RDMA_DEVICE
 *     npm run demo:embed -- --tls-creds DIR --tls-hostname NAME
 *
 * With `--chaos` some migrations are cancelled and some destinations killed, at random moments; the guest must then run on where it
 * was, with correct memory. It goes on after the last of `--moves` until each has broken a migration. Exits with 1 if a page is wrong, the
 * guest does not run, or nothing could be broken.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import type { Command, Moved, Report } from './host.ts';
import { type Options, readOptions } from './options.ts';

const ANSWER_MS = 120_000;

type Said<S extends Report['said']> = Extract<Report, { said: S }>;

class HostProcess implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #reports: Report[] = [];
  #wake = (): void => {};

  constructor() {
    this.#child = fork(new URL('./host.js', import.meta.url), { serialization: 'advanced' });
    this.#child.on('message', (report: Report) => {
      this.#reports.push(report);
      this.#wake();
    });
    this.#child.on('exit', () => {
      this.#reports.push({ said: 'failed', code: 'DEAD', message: 'the host process has ended' });
      this.#wake();
    });
  }

  tell(command: Command): void {
    if (this.#child.connected) this.#child.send(command);
  }

  /** The next report. */
  async next(): Promise<Report> {
    const late = AbortSignal.timeout(ANSWER_MS);
    while (this.#reports.length === 0) {
      await new Promise<void>((resolve, reject) => {
        this.#wake = resolve;
        late.addEventListener('abort', () => reject(new Error('a host does not answer')), { once: true });
      });
    }
    return this.#reports.shift() as Report;
  }

  async expect<S extends Report['said']>(said: S): Promise<Said<S>> {
    const report = await this.next();
    if (report.said !== said) throw new Error(`expected ${said}: ${JSON.stringify(report)}`);
    return report as Said<S>;
  }

  async kill(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const exited = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await exited;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.kill();
  }
}

/** A small random number generator whose sequence can be repeated (mulberry32). */
function randomFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** What breaks an attempt. */
type Break = 'cancel' | 'kill';
/** Most disturbances come in time: of this many for each move, at least one of each kind does. */
const MAX_EXTRA_ATTEMPTS = 30;

class Journey {
  readonly #options: Options;
  readonly #random: () => number;
  readonly #moves: (Moved & { readonly outside: number })[] = [];
  #attempts = 0;
  #breaking: Break | undefined;
  readonly #broken: Record<Break, number> = { cancel: 0, kill: 0 };
  #lastMs = 500;

  constructor(options: Options) {
    this.#options = options;
    this.#random = randomFrom(options.seed);
  }

  async run(): Promise<void> {
    let here = new HostProcess();
    try {
      here.tell({ do: 'start', bytes: this.#options.bytes });
      await here.expect('ready');
      while (this.#moves.length < this.#options.moves || this.#unbroken !== undefined) {
        const there = new HostProcess();
        const moved = await this.#attempt(here, there).catch(async (error: unknown) => {
          await there.kill();
          throw error;
        });
        const left = moved ? here : there;
        here = moved ? there : here;
        await left.kill();
      }
    } finally {
      await here.kill();
    }
    this.#summarise();
  }

  /** With chaos: what has not broken an attempt yet. */
  get #unbroken(): Break | undefined {
    if (!this.#options.chaos) return undefined;
    return (['cancel', 'kill'] as const).find((kind) => this.#broken[kind] === 0);
  }

  /** True: the guest is at `there` now. */
  async #attempt(here: HostProcess, there: HostProcess): Promise<boolean> {
    const { address, move, moves } = this.#options;
    this.#attempts += 1;
    if (this.#attempts > 3 * moves + MAX_EXTRA_ATTEMPTS)
      throw new Error(`no ${this.#unbroken ?? 'move'} in ${this.#attempts - 1} attempts`);
    const tls = move.tls && { tls: { creds: move.tls.creds } };
    there.tell({ do: 'listen', address, options: { provider: move.provider, ...tls } });
    const { uri } = await there.expect('listening');
    this.#breaking = undefined;
    here.tell({ do: 'move', options: { uri, ...move } });
    const broken = this.#breakSometimes(here, there);
    const report = await here.next();
    clearTimeout(broken);
    if (report.said === 'moved') return this.#arrived(report, here, there);
    if (report.said !== 'failed' || report.code === 'WRONG') throw new Error(JSON.stringify(report));
    return this.#failed(report, here, there);
  }

  #breakSometimes(here: HostProcess, there: HostProcess): NodeJS.Timeout | undefined {
    if (!this.#options.chaos) return undefined;
    const [which, when] = [this.#random(), this.#random()];
    const kind: Break | undefined = which < 1 / 3 ? undefined : which < 2 / 3 ? 'cancel' : 'kill';
    const enough = this.#moves.length >= this.#options.moves;
    const breaking = enough ? this.#unbroken : kind;
    if (breaking === undefined) return undefined;
    return setTimeout(() => this.#break(breaking, here, there), when * this.#lastMs * 1.2);
  }

  #break(kind: Break, here: HostProcess, there: HostProcess): void {
    this.#breaking = kind;
    if (kind === 'cancel') here.tell({ do: 'cancel' });
    else void there.kill();
  }

  async #arrived(moved: Moved, here: HostProcess, there: HostProcess): Promise<boolean> {
    const report = await there.next();
    // Killed right after its COMMITTED: it had the VM, which is gone with it; nothing is wrong here, and nothing goes on.
    if (report.said === 'failed' && report.code === 'DEAD' && this.#options.chaos) {
      console.log(
        '  the destination died with the guest it had confirmed: the guest goes on at the source, from where it was',
      );
      return this.#resume(here);
    }
    if (report.said !== 'arrived') throw new Error(JSON.stringify(report));
    const outside = report.firstWrite - moved.lastWrite;
    this.#moves.push({ ...moved, outside });
    this.#lastMs = moved.totalMs;
    console.log(
      `move ${this.#moves.length}: ${moved.rounds} rounds, ${moved.totalMs} ms; downtime ${ms(moved.downtime)} (expected ${ms(moved.expected)}, ` +
        `seen from the guest ${ms(outside)}): ${partsOf(moved)}${moved.throttle ? `; throttled by ${moved.throttle} %` : ''}; every page is right, pass ${report.pass}`,
    );
    return true;
  }

  async #failed(failed: Said<'failed'>, here: HostProcess, there: HostProcess): Promise<boolean> {
    if (this.#breaking === undefined) throw new Error(`nothing was broken: ${JSON.stringify(failed)}`);
    this.#broken[this.#breaking] += 1;
    if (failed.code === 'COMMIT_UNKNOWN') {
      await there.kill();
      console.log(
        '  COMMIT_UNKNOWN: the destination is dead for certain now, so the guest goes on at the source',
      );
      return this.#resume(here);
    }
    await this.#expectRuns(here);
    console.log(`  ${failed.code}: the guest runs on at the source, every page is right`);
    return false;
  }

  async #resume(here: HostProcess): Promise<false> {
    here.tell({ do: 'resume' });
    await here.expect('ready');
    await this.#expectRuns(here);
    return false;
  }

  async #expectRuns(here: HostProcess): Promise<void> {
    here.tell({ do: 'check' });
    const before = await here.expect('checked');
    for (;;) {
      here.tell({ do: 'check' });
      const { lastWrite } = await here.expect('checked');
      if (lastWrite > before.lastWrite) return;
    }
  }

  #summarise(): void {
    const sorted = (pick: (move: Moved & { outside: number }) => number): string => {
      const values = this.#moves.map(pick).sort((a, b) => a - b);
      const at = (part: number): string => ms(values[Math.floor((values.length - 1) * part)] ?? 0);
      return `${at(0)} / ${at(0.5)} / ${at(1)}`;
    };
    const { downtimeLimitMs } = this.#options.move;
    const over = this.#moves.filter(({ downtime }) => downtime > downtimeLimitMs).length;
    console.log(
      `${this.#moves.length} moves, ${this.#broken.cancel} attempts cancelled, ${this.#broken.kill} broken by a killed destination, no page lost or torn. Least / median / most: downtime ` +
        `${sorted(({ downtime }) => downtime)}, seen from the guest ${sorted(({ outside }) => outside)}; ${over} above the limit of ${downtimeLimitMs} ms`,
    );
  }
}

const ms = (value: number): string => `${value.toFixed(1)} ms`;
const partsOf = ({ parts }: Moved): string =>
  Object.entries(parts)
    .map(([name, value]) => `${name} ${value.toFixed(1)}`)
    .join(' + ');

const options = readOptions(process.argv.slice(2));
if (options !== undefined) await new Journey(options).run();
