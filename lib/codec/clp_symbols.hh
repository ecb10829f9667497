#pragma once
// The entropy stage: coefficients of a plan to planes of low bits, escapes and a stream of the
// entropy coder, and back. Private to the folder.

#include "clp_plan.hh"
#include "kv/base/bytes.hh"
#include "quads.hh"

#include <cstdint>
#include <span>
#include <vector>

namespace kv {

struct CodedSymbols {
  std::vector<std::uint32_t> planes;
  std::vector<std::int8_t> escapes;
  Bytes stream;
};

// `coefficients` has the plan's coefficients and all tokens of the tile; those that the plan does
// not code are not looked at.
struct EncodeSymbols {
  const SymbolPlan* plan = nullptr;
  const Quads* coefficients = nullptr;
  CodedSymbols* out = nullptr;
};
// Four at a time are a good deal faster than one.
void encode_symbols(std::span<const EncodeSymbols> jobs);

// `planes` has as many words as the plan, in any alignment.
struct DecodeSymbols {
  const SymbolPlan* plan = nullptr;
  ByteView planes, escapes, stream;
  Quads* out = nullptr;  // of the right shape: quads below plan->used() are filled, the others not
  bool intact = false;   // out: whether the stream is, and escapes are as many as it has
};
// Where one is not intact, its coefficients are anything.
void decode_symbols(std::span<DecodeSymbols> jobs);

}  // namespace kv
