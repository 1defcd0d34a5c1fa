/** The page records of a plain QEMU stream are read and written for this target page size: x86-64, and arm64 as most guests use it. */
export const STREAM_PAGE_SIZE = 4096;
