/** The target page size of the page records that are read and written in plain QEMU streams: x86-64, and arm64 as most guests use it. */
export const STREAM_PAGE_SIZE = 4096;
