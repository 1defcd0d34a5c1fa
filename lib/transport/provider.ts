import { MigrationError } from '../errors.ts';

export type ProviderName = 'iwarp' | 'verbs';
/** `auto`: an RDMA device where the address leads to one, the software RNIC otherwise. */
export type ProviderChoice = 'auto' | ProviderName;

/** The provider in use and why, for results and logs. */
export interface ChosenProvider {
  readonly name: ProviderName;
  readonly reason: string;
}

/**
 * Decides which provider carries a migration. Never a silent fallback: who asks for `verbs` gets it or an error.
 * @throws MigrationError PROVIDER_UNAVAILABLE, INVALID_ARGUMENT
 */
export function chooseProvider(choice: ProviderChoice): ChosenProvider {
  switch (choice) {
    case 'iwarp':
      return { name: 'iwarp', reason: 'asked for' };
    case 'auto':
      return {
        name: 'iwarp',
        reason: 'this build has no verbs provider, so the software RNIC carries the migration',
      };
    case 'verbs':
      throw new MigrationError(
        'PROVIDER_UNAVAILABLE',
        'configure',
        'this build has no verbs provider: use provider iwarp, which needs no RDMA device',
      );
    default:
      throw new MigrationError(
        'INVALID_ARGUMENT',
        'configure',
        `expected auto, iwarp or verbs for provider but received ${String(choice satisfies never)}`,
      );
  }
}
