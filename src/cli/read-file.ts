import { readFile } from "node:fs/promises";

/** The bytes of a file. An error of the system names the file, which node forgets when reading a folder. */
export async function readBytes(path: string): Promise<Uint8Array> {
  try {
    return await readFile(path);
  } catch (error) {
    throw error instanceof Error ? Object.assign(error, { path }) : error;
  }
}

export const readText = async (path: string): Promise<string> =>
  new TextDecoder().decode(await readBytes(path));
