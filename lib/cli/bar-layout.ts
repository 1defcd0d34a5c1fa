/** What of a progress bar's line has room on a terminal. */

/** The longest that each part gets, with the spaces before it. */
const PHASE_AND_PERCENTAGE = 'device-state 100%'.length;
const LEFT = '  59 min 59 s left'.length;
const DONE = '  1023.9 MiB / 1023.9 MiB'.length;
const RATE = '  1023.9 MiB/s'.length;
/** Brackets and the space before them. */
const BAR_FRAME = 3;
const BAR_LEAST = 8;
const BAR_MOST = 24;
const UNKNOWN_COLUMNS = 80;

export interface BarLayout {
  /** As cli-progress takes it. */
  readonly format: string;
  readonly barSize: number;
}

/** `columns`: of the terminal; 0 or undefined where it does not tell. What does not fit is left out, the bar first: the percentage says the same. */
export function barLayout(columns: number | undefined): BarLayout {
  // A character in the last column makes some terminals begin a new line.
  let room = (columns || UNKNOWN_COLUMNS) - 1 - PHASE_AND_PERCENTAGE;
  const fits = (length: number): boolean => {
    if (length > room) return false;
    room -= length;
    return true;
  };
  const left = fits(LEFT) ? '  {left}' : '';
  const done = fits(DONE) ? '  {done} / {size}' : '';
  const rate = fits(RATE) ? '  {rate}' : '';
  const barSize = Math.min(BAR_MOST, room - BAR_FRAME);
  const bar = barSize >= BAR_LEAST ? ' [{bar}]' : '';
  return { format: `{phase}${bar} {percentage}%${done}${rate}${left}`, barSize: Math.max(barSize, 1) };
}
