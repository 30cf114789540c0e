// A plain tiled matrix product, as one writes it by hand: out = x wᵀ + bias. 16 × 16 invocations make a block of 64 × 64, each 4 × 4
// of it in registers, from tiles of workgroup memory that are 16 deep. Vectors run along the depth, so that a step of four loads
// eight vectors for 64 multiply-adds.

const SIDE = 16u;
/** Rows of x and rows of w that a group takes. */
const BLOCK = 64u;
/** Vectors of a tile's row; one more keeps neighbouring rows in different banks. */
const DEEP = 4u;
const LINE = DEEP + 1u;

struct Params {
  rows: u32,
  /** Of x and w; a multiple of 16. */
  depth: u32,
  cols: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4f>;
@group(0) @binding(2) var<storage, read> w: array<vec4f>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;

var<workgroup> xs: array<vec4f, BLOCK * LINE>;
var<workgroup> ws: array<vec4f, BLOCK * LINE>;

@compute @workgroup_size(SIDE, SIDE)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(local_invocation_id) local: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let vecs = params.depth / 4u;
  let first_row = group.y * BLOCK;
  let first_col = group.x * BLOCK;
  // One vector of each tile for each invocation.
  let line = lane / DEEP;
  let part = lane % DEEP;
  let x_at = min(first_row + line, params.rows - 1u) * vecs + part;
  let w_at = min(first_col + line, params.cols - 1u) * vecs + part;

  var sums: array<vec4f, 4>;
  for (var step = 0u; step < vecs; step += DEEP) {
    workgroupBarrier();
    xs[line * LINE + part] = x[x_at + step];
    ws[line * LINE + part] = w[w_at + step];
    workgroupBarrier();
    for (var d = 0u; d < DEEP; d++) {
      let b0 = ws[local.x * LINE + d];
      let b1 = ws[(local.x + SIDE) * LINE + d];
      let b2 = ws[(local.x + 2u * SIDE) * LINE + d];
      let b3 = ws[(local.x + 3u * SIDE) * LINE + d];
      for (var r = 0u; r < 4u; r++) {
        let a = xs[(local.y + r * SIDE) * LINE + d];
        sums[r] += vec4f(dot(a, b0), dot(a, b1), dot(a, b2), dot(a, b3));
      }
    }
  }

  for (var i = 0u; i < 4u; i++) {
    let row = first_row + local.y + i * SIDE;
    for (var j = 0u; j < 4u; j++) {
      let col = first_col + local.x + j * SIDE;
      if (row < params.rows && col < params.cols) {
        out[row * params.cols + col] = sums[i][j] + bias[col];
      }
    }
  }
}
