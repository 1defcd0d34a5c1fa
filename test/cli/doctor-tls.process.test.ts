/** `rdma-migrate doctor --tls-creds`, as an operator runs it. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { credentialSets } from '../support/credentials.ts';
import { buildCommand, type CommandFolder } from './command.ts';

const sets = credentialSets();
let command: CommandFolder;
beforeAll(async () => {
  command = await buildCommand();
});
afterAll(() => command[Symbol.asyncDispose]());

interface Report {
  readonly ready: boolean;
  readonly checks: readonly { readonly name: string; readonly status: string; readonly essential: boolean }[];
}

it('looks at the credentials too, and is content with good ones', async () => {
  const { code, stdout } = await command.run(
    ...['doctor', '--tls-creds', sets.good, '--tls-hostname', 'server.example', '--json'],
  );
  const { ready, checks } = JSON.parse(stdout) as Report;
  const tls = checks.filter(({ name }) => name.startsWith('tls-'));
  expect(tls.map(({ status }) => status)).toEqual(Array(14).fill('ok'));
  expect([ready, code]).toEqual([true, 0]);
});

it('says what is wrong with others, and how to mend it', async () => {
  const { code, stdout } = await command.run('doctor', '--tls-creds', sets.expired, '--quiet');
  expect(stdout).toMatch(
    /missing {2}TLS server certificate, dates +expired on .*\n +essential: make it anew/,
  );
  expect(stdout).toContain('cannot migrate yet');
  expect(code).toBe(7);
});

it('wants credentials with a name', async () => {
  const { code, stderr } = await command.run('doctor', '--tls-hostname', 'server.example');
  expect(code).toBe(2);
  expect(stderr).toContain('add --tls-creds DIR');
});
