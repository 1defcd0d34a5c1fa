/** CRC32C (Castagnoli) of a few bytes. Large data is checked in native code. */
const POLYNOMIAL = 0x82f63b78;

/** As iSCSI and iWARP compute it, as a number. */
export function crc32c(bytes: Uint8Array): number {
  let crc = 0xffff_ffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ ((crc & 1) === 1 ? POLYNOMIAL : 0);
  }
  return ~crc >>> 0;
}
