// A plain flash attention, as one writes it by hand: one query row for each invocation, its query and its output in registers,
// keys and values in tiles of workgroup memory, an online softmax in f32 with one rescaling a tile.
//
// Rows are those of one dilated branch (dense: a segment as long as the sequence, dilation 1), read in place by stride. A branch
// after the first merges its result by log-sum-exp into what the branches before it left in out and lse.

// The driver puts the width of the work here.
const HEAD_DIM = 64u;
const VECS = HEAD_DIM / 4u;
/** Invocations, a query row each. */
const ROWS = 64u;
/** Keys of a tile: with their values 16 KiB at 64 wide, which every device has. */
const KEYS = 32u;

const LN2 = 0.6931471805599453;
/** Below every score; masked scores lie lower still, so that they vanish even from an empty state. */
const LOW = -1e30;
const MASKED = -3e30;

struct Params {
  length: u32,
  heads: u32,
  /** At most the length. */
  segment: u32,
  dilation: u32,
  causal: u32,
  /** Whether nothing is there to merge with. */
  first: u32,
  /** 1 / sqrt(HEAD_DIM), times log2 e. */
  scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> q: array<vec4f>;
@group(0) @binding(2) var<storage, read> k: array<vec4f>;
@group(0) @binding(3) var<storage, read> v: array<vec4f>;
/** The token of each segment where a head's rows begin. */
@group(0) @binding(4) var<storage, read> offsets: array<u32>;
@group(0) @binding(5) var<storage, read_write> out: array<vec4f>;
@group(0) @binding(6) var<storage, read_write> lse: array<f32>;

var<workgroup> keys: array<vec4f, KEYS * VECS>;
var<workgroup> values: array<vec4f, KEYS * VECS>;

@compute @workgroup_size(ROWS)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let head = group.y;
  let start = group.z * params.segment + offsets[head];
  let end = min((group.z + 1u) * params.segment, params.length);
  let first_slot = group.x * ROWS;
  if (start + first_slot * params.dilation >= end) {
    return;
  }
  let slots = (end - start + params.dilation - 1u) / params.dilation;
  let slot = first_slot + lane;
  // Invocations past the end help to load and repeat the last row.
  let row = start + min(slot, slots - 1u) * params.dilation;
  let row_at = (row * params.heads + head) * VECS;

  var query: array<vec4f, VECS>;
  var sums: array<vec4f, VECS>;
  for (var c = 0u; c < VECS; c++) {
    query[c] = q[row_at + c] * params.scale;
    sums[c] = vec4f(0.0);
  }
  var top = LOW;
  var weight = 0.0;

  let causal = params.causal != 0u;
  let visible = select(slots, slot + 1u, causal);
  let last = select(slots, min(slots, first_slot + ROWS), causal);
  for (var tile = 0u; tile < last; tile += KEYS) {
    workgroupBarrier();
    for (var i = lane; i < KEYS * VECS; i += ROWS) {
      let key = min(tile + i / VECS, slots - 1u);
      let at = ((start + key * params.dilation) * params.heads + head) * VECS + i % VECS;
      keys[i] = k[at];
      values[i] = v[at];
    }
    workgroupBarrier();

    var scores: array<f32, KEYS>;
    var best = top;
    for (var j = 0u; j < KEYS; j++) {
      var four = vec4f(0.0);
      for (var c = 0u; c < VECS; c++) {
        four = fma(query[c], keys[j * VECS + c], four);
      }
      let score = select(MASKED, (four.x + four.y) + (four.z + four.w), tile + j < visible);
      scores[j] = score;
      best = max(best, score);
    }
    let fade = exp2(top - best);
    top = best;
    weight *= fade;
    for (var c = 0u; c < VECS; c++) {
      sums[c] *= fade;
    }
    for (var j = 0u; j < KEYS; j++) {
      let w = exp2(scores[j] - top);
      weight += w;
      for (var c = 0u; c < VECS; c++) {
        sums[c] = fma(vec4f(w), values[j * VECS + c], sums[c]);
      }
    }
  }

  if (slot >= slots) {
    return;
  }
  let lse_at = head * params.length + row;
  let inverse = 1.0 / weight;
  let own = LN2 * (top + log2(weight));
  if (params.first != 0u) {
    for (var c = 0u; c < VECS; c++) {
      out[row_at + c] = sums[c] * inverse;
    }
    lse[lse_at] = own;
    return;
  }
  let before = lse[lse_at];
  let most = max(own, before);
  let mine = exp(own - most);
  let theirs = exp(before - most);
  let whole = mine + theirs;
  for (var c = 0u; c < VECS; c++) {
    out[row_at + c] = (sums[c] * (inverse * mine) + out[row_at + c] * theirs) / whole;
  }
  lse[lse_at] = most + log(whole);
}
