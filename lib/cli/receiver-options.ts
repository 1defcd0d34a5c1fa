import type { DestinationOptions } from '../migration/options.ts';
import type { ReceiveOptions } from './program.ts';
import { tlsOptions } from './tls-options.ts';

/** Who may come, and with how much, as the library takes it. */
export function receiverOptions(
  options: ReceiveOptions,
): Pick<DestinationOptions, 'allow' | 'maxRam' | 'connectionsPerSecond' | 'connectTimeoutMs' | 'tls'> {
  const { allow, maxRam, connectionsPerSecond, connectTimeout } = options;
  return {
    ...tlsOptions(options),
    ...(allow && { allow }),
    ...(maxRam !== undefined && { maxRam }),
    ...(connectionsPerSecond !== undefined && { connectionsPerSecond }),
    ...(connectTimeout !== undefined && { connectTimeoutMs: connectTimeout }),
  };
}
