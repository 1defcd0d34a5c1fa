/** Runs in the VM: `inside.js device|limits|trust|without [every]`. Ends with 1 when a case fails. */
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Device } from '../arguments.ts';
import { casesOn, runCases } from '../report.ts';
import { deviceCases } from './cases.ts';
import { limitCases } from './limits.ts';
import { makeCredentials, trustCases } from './trust.ts';
import { casesWithoutRdmaCore } from './without.ts';

const device = process.env.RDMA_MIGRATE_VM_DEVICE as Device;
const folder = await mkdtemp(join(tmpdir(), 'device-'));
const suites = {
  device: () => deviceCases(device),
  limits: () => limitCases(device),
  trust: () => trustCases(device, makeCredentials(folder)),
  without: casesWithoutRdmaCore,
};

const suite = process.argv[2] as keyof typeof suites;
const every = process.argv[3] === 'every';
process.exit(await runCases(`${device}, ${suite}`, casesOn(device, every, suites[suite]()), { folder }));
