/** One host, in its own process: starts a guest or waits for one, runs it, moves it on. Obeys its parent's messages. */
import {
  type DestinationOptions,
  MigrationDestination,
  MigrationError,
  MigrationSource,
  type ProviderChoice,
  type SourceTlsOptions,
  type TrackerChoice,
} from 'rdma-migrate';
import { ExampleTarget, ExampleVm } from './vm.ts';

export interface MoveOptions {
  readonly uri: string;
  readonly provider: ProviderChoice;
  readonly tracker: TrackerChoice;
  readonly tls?: SourceTlsOptions;
  readonly downtimeLimitMs: number;
  readonly maxBandwidth: bigint;
  /** Stops the guest rather than wait any longer, milliseconds. */
  readonly timeLimitMs: number;
}

export type Command =
  | { readonly do: 'start'; readonly bytes: bigint }
  | { readonly do: 'listen'; readonly address: string; readonly options: DestinationOptions }
  | { readonly do: 'move'; readonly options: MoveOptions }
  | { readonly do: 'cancel' }
  | { readonly do: 'check' }
  | { readonly do: 'resume' };

/** What a host reports about a guest. `lastWrite`: milliseconds of the monotonic clock. */
export interface Seen {
  readonly pass: number;
  readonly lastWrite: number;
}

export interface Moved {
  readonly downtime: number;
  readonly expected: number;
  readonly parts: Readonly<Record<string, number>>;
  readonly rounds: number;
  readonly totalMs: number;
  readonly throttle: number;
  readonly lastWrite: number;
}

export type Report =
  | { readonly said: 'ready' }
  | { readonly said: 'listening'; readonly uri: string }
  | ({ readonly said: 'arrived'; readonly firstWrite: number } & Seen)
  | ({ readonly said: 'moved' } & Moved)
  | ({ readonly said: 'checked' } & Seen)
  | { readonly said: 'failed'; readonly code: string; readonly message: string };

const say = (report: Report): void => void process.send?.(report);

class Host {
  #vm: ExampleVm | undefined;
  #cancel = new AbortController();

  async obey(command: Command): Promise<void> {
    switch (command.do) {
      case 'start':
        this.#vm = await ExampleVm.create(command.bytes);
        this.#vm.run();
        return say({ said: 'ready' });
      case 'listen':
        return this.#receive(command.address, command.options);
      case 'move':
        return this.#move(command.options);
      case 'cancel':
        return this.#cancel.abort();
      case 'check':
        return this.#check();
      case 'resume':
        this.#vm?.run();
        return say({ said: 'ready' });
    }
  }

  async #receive(address: string, options: DestinationOptions): Promise<void> {
    await using target = new ExampleTarget();
    await using destination = await MigrationDestination.listen(`rdma:${address}:0`, target, options);
    say({ said: 'listening', uri: destination.uri });
    await destination.receive();
    this.#vm = target.take();
    const stood = this.#vm.lastWrite;
    this.#vm.run();
    while (this.#vm.lastWrite === stood) await new Promise((resolve) => setImmediate(resolve));
    const firstWrite = Number(process.hrtime.bigint()) / 1e6;
    await this.#vm.pause();
    this.#vm.verify();
    this.#vm.run();
    say({ said: 'arrived', firstWrite, pass: this.#vm.state.pass, lastWrite: this.#vm.lastWrite });
  }

  async #move(options: MoveOptions): Promise<void> {
    const { uri, provider, tracker, tls, downtimeLimitMs, maxBandwidth, timeLimitMs } = options;
    const vm = this.#vm as ExampleVm;
    this.#cancel = new AbortController();
    const live = { downtimeLimitMs, timeLimitMs, onTimeLimit: 'stop-and-copy', autoConverge: true } as const;
    const how = { provider, maxBandwidth, live, ...(tls && { tls }) };
    const source = new MigrationSource(await vm.toSource(tracker), uri, how);
    const result = await source.migrate({ signal: this.#cancel.signal });
    say({
      said: 'moved',
      downtime: result.live?.downtime ?? 0,
      expected: result.live?.['expected-downtime'] ?? 0,
      parts: { ...result.live?.['downtime-parts'] },
      rounds: result.ram['dirty-sync-count'],
      totalMs: result['total-time'],
      throttle: result.live?.['cpu-throttle-percentage'] ?? 0,
      lastWrite: vm.lastWrite,
    });
  }

  /** Stops the guest, checks every page, and lets it go on. It must have run meanwhile. */
  async #check(): Promise<void> {
    const vm = this.#vm as ExampleVm;
    await vm.pause();
    vm.verify();
    const { pass } = vm.state;
    vm.run();
    say({ said: 'checked', pass, lastWrite: vm.lastWrite });
  }
}

const host = new Host();
process.on('message', (command: Command) => {
  host.obey(command).catch((error: unknown) => {
    const code = error instanceof MigrationError ? error.code : 'WRONG';
    say({ said: 'failed', code, message: error instanceof Error ? error.message : String(error) });
  });
});
process.on('disconnect', () => process.exit());
