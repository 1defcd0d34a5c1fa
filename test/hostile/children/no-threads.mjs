/** A process that may start no more threads, as in a container at its pids.max. Says what came of the operations that start one. */
import { execFileSync } from 'node:child_process';
import { native } from '../../../dist/native/index.js';

const OPTIONS = { crc: false, connectTimeoutMs: 10_000, stallTimeoutMs: 10_000 };
/** Nobody else's: the limit counts all threads of a user, and root's are not limited. */
const USER = 54_321;

const open = () => native.createConnection('iwarp', OPTIONS);

const early = open();
await open().close(); // libuv has its threads now
execFileSync('prlimit', ['--pid', String(process.pid), '--nproc=1:1']);
process.setuid(USER);

const connect = await early.connect(new Uint8Array()).catch((error) => error);
const createConnection = await new Promise((resolve) => resolve(open())).catch((error) => error);
await new Promise((resolve) => setTimeout(resolve, 50)); // what the failed ones left behind would run now
await early.close();
console.log(
  JSON.stringify({
    connect: connect.code,
    createConnection: createConnection.code,
    threads: connect.message,
  }),
);
