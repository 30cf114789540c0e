/** `heddle run --weights` and `--rename`: files, indices, servers, other names, and what is said where they do not fit. */
import { readFileSync, writeFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { writeSafetensors } from "../../runtime/safetensors.ts";
import type { TensorToWrite } from "../../runtime/safetensors.ts";
import { readSpec } from "../../src/compile.ts";
import { modelGraph } from "../../src/model.ts";
import { inMemory, rangeServer } from "../runtime/range-server.ts";
import type { RangeServer } from "../runtime/range-server.ts";
import { folder, heddle, noise, tinyModel } from "./session.ts";

const here = folder();
const spec = here.at("one.heddle");
let server: RangeServer;

const model = readSpec(tinyModel).spec?.models.find(({ name }) => name === "one");
const tensors: readonly TensorToWrite[] = modelGraph(model ?? expect.unreachable("no model")).weights.map(
  ({ name, shape }, i) => {
    const sizes = shape.map(Number);
    const count = sizes.reduce((product, size) => product * size, 1);
    return { name, dtype: "F32", shape: sizes, data: noise(count, 100 + i) };
  },
);
const under = (rename: (name: string) => string) => tensors.map((t) => ({ ...t, name: rename(t.name) }));
const [first, second] = [tensors.slice(0, 5), tensors.slice(5)];
const index = JSON.stringify({
  weight_map: Object.fromEntries(
    tensors.map(({ name }, i) => [name, i < 5 ? "m-1.safetensors" : "m-2.safetensors"]),
  ),
});
const files = {
  "w.safetensors": writeSafetensors(tensors),
  "decoder.safetensors": writeSafetensors(under((name) => `model.decoder.${name}`)),
  "m-1.safetensors": writeSafetensors(first),
  "m-2.safetensors": writeSafetensors(second),
  "m.safetensors.index.json": new TextEncoder().encode(index),
};

beforeAll(async () => {
  writeFileSync(spec, tinyModel);
  for (const [name, bytes] of Object.entries(files)) writeFileSync(here.at(name), bytes);
  server = await rangeServer(
    Object.fromEntries(Object.entries(files).map(([name, bytes]) => [name, inMemory(bytes)])),
  );
});
afterAll(async () => {
  await server.close();
  here.remove();
});

const output = here.at("out.safetensors");
const run = (weights: string, ...more: readonly string[]) =>
  heddle([
    "run",
    spec,
    "one",
    "--weights",
    weights,
    "--inputs",
    here.at("t.safetensors"),
    "--output",
    output,
    ...more,
  ]);
beforeAll(() => {
  const data = Int32Array.from({ length: 20 }, (_x, i) => (i * 37) % 256);
  writeFileSync(
    here.at("t.safetensors"),
    writeSafetensors([{ name: "tokens", dtype: "I32", shape: [1, 20], data }]),
  );
});

describe("--weights", () => {
  it("takes a file, an index, and either of them from a server", async () => {
    const results: string[] = [];
    for (const weights of [
      here.at("w.safetensors"),
      here.at("m.safetensors.index.json"),
      `${server.url}w.safetensors`,
      `${server.url}m.safetensors.index.json`,
    ])
      for (const device of ["wasm", "reference"]) {
        expect(await run(weights, "--device", device)).toEqual({ code: 0, out: "", err: "" });
        results.push(`${device} ${readFileSync(output).toString("base64")}`);
      }
    expect(new Set(results).size).toBe(2);
  });

  it("says what a server, an index or a file lacks, as an error of the user's", async () => {
    for (const [weights, text] of [
      [
        `${server.url}none.safetensors`,
        /^error: http:.*none\.safetensors: the server answered 404 Not Found\n$/,
      ],
      [here.at("none.index.json"), /^error: there is no file '.*none\.index\.json'\n$/],
      [spec, /one\.heddle: claims a header/],
    ] as const)
      expect(await run(weights)).toMatchObject({
        code: 1,
        out: "",
        err: expect.stringMatching(text) as string,
      });
    writeFileSync(here.at("pytorch_model.bin"), Uint8Array.from([0x50, 0x4b, 3, 4, ...new Uint8Array(100)]));
    expect(await run(here.at("pytorch_model.bin"))).toMatchObject({
      code: 1,
      err: expect.stringMatching(/pytorch_model\.bin: is a PyTorch file[^]*python -c "/) as string,
    });
    writeFileSync(here.at("broken.index.json"), index.replace("m-2", "m-3"));
    expect((await run(here.at("broken.index.json"))).err).toContain("shard 'm-3.safetensors' cannot be read");
  });
});

describe("--rename", () => {
  it("is told as it has to be written, and then works", async () => {
    const { code, err } = await run(here.at("decoder.safetensors"));
    expect(code).toBe(1);
    expect(err).toContain("Its names begin with 'model.decoder.', which the model's do not.");
    const hints = [...err.matchAll(/Hint: the checkpoint may want `(--rename [^`]+)`\./g)].map(
      (m) => m[1] ?? "",
    );
    expect(hints).toEqual(["--rename model.decoder.="]);
    for (const device of ["wasm", "reference"])
      expect(await run(here.at("decoder.safetensors"), ...(hints[0]?.split(" ") ?? []), "--device", device)).toMatchObject({ code: 0, err: "" }); // prettier-ignore
  });

  it("may be given again: single names by their likeness", async () => {
    const two = under((name) =>
      name.replace("embed_tokens.weight", "embed_token.weight").replace("layer_norm.bias", "layer_norm.b"),
    );
    writeFileSync(here.at("two.safetensors"), writeSafetensors(two));
    const { err } = await run(here.at("two.safetensors"));
    const hints = [...err.matchAll(/`(--rename [^`]+)`/g)].flatMap((m) => (m[1] ?? "").split(" "));
    const short = tensors.map(({ name }) => name).filter((name) => name.endsWith("layer_norm.bias"));
    const wanted = short.map((name) => `${name.replace(/ias$/, "")}=${name}`);
    expect(hints.filter((word) => word !== "--rename").sort()).toEqual(
      ["embed_token.weight=embed_tokens.weight", ...wanted].sort(),
    );
    expect(await run(here.at("two.safetensors"), ...hints)).toMatchObject({ code: 0, err: "" });
  });

  it("that makes no sense is an error", async () => {
    const weights = here.at("decoder.safetensors");
    for (const [wish, code, text] of [
      ["model.decoder", 2, /It must be FROM=TO/],
      ["a=a", 2, /It must be FROM=TO/],
      ["modell.=", 1, /has no tensor that begins with 'modell\.'/],
      [
        "model.decoder=",
        1,
        /has no tensor 'model\.decoder'; for all that begin with 'model\.decoder\.', write the dot/,
      ],
      [
        "model.decoder.layer_norm.bias=model.decoder.layer_norm.weight",
        1,
        /would both be 'model\.decoder\.layer_norm\.weight'/,
      ],
    ] as const)
      expect(await run(weights, "--rename", wish)).toMatchObject({
        code,
        err: expect.stringMatching(text) as string,
      });
    expect(await run(weights, "--rename", "a.=b.", "--rename", "a.=c.")).toMatchObject({
      code: 2,
      err: expect.stringMatching(/'a\.' is renamed twice/) as string,
    });
  });
});
