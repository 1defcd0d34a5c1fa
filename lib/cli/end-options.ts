import type { MigrationOptions } from '../migration/options.ts';
import type { EndOptions } from './program.ts';

/** What both ends of a migration can be told, as the library takes it. */
export function endOptions(options: EndOptions): MigrationOptions {
  const {
    provider,
    channels,
    crc,
    commit,
    pinBudget,
    onPinLimit,
    responseTimeout,
    commitTimeout,
    totalTimeout,
    resumeWindow,
  } = options;
  return {
    provider,
    commit,
    ...(onPinLimit !== undefined && { onPinLimit }),
    ...(channels !== undefined && { channels }),
    ...(crc !== undefined && { crc }),
    ...(pinBudget !== undefined && { pinBudget }),
    ...(responseTimeout !== undefined && { responseTimeoutMs: responseTimeout }),
    ...(commitTimeout !== undefined && { commitTimeoutMs: commitTimeout }),
    ...(totalTimeout !== undefined && { totalTimeoutMs: totalTimeout }),
    ...(resumeWindow !== undefined && { resume: { windowMs: resumeWindow } }),
  };
}
