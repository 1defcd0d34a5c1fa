/** A migration as the page shows it: what its one reducer says of it now, and the last of what it has told. */
import { MigrationError } from '../errors.ts';
import { toJson } from '../json.ts';
import type {
  EndEvent,
  LinkEvent,
  MigrationEvent,
  NoticeEvent,
  PinEvent,
  Timed,
} from '../migration/events.ts';
import type { MigrationRole } from '../migration/logger.ts';
import type { Migration } from '../migration/migration.ts';
import { MEGABIT_BYTES, type MigrationProgress } from '../migration/progress.ts';
import { MigrationSource } from '../migration/source/source.ts';
import { MapFeed } from './map-feed.ts';

/** What a viewer may ask of it. */
export interface Controls {
  cancel(): void;
  /** A source alone. */
  readonly source?: Pick<MigrationSource, 'setMaxBandwidth' | 'setLive' | 'stopAndCopy'>;
}

/** Who may run the VM now. */
export type Owner = 'source' | 'destination' | 'in doubt';

export interface Snapshot {
  readonly id: number;
  readonly role: MigrationRole;
  readonly title: string;
  /** Milliseconds since the migration began. */
  readonly at: number;
  readonly owner: Owner;
  readonly link: Partial<Extract<LinkEvent, { state: 'connected' }>>;
  readonly progress: MigrationProgress;
  readonly registered: Pick<PinEvent, 'registered' | 'peak'>;
  readonly notices: readonly (NoticeEvent & Timed)[];
  readonly canControl: boolean;
  readonly end?: { readonly status: EndEvent['status']; readonly result?: object; readonly error?: object };
}

/** A point of the curves. */
export interface Point {
  readonly at: number;
  /** Bytes, and bytes a second. */
  readonly remaining: number;
  readonly rate: number;
  readonly dirty: number;
}

/** The page says more of what is new than of what was long ago. */
const MOST_NOTICES = 50;
/** What the page has room for; the result at the end has more. */
const MOST_ROUNDS = 32;
/** Of four a second: the first two and a half minutes; longer ones in wider steps. */
const MOST_POINTS = 600;

export class Watched {
  readonly id: number;
  readonly #migration: Migration;
  readonly #title: string;
  readonly #controls: Controls;
  /** When the migration began, of `performance.now()`; before its first event, when it was shown. */
  #began = performance.now();
  readonly #onEvent = (event: MigrationEvent): void => this.#hear(event);
  #link: Snapshot['link'] = {};
  #registered: Snapshot['registered'] = { registered: 0, peak: 0 };
  #notices: (NoticeEvent & Timed)[] = [];
  #end: (EndEvent & Timed) | undefined;
  #points: Point[] = [];
  /** What viewers at the same place are told of the points, by that place. Made once for all. */
  readonly #texts = new Map<number, string>();
  #stepMs = 0;
  readonly map: MapFeed;

  constructor(id: number, migration: Migration, title: string, controls: Controls) {
    this.id = id;
    this.#migration = migration;
    this.#title = title;
    this.#controls = controls;
    this.map = new MapFeed(id, migration.mapRam());
    migration.on('event', this.#onEvent);
  }

  get hasEnded(): boolean {
    return this.#end !== undefined;
  }

  /** When the newest point of the curves was taken; undefined: there is none. */
  get lastPoint(): number | undefined {
    return this.#points.at(-1)?.at;
  }

  /** The message with the points after a time, for all who have been told of those before. */
  pointsAfter(at: number): string {
    let text = this.#texts.get(at);
    if (text === undefined) {
      text = toJson({ type: 'points', id: this.id, points: this.#points.filter((point) => point.at > at) });
      this.#texts.set(at, text);
    }
    return text;
  }

  get controls(): Controls {
    return this.#controls;
  }

  /** Nothing is listened to any more. */
  close(): void {
    this.#migration.off('event', this.#onEvent);
  }

  get snapshot(): Snapshot {
    const progress = this.#migration.current;
    const role = this.#migration instanceof MigrationSource ? 'source' : 'destination';
    const end = this.#end;
    return {
      id: this.id,
      role,
      title: this.#title,
      at: end?.at ?? performance.now() - this.#began,
      owner: ownerOf(progress, role, end),
      link: this.#link,
      progress: shortened(progress),
      registered: this.#registered,
      notices: this.#notices,
      canControl: this.#controls.source !== undefined,
      ...(end && { end: endOf(end) }),
    };
  }

  /** A moment of the curves, where it is time for one. */
  sample(): void {
    const { ram, status, live } = this.#migration.current;
    const at = performance.now() - this.#began;
    const last = this.#points.at(-1);
    if (ram.total === 0 || this.hasEnded || (last && at - last.at < this.#stepMs)) return;
    const rate = status === 'active' ? ram.mbps * MEGABIT_BYTES : 0;
    this.#points.push({ at, remaining: ram.remaining, rate, dirty: live ? ram['dirty-bytes-rate'] : 0 });
    if (this.#points.length > MOST_POINTS) this.#thin();
    this.#texts.clear();
  }

  /** Every other one, and half as many from here on. */
  #thin(): void {
    this.#points = this.#points.filter((_, index) => index % 2 === 0);
    const [first, last] = [this.#points[0], this.#points.at(-1)];
    this.#stepMs = ((last?.at ?? 0) - (first?.at ?? 0)) / this.#points.length;
  }

  #hear(event: MigrationEvent): void {
    this.#began = performance.now() - event.at;
    if (event.type === 'link' && event.state === 'connected') this.#link = event;
    if (event.type === 'pin') this.#registered = { registered: event.registered, peak: event.peak };
    if (event.type === 'notice') this.#notices = [...this.#notices, event].slice(-MOST_NOTICES);
    if (event.type === 'end') this.#end = event;
  }
}

function shortened(progress: MigrationProgress): MigrationProgress {
  const { live } = progress;
  return live ? { ...progress, live: { ...live, rounds: live.rounds.slice(-MOST_ROUNDS) } } : progress;
}

function endOf(end: EndEvent): NonNullable<Snapshot['end']> {
  if (end.status === 'completed') return { status: end.status, result: end.result };
  const { code, phase, message, details } = end.error;
  return { status: end.status, error: { code, phase, message, details } };
}

/** Until the commit the source may go on with its VM; from there on the destination's word decides. */
function ownerOf({ phase }: MigrationProgress, role: MigrationRole, end: EndEvent | undefined): Owner {
  if (end?.status === 'completed')
    return role === 'source' && end.result.outcome !== 'committed' ? 'in doubt' : 'destination';
  if (end !== undefined) return end.error.code === 'COMMIT_UNKNOWN' ? 'in doubt' : 'source';
  return phase === 'commit' ? 'in doubt' : 'source';
}

/** What a viewer's cancel ends a migration with. */
export const cancelled = (migration: Migration): MigrationError =>
  new MigrationError('CANCELLED', migration.current.phase, 'it was cancelled from the page');
