/** What is moved: bytes of a file into nothing, as dd would, and the RAM of a stock QEMU. */
import { spawn } from 'node:child_process';
import { randomFillSync } from 'node:crypto';
import { once } from 'node:events';
import { closeSync, openSync, writeSync } from 'node:fs';
import { ownChild } from '../support/leftovers.ts';
import { migrate } from '../throughput/qemu.ts';
import { socatAt, type WayKind } from './ways.ts';

export interface Taken {
  readonly seconds: number;
  /** Of what carries the bytes between both. */
  readonly carrierCpuSeconds: number;
}

export interface Load {
  readonly id: string;
  readonly label: string;
  /** At one time. */
  readonly streams: number;
  move(way: WayKind): Promise<Taken>;
}

const MIB = 2 ** 20;
/** What the source reads and writes at a time. */
const BLOCK = '1048576';

/** Random, so that QEMU finds no zero pages. */
export function fillFile(path: string, mib: number): void {
  const file = openSync(path, 'wx');
  const block = randomFillSync(Buffer.alloc(MIB));
  for (let i = 0; i < mib; i++) {
    block.writeUInt32LE(i);
    writeSync(file, block);
  }
  closeSync(file);
}

/** A socat reads the file in large blocks, another one throws them away. */
export const streamLoad = (file: string): Load => ({
  id: 'stream',
  label: 'a file as a stream',
  streams: 1,
  move: async (kind) => {
    const sink = await socatAt(['-u', '-b', BLOCK], (listen) => [listen, 'OPEN:/dev/null']);
    const sunk = once(sink.child, 'exit');
    await using way = await kind.open(sink.port);
    const before = way.cpuSeconds();
    const began = performance.now();
    const args = ['-u', '-b', BLOCK, `OPEN:${file},rdonly`, `TCP:127.0.0.1:${way.port}`];
    const source = ownChild(spawn('socat', args, { stdio: 'ignore' }));
    const sent = once(source, 'exit');
    const ends = await Promise.all([sent, sunk]);
    const seconds = (performance.now() - began) / 1000;
    if (ends.some(([code]) => code !== 0))
      throw new Error(`${kind.label}: the stream was not carried to its end`);
    return { seconds, carrierCpuSeconds: way.cpuSeconds() - before };
  },
});

/** The RAM is the file. */
export const qemuLoad = (file: string, bytes: number, multifd: number): Load => ({
  id: multifd === 0 ? 'qemu' : `qemu-multifd-${multifd}`,
  label: multifd === 0 ? 'QEMU migrates' : `QEMU migrates, multifd ${multifd}`,
  streams: 1 + multifd,
  move: async (kind) => {
    let carrierCpuSeconds = 0;
    const through = async (port: number) => {
      const way = await kind.open(port);
      const before = way.cpuSeconds();
      return {
        port: way.port,
        [Symbol.asyncDispose]: async () => {
          carrierCpuSeconds = way.cpuSeconds() - before;
          await way[Symbol.asyncDispose]();
        },
      };
    };
    const { seconds } = await migrate({ multifd, file, bytes, through });
    return { seconds, carrierCpuSeconds };
  },
});
