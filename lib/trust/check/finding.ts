/** One thing about credentials that was looked at. Plain data. */
export interface Finding {
  /** Stable, for programs: `tls-server-dates`. */
  readonly name: string;
  /** For people: `TLS server certificate, dates`. */
  readonly title: string;
  /** `warning`: works, for now or in part. `fail`: a migration with it fails, or is not protected. */
  readonly level: 'ok' | 'warning' | 'fail';
  readonly found: string;
  /** For everything that is not ok. */
  readonly remedy?: string;
}

export type Judge = ReturnType<typeof finding>;

/** `const dates = finding('tls-server-dates', 'TLS server certificate, dates')`, then `dates.ok('...')`. */
export function finding(name: string, title: string) {
  const make =
    (level: 'warning' | 'fail') =>
    (found: string, remedy: string): Finding => ({ name, title, level, found, remedy });
  return {
    ok: (found: string): Finding => ({ name, title, level: 'ok', found }),
    warning: make('warning'),
    fail: make('fail'),
  };
}

export const MAKE_ANEW = 'make it anew (docs/security.md, Making credentials)';
