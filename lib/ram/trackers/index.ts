export type { RamTracker } from './native-tracker.ts';
export type { DirtyLog, TrackerChoice, TrackerSupport, TrackOptions } from './options.ts';
export { probeTrackers, trackDirty } from './track.ts';
