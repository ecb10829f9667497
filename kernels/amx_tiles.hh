#pragma once
// The tiles of a thread. Private to the folder, for files that are compiled for AMX.

#include <immintrin.h>

#include <cstdint>

namespace kv {

// The compiler does not know that tile instructions read and write memory.
static inline void memory_barrier() { __asm__ volatile("" ::: "memory"); }

// Eight tiles of up to 16 rows of 64 bytes.
struct TileConfig {
  std::uint8_t palette = 1, start_row = 0;
  std::uint8_t reserved[14] = {};
  std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
static_assert(sizeof(TileConfig) == 64);

// Tiles 0, 1 and 4 have the first 16 of up to 32 rows, 2, 3 and 5 the others.
static inline TileConfig tiles_of_rows(std::int64_t rows) {
  TileConfig config;
  const auto first = static_cast<std::uint8_t>(rows < 16 ? rows : 16);
  const auto second = static_cast<std::uint8_t>(rows > 16 ? rows - 16 : 16);
  config.rows[0] = config.rows[1] = config.rows[4] = first;
  config.rows[2] = config.rows[3] = config.rows[5] = second;
  return config;
}

static inline void configure_tiles(const TileConfig& config) {
  __asm__ volatile("ldtilecfg %0" ::"m"(config));
}

// The tiles belong to a thread, and others use them too (oneDNN in LibTorch): left as they were,
// but for the tiles' contents, which no function may expect to keep over a call.
namespace {
class UseTiles {
 public:
  explicit UseTiles(const TileConfig& ours = {}) {
    _tile_storeconfig(&before_);
    memory_barrier();
    configure_tiles(ours);
  }
  ~UseTiles() {
    if (before_.palette == 0) {
      _tile_release();
    } else {
      configure_tiles(before_);
    }
  }
  UseTiles(const UseTiles&) = delete;

 private:
  TileConfig before_;
};
}  // namespace

}  // namespace kv
