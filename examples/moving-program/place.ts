/** A place where the program runs: a process. It begins the program, or waits for it, and hands it on when it is told to. */
import { MigrationDestination, MigrationError, MigrationSource, type TrackerChoice } from 'rdma-migrate';
import { type Domain, type Endpoint, listen, openDomain, type QueuePairOptions } from 'rdma-migrate/verbs';
import type { Traffic } from './layout.ts';
import { Program, type Progress } from './program.ts';
import { now } from './sampler.ts';
import { ArrivingVm, LeavingVm, type MoveWay, type Times } from './vm.ts';

export type PlaceCommand =
  | {
      readonly do: 'begin';
      readonly traffic: Traffic;
      readonly partner: Endpoint;
      readonly resume: QueuePairOptions['resume'];
    }
  | { readonly do: 'await'; readonly host: string }
  | { readonly do: 'move'; readonly uri: string; readonly to: Endpoint; readonly how: MoveHow }
  | { readonly do: 'cancel' };

export interface MoveHow {
  readonly way: MoveWay;
  readonly tracker: TrackerChoice;
  readonly downtimeLimitMs: number;
  readonly longestPauseMs: number;
  readonly drainMs: number;
}

export type PlaceSaid =
  | { readonly said: 'began' }
  | { readonly said: 'awaits'; readonly uri: string; readonly to: Endpoint }
  | { readonly said: 'arrived'; readonly at: number; readonly restored: number }
  | { readonly said: 'moved'; readonly times: Times; readonly downtimeMs: number; readonly rounds: number }
  /** The program goes on here. */
  | { readonly said: 'stays'; readonly code: string; readonly message: string }
  /** It must not. */
  | { readonly said: 'lost'; readonly code: string; readonly message: string }
  | { readonly said: 'over'; readonly progress: Progress }
  /** The program's connections have ended before it was over. */
  | { readonly said: 'ended'; readonly code: string }
  | { readonly said: 'failed'; readonly code: string; readonly message: string };

const say = (what: PlaceSaid): void => void process.send?.(what);
const wordsOf = (error: unknown): { code: string; message: string } => ({
  code: error instanceof MigrationError ? error.code : 'WRONG',
  message: error instanceof Error ? error.message : String(error),
});

class Place {
  #domain: Domain | undefined;
  #program: Program | undefined;
  #partner: Endpoint | undefined;
  #cancel = new AbortController();

  async obey(command: PlaceCommand): Promise<void> {
    switch (command.do) {
      case 'begin':
        return await this.#begin(command.traffic, command.partner, command.resume);
      case 'await':
        return await this.#await(command.host);
      case 'move':
        return await this.#move(command.uri, command.to, command.how);
      case 'cancel':
        this.#cancel.abort();
    }
  }

  async #begin(traffic: Traffic, partner: Endpoint, resume: QueuePairOptions['resume']): Promise<void> {
    const domain = await openDomain({ provider: 'iwarp' });
    const program = await Program.create(domain, traffic, true, resume);
    await program.connect(partner);
    program.run();
    this.#has(domain, program, partner);
    say({ said: 'began' });
  }

  #has(domain: Domain, program: Program, partner: Endpoint): void {
    this.#domain = domain;
    this.#partner = partner;
    this.#program = program;
    void Promise.race(program.parts.queuePairs.map(({ closed }) => closed)).then((reason) => {
      if (this.#program === program && reason !== null) say({ said: 'ended', code: reason.code });
    });
    void program.over.then(async () => {
      if (this.#program !== program) return;
      say({ said: 'over', progress: program.progress });
      await Promise.all(program.parts.queuePairs.map((each) => each.disconnect()));
    });
  }

  async #await(host: string): Promise<void> {
    // Peers of moved connections come to it; it stays open for the next break of a link.
    const listener = await listen({ host, port: 0 }, { provider: 'iwarp' }, (request) => request.reject());
    const target = new ArrivingVm();
    await using destination = await MigrationDestination.listen(`rdma:${host}:0`, target);
    say({ said: 'awaits', uri: destination.uri, to: { host, port: listener.port } });
    await destination.receive();
    const { domain, program, partner, peersAreHere } = await target.take();
    const at = now();
    this.#has(domain, program, partner);
    await peersAreHere;
    say({ said: 'arrived', at, restored: now() });
  }

  async #move(uri: string, to: Endpoint, how: MoveHow): Promise<void> {
    const [domain, program] = [this.#domain as Domain, this.#program as Program];
    this.#cancel = new AbortController();
    const leaving = new LeavingVm({
      domain,
      program,
      partner: this.#partner as Endpoint,
      to: [to],
      ...how,
    });
    try {
      const { downtimeLimitMs } = how;
      const live = { downtimeLimitMs, timeLimitMs: 20_000, onTimeLimit: 'stop-and-copy' } as const;
      const source = new MigrationSource(await leaving.toSource(), uri, { live });
      const { live: went } = await source.migrate({ signal: this.#cancel.signal });
      this.#program = undefined;
      await leaving.commit();
      say({
        said: 'moved',
        times: leaving.times,
        downtimeMs: went?.downtime ?? 0,
        rounds: went?.rounds.length ?? 0,
      });
    } catch (error) {
      await this.#settle(leaving, program, error);
    }
  }

  /** Who has it? Unless the migration knows, the peers do. */
  async #settle(leaving: LeavingVm, program: Program, error: unknown): Promise<void> {
    try {
      await leaving.abort();
      if (wordsOf(error).code === 'COMMIT_UNKNOWN') program.run();
      say({ said: 'stays', ...wordsOf(error) });
    } catch (cause) {
      this.#program = undefined;
      say({ said: 'lost', ...wordsOf(cause) });
    }
  }
}

const place = new Place();
process.on('message', (command: PlaceCommand) => {
  place.obey(command).catch((error: unknown) => say({ said: 'failed', ...wordsOf(error) }));
});
process.on('disconnect', () => process.exit());
