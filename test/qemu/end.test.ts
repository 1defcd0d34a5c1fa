/** A QEMU that waits for a VM, and how it is ended. */
import { expect, it } from 'vitest';
import { type Endable, endQemu } from '../../lib/qemu/end.ts';

/** Notes what is done to a process that ends by `endsBy` alone. */
function process(endsBy: 'quit' | 'kill' | 'nothing', hasQmp = true) {
  const done: string[] = [];
  const execute = (command: string) => {
    done.push(command);
    return endsBy === 'quit' ? Promise.resolve({}) : Promise.reject(new Error('no answer'));
  };
  const endable: Endable = {
    pid: 7,
    qmp: (hasQmp ? { execute } : undefined) as never,
    gone: async () => done.includes(endsBy),
    kill: () => void done.push('kill'),
  };
  return { done, endable };
}

it('tells a QEMU to quit, and kills one that does not', async () => {
  const quits = process('quit');
  await endQemu(quits.endable);
  expect(quits.done).toEqual(['quit']);
  const hangs = process('kill');
  await endQemu(hangs.endable);
  expect(hangs.done).toEqual(['quit', 'kill']);
  const young = process('kill', false);
  await endQemu(young.endable);
  expect(young.done).toEqual(['kill']);
});

it('says it when a QEMU does not end by any means', async () => {
  await expect(endQemu(process('nothing').endable)).rejects.toMatchObject({ code: 'GUEST_ERROR' });
});
