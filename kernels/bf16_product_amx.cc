#include "bf16_product_end.hh"
#include "bf16_product_targets.hh"
#include "bf16_tiles.hh"

namespace kv {
namespace {

constexpr std::int64_t kLineValues = 32;  // of a cache line

// What is done while the tiles multiply, at each step: cache lines of the next weights are fetched,
// rows of the block before are ended.
template <ProductEnd kEnd>
struct Meanwhile {
  const std::uint16_t* next;
  std::int64_t lines;
  BlockEnd<kEnd>& before;
  std::int64_t rows;
};

// 32 rows (or up to 16: one tile) x 32 outputs.
template <bool kTwoTiles, ProductEnd kEnd>
void multiply_block(const ProductJob& job, const std::uint16_t* x, const std::uint16_t* weights,
                    Meanwhile<kEnd> meanwhile, float* sums) {
  zero_sums<kTwoTiles>();
  for (std::int64_t step = 0; step < job.steps; ++step, x += 32, weights += kStepValues) {
    multiply_step<kTwoTiles>(x, job.x_stride, weights, weights + kStepValues / 2, 32);
    for (std::int64_t i = 0; i < meanwhile.lines; ++i, meanwhile.next += kLineValues) {
      _mm_prefetch(meanwhile.next, _MM_HINT_T1);
    }
    meanwhile.before.advance(meanwhile.rows);
  }
  meanwhile.before.finish();
  store_sums<kTwoTiles>(sums, kPanelWidth);
}

// Rows [begin, end), a whole number of blocks or less than one. That they stay in the second-level
// cache is the caller's care.
template <ProductEnd kEnd>
void multiply_rows(const ProductJob& job, std::int64_t begin, std::int64_t end) {
  const std::int64_t blocks = (end - begin + kBlockRows - 1) / kBlockRows;
  const std::int64_t panel_values = job.steps * kStepValues;
  const std::int64_t lines = (kStepValues / kLineValues + blocks - 1) / blocks;
  const std::int64_t ended_rows = (kBlockRows + job.steps - 1) / job.steps;
  alignas(64) float sums[2][kBlockRows * kPanelWidth];
  int turn = 0;
  BlockEnd<kEnd> before;
  for (std::int64_t panel = job.first_panel; panel < job.end_panel; ++panel) {
    const std::uint16_t* weights = job.panels + panel * panel_values;
    const std::uint16_t* next = weights + panel_values;
    const bool last = panel + 1 == job.end_panel;
    for (std::int64_t row = begin; row < end; row += kBlockRows, turn = 1 - turn) {
      const std::int64_t rows = end - row < kBlockRows ? end - row : kBlockRows;
      const std::uint16_t* x = job.x + row * job.x_stride;
      const Meanwhile<kEnd> meanwhile{next, last ? 0 : lines, before, ended_rows};
      if (rows > 16) {
        multiply_block<true, kEnd>(job, x, weights, meanwhile, sums[turn]);
      } else {
        multiply_block<false, kEnd>(job, x, weights, meanwhile, sums[turn]);
      }
      next += lines * job.steps * kLineValues;
      before = BlockEnd<kEnd>(job, sums[turn], row, rows, panel);
    }
  }
  before.finish();
}

}  // namespace

ProductTarget product_amx(const ProductJob& job) {
  const UseTiles use;
  const std::int64_t rest = job.rows % kBlockRows, whole = job.rows - rest;
  with_end(job, [&]<ProductEnd kEnd>() {
    if (whole > 0) multiply_rows<kEnd>(job, 0, whole);
    if (rest == 0) return;
    configure_tiles(tiles_of_rows(rest));
    multiply_rows<kEnd>(job, whole, job.rows);
  });
  return ProductTarget::kAmx;
}

}  // namespace kv
