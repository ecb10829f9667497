#pragma once
// What both kinds of checkpoint share: weights by name, and the fingerprint over them.

#include "kv/checkpoint/checkpoint.hh"

#include <map>

namespace kv {

class WeightTable : public Checkpoint {
 public:
  const WeightView& weight(std::string_view name) const override;
  bool has_weight(std::string_view name) const override { return weights_.contains(name); }
  std::vector<std::string> weight_names() const override;
  std::string fingerprint() const override;
  std::string fingerprint_of(std::string_view prefix) const override;

 protected:
  // Shapes against the geometry, every weight of every layer there. Throws kInput.
  void check_weights() const;

  std::map<std::string, WeightView, std::less<>> weights_;
};

}  // namespace kv
