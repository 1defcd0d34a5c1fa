import { startLocalEnd } from '../bench/ends/local.ts';
import { BenchServer } from '../bench/ends/server.ts';
import { picturesOf } from '../bench/pictures.ts';
import { DEFAULTS, type Point, planOf, tooMuch } from '../bench/plan.ts';
import { loadPng, renderPlots, svgToPng } from '../bench/plot/index.ts';
import type { BenchResult } from '../bench/result.ts';
import { type Ran, type RunEvents, type RunOptions, runBench } from '../bench/run.ts';
import { tableRow } from '../bench/table.ts';
import { MigrationError } from '../errors.ts';
import { toJson } from '../json.ts';
import { invalid } from '../options/check.ts';
import { parseRdmaUri } from '../protocol/uri.ts';
import { checkWritable, readResult, writePlot } from './bench-files.ts';
import type { BenchOptions } from './bench-program.ts';
import { type BenchView, benchView, headLines } from './bench-view.ts';
import { printable } from './format.ts';
import type { Reporter } from './reporter.ts';
import type { CommandContext } from './run.ts';
import { openPage } from './web.ts';

const ROUNDS = 5;
const SECONDS = 0.5;

/** `rdma-migrate bench`. */
export async function bench(
  context: CommandContext,
  uri: string | undefined,
  options: BenchOptions,
): Promise<void> {
  refuseContradictions(uri, options);
  if (options.listen !== undefined) {
    await using page = await openPage(context, options);
    return await serve({ ...context, signal: page.showAll() }, options.listen, options);
  }
  const points = planOf(wanted(options));
  const problem = tooMuch(points);
  if (problem !== undefined) throw invalid(problem);
  const plots = options.plot ?? [];
  for (const path of plots) await checkWritable(path);
  if (plots.some((path) => /\.png$/i.test(path))) await loadPng();
  if (options.from !== undefined) return showFile(options.from, options);
  if (uri !== undefined) parseRdmaUri(uri);
  await using page = await openPage(context, options);
  const signal = page.showAll();
  const { result, error } = await run({ ...context, signal }, uri, options, points);
  if (result?.points.some(({ rounds }) => rounds > 0)) await show(result, options);
  if (error !== undefined) throw signal.aborted ? cancelled(result, error) : error;
}

async function run(
  { signal, reporter }: CommandContext,
  uri: string | undefined,
  options: BenchOptions,
  points: readonly Point[],
): Promise<Ran> {
  const view = benchView(options);
  signal.addEventListener('abort', () => view.cancelled(), { once: true });
  const { rounds = ROUNDS, bytes, seconds = SECONDS } = options;
  const length = bytes === undefined ? { seconds } : { bytes };
  reporter.debug(`${points.length} points, ${rounds} rounds`);
  const start = (to: string, provider: RunOptions['provider'], local: boolean): Promise<Ran> =>
    runBench({ uri: to, provider, points, rounds, length, local, signal }, eventsFor(view, reporter));
  const ran = await (uri === undefined
    ? withLocalEnd(options, signal, start)
    : start(uri, options.provider, false));
  if (ran.result !== undefined) view.ended(ran.result);
  return ran;
}

const eventsFor = (view: BenchView, reporter: Reporter): RunEvents => ({
  begun: (result) => view.begun(result),
  step: (step, steps, point, round) => view.step(step, steps, point, round),
  measured: (index, result) => {
    view.measured(index, result);
    reporter.debug(`measured: ${tableRow(result).trim()}`);
  },
});

/** 127.0.0.1 is no device's address: `auto` is the software RNIC here. */
async function withLocalEnd(
  { provider }: BenchOptions,
  signal: AbortSignal,
  start: (uri: string, provider: 'iwarp' | 'verbs', local: boolean) => Promise<Ran>,
): Promise<Ran> {
  const name = provider === 'verbs' ? 'verbs' : 'iwarp';
  await using other = await startLocalEnd(name, signal);
  return await start(other.uri, name, true);
}

async function show(result: BenchResult, options: BenchOptions): Promise<void> {
  if (options.json) process.stdout.write(`${toJson({ event: 'result', ...result })}\n`);
  for (const path of options.plot ?? []) {
    const svg = renderPlots(picturesOf(result));
    await writePlot(path, /\.png$/i.test(path) ? await svgToPng(svg) : svg);
    if (!options.json && !options.quiet) process.stdout.write(`drawn: ${path}\n`);
  }
}

async function showFile(path: string, options: BenchOptions): Promise<void> {
  const result = await readResult(path);
  if (!options.json) {
    if (!options.quiet) for (const line of headLines(result)) process.stdout.write(`${printable(line)}\n`);
    benchView({ json: false, quiet: true }).ended(result);
  }
  await show(result, options);
}

async function serve(
  { reporter, signal }: CommandContext,
  uri: string,
  { provider, once = false, migrationPort = 0, maxRam }: BenchOptions,
): Promise<void> {
  parseRdmaUri(uri);
  await using server = await BenchServer.listen(
    uri,
    { provider, once, migrationPort, ...(maxRam !== undefined && { maxRam }), signal },
    {
      came: (peer) => reporter.notice(`${peer} measures`),
      left: (peer, error) =>
        reporter.notice(
          error === undefined ? `${peer} has left` : `${peer} has left: ${error.message} (${error.code})`,
        ),
      refused: (peer, why) =>
        reporter.notice(
          `${peer} was refused: ${why === 'busy' ? 'another client is being served' : 'another version'}`,
        ),
    },
  );
  reporter.listening(server.uri);
  reporter.debug(`provider ${server.provider.name}: ${server.provider.reason}`);
  await server.serve();
}

function wanted(options: BenchOptions): typeof DEFAULTS {
  return {
    measures: options.measure ?? DEFAULTS.measures,
    sizes: options.sizes ?? DEFAULTS.sizes,
    depths: options.depth ?? DEFAULTS.depths,
    queuePairs: options.queuePairs ?? DEFAULTS.queuePairs,
    crc: options.crc ?? DEFAULTS.crc,
    ramBytes: options.ram ?? DEFAULTS.ramBytes,
    zeroPercents: options.zero ?? DEFAULTS.zeroPercents,
    dirtyRates: options.dirtyRate ?? DEFAULTS.dirtyRates,
    pinAll: options.pinAll ?? DEFAULTS.pinAll,
    channels: options.channels ?? DEFAULTS.channels,
  };
}

const OF_LISTENING = ['once', 'migrationPort', 'maxRam'] as const;
const OF_MEASURING = [
  ...([
    'measure',
    'sizes',
    'depth',
    'queuePairs',
    'crc',
    'rounds',
    'seconds',
    'bytes',
    'ram',
    'zero',
  ] as const),
  ...(['dirtyRate', 'pinAll', 'channels', 'plot'] as const),
];

/** @throws MigrationError INVALID_ARGUMENT */
function refuseContradictions(uri: string | undefined, options: BenchOptions): void {
  const { listen, from } = options;
  const given = (names: readonly (keyof BenchOptions)[]) => names.find((name) => options[name] !== undefined);
  const measuring = given(OF_MEASURING);
  const listening = given(OF_LISTENING);
  if (listen !== undefined && uri !== undefined)
    throw invalid(
      '--listen is for one end and a URI for the other: give one of them, or neither for both ends here',
    );
  if (listen !== undefined && measuring !== undefined)
    throw invalid(`${flag(measuring)} is for the end that measures, which connects: this end only listens`);
  if (listen === undefined && listening !== undefined) throw invalid(`${flag(listening)} goes with --listen`);
  if (from !== undefined && (listen ?? uri) !== undefined)
    throw invalid('--from shows what was measured: there is nothing to connect to');
}

function cancelled(result: BenchResult | undefined, cause: MigrationError): MigrationError {
  const left = result === undefined ? 'nothing was measured yet' : 'what was measured until then is shown';
  return new MigrationError('CANCELLED', 'verbs', `the benchmark was cancelled: ${left}`, { cause });
}

const flag = (name: string): string => `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
