import type { NativeDatagram } from './datagram.ts';
import type { NativeDevices } from './devices.ts';
import type { NativeDirty } from './dirty.ts';
import { loadAddon } from './load.ts';
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

/** The native core. */
export const native: Native = loadAddon() as Native;
