#include "amx_tiles.hh"
#include "int8_dot_targets.hh"

namespace kv {
namespace {

constexpr std::int64_t kPairTokens = 32, kPairRowBytes = 4 * kPairTokens, kPairs = 4;
constexpr std::int64_t kPanelTiles = kPanelQuads / kTileQuads;
constexpr std::int64_t kPairTileBytes = kTileQuads * kPairRowBytes;

// Activations of up to 12 tiles of quads and 4 pairs of tiles of tokens: x - 128, and 0 for quads
// that are not listed. 96 KB in the second-level cache, so that 32 outputs' weights stay in the
// first for 128 tokens.
struct Panel {
  alignas(64) std::uint8_t data[kPairs][kPanelTiles * kPairTileBytes];
  std::int64_t tile[kPanelTiles];
  std::int64_t tiles = 0;
};

void pack_row(const std::uint8_t* from, std::int64_t tokens, std::uint8_t* to) {
  const __m512i flip = _mm512_set1_epi8(-128);
  for (std::int64_t t = 0; t < tokens; t += 16) {
    const __m512i x =
        from ? _mm512_xor_si512(_mm512_loadu_si512(from + 4 * t), flip) : _mm512_setzero_si512();
    std::uint8_t* pair = to + t / kPairTokens * (kPanelTiles * kPairTileBytes);
    _mm512_store_si512(pair + 4 * (t % kPairTokens), x);
  }
}

// Takes listed quads from `i` on; returns the first that has no room.
std::int64_t pack(const DotJob& job, std::int64_t i, std::int64_t token, std::int64_t tokens,
                  Panel& panel) {
  panel.tiles = 0;
  while (i < job.quad_count && panel.tiles < kPanelTiles) {
    const std::int64_t tile = job.quads[i] / kTileQuads;
    std::uint8_t* to = panel.data[0] + panel.tiles * kPairTileBytes;
    for (std::int64_t q = 0; q < kTileQuads; ++q) {
      const bool listed = i < job.quad_count && job.quads[i] == tile * kTileQuads + q;
      pack_row(listed ? job.rows[i] + 4 * token : nullptr, tokens, to + q * kPairRowBytes);
      i += listed;
    }
    panel.tile[panel.tiles++] = tile;
  }
  memory_barrier();
  return i;
}

// A 16 x 16 tile of sums, by way of a buffer where the outputs end within it.
template <int kTile>
void load_sums(const DotJob& job, std::int64_t output, std::int64_t token);
template <int kTile>
void store_sums(const DotJob& job, std::int64_t output, std::int64_t token);

#define KV_SUMS(tile)                                                                 \
  template <>                                                                         \
  void load_sums<tile>(const DotJob& job, std::int64_t output, std::int64_t token) {  \
    const std::int32_t* at = job.out + output * job.out_stride + token;               \
    if (job.outputs - output >= kTileOutputs) {                                       \
      _tile_loadd(tile, at, 4 * job.out_stride);                                      \
      return;                                                                         \
    }                                                                                 \
    alignas(64) std::int32_t buffer[kTileOutputs][16] = {};                           \
    for (std::int64_t c = 0; c < job.outputs - output; ++c) {                         \
      _mm512_store_si512(buffer[c], _mm512_loadu_si512(at + c * job.out_stride));     \
    }                                                                                 \
    memory_barrier();                                                                 \
    _tile_loadd(tile, buffer, 64);                                                    \
    memory_barrier();                                                                 \
  }                                                                                   \
  template <>                                                                         \
  void store_sums<tile>(const DotJob& job, std::int64_t output, std::int64_t token) { \
    std::int32_t* at = job.out + output * job.out_stride + token;                     \
    if (job.outputs - output >= kTileOutputs) {                                       \
      _tile_stored(tile, at, 4 * job.out_stride);                                     \
      memory_barrier();                                                               \
      return;                                                                         \
    }                                                                                 \
    alignas(64) std::int32_t buffer[kTileOutputs][16];                                \
    _tile_stored(tile, buffer, 64);                                                   \
    memory_barrier();                                                                 \
    for (std::int64_t c = 0; c < job.outputs - output; ++c) {                         \
      _mm512_storeu_si512(at + c * job.out_stride, _mm512_load_si512(buffer[c]));     \
    }                                                                                 \
  }
KV_SUMS(0)
KV_SUMS(1)
KV_SUMS(2)
KV_SUMS(3)
#undef KV_SUMS

// Up to 32 outputs x 32 tokens. Tiles 0 to 3 are sums, [outputs][tokens]; 4 and 5 weights; 6 and 7
// activations.
template <bool kTwoOutputs, bool kTwoTokens>
void multiply_tiles(const DotJob& job, const Panel& panel, std::int64_t pair, bool first,
                    std::int64_t output, std::int64_t token) {
  if (first) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  } else {
    load_sums<0>(job, output, token);
    if (kTwoTokens) load_sums<1>(job, output, token + 16);
    if (kTwoOutputs) load_sums<2>(job, output + 16, token);
    if (kTwoOutputs && kTwoTokens) load_sums<3>(job, output + 16, token + 16);
  }
  const std::int64_t row_tiles = job.input_tiles * kTileBytes;
  const std::int8_t* weights = job.tiles + output / kTileOutputs * row_tiles;
  const std::uint8_t* x = panel.data[pair];
  for (std::int64_t i = 0; i < panel.tiles; ++i, x += kPairTileBytes) {
    const std::int8_t* tile = weights + panel.tile[i] * kTileBytes;
    _tile_loadd(4, tile, kTileRowBytes);
    _tile_loadd(6, x, kPairRowBytes);
    _tile_dpbssd(0, 4, 6);
    if (kTwoTokens) {
      _tile_loadd(7, x + 64, kPairRowBytes);
      _tile_dpbssd(1, 4, 7);
    }
    if (kTwoOutputs) {
      _tile_loadd(5, tile + row_tiles, kTileRowBytes);
      _tile_dpbssd(2, 5, 6);
      if (kTwoTokens) _tile_dpbssd(3, 5, 7);
    }
  }
  store_sums<0>(job, output, token);
  if (kTwoTokens) store_sums<1>(job, output, token + 16);
  if (kTwoOutputs) store_sums<2>(job, output + 16, token);
  if (kTwoOutputs && kTwoTokens) store_sums<3>(job, output + 16, token + 16);
}

template <bool kTwoOutputs>
void multiply_outputs(const DotJob& job, const Panel& panel, bool first, std::int64_t output,
                      std::int64_t token, std::int64_t tokens) {
  for (std::int64_t t = 0; t < tokens; t += kPairTokens) {
    if (tokens - t > 16) {
      multiply_tiles<kTwoOutputs, true>(job, panel, t / kPairTokens, first, output, token + t);
    } else {
      multiply_tiles<kTwoOutputs, false>(job, panel, t / kPairTokens, first, output, token + t);
    }
  }
}

}  // namespace

DotTarget dot_amx(const DotJob& job) {
  const UseTiles use;
  Panel panel;
  for (std::int64_t token = 0; token < job.tokens; token += kPairs * kPairTokens) {
    const std::int64_t left = job.tokens - token;
    const std::int64_t tokens = left < kPairs * kPairTokens ? left : kPairs * kPairTokens;
    std::int64_t i = 0;
    do {  // once even without a quad: the result is zero then
      const bool first = i == 0;
      i = pack(job, i, token, tokens, panel);
      for (std::int64_t output = 0; output < job.outputs; output += 2 * kTileOutputs) {
        if (job.outputs - output > kTileOutputs) {
          multiply_outputs<true>(job, panel, first, output, token, tokens);
        } else {
          multiply_outputs<false>(job, panel, first, output, token, tokens);
        }
      }
    } while (i < job.quad_count);
  }
  return DotTarget::kAmx;
}

}  // namespace kv
