/**
 * From tiles to statements: a machine says how it spells each tile statement, `distribute` puts the spellings in their
 * places. A tile statement added to the IR is a type error in every machine until it is spelled.
 */
import type { Kernel, Shared, Stmt, Tile, TileKernel } from "../src/kernel.ts";

/** What a machine decides about a whole kernel before it spells a statement. */
export type Site = {
  /** Workgroup memory that the tiles occupy. */
  readonly shared: readonly Shared[];
  /** Lanes of a group. */
  readonly workgroup: number;
  /** Statements at the start of every group. */
  readonly begin: readonly Stmt[];
};

/** A name that no other statement of the kernel declares. */
export type Fresh = (hint: string) => string;

export type Machine<S extends Site> = {
  readonly name: string;
  readonly site: (kernel: TileKernel, fresh: Fresh) => S;
  readonly spell: {
    readonly [K in Tile["s"]]: (tile: Extract<Tile, { readonly s: K }>, site: S) => readonly Stmt[];
  };
};

/** Replaces every tile statement of a kernel by the machine's spelling of it. */
export const distribute =
  <S extends Site>(machine: Machine<S>) =>
  (kernel: TileKernel): Kernel => {
    const site = machine.site(kernel, freshIn(kernel));
    const spell = (tile: Tile): readonly Stmt[] => {
      switch (tile.s) {
        case "copy":
          return machine.spell.copy(tile, site);
        case "write":
          return machine.spell.write(tile, site);
        case "fill":
          return machine.spell.fill(tile, site);
        case "mma":
          return machine.spell.mma(tile, site);
        case "map":
          return machine.spell.map(tile, site);
        case "reduce":
          return machine.spell.reduce(tile, site);
      }
    };
    const walk = (body: readonly Stmt<Tile>[]): readonly Stmt[] =>
      body.flatMap((stmt): readonly Stmt[] => {
        switch (stmt.s) {
          case "for":
            return [{ ...stmt, body: walk(stmt.body) }];
          case "if": {
            const then = walk(stmt.then);
            // oxlint-disable-next-line unicorn/no-thenable
            const taken: Stmt = { s: "if", cond: stmt.cond, then };
            return [stmt.else === undefined ? taken : { ...taken, else: walk(stmt.else) }];
          }
          case "let":
          case "var":
          case "set":
          case "store":
          case "barrier":
          case "exchange":
          case "comment":
            return [stmt];
          default:
            return spell(stmt);
        }
      });
    const { name, buffers, scalars, tables, body } = kernel;
    return {
      name,
      buffers,
      scalars,
      tables,
      shared: [...kernel.shared, ...site.shared],
      workgroup: site.workgroup,
      body: [...site.begin, ...walk(body)],
    };
  };

/** Every tile statement of a body, in order of appearance. */
export function tilesIn(body: readonly Stmt<Tile>[]): readonly Tile[] {
  return body.flatMap((stmt): readonly Tile[] => {
    switch (stmt.s) {
      case "for":
        return tilesIn(stmt.body);
      case "if":
        return [...tilesIn(stmt.then), ...tilesIn(stmt.else ?? [])];
      case "let":
      case "var":
      case "set":
      case "store":
      case "barrier":
      case "exchange":
      case "comment":
        return [];
      default:
        return [stmt];
    }
  });
}

function freshIn(kernel: TileKernel): Fresh {
  const taken = new Set<string>();
  const declared = (body: readonly Stmt<Tile>[]): void => {
    for (const stmt of body) {
      if (stmt.s === "let" || stmt.s === "var" || stmt.s === "for" || stmt.s === "exchange")
        taken.add(stmt.name);
      if (stmt.s === "for") declared(stmt.body);
      if (stmt.s === "if") {
        declared(stmt.then);
        declared(stmt.else ?? []);
      }
    }
  };
  declared(kernel.body);
  for (const part of [kernel.buffers, kernel.scalars, kernel.tables, kernel.shared, kernel.tiles])
    for (const { name } of part) taken.add(name);
  let count = 0;
  return (hint) => {
    let name;
    do name = `${hint}_${count++}`;
    while (taken.has(name));
    return name;
  };
}
