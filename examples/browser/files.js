// @ts-check
/** What the page fetches: the checkpoint, the text and what torchscale made of it. */

const folder = new URL("../jargon/", import.meta.url);

/** @typedef {{ bits_per_byte: number, window: number, held_out_from_byte: number }} Manifest */

/**
 * @param {string} name
 * @param {Record<string, string>} headers
 */
async function get(name, headers = {}) {
  const url = new URL(name, folder);
  let response;
  try {
    response = await fetch(url, { headers });
  } catch (error) {
    throw new Error(`${url.pathname} could not be fetched: the server does not answer.`, { cause: error });
  }
  if (!response.ok)
    throw new Error(
      `${url.pathname} could not be fetched: the server says ${response.status} ${response.statusText}.`,
    );
  return response;
}

/** @returns {Promise<Manifest>} */
export const manifest = async () => (await get("manifest.json")).json();

/**
 * The held-out text from its first byte on, at most `bytes` of it, whole characters only.
 * @param {Manifest} about
 * @param {number} [bytes]
 */
export async function heldOut({ held_out_from_byte: from }, bytes = Infinity) {
  const to = Number.isFinite(bytes) ? String(from + bytes - 1) : "";
  const response = await get("jargon.txt", { Range: `bytes=${from}-${to}` });
  const all = new Uint8Array(await response.arrayBuffer());
  // A server that knows no ranges sends the whole file.
  const part = response.status === 206 ? all : all.subarray(from, from + bytes);
  return new TextDecoder().decode(part, { stream: true });
}

/**
 * The checkpoint as bytes by range. A Blob, so that the browser may keep it outside the page's memory.
 * @param {(done: number, of: number) => void} progress bytes; `of` is 0 where the server does not tell
 */
export async function checkpoint(progress) {
  const name = "jargon.safetensors";
  const response = await get(name);
  const size = Number(response.headers.get("Content-Length") ?? 0);
  const parts = [];
  let done = 0;
  const reader = response.body?.getReader();
  for (let piece = await reader?.read(); piece?.value !== undefined; piece = await reader?.read()) {
    parts.push(piece.value);
    done += piece.value.length;
    progress(done, size);
  }
  const blob = new Blob(parts);
  return {
    name,
    size: blob.size,
    /**
     * @param {number} start
     * @param {number} end
     */
    read: async (start, end) => new Uint8Array(await blob.slice(start, end).arrayBuffer()),
  };
}
