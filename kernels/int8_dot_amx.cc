#include "amx_tiles.hh"
#include "int8_dot_targets.hh"

namespace kv {
namespace {

constexpr std::int64_t kPairTokens = 32, kPairRowBytes = 4 * kPairTokens, kPairs = 4;
constexpr std::int64_t kMostTokens = kPairs * kPairTokens;
constexpr std::int64_t kPairTileBytes = kTileQuads * kPairRowBytes;
constexpr std::int64_t kGroup = 2 * kTileOutputs;
static_assert(kPairs * kPairRowBytes == kPanelBytes);

void pack_row(const std::uint8_t* from, std::int64_t tokens, std::uint8_t* to,
              std::int64_t pair_bytes) {
  const __m512i flip = _mm512_set1_epi8(-128);
  for (std::int64_t t = 0; t < tokens; t += 16) {
    const __m512i x =
        from ? _mm512_xor_si512(_mm512_loadu_si512(from + 4 * t), flip) : _mm512_setzero_si512();
    _mm512_store_si512(to + t / kPairTokens * pair_bytes + 4 * (t % kPairTokens), x);
  }
}

// Activations of up to 4 pairs of tiles of tokens, [pair][tile of quads][quad][token][4]: x - 128,
// and 0 for quads that are not listed. They stay in the second-level cache, and 32 outputs' weights
// in the first for 128 tokens. Only tiles that have a quad of the list.
struct Panel {
  const std::uint8_t* data;
  std::int64_t tiles;
};

std::int64_t listed_tiles(const DotFactor& factor) {
  std::int64_t tiles = 0;
  for (std::int64_t i = 0; i < factor.quad_count; ++i) {
    tiles += i == 0 || factor.quads[i] / kTileQuads != factor.quads[i - 1] / kTileQuads;
  }
  return tiles;
}

Panel pack(const DotFactor& factor, std::int64_t token, std::int64_t tokens, std::uint8_t* to) {
  const Panel panel{to, listed_tiles(factor)};
  for (std::int64_t i = 0; i < factor.quad_count; to += kPairTileBytes) {
    const std::int64_t tile = factor.quads[i] / kTileQuads;
    for (std::int64_t q = 0; q < kTileQuads; ++q) {
      const bool listed = i < factor.quad_count && factor.quads[i] == tile * kTileQuads + q;
      pack_row(listed ? factor.rows[i] + 4 * token : nullptr, tokens, to + q * kPairRowBytes,
               panel.tiles * kPairTileBytes);
      i += listed;
    }
  }
  memory_barrier();
  return panel;
}

// A 16 x 16 tile of sums, by way of a buffer where the outputs end within it.
template <int kTile>
void store_sums(std::int32_t* at, std::int64_t stride, std::int64_t outputs);

#define KV_SUMS(tile)                                                                   \
  template <>                                                                           \
  void store_sums<tile>(std::int32_t * at, std::int64_t stride, std::int64_t outputs) { \
    if (outputs >= kTileOutputs) {                                                      \
      _tile_stored(tile, at, 4 * stride);                                               \
      memory_barrier();                                                                 \
      return;                                                                           \
    }                                                                                   \
    alignas(64) std::int32_t buffer[kTileOutputs][16];                                  \
    _tile_stored(tile, buffer, 64);                                                     \
    memory_barrier();                                                                   \
    for (std::int64_t c = 0; c < outputs; ++c) {                                        \
      _mm512_storeu_si512(at + c * stride, _mm512_load_si512(buffer[c]));               \
    }                                                                                   \
  }
KV_SUMS(0)
KV_SUMS(1)
KV_SUMS(2)
KV_SUMS(3)
#undef KV_SUMS

// Up to 32 outputs x 32 tokens. Tiles 0 to 3 are sums, [outputs][tokens]; 4 and 5 weights; 6 and 7
// activations.
template <bool kTwoOutputs, bool kTwoTokens>
void multiply_tiles(const DotFactor& factor, const Panel& panel, std::int64_t pair,
                    std::int64_t output, std::int64_t outputs, std::int32_t* out,
                    std::int64_t stride) {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  const std::int64_t row_tiles = factor.input_tiles * kTileBytes;
  const std::int8_t* weights = factor.tiles + output / kTileOutputs * row_tiles;
  const std::uint8_t* x = panel.data + pair * panel.tiles * kPairTileBytes;
  for (std::int64_t run = 0, last = -1; run < factor.run_count; ++run) {
    const std::int64_t own = factor.runs[run].offset / kTileBytes;
    if (own == last) continue;
    last = own;
    const std::int8_t* tile = weights + own * kTileBytes;
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
    x += kPairTileBytes;
  }
  store_sums<0>(out, stride, outputs);
  if (kTwoTokens) store_sums<1>(out + 16, stride, outputs);
  std::int32_t* second = out + kTileOutputs * stride;
  if (kTwoOutputs) store_sums<2>(second, stride, outputs - kTileOutputs);
  if (kTwoOutputs && kTwoTokens) store_sums<3>(second + 16, stride, outputs - kTileOutputs);
}

template <bool kTwoOutputs>
void multiply_outputs(const DotFactor& factor, const Panel& panel, std::int64_t output,
                      std::int64_t outputs, std::int64_t tokens, std::int32_t* out,
                      std::int64_t stride) {
  for (std::int64_t t = 0; t < tokens; t += kPairTokens) {
    const auto multiply =
        tokens - t > 16 ? multiply_tiles<kTwoOutputs, true> : multiply_tiles<kTwoOutputs, false>;
    multiply(factor, panel, t / kPairTokens, output, outputs, out + t, stride);
  }
}

}  // namespace

DotTarget dot_amx(const DotJob& job) {
  const UseTiles use;
  alignas(64) std::int32_t sums[kMostDotProducts][kGroup * kMostTokens];
  for (std::int64_t token = 0; token < job.tokens; token += kMostTokens) {
    const std::int64_t left = job.tokens - token;
    const std::int64_t tokens = left < kMostTokens ? left : kMostTokens;
    Panel panels[kMostDotProducts] = {};
    std::uint8_t* to = job.panel;
    for (int f = 0; f < job.factor_count; ++f) {
      panels[f] = pack(job.factors[f], token, tokens, to);
      to += panels[f].tiles * kPairs * kPairTileBytes;
    }
    for (std::int64_t output = 0; output < job.outputs; output += kGroup) {
      const std::int64_t rest = job.outputs - output;
      const std::int64_t outputs = rest < kGroup ? rest : kGroup;
      const auto multiply =
          outputs > kTileOutputs ? multiply_outputs<true> : multiply_outputs<false>;
      if (!job.take) {
        multiply(job.factors[0], panels[0], output, outputs, tokens,
                 job.out + output * job.out_stride + token, job.out_stride);
        continue;
      }
      for (int f = 0; f < job.factor_count; ++f) {
        multiply(job.factors[f], panels[f], output, outputs, tokens, sums[f], kMostTokens);
      }
      job.take(job.state, {{sums[0], sums[1]}, kMostTokens, output, outputs, token, tokens});
    }
  }
  return DotTarget::kAmx;
}

}  // namespace kv
