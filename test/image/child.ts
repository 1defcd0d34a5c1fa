/**
 * Starts a TypeScript module in a process of its own, which a test may kill. Vite, which runs the tests, loads it: Node 20 does
 * not read TypeScript.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const LOADER = `
  const { createViteServer } = await import('vitest/node');
  const server = await createViteServer({
    configFile: false, logLevel: 'error', appType: 'custom', oxc: { target: 'node20' },
    server: { middlewareMode: true, watch: null, hmr: false, ws: false }, optimizeDeps: { noDiscovery: true },
  });
  const { run } = await server.ssrLoadModule(process.argv[1]);
  await run(...process.argv.slice(2));
`;

/** Calls the export `run` of that module, which says on stdout how far it is. The caller ends the process. */
export function startModule(
  module: string,
  args: readonly string[],
  environment: Readonly<Record<string, string>> = {},
): ChildProcess {
  const file = fileURLToPath(new URL(module, import.meta.url));
  const root = fileURLToPath(new URL('../..', import.meta.url));
  return spawn(process.execPath, ['--input-type=module', '--eval', LOADER, file, ...args], {
    cwd: root,
    env: { ...process.env, ...environment },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
}

/** Waits for that line on the child's stdout. */
export async function waitForLine(child: ChildProcess, wanted: string): Promise<void> {
  if (child.stdout === null) throw new Error('the child has no stdout');
  for await (const line of createInterface(child.stdout)) if (line === wanted) return;
  throw new Error(`the child ended before it said ${wanted}`);
}
