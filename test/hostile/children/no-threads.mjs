/** A process that may start no more threads, as in a container at its pids.max. Says what came of operations that start one, and of others. */
import { execFileSync } from 'node:child_process';
import { native } from '../../../dist/native/index.js';

const OPTIONS = { crc: false, connectTimeoutMs: 10_000, stallTimeoutMs: 10_000 };
/** Nobody else's: the limit counts all threads of a user, and root's are not limited. */
const USER = 54_321;

const open = () => native.createConnection('iwarp', OPTIONS);
const codeOf = (operation) =>
  new Promise((resolve) => resolve(operation())).then(
    () => 'done',
    (error) => error.code,
  );

const early = open(); // the processing threads are there now
execFileSync('prlimit', ['--pid', String(process.pid), '--nproc=1:1']);
process.setuid(USER);

const connect = await codeOf(() => early.connect({ host: '127.0.0.1', port: 1 }, new Uint8Array()));
const refusal = await native.mapMemfd({ name: 'ram', length: 4096n }).catch((error) => error);
const close = await codeOf(() => early.close());
await new Promise((resolve) => setTimeout(resolve, 50)); // what the failed ones left behind would run now
const nothing = () => {};
console.log(
  JSON.stringify({
    connect,
    mapMemfd: refusal.code,
    close,
    createConnection: await codeOf(open),
    listen: await codeOf(() =>
      native.listen('iwarp', { host: '127.0.0.1', port: 0 }, OPTIONS, nothing, nothing, nothing),
    ),
    threads: refusal.message,
  }),
);
