/**
 * Where the rows and keys of every tile lie, in closed form, for each schedule.
 *
 * These functions are written once over any integers: with numbers they enumerate a plan (the integer proof of
 * `test/schedule` and the planner's costs), with kernel expressions they become the index arithmetic of the kernels. So
 * the formulas that are proven are the formulas that run.
 */
export { ALL, misaligned, numbers, segmentOf } from "./geometry/integers.ts";
export type { Integers, Lookup } from "./geometry/integers.ts";
export { annulusTile, hasWork, pathsOf, ringOf, roomOf } from "./geometry/annulus.ts";
export type { AnnulusTile, Member, Ring } from "./geometry/annulus.ts";
export { branchPhantoms, branchTile, hasPhantoms } from "./geometry/branch.ts";
export type { BranchTile } from "./geometry/branch.ts";
export {
  cachePieces,
  cacheShape,
  laneRows,
  moves,
  regionAt,
  regionBase,
  regionRows,
  takesPart,
} from "./geometry/cache.ts";
export type { CachePiece, CacheRegion, CacheShape } from "./geometry/cache.ts";
export { classShape, classTile, foldInto, passKeys, passPhantoms } from "./geometry/class.ts";
export type { ClassShape, ClassTile, Fold, Pass, PassKeys } from "./geometry/class.ts";
export {
  alikeCells,
  listPlaces,
  listTile,
  listTurn,
  longestKeys,
  mergeShape,
  mergeTile,
  partBase,
  partRow,
} from "./geometry/list.ts";
export type { ListPass, ListTile, MergePart, MergeTile } from "./geometry/list.ts";
export { annulusShape, regimeOf } from "./geometry/links.ts";
export type { AnnulusPass, AnnulusShape } from "./geometry/links.ts";
export { sizes } from "./geometry/sizes.ts";
