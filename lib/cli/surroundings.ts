import { release } from 'node:os';
import { toolVersion } from '../image/tool.ts';
import type { MigrationLogger } from '../migration/logger.ts';

/** What a report of a bug has to say of this machine and this run. No option takes a secret: keys are in files. */
export async function logSurroundings(log: MigrationLogger): Promise<void> {
  const { version: node, arch, platform, argv } = process;
  const version = await toolVersion();
  log.debug({ version, node, platform, arch, kernel: release(), argv: argv.slice(2) }, 'rdma-migrate begins');
}
