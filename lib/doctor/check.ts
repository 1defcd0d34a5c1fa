/** `ok`: nothing to do. `warning`: works, with a limit or more slowly. `missing`: not available. */
export type CheckStatus = 'ok' | 'warning' | 'missing';

/** One thing that was examined. Plain data. */
export interface Check {
  /** Stable, for programs: `cgroup-memory`. */
  readonly name: string;
  /** For people: `cgroup memory`. */
  readonly title: string;
  readonly status: CheckStatus;
  /** What was found, in a line. */
  readonly found: string;
  /** The command or setting that fixes it; present for everything that is not ok. */
  readonly remedy?: string;
  /** Without it no migration is possible here. */
  readonly essential: boolean;
  /** For people: what else is known about it, one line each. */
  readonly notes?: readonly string[];
  /** The numbers and names in `found`. Sizes in bytes. */
  readonly details: Readonly<Record<string, CheckDetail>>;
}

export type CheckDetail = string | number | bigint | boolean | readonly string[];

type Extra = Partial<Pick<Check, 'essential' | 'details' | 'notes'>>;

/** Names a check: `const check = named('node', 'Node.js')`, then `check.ok('v22')`. */
export function named(name: string, title: string, common: Extra = {}) {
  const make = (status: CheckStatus, found: string, remedy: string | undefined, extra: Extra): Check => ({
    name,
    title,
    status,
    found,
    ...(remedy !== undefined && { remedy }),
    essential: extra.essential ?? common.essential ?? false,
    ...(extra.notes !== undefined && { notes: extra.notes }),
    details: { ...common.details, ...extra.details },
  });
  return {
    ok: (found: string, extra: Extra = {}) => make('ok', found, undefined, extra),
    warning: (found: string, remedy: string, extra: Extra = {}) => make('warning', found, remedy, extra),
    missing: (found: string, remedy: string, extra: Extra = {}) => make('missing', found, remedy, extra),
  };
}
