import { createInterface } from 'node:readline/promises';
import { MigrationError } from '../errors.ts';

/**
 * Asks at the terminal; anything but y or yes is no, the end of input too.
 * @throws MigrationError CANCELLED
 */
export async function confirm(question: string, signal: AbortSignal): Promise<boolean> {
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  const ended = new Promise<string>((resolve) => terminal.once('close', () => resolve('')));
  // In raw mode Ctrl-C reaches readline and not the process.
  terminal.on('SIGINT', () => process.kill(process.pid, 'SIGINT'));
  try {
    const answer = await Promise.race([terminal.question(question, { signal }), ended]);
    return /^\s*y(es)?\s*$/i.test(answer);
  } catch (cause) {
    if (!signal.aborted) throw cause;
    throw new MigrationError('CANCELLED', 'image', 'nothing was removed', { cause: signal.reason });
  } finally {
    terminal.close();
  }
}
