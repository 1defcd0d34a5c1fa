import type { Target } from '../target.ts';
import { commandLine } from './arguments.ts';
import { benchWire } from './bench-wire.ts';
import { control } from './control.ts';
import { credentials } from './credentials.ts';
import { destination } from './destination.ts';
import { deviceState } from './device-state.ts';
import { image } from './image.ts';
import { importer } from './import.ts';
import { manifest } from './manifest.ts';
import { options } from './options.ts';
import { privateData } from './private-data.ts';
import { qmp } from './qmp.ts';
import { sourceTurns } from './source-turns.ts';
import { stream } from './stream.ts';
import { tlsMessages } from './tls-messages.ts';
import { uri } from './uri.ts';

/** Every fuzzer of TypeScript. */
export const TARGETS: readonly Target[] = [
  privateData,
  control,
  destination,
  sourceTurns,
  stream,
  deviceState,
  importer,
  manifest,
  image,
  uri,
  qmp,
  options,
  commandLine,
  benchWire,
  tlsMessages,
  credentials,
];
