import { type FileHandle, open } from 'node:fs/promises';

const CHUNK = 1 << 20;

/** @throws Error that names the first byte in which two files differ, or their lengths */
export async function requireEqualFiles(left: string, right: string): Promise<void> {
  const a = await open(left, 'r');
  try {
    const b = await open(right, 'r');
    try {
      await compare(a, b, `${left} and ${right}`);
    } finally {
      await b.close();
    }
  } finally {
    await a.close();
  }
}

async function compare(a: FileHandle, b: FileHandle, names: string): Promise<void> {
  const [{ size }, { size: other }] = await Promise.all([a.stat(), b.stat()]);
  if (size !== other) throw new Error(`${names} have ${size} and ${other} bytes`);
  const [left, right] = [Buffer.alloc(CHUNK), Buffer.alloc(CHUNK)];
  for (let position = 0; position < size; ) {
    const length = Math.min(CHUNK, size - position);
    await Promise.all([readFully(a, left, length, position), readFully(b, right, length, position)]);
    const [found, expected] = [left.subarray(0, length), right.subarray(0, length)];
    if (!found.equals(expected)) {
      const at = position + found.findIndex((byte, index) => byte !== expected[index]);
      throw new Error(`${names} differ from byte ${at} on`);
    }
    position += length;
  }
}

async function readFully(file: FileHandle, buffer: Buffer, length: number, position: number): Promise<void> {
  for (let done = 0; done < length; ) {
    const { bytesRead } = await file.read(buffer, done, length - done, position + done);
    if (bytesRead === 0) throw new Error(`a file became shorter while it was compared`);
    done += bytesRead;
  }
}
