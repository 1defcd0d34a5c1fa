import { cpus, release } from 'node:os';
import { toolVersion } from '../../image/tool.ts';
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
