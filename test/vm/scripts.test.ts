import { execFileSync } from 'node:child_process';
import { Writable } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { guestFile } from './checkout.ts';
import { type Job, jobScript, settingsScript } from './job.ts';
import { LinePrefix } from './line-prefix.ts';
import { machineArguments } from './machine-args.ts';
import { runtimePackages } from './memory.ts';

const job: Job = {
  device: 'rxe',
  checkout: '/',
  unprivileged: false,
  command: ['printf', '%s|', "it's", '$HOME', 'a b', ''],
  environment: {
    PATH: process.env.PATH,
    RDMA_MIGRATE_PROVIDER: 'verbs',
    SECRET: 'kept outside',
    CI: undefined,
  },
};

const sh = (script: string) => execFileSync('sh', ['-c', script], { encoding: 'utf8', env: {} });

describe('the job in the VM', () => {
  it('gets its words as they were given', () => {
    expect(sh(jobScript(job))).toBe("it's|$HOME|a b||");
  });

  it('gets the variables that concern it and no others', () => {
    const names = sh(jobScript({ ...job, command: ['env'] }))
      .split('\n')
      .map((line) => line.split('=')[0]);
    expect(names).toEqual(expect.arrayContaining(['RDMA_MIGRATE_PROVIDER', 'RDMA_MIGRATE_VM_ADDRESS']));
    expect(names).not.toContain('SECRET');
  });

  it('does not start in another folder when the checkout is not there', () => {
    const script = jobScript({ ...job, checkout: '/no/such/folder', command: ['true'] });
    expect(() => execFileSync('sh', ['-c', script], { stdio: 'ignore' })).toThrow(
      expect.objectContaining({ status: 126 }),
    );
  });

  it('finds its settings whatever characters the checkout has in its name', () => {
    const settings = settingsScript({ ...job, checkout: "/it's a $(folder)" });
    expect(sh(`${settings}printf %s "$DEVICE $KERNEL_MODULE $CHECKOUT"`)).toBe(
      "rxe rdma_rxe /it's a $(folder)",
    );
  });
});

describe('the scripts in the VM', () => {
  it.each(['init.sh', 'start.sh'])('%s is a shell script', (name) => {
    execFileSync('sh', ['-n', guestFile(name)]);
  });
});

describe("QEMU's arguments", () => {
  const text = machineArguments({
    kernel: '/k',
    initramfs: '/i',
    modules: '/m',
    checkout: '/with,comma',
    run: '/r',
    consoleLog: '/r/console.log',
    memoryMiB: 512,
    forward: [{ host: 14444, guest: 4444 }],
  }).join(' ');

  it('lead ports of 127.0.0.1, and of no other address, into the VM', () => {
    expect(text).toContain('hostfwd=tcp:127.0.0.1:14444-:4444');
  });

  it('let the VM write to nothing but the folder of this run', () => {
    const shares = text.match(/local,path=\S+/g) ?? [];
    expect(shares.filter((share) => !share.includes('readonly=on'))).toEqual([
      expect.stringContaining('path=/r,mount_tag=run,'),
    ]);
    expect(shares).toHaveLength(4);
  });

  it('double a comma in a path', () => {
    expect(text).toContain('path=/with,,comma,');
  });
});

describe('the log of several VMs', () => {
  it('has whole lines only, each with the name of its VM, wherever the output was cut', async () => {
    let said = '';
    const out = new Writable({
      write(bytes, _encoding, done) {
        said += bytes;
        done();
      },
    });
    const prefix = new LinePrefix('siw| ', out);
    const text = Buffer.from('one\nzwölf\nlast');
    for (const byte of text) prefix.write(Buffer.of(byte));
    await new Promise<void>((resolve) => prefix.end(resolve));
    expect(said).toBe('siw| one\nsiw| zwölf\nsiw| last\n');
  });
});

describe('what the VM has in its memory', () => {
  it('is the packages of a user, and none for development', () => {
    const packages = { '': {}, 'node_modules/zod': {}, 'node_modules/vitest': { dev: true } };
    expect(runtimePackages(JSON.stringify({ packages }))).toEqual(['node_modules/zod']);
  });
});
