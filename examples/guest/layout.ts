/** The guest's layout in memory: the same numbers as in guest.S. Guest-physical addresses; below 3 GiB also offsets in the RAM file. */
export const PAGE_SIZE = 4096;
export const LOAD_ADDRESS = 0x10_0000;
export const STATE_ADDRESS = 0x10_1000;
export const REGION_BASE = 0x20_0000;
export const REGION_END_LIMIT = 0xc000_0000;

/** The state at STATE_ADDRESS, little-endian: magic (8 bytes), steps u64, base u32, pages u32, pass u32, unprinted u32, bad u32, bad_page u32. */
export const STATE_BYTES = 40;
export const STATE_MAGIC = 'RDMAMIGG';
