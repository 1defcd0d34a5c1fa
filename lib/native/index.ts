import { createRequire } from 'node:module';
import { MigrationError } from '../errors.ts';
import type { NativeDatagram } from './datagram.ts';
import type { NativeDevices } from './devices.ts';
import type { NativeDirty } from './dirty.ts';
import type { NativeMemory } from './memory.ts';
import type { NativeProcesses } from './processes.ts';
import type { NativeTransport } from './transport.ts';
import type { NativeTunnel } from './tunnel.ts';
import type { NativeVerbs } from './verbs.ts';

export type Native = NativeMemory &
  NativeTransport &
  NativeDevices &
  NativeDirty &
  NativeTunnel &
  NativeVerbs &
  NativeProcesses &
  NativeDatagram;

/** The addon's path as seen from lib/native/ and dist/native/ alike. */
const ADDON = '../../build/Release/rdma_migrate.node';

function load(): Native {
  try {
    return createRequire(import.meta.url)(ADDON) as Native;
  } catch (cause) {
    throw new MigrationError(
      'PROVIDER_UNAVAILABLE',
      'configure',
      'the native addon of rdma-migrate does not load. Build it with `npm run build:native` (needs a C++20 compiler and ' +
        '`apt-get install build-essential cmake`); after a change of Node version or machine, build it again.',
      { cause },
    );
  }
}

/** The native core. */
export const native: Native = load();
