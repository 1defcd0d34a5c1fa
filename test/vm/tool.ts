/** Programs of the machine that the set-up uses. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { unavailable } from './failures.ts';

const MAX_OUTPUT = 64 * 1024 * 1024;
const MAX_SAID = 2000;

interface ToolFailure extends Error {
  readonly stderr?: string;
}

/**
 * Runs a program to its end and returns its stdout.
 *
 * @throws BenchError (exit code 69) with the program's own words
 */
export async function tool(
  command: string,
  args: readonly string[],
  options: { readonly cwd?: string; readonly env?: NodeJS.ProcessEnv; readonly timeoutMs?: number } = {},
): Promise<string> {
  const { timeoutMs = 900_000, ...rest } = options;
  try {
    return (await promisify(execFile)(command, args, { maxBuffer: MAX_OUTPUT, timeout: timeoutMs, ...rest }))
      .stdout;
  } catch (cause) {
    const { stderr, message } = cause as ToolFailure;
    const said = (stderr?.trim() || message).slice(-MAX_SAID);
    throw unavailable(`\`${[command, ...args].join(' ')}\` failed: ${said}`, cause);
  }
}
