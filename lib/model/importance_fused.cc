#include "kv/model/importance.hh"
#include "kv/model/parallel.hh"
#include "kv/model/row_ops.hh"

#include <ATen/native/CPUBlas.h>
#include <c10/util/BFloat16.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <utility>

namespace kv {
namespace {

constexpr std::int64_t kScoresAtOnce = 1 << 22;
constexpr std::int64_t kRowsAtOnce = 16;  // times heads of a group: one multiplication

// Some of the sampled rows: their attention to all slots, then what each slot was to them. A slot's
// sum is one thread's, over heads and rows in order, so that it depends neither on the number of
// threads nor on blocks.
template <typename T>
class Chunk {
 public:
  Chunk(const KvCache::State& cache, std::int64_t layer, std::int64_t group, double score_scalar,
        std::span<const std::int32_t> positions)
      : cache_(cache),
        geometry_(cache.geometry[static_cast<std::size_t>(layer)]),
        keys_(cache.layers[static_cast<std::size_t>(layer)].keys, geometry_.kv_heads,
              geometry_.k_dim),
        values_(cache.layers[static_cast<std::size_t>(layer)].values, geometry_.kv_heads,
                geometry_.v_dim),
        window_(cache.layers[static_cast<std::size_t>(layer)].window),
        group_(group),
        scale_(1.0f / std::sqrt(static_cast<float>(score_scalar))),
        positions_(positions),
        rows_(static_cast<std::int64_t>(positions.size())),
        stride_(row_stride(cache)) {
    const auto all = static_cast<std::size_t>(geometry_.kv_heads * rows_ * group_);
    attention_ = std::make_unique_for_overwrite<float[]>(all * static_cast<std::size_t>(stride_));
    outputs_.resize(all * static_cast<std::size_t>(geometry_.v_dim));
    inverse_.resize(all);
    squares_.resize(all);
    for (std::size_t i = 0; i < all; ++i) {
      const auto row = i / static_cast<std::size_t>(group_) % positions_.size();
      row_positions_.push_back(positions_[row]);
    }
    means_.resize(static_cast<std::size_t>(geometry_.kv_heads * geometry_.v_dim));
  }

  // Off a multiple of 4 KiB, which columns of attention would then share cache sets.
  static std::int64_t row_stride(const KvCache::State& cache) {
    return static_cast<std::int64_t>(cache.tiles.size()) * kTileSlots + 16;
  }

  // `queries` of all heads: [kv heads][head_stride], the chunk's rows first in each.
  void attend(const T* queries, std::int64_t head_stride, const T* outputs) {
    const std::int64_t blocks = (rows_ + kRowsAtOnce - 1) / kRowsAtOnce;
    parallel_items(blocks * geometry_.kv_heads, [&](std::int64_t item) {
      const std::int64_t head = item / blocks, begin = item % blocks * kRowsAtOnce;
      const std::int64_t end = std::min(rows_, begin + kRowsAtOnce);
      attend_rows(head, begin, end,
                  queries + head * head_stride + begin * group_ * geometry_.k_dim);
      for (std::int64_t row = begin; row < end; ++row) {
        const T* from = outputs + (row * geometry_.kv_heads + head) * group_ * geometry_.v_dim;
        std::transform(from, from + group_ * geometry_.v_dim,
                       outputs_.data() + index(head, row) * geometry_.v_dim,
                       [](T value) { return static_cast<float>(value); });
      }
    });
    parallel_items(geometry_.kv_heads, [&](std::int64_t head) { centre(head); });
  }

  void add(std::vector<double>& keys, std::vector<double>& values) const {
    parallel_items(static_cast<std::int64_t>(cache_.tiles.size()), [&](std::int64_t tile) {
      const auto [first, last] = rows_of(cache_.tiles[static_cast<std::size_t>(tile)]);
      if (first >= last) return;
      const std::int64_t from = tile * kTileSlots;
      const std::int64_t slots = std::min(kTileSlots, cache_.size - from);
      for (std::int64_t head = 0; head < geometry_.kv_heads; ++head) {
        const TileSums sums = sums_of(tile, head, first, last);
        for (std::int64_t i = 0; i < slots; ++i) {
          const auto slot = static_cast<std::size_t>(from + i);
          keys[slot] += static_cast<double>(sums.keys[static_cast<std::size_t>(i)]);
          values[slot] += static_cast<double>(sums.values[static_cast<std::size_t>(i)]);
        }
      }
      at::native::cpublas::brgemm_release(false);
    });
  }

 private:
  struct TileSums {
    std::array<float, kTileSlots> keys{}, values{};
  };

  std::int64_t index(std::int64_t head, std::int64_t row) const {
    return (head * rows_ + row) * group_;
  }

  // Rows [first, last) that count for some slot of the tile; rows ascend.
  std::pair<std::int64_t, std::int64_t> rows_of(const TileSpan& span) const {
    const auto before = [&](std::int64_t limit) {
      return std::ranges::lower_bound(positions_, limit, {},
                                      [](std::int32_t p) { return std::int64_t{p}; }) -
             positions_.begin();
    };
    return {before(span.least + ImportanceMeter::kLeastDistance),
            window_ > 0 ? before(std::int64_t{span.greatest} + window_) : rows_};
  }

  // The products o v of rows and slots are one multiplication. So that |v|^2 - 2 o v + |o|^2 does
  // not cancel, o and v are taken from the rows' mean o, which is what they come near to where most
  // rows attend to one token.
  TileSums sums_of(std::int64_t tile, std::int64_t head, std::int64_t first,
                   std::int64_t last) const {
    thread_local std::vector<float> slots, products;  // [v_dim][kTileSlots], [rows][kTileSlots]
    thread_local std::vector<T> value;
    const std::int64_t width = geometry_.v_dim, count = (last - first) * group_;
    slots.resize(static_cast<std::size_t>(width * kTileSlots));
    products.resize(static_cast<std::size_t>(count * kTileSlots));
    value.resize(static_cast<std::size_t>(width));
    const float* mean = means_.data() + head * width;
    std::array<float, kTileSlots> squares{};
    for (std::int64_t i = 0; i < kTileSlots; ++i) {
      values_.get_value(head, tile * kTileSlots + i, value.data());
      float* out = slots.data() + i;
      for (std::int64_t c = 0; c < width; ++c) {
        out[c * kTileSlots] = static_cast<float>(value[static_cast<std::size_t>(c)]);
      }
    }
    for (std::int64_t c = 0; c < width; ++c) {
      float* row = slots.data() + c * kTileSlots;
      for (std::size_t i = 0; i < squares.size(); ++i) {
        row[i] -= mean[c];
        squares[i] += row[i] * row[i];
      }
    }
    const std::int64_t begin = index(head, first);
    at::native::cpublas::brgemm(count, kTileSlots, width, width, kTileSlots, kTileSlots, false,
                                outputs_.data() + begin * width,
                                static_cast<const float*>(slots.data()), products.data(), false);
    TileSums sums;
    const WeighedKeys keys{.count = kTileSlots,
                           .positions = cache_.positions.data() + tile * kTileSlots,
                           .squares = squares.data(),
                           .nearest = ImportanceMeter::kLeastDistance,
                           .window = window_,
                           .key_sums = sums.keys.data(),
                           .value_sums = sums.values.data()};
    row_ops<float>().weigh(keys,
                           {.count = count,
                            .positions = row_positions_.data() + begin,
                            .attention = attention_.get() + begin * stride_ + tile * kTileSlots,
                            .attention_stride = stride_,
                            .inverses = inverse_.data() + begin,
                            .products = products.data(),
                            .squares = squares_.data() + begin});
    return sums;
  }

  // Takes the mean of the head's outputs from each.
  void centre(std::int64_t head) {
    const std::int64_t width = geometry_.v_dim, count = rows_ * group_;
    float* mean = means_.data() + head * width;
    float* outputs = outputs_.data() + index(head, 0) * width;
    for (std::int64_t i = 0; i < count; ++i) {
      for (std::int64_t c = 0; c < width; ++c) mean[c] += outputs[i * width + c];
    }
    for (std::int64_t c = 0; c < width; ++c) mean[c] /= static_cast<float>(count);
    for (std::int64_t i = 0; i < count; ++i) {
      float& square = squares_[static_cast<std::size_t>(index(head, 0) + i)];
      for (std::int64_t c = 0; c < width; ++c) {
        float& output = outputs[i * width + c];
        output -= mean[c];
        square += output * output;
      }
    }
  }

  // Tiles [first, last) that hold all that rows at these positions may see.
  std::pair<std::int64_t, std::int64_t> tiles_of(std::int64_t least, std::int64_t greatest) const {
    const auto reachable = [&](const TileSpan& span) {
      return span.least <= greatest && (window_ == 0 || span.greatest > least - window_);
    };
    const auto first = std::ranges::find_if(cache_.tiles, reachable);
    const auto last = std::find_if(cache_.tiles.rbegin(), cache_.tiles.rend(), reachable);
    return {first - cache_.tiles.begin(), last.base() - cache_.tiles.begin()};
  }

  // Softmax without its division: that is left to inverse_.
  void attend_rows(std::int64_t head, std::int64_t begin, std::int64_t end, const T* queries) {
    const auto [first, last] = tiles_of(positions_[static_cast<std::size_t>(begin)],
                                        positions_[static_cast<std::size_t>(end - 1)]);
    const std::int64_t rows = (end - begin) * group_;
    float* scores = attention_.get() + index(head, begin) * stride_;
    for (std::int64_t tile = first; tile < last; ++tile) {
      at::native::cpublas::brgemm(rows, kTileSlots, geometry_.k_dim, geometry_.k_dim, kTileSlots,
                                  stride_, false, queries,
                                  static_cast<const T*>(keys_.tile(head, tile)),
                                  scores + tile * kTileSlots, sizeof(T) == 2);
    }
    at::native::cpublas::brgemm_release(sizeof(T) == 2);
    const SoftmaxBlock block{.keys = (last - first) * kTileSlots,
                             .scale = scale_,
                             .key_positions = cache_.positions.data() + first * kTileSlots,
                             .window = window_};
    for (std::int64_t i = 0; i < rows; ++i) {
      float max = -1e30f, sum = 0;
      float* row = scores + i * stride_ + first * kTileSlots;
      row_ops<float>().softmax(block, row, positions_[static_cast<std::size_t>(begin + i / group_)],
                               max, sum, 0, nullptr, row);
      inverse_[static_cast<std::size_t>(index(head, begin) + i)] = 1.0f / sum;
    }
  }

  const KvCache::State& cache_;
  const LayerGeometry& geometry_;
  Tiles<T> keys_, values_;
  std::int64_t window_, group_;
  float scale_;
  std::span<const std::int32_t> positions_;
  std::int64_t rows_, stride_;
  std::unique_ptr<float[]> attention_;       // [kv heads][rows][group][stride]
  std::vector<float> outputs_;               // [kv heads][rows][group][v_dim], from means_
  std::vector<float> squares_;               // of outputs_'s rows
  std::vector<float> means_;                 // [kv heads][v_dim]
  std::vector<std::int32_t> row_positions_;  // [kv heads][rows][group]
  std::vector<float> inverse_;               // of the sums of attention_'s rows
};

}  // namespace

template <typename T>
void ImportanceMeter::add_fused(std::int64_t layer, const at::Tensor& queries,
                                const at::Tensor& outputs) {
  const LayerGeometry& geometry = cache_.geometry[static_cast<std::size_t>(layer)];
  const std::int64_t group = config_.query_heads / geometry.kv_heads;
  const auto count = static_cast<std::int64_t>(rows_.size());
  const std::int64_t step = std::max<std::int64_t>(
      1, kScoresAtOnce / (config_.query_heads * Chunk<T>::row_stride(cache_)));
  Sums& sums = sums_of(layer);
  for (std::int64_t begin = 0; begin < count; begin += step) {
    const auto rows = static_cast<std::size_t>(std::min(step, count - begin));
    Chunk<T> chunk(cache_, layer, group, config_.score_scalar(geometry),
                   positions().subspan(static_cast<std::size_t>(begin), rows));
    chunk.attend(queries.const_data_ptr<T>() + begin * group * geometry.k_dim,
                 count * group * geometry.k_dim,
                 outputs.const_data_ptr<T>() + begin * config_.query_heads * geometry.v_dim);
    chunk.add(sums.keys, sums.values);
  }
}

template void ImportanceMeter::add_fused<float>(std::int64_t, const at::Tensor&, const at::Tensor&);
template void ImportanceMeter::add_fused<c10::BFloat16>(std::int64_t, const at::Tensor&,
                                                        const at::Tensor&);

}  // namespace kv
