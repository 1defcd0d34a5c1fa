/** Runs in the VM: `inside.js device|limits|without`. Ends with 1 when a case fails. */
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Device } from '../arguments.ts';
import { runCases } from '../report.ts';
import { deviceCases } from './cases.ts';
import { limitCases } from './limits.ts';
import { casesWithoutRdmaCore } from './without.ts';

const device = process.env.RDMA_MIGRATE_VM_DEVICE as Device;
const suites = {
  device: () => deviceCases(device),
  limits: () => limitCases(device),
  without: casesWithoutRdmaCore,
};

const suite = process.argv[2] as keyof typeof suites;
const folder = await mkdtemp(join(tmpdir(), 'device-'));
process.exit(await runCases(`${device}, ${suite}`, suites[suite](), { folder }));
