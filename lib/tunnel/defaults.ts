/** Of both ends. */
export const DEFAULTS = {
  connectTimeoutMs: 10_000,
  responseTimeoutMs: 60_000,
  ringBytes: 4 * 1024 * 1024,
} as const;
