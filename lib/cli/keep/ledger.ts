import { MigrationError } from '../../errors.ts';
import type { Reporter } from '../reporter.ts';

/** What has become of the VMs that came to a service. */
export class Ledger {
  #received = 0;
  #failed = 0;
  #cancelled = 0;
  #draining = false;
  /** Of those whose end counts for the exit code: the first of each kind. */
  #unknown: MigrationError | undefined;
  #lost: MigrationError | undefined;
  #given: MigrationError | undefined;

  /** From now on a migration that does not end well is one that was under way when the service was told to end. */
  drains(): void {
    this.#draining = true;
  }

  received(): void {
    this.#received += 1;
  }

  ended(error: MigrationError, cancelled: boolean): void {
    if (cancelled) this.#cancelled += 1;
    else this.#failed += 1;
    if (error.code === 'COMMIT_UNKNOWN') this.#unknown ??= error;
    if (!this.#draining) return;
    if (cancelled) this.#given ??= error;
    else this.#lost ??= error;
  }

  /** Such as `3 received, 1 failed`. */
  get inWords(): string {
    const rest = [
      ...(this.#failed > 0 ? [`${this.#failed} failed`] : []),
      ...(this.#cancelled > 0 ? [`${this.#cancelled} cancelled`] : []),
    ];
    return [`${this.#received} received`, ...rest].join(', ');
  }

  /**
   * The last word of the service.
   * @throws MigrationError COMMIT_UNKNOWN: of a VM, whenever that was. Else what a migration ended with that was under way when the service was told to end
   */
  settle(reporter: Reporter, folder: string): void {
    const facts = { received: this.#received, failed: this.#failed, cancelled: this.#cancelled };
    const worst = this.#unknown ?? this.#lost ?? this.#given;
    if (worst) {
      const what = this.#unknown
        ? 'of a VM it is not known whether it is here'
        : 'not all that was under way is here';
      throw new MigrationError(
        worst.code,
        'close',
        `the service has ended (${this.inWords}), and ${what}: ${worst.message}`,
        {
          cause: worst,
          details: facts,
        },
      );
    }
    reporter.completed({ status: 'stopped', folder, ...facts }, [`the service has ended: ${this.inWords}`]);
  }
}
