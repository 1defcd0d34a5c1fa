/** Numbers as people read them. */
const UNITS = ['KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'];

/** @param {number} value */
export function bytes(value) {
  if (value < 1024) return `${Math.round(value)} B`;
  let rest = value;
  let unit = -1;
  for (; rest >= 1023.95 && unit + 1 < UNITS.length; unit++) rest /= 1024;
  return `${rest.toFixed(1)} ${UNITS[unit]}`;
}

/** @param {number} value a second */
export const rate = (value) => `${bytes(value)}/s`;

/** @param {number} milliseconds */
export function duration(milliseconds) {
  if (milliseconds < 1000) return `${milliseconds.toFixed(milliseconds < 10 ? 1 : 0)} ms`;
  const seconds = milliseconds / 1000;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${Math.floor(seconds % 60)} s`;
  return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, '0')} min`;
}

/** A megabit a second, in bytes. */
export const MEGABIT = 1e6 / 8;
