/** Two processes of one build of this package, and migrations between them over the software RNIC. */
import { Child } from '../support/child.ts';
import type { Ram, Settings, Taken } from './end.ts';
import type { Row, Sample } from './sample.ts';

const END = new URL('end.js', import.meta.url);

export class Ends implements AsyncDisposable {
  readonly #source: Child;
  readonly #destination: Child;

  /** Of both ends; empty where nothing is protected. */
  readonly creds: string;

  private constructor(folder: string, creds: string) {
    this.creds = creds;
    this.#source = new Child(END, ['source', folder]);
    this.#destination = new Child(END, ['destination', folder]);
  }

  static async start(folder: string, ram: Ram, creds = ''): Promise<Ends> {
    const ends = new Ends(folder, creds);
    for (const end of [ends.#source, ends.#destination]) end.say(ram);
    await Promise.all([ends.#source.hear(), ends.#destination.hear()]);
    return ends;
  }

  get pids(): { readonly source: number; readonly destination: number } {
    return { source: this.#source.pid, destination: this.#destination.pid };
  }

  /** One migration. `rateOf`: which of its times the rate is made from. */
  async move(settings: Settings, rateOf: 'ram' | 'total'): Promise<Sample> {
    this.#destination.say(settings);
    const { uri } = await this.#destination.hear<{ uri: string }>();
    this.#source.say({ ...settings, uri });
    const [sent, received] = await Promise.all([this.#source.hear<Taken>(), this.#destination.hear<Taken>()]);
    const { ramSeconds = Number.NaN, ...rest } = sent;
    const seconds = rateOf === 'ram' ? ramSeconds : sent.totalSeconds;
    return { ...rest, seconds, cpuSeconds: sent.cpuSeconds + received.cpuSeconds };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#source[Symbol.asyncDispose]();
    await this.#destination[Symbol.asyncDispose]();
  }
}

/** A number of queue pairs, or what is taken where nobody says. */
export type Channels = number | 'default';

export interface Configuration {
  readonly pinAll: boolean;
  readonly crc: boolean;
  readonly channels: Channels;
  /** Encrypted, with certificates; there is no CRC then. */
  readonly tls?: boolean;
}

export const idOf = ({ pinAll, crc, channels, tls }: Configuration): string =>
  `${pinAll ? 'pin-all' : 'dynamic'}/${tls ? 'x509' : `crc-${crc ? 'on' : 'off'}`}/${channels}`;

export const labelOf = ({ pinAll, crc, channels, tls }: Configuration): string =>
  [
    pinAll ? 'pin-all' : 'dynamic',
    tls ? 'encrypted (x509)' : `CRC ${crc ? 'on' : 'off'}`,
    channels === 'default' ? 'default channels' : `${channels} channel${channels === 1 ? '' : 's'}`,
  ].join(', ');

/** What the ids of another build's rows begin with. */
export const OTHER_BUILD = 'beside/';

export interface OurRow {
  readonly bytes: number;
  readonly rateOf: 'ram' | 'total';
  /** Of the group's file, that the RAM consists of. */
  readonly blocks?: number;
  /** Beside the configuration's. */
  readonly id?: string;
  readonly label?: string;
}

export function ourRow(
  ends: Ends,
  configuration: Configuration,
  { bytes, rateOf, blocks, id, label }: OurRow,
): Row {
  const { pinAll, crc, channels, tls } = configuration;
  const settings = {
    pinAll,
    crc,
    ...(channels !== 'default' && { channels }),
    ...(tls && { tls: { creds: ends.creds } }),
    ...(blocks && { blocks }),
  };
  return {
    id: id ?? idOf(configuration),
    label: label ?? labelOf(configuration),
    kind: 'ours',
    bytes,
    measure: () => ends.move(settings, rateOf),
  };
}
