/** Numbers and text for people. */
const UNITS = ['KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'];

/** `1.5 GiB`, `512 bytes`. */
export function formatBytes(bytes: number | bigint): string {
  let value = Number(bytes);
  if (value < 1024) return `${Math.round(value)} ${value === 1 ? 'byte' : 'bytes'}`;
  let unit = -1;
  // 1023.96 would be shown as 1024.0.
  for (; value >= 1023.95 && unit + 1 < UNITS.length; unit++) value /= 1024;
  return `${value.toFixed(1)} ${UNITS[unit]}`;
}

export function formatRate(bytesPerSecond: number): string {
  return `${formatBytes(bytesPerSecond)}/s`;
}

/** `0.35 s`, `12.4 s`, `3 min 20 s`, `2 h 05 min`. */
export function formatDuration(milliseconds: number): string {
  const seconds = milliseconds / 1000;
  if (seconds < 10) return `${seconds.toFixed(2)} s`;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${Math.floor(seconds % 60)} s`;
  return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, '0')} min`;
}

/** Text that may hold a peer's words, on one line and without control characters: a terminal obeys those. */
export function printable(text: string): string {
  return text.replace(/\s*\n\s*/g, ' ').replace(/\p{Cc}/gu, '?');
}
