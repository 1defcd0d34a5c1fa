export { type ChosenKind, chooseTracker } from './choose.ts';
export { RamTracker } from './native-tracker.ts';
export type { DirtyLog, TrackerChoice, TrackerProbe, TrackerSupport, TrackOptions } from './options.ts';
export { probeTrackers, trackDirty } from './track.ts';
