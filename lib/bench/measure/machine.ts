import { cpus, freemem, release } from 'node:os';
import { toolVersion } from '../../image/tool.ts';
import { kilobytesOf, type ReadText, readText } from '../../ram/proc.ts';
import type { Machine } from '../wire/messages.ts';

/** This one. */
export async function describeMachine(): Promise<Machine> {
  const processors = cpus();
  return {
    cpus: Math.max(1, processors.length),
    model: processors[0]?.model ?? process.arch,
    kernel: release(),
    node: process.version,
    tool: await toolVersion(),
  };
}

/** For everything else that runs here. */
const RESERVE = 512 << 20;

/** Bytes that a VM may have here without anything else being short of memory. */
export function ramToSpare(read: ReadText = readText): number {
  const available = kilobytesOf(read('/proc/meminfo'), 'MemAvailable') ?? BigInt(freemem());
  return Math.max(0, Number(available) - RESERVE);
}
