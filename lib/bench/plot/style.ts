/** How the pictures look. */

export const WIDTH = 900;
export const FONT = 'DejaVu Sans, Verdana, Arial, sans-serif';
export const SIZE = { title: 20, panel: 16, label: 13, tick: 12, subtitle: 12 } as const;
export const INK = { text: '#222222', soft: '#555555', grid: '#e3e3e3', axis: '#666666' } as const;

/** Okabe and Ito's colours, which the colour-blind tell apart; without yellow, which white paper swallows. */
const COLOURS = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#56b4e9', '#e69f00', '#000000'];
const GREYS = ['#6e6e6e', '#9a9a9a', '#4a4a4a', '#b5b5b5'];
const DASHES = ['6 4', '2 3', '10 4 2 4', '1 4'];

/** Drawn so that it can be told from the others without colour too. */
export interface Look {
  readonly colour: string;
  /** For `stroke-dasharray`. */
  readonly dash: string;
  /** Of its marker: a number of {@link marker}. */
  readonly shape: number;
}

/** The look of each series, ours and peers counted apart. */
export function looksOf(series: readonly { readonly peer?: boolean }[]): readonly Look[] {
  let ours = 0;
  let peers = 0;
  return series.map(({ peer }) => {
    if (!peer) {
      const index = ours++;
      return { colour: at(COLOURS, index), dash: index < COLOURS.length ? 'none' : '6 3', shape: index };
    }
    const index = peers++;
    return { colour: at(GREYS, index), dash: at(DASHES, index), shape: index + 3 };
  });
}

function at<T>(list: readonly T[], index: number): T {
  return list[index % list.length] as T;
}
