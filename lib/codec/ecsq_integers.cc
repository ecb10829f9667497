#include "ecsq_integers.hh"

namespace kv {
namespace {

// Of as many coefficients as `integers` has room for.
void take(const Quads& quads, std::int64_t tokens, Integers& integers) {
  const std::int64_t coefficients = static_cast<std::int64_t>(integers.size()) / tokens;
  for (std::int64_t k = 0; k < coefficients; ++k) {
    for (std::int64_t t = 0; t < tokens; ++t) {
      integers[static_cast<std::size_t>(k * tokens + t)] =
          static_cast<std::int16_t>(quads.value(k, t));
    }
  }
}

// What no class codes is 0, on both ends.
void drop_uncoded(TileCode& code, std::int64_t tokens) {
  clear_uncoded(*code.plan, tokens, code.coefficients);
  code.coefficients.clear((code.plan->used() + 3) / 4);
}

}  // namespace

Bytes write_integers(const TensorProfile& classes, const TileSteps& steps, ByteView exact_rows,
                     Integers& integers) {
  const auto tokens = static_cast<std::int64_t>(steps.tokens.size());
  TileCode code;
  code.steps = steps;
  code.exact_rows = exact_rows;
  code.make_plan(classes);
  code.coefficients.shape(classes.channels, tokens);
  code.coefficients.clear(0);
  const std::int64_t coefficients = static_cast<std::int64_t>(integers.size()) / tokens;
  for (std::int64_t k = 0; k < coefficients; ++k) {
    for (std::int64_t t = 0; t < tokens; ++t) {
      code.coefficients.at(k, t) =
          static_cast<std::uint8_t>(integers[static_cast<std::size_t>(k * tokens + t)] + 128);
    }
  }
  const EncodeSymbols job{code.plan.get(), &code.coefficients, &code.symbols};
  encode_symbols({&job, 1});
  drop_uncoded(code, tokens);
  take(code.coefficients, tokens, integers);
  return write_tile_code(0, code, nullptr);
}

ReadIntegers read_integers(const TensorProfile& classes, std::int64_t coefficients,
                           std::int64_t tokens, std::size_t row_bytes, ByteView data,
                           const std::string& place) {
  if (profile_of(data, place) != 0) fail_input("{}: a tile of ecsq needs no profile", place);
  TileCode code;
  read_tile_code(tokens, row_bytes, nullptr, data, place, code);
  if (code.steps.base != 0) fail_input("{}: step {} is out of range", place, code.steps.base);
  const CoefficientJob job{&classes, &code, &place};
  decode_coefficients({&job, 1});
  drop_uncoded(code, tokens);
  ReadIntegers out{std::move(code.steps), {}, code.exact_rows};
  out.integers.resize(static_cast<std::size_t>(coefficients * tokens));
  take(code.coefficients, tokens, out.integers);
  return out;
}

}  // namespace kv
