#pragma once
// One tensor of the codec `clp`: prediction from decoded tensors, transform of what is left,
// quantisation. All that a decoder computes is in integers, but for the last scaling, which is one
// multiplication and one addition a value, each rounded: every decoder gets the same bits.
// Private to the folder.

#include "clp_stream.hh"
#include "kv/kernels/int8_dot.hh"

#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace kv {

// What the prediction of later tensors uses of a decoded tile.
struct TileContext {
  Quads values;                    // in units of the profile, clamped
  std::vector<std::int8_t> steps;  // of the tokens: half octaves
};

// Tokens of a tile, from `first` up to `last`, both in the tile; `first` is a multiple of 64.
struct TokenPart {
  std::int64_t first = 0, last = 0;
};

struct ForwardBasis;  // clp_forward_basis.hh

class TensorCoder {
 public:
  using Context = std::span<const TileContext* const>;

  explicit TensorCoder(const TensorProfile& profile);
  ~TensorCoder();

  const TensorProfile& profile() const { return profile_; }

  // `context` as profile().context says, of the same tokens. Steps that are too fine for a token's
  // coefficients are widened; tokens that are not finite become exact.
  Bytes encode(Context context, const TensorView& rows, std::uint64_t profile_hash, TileSteps steps,
               TileContext& decoded) const;
  void decode(Context context, ByteView data, const std::string& place, DType dtype,
              std::span<std::byte> rows, TileContext& decoded) const;

  // The parts of decode(). begin() fills decoded.steps and makes room for its values;
  // `context` needs no more than that either.
  void begin(Context context, ByteView data, const std::string& place, std::int64_t tokens,
             DType dtype, TileCode& code, TileContext& decoded) const;
  // Of these tokens, once the context and the coefficients are there: rows of the whole tile, and
  // what later predictions see. Parts may be done side by side.
  void reconstruct(Context context, const TileCode& code, TokenPart part, DType dtype,
                   std::span<std::byte> rows, TileContext& decoded) const;

  // What encoders need and decoders do not: milliseconds, at first use if not before.
  void prepare_encoding() const { forward(); }
  const ForwardBasis& forward() const;
  // encode() but for the symbols and the bytes: steps, exact rows, plan, coefficients.
  void quantise(Context context, const TensorView& rows, TileSteps steps, TileCode& code,
                TileContext& decoded) const;

  // For calibration: sums of the prediction, [channels][stride]...
  std::vector<std::int32_t> predict(Context context, std::int64_t tokens) const;
  // ... coefficients of rows beside it, f32 [channels][stride] at the profile's own step.
  std::vector<float> transform(const std::vector<float>& values,
                               const std::vector<std::int32_t>& predicted,
                               std::int64_t tokens) const;

  // A coefficient in units of its token's step, as the encoder rounds it: to 0 also where 1 would
  // cost more bits than it is worth.
  int quantised(std::int64_t coefficient, int eighths, float value) const;

 private:
  class Analysis;  // of a tile's rows; encoders only
  // `predicted`: [channels][spread_stride_of(tokens)] for who has it already, else null.
  void rebuild(Context context, const std::int32_t* predicted, const TileCode& code, TokenPart part,
               DType dtype, std::span<std::byte> rows, TileContext& decoded) const;
  void predict(Context context, TokenPart part, std::int32_t* sums, std::int64_t stride) const;
  void place_exact(const TileCode& code, TokenPart part, DType dtype, std::span<std::byte> rows,
                   TileContext& decoded) const;

  const TensorProfile& profile_;
  std::optional<Int8Weights> predictor_;  // not where nothing is predicted
  Int8Weights basis_;
  std::vector<float> context_unit_;  // [channels]: of decoded.values
  mutable std::shared_ptr<const ForwardBasis> forward_;
  mutable std::once_flag forward_once_;
};

// Tokens' steps from a row of IMPT, in half octaves. A token at kExactStep or below, an attention
// sink, is worth its bits as they are.
inline constexpr int kExactStep = -7;
std::vector<std::int8_t> steps_from_importance(std::span<const std::uint8_t> importance);
std::vector<std::uint16_t> exact_tokens(std::span<const std::int8_t> steps);

}  // namespace kv
