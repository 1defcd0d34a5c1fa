import { CommanderError } from 'commander';
import { describe, expect, it } from 'vitest';
import { type Actions, buildProgram } from '../../lib/cli/program.ts';

/** Parses a command line; gives the action that it runs and with what. */
async function parse(...line: readonly string[]): Promise<unknown[]> {
  let called: unknown[] = [];
  const record =
    (name: string) =>
    async (...args: unknown[]) => {
      called = [name, ...args];
    };
  const actions: Actions = {
    receive: record('receive'),
    send: record('send'),
    inspect: record('inspect'),
    verify: record('verify'),
    toQemu: record('toQemu'),
    fromQemu: record('fromQemu'),
    clean: record('clean'),
    doctor: record('doctor'),
    bench: record('bench'),
    completion: (script) => {
      called = ['completion', script];
    },
    tunnel: record('tunnel'),
    watch: record('watch'),
    qemuMove: record('qemuMove'),
    qemuReceive: record('qemuReceive'),
    qemuStatus: record('qemuStatus'),
  };
  await buildProgram(actions, '1.2.3').parseAsync([...line], { from: 'user' });
  return called;
}

describe('the command line', () => {
  it('gives receive its options', async () => {
    expect(await parse('receive', 'rdma:[::]:0', '--image', 'vm', '--timeout', '1.5', '--crc', '-q')).toEqual(
      [
        'receive',
        'rdma:[::]:0',
        {
          image: 'vm',
          digests: true,
          timeout: 1500,
          crc: true,
          quiet: true,
          provider: 'auto',
          commit: 'auto',
        },
      ],
    );
  });

  it('gives qemu receive the QEMU to start, with its options, after --', async () => {
    const [name, uri, command, options] = await parse(
      'qemu',
      'receive',
      'rdma:[::]:0',
      '--paused',
      '--',
      'qemu',
      '-m',
      '4G',
    );
    expect([name, uri, command]).toEqual(['qemuReceive', 'rdma:[::]:0', ['qemu', '-m', '4G']]);
    expect(options).toMatchObject({ paused: true, statusTimeout: 60_000, provider: 'auto' });
  });

  it("gives qemu move QEMU's own parameters", async () => {
    const limits = [
      '--downtime-limit',
      '500',
      '--max-bandwidth',
      '200M',
      '--auto-converge',
      '--tracker',
      'hash',
    ];
    const [name, uri, options] = await parse('qemu', 'move', 'rdma:h:1', '--qmp', '/q', ...limits);
    expect([name, uri]).toEqual(['qemuMove', 'rdma:h:1']);
    expect(options).toMatchObject({
      qmp: '/q',
      downtimeLimit: 500,
      maxBandwidth: 200n * 2n ** 20n,
      autoConverge: true,
      tracker: 'hash',
    });
  });

  it('collects repeated options', async () => {
    const [, , options] = await parse(
      'receive',
      'u',
      '--image',
      'vm',
      '--ram-file',
      'a=/1',
      '--ram-file',
      'b=/2',
    );
    expect(options).toMatchObject({ ramFile: { a: '/1', b: '/2' } });
  });

  it('collects networks, and refuses what is none', async () => {
    const [, , options] = await parse(
      ...['receive', 'u', '--image', 'vm', '--allow', '192.0.2.0/24', '--allow', '2001:db8::7'],
    );
    expect(options).toMatchObject({ allow: ['192.0.2.0/24', '2001:db8::7'] });
    for (const text of ['localhost', '192.0.2.0/33', ''])
      await expect(parse('receive', 'u', '--image', 'vm', '--allow', text)).rejects.toThrow(
        /an address or a network/,
      );
  });

  it('gives both ends what they prove who they are with', async () => {
    const line = [
      '--tls-creds',
      '/pki',
      '--tls-authz',
      'CN=a,O=b',
      '--tls-authz',
      'c',
      '--tls-psk-name',
      'd',
    ];
    const tls = { tlsCreds: '/pki', tlsAuthz: ['CN=a,O=b', 'c'], tlsPskName: 'd' };
    expect((await parse('receive', 'u', '--image', 'vm', ...line))[2]).toMatchObject(tls);
    expect((await parse('send', 'vm', 'u', ...line, '--tls-hostname', 'h'))[3]).toMatchObject({
      ...tls,
      tlsHostname: 'h',
    });
    await expect(parse('receive', 'u', '--image', 'vm', '--tls-hostname', 'h')).rejects.toThrow(
      /unknown option/,
    );
    await expect(parse('send', 'vm', 'u', '--tls-authz', '')).rejects.toThrow(/Expected a name/);
  });

  it('gives doctor the credentials to look at', async () => {
    expect(await parse('doctor', '--tls-creds', '/etc/pki/qemu', '--tls-hostname', 'h')).toEqual([
      'doctor',
      { tlsCreds: '/etc/pki/qemu', tlsHostname: 'h' },
    ]);
    await expect(parse('doctor', '--tls-creds', '')).rejects.toBeInstanceOf(CommanderError);
  });

  it('gives send its options', async () => {
    const line =
      'send vm rdma:h:1 --pin-all --max-bandwidth 500M --verify --provider iwarp --commit require --total-timeout 90 --json';
    expect(await parse(...line.split(' '))).toEqual([
      'send',
      'vm',
      'rdma:h:1',
      {
        pinAll: true,
        maxBandwidth: 500n << 20n,
        verify: true,
        provider: 'iwarp',
        commit: 'require',
        totalTimeout: 90_000,
        json: true,
      },
    ]);
  });

  it('gives a service its options', async () => {
    const line =
      'receive rdma:h:1 --keep /vms --max-migrations 3 --overcommit-disk --on-term cancel --drain-timeout 1.5';
    expect(await parse(...line.split(' '))).toEqual([
      'receive',
      'rdma:h:1',
      expect.objectContaining({
        keep: '/vms',
        maxMigrations: 3,
        overcommitDisk: true,
        onTerm: 'cancel',
        drainTimeout: 1500,
      }),
    ]);
  });

  it('gives the image commands theirs', async () => {
    expect(await parse('image', 'inspect', 'vm', '--json')).toEqual(['inspect', 'vm', { json: true }]);
    expect(await parse('image', 'verify', 'vm')).toEqual(['verify', 'vm', {}]);
    expect(await parse('image', 'to-qemu', 'vm', '-', '--ignore-shared', 'pc.ram=0')).toEqual([
      'toQemu',
      'vm',
      '-',
      { ignoreShared: expect.objectContaining({ 'pc.ram': 0n }) },
    ]);
    expect(
      await parse('image', 'from-qemu', '-', 'vm', '--accept-unproven', '--shared-ram', 'pc.ram=/r'),
    ).toEqual([
      'fromQemu',
      '-',
      'vm',
      { acceptUnproven: true, digests: true, sharedRam: expect.objectContaining({ 'pc.ram': '/r' }) },
    ]);
  });

  it.each([
    ['send', 'vm'],
    ['send', 'vm', 'rdma:h:1', 'more'],
    ['receive', 'rdma:h:1', '--keep=vms', '--image=vm'],
    ['receive', 'rdma:h:1', '--keep=vms', '--timeout=1'],
    ['receive', 'rdma:h:1', '--keep=vms', '--max-migrations=1025'],
    ['receive', 'rdma:h:1', '--image', 'vm', '--pin-all'],
    ['send', 'vm', 'rdma:h:1', '--commit', 'maybe'],
    ['send', 'vm', 'rdma:h:1', '-q', '-v'],
    ['doctor', 'now'],
    ['unknown'],
  ])('refuses %s %s %s %s %s', async (...line) => {
    await expect(parse(...line.filter((word) => word !== undefined))).rejects.toBeInstanceOf(CommanderError);
  });
});
