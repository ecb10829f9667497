#pragma once
// The bytes of a tile of the codec `clp`: quantised coefficients, the steps of the tokens, and the
// tokens that are stored as they are. Layout in kv(5). Private to the folder.

#include "clp_symbols.hh"
#include "kv/codec/profile.hh"

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace kv {

inline constexpr std::int64_t kMostTileTokens = 1 << 15;
inline constexpr std::int64_t kMostTileValues = 1 << 24;

// A tile on its way. Both ends fill steps, then the plan, then coefficients.
struct TileCode {
  TileSteps steps;
  ByteView exact_rows;  // of steps.exact, in the dtype
  std::unique_ptr<const SymbolPlan> plan;
  Quads coefficients;                // quads below plan->used(), tokens without symbols all 0
  ByteView planes, escapes, stream;  // of a decoder, views into the tile
  CodedSymbols symbols;              // of an encoder, as is
  Bytes own_exact_rows;              // what exact_rows views

  void make_plan(const TensorProfile& profile);
};

// `near` are the steps of the tensor that was decoded before, for the same tokens, or null. All of
// `code` but the coefficients is there.
Bytes write_tile_code(std::uint64_t profile_hash, const TileCode& code,
                      const std::vector<std::int8_t>* near);
// Fills all but the plan and the coefficients: views into `data`, which stays. Throws kInput, with
// `place`.
void read_tile_code(std::int64_t tokens, std::size_t row_bytes,
                    const std::vector<std::int8_t>* near, ByteView data, const std::string& place,
                    TileCode& code);
// Plans and coefficients of tiles that read_tile_code() filled. Throws kInput, with the place of
// the first that is damaged.
struct CoefficientJob {
  const TensorProfile* profile;
  TileCode* code;
  const std::string* place;
};
void decode_coefficients(std::span<const CoefficientJob> jobs);
// The profile that the tile needs.
std::uint64_t profile_of(ByteView data, const std::string& place);

}  // namespace kv
