/** Numbers of QEMU's migration stream (docs/devel/migration of QEMU: "Stream structure"). */

/** `QEVM`. */
export const STREAM_MAGIC = 0x5145564d;
export const STREAM_VERSION = 3;

/** Section types, u8. */
export const SECTION = {
  EOF: 0x00,
  START: 0x01,
  PART: 0x02,
  END: 0x03,
  FULL: 0x04,
  SUBSECTION: 0x05,
  VMDESCRIPTION: 0x06,
  CONFIGURATION: 0x07,
  COMMAND: 0x08,
  FOOTER: 0x7e,
} as const;

/** Flags in the low bits of the words of a ram section. */
export const RAM_FLAG = {
  ZERO: 0x02n,
  MEM_SIZE: 0x04n,
  PAGE: 0x08n,
  EOS: 0x10n,
  CONTINUE: 0x20n,
  XBZRLE: 0x40n,
  HOOK: 0x80n,
  COMPRESS_PAGE: 0x100n,
  MULTIFD_FLUSH: 0x200n,
} as const;

export const RAM_SECTION_NAME = 'ram';
export const RAM_SECTION_VERSION = 4;

export const SUBSECTION_CAPABILITIES = 'configuration/capabilities';
/** Of the capability validate-uuid. */
export const SUBSECTION_UUID = 'configuration/uuid';
export const SUBSECTION_PAGE_BITS = 'configuration/target-page-bits';
/** The capability that puts a guest-physical address after the length of every block. */
export const CAPABILITY_IGNORE_SHARED = 'x-ignore-shared';

/**
 * `rdma`: pages travel as RDMA WRITEs, ram sections hold a HOOK. `pages`: a plain stream (`migrate exec:...`), page records
 * are in the ram sections.
 */
export type StreamForm = 'rdma' | 'pages';

/** Page size where the stream has no target-page-bits subsection: QEMU writes it only for targets whose page size varies. */
export const DEFAULT_PAGE_SIZE = 4096;
