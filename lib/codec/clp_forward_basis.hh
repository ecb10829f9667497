#pragma once
// The way back of a tensor's basis, which encoders need: from rows to coefficients. Private to the
// folder.

#include "kv/codec/profile.hh"
#include "kv/kernels/int8_dot.hh"

#include <optional>
#include <vector>

namespace kv {

// The matrix in f32, and in integers of 15 bits as two of 8, see clp_forward.hh. A basis without an
// inverse is a bad profile; its coefficients become 0.
struct ForwardBasis {
  std::vector<float> rows;           // [coefficients][channels]
  std::vector<float> inverse_width;  // [channels]: 1 / what a channel's rest is like
  std::vector<float> row_scale;      // [coefficients]
  std::optional<Int8Weights> high;   // the high parts
  std::optional<Int8Weights> mixed;  // for a rest's high and low parts: low, high

  explicit ForwardBasis(const TensorProfile& profile);

 private:
  void split(const TensorProfile& profile);
};

}  // namespace kv
