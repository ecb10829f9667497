#include "kv/model/attention.hh"

#include "kv/kernels/bf16_attention.hh"
#include "kv/model/aligned.hh"
#include "kv/model/parallel.hh"
#include "kv/model/row_ops.hh"

#include <ATen/native/CPUBlas.h>
#include <c10/util/BFloat16.h>

#include <algorithm>
#include <cmath>
#include <type_traits>
#include <vector>

namespace kv {
namespace {

// Times heads of a group: what shares keys while they are in the cache. The kernel takes few, which
// meet few keys that only some of them see.
constexpr std::int64_t kRowsAtOnce = 192, kKernelRowsAtOnce = 96;
constexpr std::int64_t kTilesAtOnce = 4;  // scores of 256 keys before each softmax
static_assert(kTilesAtOnce <= Bf16Attention::kMostTiles && kTileSlots == Bf16Attention::kTileKeys);

template <typename T>
void multiply(std::int64_t m, std::int64_t n, std::int64_t k, const T* a, std::int64_t lda,
              const T* b, std::int64_t ldb, float* c, std::int64_t ldc, bool add) {
  at::native::cpublas::brgemm(m, n, k, lda, ldb, ldc, add, a, b, c, sizeof(T) == 2);
}

template <typename T>
struct Scratch {
  AlignedVector<float> scores, output;
  std::vector<float> max, sum;
  AlignedVector<T> probabilities;
};

// Rows [begin, end) of one KV head's group.
template <typename T>
class RowBlock {
 public:
  RowBlock(const KvCache::State& cache, std::int64_t layer, std::int64_t head, std::int64_t group,
           float scale, std::span<const std::int32_t> positions, const T* queries, bool by_kernel,
           Scratch<T>& scratch)
      : cache_(cache),
        geometry_(cache.geometry[static_cast<std::size_t>(layer)]),
        keys_(cache.layers[static_cast<std::size_t>(layer)].keys, geometry_.kv_heads,
              geometry_.k_dim),
        values_(cache.layers[static_cast<std::size_t>(layer)].values, geometry_.kv_heads,
                geometry_.v_dim),
        window_(cache.layers[static_cast<std::size_t>(layer)].window),
        head_(head),
        group_(group),
        scale_(scale),
        positions_(positions),
        queries_(queries),
        by_kernel_(by_kernel),
        scratch_(scratch) {
    const auto [least, greatest] = std::ranges::minmax(positions);
    least_ = least;
    greatest_ = greatest;
    const auto rows = positions.size() * static_cast<std::size_t>(group);
    if (!by_kernel) {
      scratch.scores.resize(rows * kTilesAtOnce * kTileSlots);
      scratch.probabilities.resize(scratch.scores.size());
    }
    scratch.output.assign(rows * static_cast<std::size_t>(geometry_.v_dim), 0.0f);
    scratch.max.assign(rows, -1e30f);
    scratch.sum.assign(rows, 0.0f);
  }

  void run() {
    const auto tiles = static_cast<std::int64_t>(cache_.tiles.size());
    for (std::int64_t first = 0; first < tiles;) {
      std::int64_t count = 0;
      while (count < kTilesAtOnce && first + count < tiles && reachable(first + count)) ++count;
      if (count > 0) add_tiles(first, count);
      first += std::max<std::int64_t>(count, 1);
    }
  }

  void write(T* out, std::int64_t row_stride) const {
    const RowOps<T>& ops = row_ops<T>();
    for (std::size_t i = 0; i < scratch_.sum.size(); ++i) {
      const auto row = static_cast<std::int64_t>(i);
      ops.scale(
          scratch_.output.data() + row * geometry_.v_dim, 1.0f / scratch_.sum[i], geometry_.v_dim,
          out + row / group_ * row_stride + (head_ * group_ + row % group_) * geometry_.v_dim);
    }
  }

 private:
  bool reachable(std::int64_t tile) const {
    const TileSpan& span = cache_.tiles[static_cast<std::size_t>(tile)];
    return span.least <= greatest_ && (window_ == 0 || span.greatest > least_ - window_);
  }
  bool all_visible(std::int64_t tile) const {
    const TileSpan& span = cache_.tiles[static_cast<std::size_t>(tile)];
    return span.greatest <= least_ && (window_ == 0 || span.least > greatest_ - window_);
  }

  void add_tiles(std::int64_t first, std::int64_t count) {
    if constexpr (std::is_same_v<T, c10::BFloat16>) {
      if (by_kernel_) {
        add_tiles_by_kernel(first, count);
        return;
      }
    }
    const auto rows = static_cast<std::int64_t>(scratch_.sum.size());
    const std::int64_t width = count * kTileSlots;
    SoftmaxBlock block{.keys = width, .scale = scale_, .window = window_};
    for (std::int64_t i = 0; i < count; ++i) {
      multiply(rows, kTileSlots, geometry_.k_dim, queries_, geometry_.k_dim,
               static_cast<const T*>(keys_.tile(head_, first + i)), kTileSlots,
               scratch_.scores.data() + i * kTileSlots, width, false);
      if (!all_visible(first + i)) {
        block.key_positions = cache_.positions.data() + first * kTileSlots;
      }
    }
    const RowOps<T>& ops = row_ops<T>();
    for (std::int64_t row = 0; row < rows; ++row) {
      const auto i = static_cast<std::size_t>(row);
      ops.softmax(block, scratch_.scores.data() + row * width,
                  positions_[static_cast<std::size_t>(row / group_)], scratch_.max[i],
                  scratch_.sum[i], geometry_.v_dim, scratch_.output.data() + row * geometry_.v_dim,
                  scratch_.probabilities.data() + row * width);
    }
    multiply(rows, geometry_.v_dim, width, scratch_.probabilities.data(), width,
             static_cast<const T*>(values_.tile(head_, first)), geometry_.v_dim,
             scratch_.output.data(), geometry_.v_dim, true);
  }

  void add_tiles_by_kernel(std::int64_t first, std::int64_t count) {
    const auto bits = [](const T* values) {
      return reinterpret_cast<const std::uint16_t*>(values);
    };
    Bf16Attention block{.queries = bits(queries_),
                        .positions = positions_.data(),
                        .rows = static_cast<std::int64_t>(positions_.size()),
                        .group = group_,
                        .k_dim = geometry_.k_dim,
                        .v_dim = geometry_.v_dim,
                        .keys = bits(keys_.tile(head_, first)),
                        .values = bits(values_.tile(head_, first)),
                        .tiles = count,
                        .scale = scale_,
                        .window = window_,
                        .max = scratch_.max.data(),
                        .sum = scratch_.sum.data(),
                        .output = scratch_.output.data()};
    for (std::int64_t i = first; i < first + count; ++i) {
      if (!all_visible(i)) block.key_positions = cache_.positions.data() + first * kTileSlots;
    }
    bf16_attention(block);
  }

  const KvCache::State& cache_;
  const LayerGeometry& geometry_;
  Tiles<T> keys_, values_;
  std::int64_t window_, head_, group_;
  float scale_;
  std::span<const std::int32_t> positions_;
  const T* queries_;
  bool by_kernel_;
  Scratch<T>& scratch_;
  std::int32_t least_ = 0, greatest_ = 0;
};

}  // namespace

template <typename T>
void attend(const KvCache::State& cache, std::int64_t layer, const T* queries, std::int64_t group,
            double score_scalar, std::span<const std::int32_t> row_positions, T* out) {
  const float scale = 1.0f / std::sqrt(static_cast<float>(score_scalar));
  const LayerGeometry& geometry = cache.geometry[static_cast<std::size_t>(layer)];
  const auto rows = static_cast<std::int64_t>(row_positions.size());
  const bool by_kernel = sizeof(T) == 2 && bf16_attention_fits(geometry.k_dim, geometry.v_dim);
  const std::int64_t step =
      std::max<std::int64_t>(1, (by_kernel ? kKernelRowsAtOnce : kRowsAtOnce) / group);
  const std::int64_t blocks = (rows + step - 1) / step;
  const std::int64_t row_stride = geometry.kv_heads * group * geometry.v_dim;
  parallel_items(blocks * geometry.kv_heads, [&](std::int64_t item) {
    // The last rows see most keys: they go first, so that threads end together.
    const std::int64_t block = blocks - 1 - item / geometry.kv_heads;
    const std::int64_t head = item % geometry.kv_heads;
    const std::int64_t begin = block * step, end = std::min(rows, begin + step);
    thread_local Scratch<T> scratch;
    RowBlock<T> work(cache, layer, head, group, scale,
                     row_positions.subspan(static_cast<std::size_t>(begin),
                                           static_cast<std::size_t>(end - begin)),
                     queries + (head * rows + begin) * group * geometry.k_dim, by_kernel, scratch);
    work.run();
    work.write(out + begin * row_stride, row_stride);
    if (!by_kernel) at::native::cpublas::brgemm_release(sizeof(T) == 2);
  });
}

template <typename T>
bool attention_supported() {
  try {
    const std::vector<T> ones(4 * kTileSlots, T(1.0f));
    std::vector<float> product(kTileSlots);
    multiply(1, kTileSlots, 4, ones.data(), 4, ones.data(), kTileSlots, product.data(), kTileSlots,
             false);
    at::native::cpublas::brgemm_release(sizeof(T) == 2);
    return product[0] == 4.0f;
  } catch (const c10::Error&) {
    return false;
  }
}

template void attend(const KvCache::State&, std::int64_t, const float*, std::int64_t, double,
                     std::span<const std::int32_t>, float*);
template void attend(const KvCache::State&, std::int64_t, const c10::BFloat16*, std::int64_t,
                     double, std::span<const std::int32_t>, c10::BFloat16*);
template bool attention_supported<float>();
template bool attention_supported<c10::BFloat16>();

}  // namespace kv
