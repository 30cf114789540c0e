/** Where compiled things are kept between runs. */
import { homedir } from "node:os";
import { isAbsolute, join } from "node:path";

export type Env = Readonly<Record<string, string | undefined>>;

/** $HEDDLE_CACHE, else $XDG_CACHE_HOME/heddle, else ~/.cache/heddle. Need not exist. */
export function cacheFolder(env: Env = process.env): string {
  const { HEDDLE_CACHE, XDG_CACHE_HOME } = env;
  if (HEDDLE_CACHE !== undefined && HEDDLE_CACHE !== "") return HEDDLE_CACHE;
  // The XDG specification: a relative path is to be ignored.
  if (XDG_CACHE_HOME !== undefined && isAbsolute(XDG_CACHE_HOME)) return join(XDG_CACHE_HOME, "heddle");
  return join(homedir(), ".cache", "heddle");
}
