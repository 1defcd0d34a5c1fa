/** Control messages: their types, and their bytes both ways. */
export { decodeControl } from './control-decode.ts';
export { encodeControl } from './control-encode.ts';
export * from './messages.ts';
