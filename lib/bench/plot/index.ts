/** Pictures of measurements. */
export type { PlotAxis, PlotPanel, PlotPoint, PlotSeries, Plots } from './plots.ts';
export { loadPng, svgToPng } from './png.ts';
export { renderPlots } from './render.ts';
